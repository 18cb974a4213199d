//! The payload's first moments: from the clone in process 1 to exec.
//!
//! It shares the memory of process 1, which stands still meanwhile (`CLONE_VM | CLONE_VFORK`):
//! the builder's page tables are not copied a second time.

use std::ffi::{CStr, CString, c_int, c_void};

use rustix::io::Errno;
use rustix::process::DumpableBehavior;

use crate::init::{self, Failed};
use crate::prepared::Prepared;
use crate::program::Program;
use crate::report::{Operation, Report};
use crate::signal;

/// Longest path that the kernel takes or gives.
const PATH_BYTES: usize = 4096;

struct Context<'a> {
    program: &'a Program,
    prepared: &'a Prepared,
    /// Process 1 could not enter the directory; perhaps the user can (FUSE, NFS).
    enter_again: bool,
}

/// Starts the payload; its process id in this namespace.
pub(crate) fn start(
    program: &Program,
    prepared: &Prepared,
    enter_again: bool,
) -> Result<i32, Failed> {
    let mut context = Context { program, prepared, enter_again };
    let stack = prepared.stack.as_ptr_range().end;
    // SAFETY: the stack is memory of this process that nothing else uses, 16-byte aligned, and
    // grows down from its end. The context lives until the payload has called exec or ended,
    // since CLONE_VFORK holds this thread back until then.
    let pid = unsafe {
        libc::clone(
            main,
            stack.cast_mut().cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            (&raw mut context).cast::<c_void>(),
        )
    };
    crate::errno::check(pid.into()).map_err(|errno| (Operation::Clone, errno))?;
    Ok(pid)
}

extern "C" fn main(context: *mut c_void) -> c_int {
    // SAFETY: `start` passes a Context that outlives this function, see there.
    let context = unsafe { &*context.cast_const().cast::<Context<'_>>() };
    let (operation, errno) = become_payload(context);
    init::send(context.prepared, &Report::Failed { operation, errno: errno.raw_os_error() });
    init::exit(127)
}

/// Returns only on failure.
fn become_payload(context: &Context<'_>) -> Failed {
    let payload = &context.program.payload;
    if let Err(errno) = rustix::process::setsid() {
        return (Operation::Session, errno);
    }
    if let Err(failed) = limit(context) {
        return failed;
    }
    if let Err(failed) = change_user(context) {
        return failed;
    }
    if context.enter_again
        && let Err(errno) = enter_directory(&payload.directory)
    {
        return (Operation::Directory, errno);
    }
    signal::unblock_all();
    execute(context)
}

fn limit(context: &Context<'_>) -> Result<(), Failed> {
    for (number, limit) in context.program.payload.limits.iter().enumerate() {
        let value = libc::rlimit64 { rlim_cur: limit.soft, rlim_max: limit.hard };
        // SAFETY: the structure is valid for the call; the old limit is not asked for.
        let result = unsafe {
            libc::syscall(
                libc::SYS_prlimit64,
                0,
                limit.resource,
                &raw const value,
                std::ptr::null_mut::<libc::rlimit64>(),
            )
        };
        crate::errno::check(result).map_err(|errno| {
            (Operation::Limit(u32::try_from(number).unwrap_or(u32::MAX)), errno)
        })?;
    }
    Ok(())
}

/// For another user than 0 the kernel empties the permitted and effective sets on the way.
fn change_user(context: &Context<'_>) -> Result<(), Failed> {
    let payload = &context.program.payload;
    if !context.prepared.groups.is_empty() {
        rustix::thread::set_thread_groups(&context.prepared.groups)
            .map_err(|errno| (Operation::Groups, errno))?;
    }
    let (uid, gid) = (payload.uid, payload.gid);
    // SAFETY: numbers only. Raw, because the libc functions would signal the other threads of
    // the builder, which do not exist here.
    let result = unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) };
    crate::errno::check(result).map_err(|errno| (Operation::Group, errno))?;
    // SAFETY: as above.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
    crate::errno::check(result).map_err(|errno| (Operation::User, errno))?;
    // With fs.suid_dumpable=1 the change would have opened the shared memory to /proc.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|errno| (Operation::Hardening, errno))
}

/// Enters the directory and makes sure that it is one of this root (CVE-2024-21626: a directory
/// outside, reached through a leaked descriptor, has a path that begins with "(unreachable)").
pub(crate) fn enter_directory(directory: &CStr) -> Result<(), Errno> {
    rustix::process::chdir(directory)?;
    let mut path = [0_u8; PATH_BYTES];
    // SAFETY: the buffer is valid for its length.
    let result = unsafe { libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len()) };
    crate::errno::check(result)?;
    if path[0] == b'/' { Ok(()) } else { Err(Errno::XDEV) }
}

/// Tries the candidates as execvp(3) does: the next one when a file is missing or may not be
/// executed, and in the end the most telling failure.
fn execute(context: &Context<'_>) -> Failed {
    let mut failed = (Operation::Exec(0), Errno::NOENT);
    for (number, path) in context.program.payload.candidates.iter().enumerate() {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let errno = exec(path, context.prepared);
        match errno {
            Errno::NOENT if exists(path) => return (Operation::Interpreter(number), errno),
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS => failed = (Operation::Exec(number), errno),
            _ => return (Operation::Exec(number), errno),
        }
    }
    failed
}

fn exec(path: &CString, prepared: &Prepared) -> Errno {
    // SAFETY: both vectors end with a null pointer and point to C strings of the program, which
    // is alive.
    unsafe { libc::execve(path.as_ptr(), prepared.args.as_ptr(), prepared.env.as_ptr()) };
    crate::errno::last()
}

fn exists(path: &CStr) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXISTS).is_ok()
}
