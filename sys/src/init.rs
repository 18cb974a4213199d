//! The launched child: process 1 of its pid namespace. It builds the file system, confines
//! itself, starts the payload, reaps, and ends when the payload ends or the parent is gone; the
//! kernel then kills what is left in the namespace.
//!
//! Nothing here allocates, takes a lock or returns: see [`crate::program`].

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsmount, fsopen, mount_change, open_tree, unmount,
};
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::detached::{Propagation, attach_over, attributes, set_attr_raw};
use crate::mount::MountFlags;
use crate::payload;
use crate::prepared::{Prepared, Title};
use crate::program::{Program, Step};
use crate::report::{Operation, Report, Usage};
use crate::{capability, network, signal};

/// Shown in /proc/1/comm and /proc/1/cmdline.
const NAME: &CStr = c"drydock-init";
/// Files are created with what the payload asks for, less what others may write.
const UMASK: Mode = Mode::from_raw_mode(0o022);

/// A failed operation.
pub(crate) type Failed = (Operation, Errno);

/// Ends the process even if something in here should unwind.
struct NeverReturn;

impl Drop for NeverReturn {
    fn drop(&mut self) {
        exit(125);
    }
}

pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: ends the process at once, running nothing of it.
    unsafe { libc::_exit(code) }
}

/// A descriptor of this process that outlives every use here.
pub(crate) fn borrowed(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: only called with descriptors of `Prepared` and `Program`, which stay open (they
    // are in the list to keep) until the process ends.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// The child's whole life.
pub(crate) fn run(program: &Program, prepared: &Prepared) -> ! {
    let _guard = NeverReturn;
    match live(program, prepared) {
        Ok(usage) => send(prepared, &Report::Ended(usage)),
        Err((operation, errno)) => {
            send(prepared, &Report::Failed { operation, errno: errno.raw_os_error() });
        }
    }
    exit(0)
}

pub(crate) fn send(prepared: &Prepared, report: &Report) {
    // When the parent is gone nobody wants to know.
    let _ = rustix::io::write(borrowed(prepared.report), &report.encode());
}

fn live(program: &Program, prepared: &Prepared) -> Result<Usage, Failed> {
    let at = |operation| move |errno| (operation, errno);
    rustix::process::setsid().map_err(at(Operation::Session))?;
    streams(program, prepared).map_err(at(Operation::Descriptors))?;
    harden(prepared).map_err(at(Operation::Hardening))?;
    signal::reset_dispositions().map_err(at(Operation::Signals))?;
    rustix::process::umask(UMASK);
    for (number, step) in program.steps.iter().enumerate() {
        perform(step, program, prepared)
            .map_err(at(Operation::Step(u32::try_from(number).unwrap_or(u32::MAX))))?;
    }
    let pipes = [prepared.report, prepared.lifeline];
    let sorted = if pipes[0] < pipes[1] { pipes } else { [pipes[1], pipes[0]] };
    keep_only(&sorted).map_err(at(Operation::Descriptors))?;
    let events = signal::child_events().map_err(at(Operation::Signals))?;
    let entered = payload::enter_directory(&program.payload.directory);
    if let Err(errno) = entered
        && errno != Errno::ACCESS
    {
        return Err((Operation::Directory, errno));
    }
    let confinement = &program.confinement;
    capability::limit_bounding_set(confinement.capabilities).map_err(at(Operation::BoundingSet))?;
    // Before CAP_SYS_ADMIN goes: no_new_privs is not set.
    if let Some(filter) = &confinement.filter {
        filter.load().map_err(at(Operation::Seccomp))?;
    }
    capability::keep_only(confinement.capabilities).map_err(at(Operation::Capabilities))?;
    let main = payload::start(program, prepared, entered.is_err())?;
    // A change of user in the payload may have reset this on the memory that it shared.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    reap(main, &events, prepared).map_err(at(Operation::Wait))
}

fn streams(program: &Program, prepared: &Prepared) -> Result<(), Errno> {
    let payload = &program.payload;
    rustix::stdio::dup2_stdin(&payload.stdin)?;
    rustix::stdio::dup2_stdout(&payload.stdout)?;
    rustix::stdio::dup2_stderr(&payload.stderr)?;
    keep_only(&prepared.keep)
}

/// Closes all descriptors from 3 on but those in the sorted list.
fn keep_only(keep: &[RawFd]) -> Result<(), Errno> {
    let mut first: u32 = 3;
    for &fd in keep {
        let fd = u32::try_from(fd).map_err(|_| Errno::BADF)?;
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = first.max(fd + 1);
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: this process has one thread and uses none of these descriptors again.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0_u32) };
    crate::errno::check(result).map(drop)
}

fn harden(prepared: &Prepared) -> Result<(), Errno> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // Only a second line: it fires when the thread that cloned ends, which is what `launch`
    // documents; the lifeline covers the rest.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::thread::set_name(NAME)?;
    if let Some(title) = prepared.title {
        rename(title);
    }
    Ok(())
}

/// /proc/PID/cmdline is open to everybody, undumpable or not, and would show the builder's
/// arguments.
fn rename(title: Title) {
    let name = NAME.to_bytes();
    let start = std::ptr::with_exposed_provenance_mut::<u8>(title.start);
    let shown = name.len().min(title.length - 1);
    // SAFETY: the kernel said that this process's arguments lie here, on its writable stack.
    // Nothing reads them in this copy of the process.
    unsafe {
        std::ptr::write_bytes(start, 0, title.length);
        std::ptr::copy_nonoverlapping(name.as_ptr(), start, shown);
    }
}

fn perform(step: &Step, program: &Program, prepared: &Prepared) -> Result<(), Errno> {
    let fd = |index: crate::program::FdIndex| {
        program.fds.get(index.0).map(AsFd::as_fd).ok_or(Errno::BADF)
    };
    let root = fd(program.root)?;
    match step {
        Step::AwaitStart => await_start(prepared),
        Step::EnterCgroupNamespace => crate::namespace::unshare(UnshareFlags::NEWCGROUP),
        Step::EnterNetwork(namespace) => rustix::thread::move_into_link_name_space(
            fd(*namespace)?,
            Some(LinkNameSpaceType::Network),
        ),
        Step::PrivateMounts => {
            mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        }
        Step::AttachHost { mount, at } => {
            let place = rustix::fs::open(
                at.as_c_str(),
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            attach_over(fd(*mount)?, place.as_fd())
        }
        Step::Attach { mount, target } => attach_over(fd(*mount)?, find(root, target)?.as_fd()),
        Step::AttachPart { mount, name, target, flags } => {
            let part = clone_of(find(fd(*mount)?, name)?.as_fd(), *flags)?;
            attach_over(part.as_fd(), find(root, target)?.as_fd())
        }
        Step::MountNew { fs, target, flags, optional } => {
            match mount_new(root, fs, target, *flags) {
                Err(_) if *optional => Ok(()),
                result => result,
            }
        }
        Step::ReadOnly { target } => match find(root, target) {
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
            Ok(_) => {
                let flags = MountFlags { read_only: true, ..MountFlags::DATA };
                let copy = clone_recursive(root, target, flags)?;
                attach_over(copy.as_fd(), find(root, target)?.as_fd())
            }
        },
        Step::Mask { target, null, mount, empty } => match find(root, target) {
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
            Ok(place) => {
                let kind = rustix::fs::fstat(&place)?.st_mode;
                let cover = if FileType::from_raw_mode(kind).is_dir() {
                    clone(fd(*mount)?, empty, MountFlags::DATA.read_only())?
                } else {
                    null_device(root, null)?
                };
                attach_over(cover.as_fd(), place.as_fd())
            }
        },
        Step::Pivot => {
            rustix::process::fchdir(root)?;
            rustix::process::pivot_root(c".", c".")?;
            // The old root now lies on the new one.
            unmount(c".", UnmountFlags::DETACH)?;
            rustix::process::chdir(c"/")
        }
        Step::Hostname(name) => rustix::system::sethostname(name.to_bytes()),
        Step::LoopbackUp => network::loopback_up(),
        Step::SessionKeyring => join_session_keyring(),
    }
}

fn await_start(prepared: &Prepared) -> Result<(), Errno> {
    let mut byte = [0];
    loop {
        match rustix::io::read(borrowed(prepared.lifeline), &mut byte) {
            Ok(0) => exit(0),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Opens a target in the root; an empty one is the root itself.
fn find(root: BorrowedFd<'_>, target: &CStr) -> Result<OwnedFd, Errno> {
    let target = if target.is_empty() { c"." } else { target };
    rustix::fs::openat2(
        root,
        target,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
}

fn clone(dir: BorrowedFd<'_>, name: &CStr, flags: MountFlags) -> Result<OwnedFd, Errno> {
    let how = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    let fd = open_tree(dir, name, how)?;
    if !flags.is_empty() {
        set_attr_raw(fd.as_fd(), false, flags, Propagation::Keep)?;
    }
    Ok(fd)
}

/// A copy of what `place` is open on.
fn clone_of(place: BorrowedFd<'_>, flags: MountFlags) -> Result<OwnedFd, Errno> {
    let how = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let fd = open_tree(place, c"", how)?;
    if !flags.is_empty() {
        set_attr_raw(fd.as_fd(), false, flags, Propagation::Keep)?;
    }
    Ok(fd)
}

fn clone_recursive(dir: BorrowedFd<'_>, name: &CStr, flags: MountFlags) -> Result<OwnedFd, Errno> {
    let how = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW
        | OpenTreeFlags::AT_RECURSIVE;
    let fd = open_tree(dir, name, how)?;
    set_attr_raw(fd.as_fd(), true, flags, Propagation::Keep)?;
    Ok(fd)
}

/// The null device of the private /dev, and nothing else (CVE-2025-31133: a symbolic link in its
/// place would have been mounted instead).
fn null_device(root: BorrowedFd<'_>, null: &CStr) -> Result<OwnedFd, Errno> {
    let fd = clone(root, null, MountFlags::default())?;
    let stat = rustix::fs::fstat(&fd)?;
    let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    if FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && device == (1, 3) {
        Ok(fd)
    } else {
        Err(Errno::NODEV)
    }
}

fn mount_new(
    root: BorrowedFd<'_>,
    fs: &CStr,
    target: &CStr,
    flags: MountFlags,
) -> Result<(), Errno> {
    let place = find(root, target)?;
    let context = fsopen(fs, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes(flags))?;
    attach_over(mount.as_fd(), place.as_fd())
}

fn join_session_keyring() -> Result<(), Errno> {
    let anonymous: *const libc::c_char = std::ptr::null();
    // SAFETY: a null name asks for a new keyring; no memory is touched.
    let result =
        unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, anonymous) };
    match crate::errno::check(result) {
        // Kernels without keyrings, and builders that run under a filter like Docker's.
        Err(Errno::NOSYS | Errno::PERM) => Ok(()),
        other => other.map(drop),
    }
}

/// Reaps until `main` has ended.
fn reap(main: i32, events: &OwnedFd, prepared: &Prepared) -> Result<Usage, Errno> {
    let mut usage = Usage { noise_kib: peak_of_self(), ..Usage::default() };
    let mut list = [events.as_raw_fd(), prepared.lifeline].map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    loop {
        if let Some(status) = collect(main, &mut usage)? {
            usage.status = status;
            return Ok(usage);
        }
        // SAFETY: the list is valid for its two entries.
        let result = unsafe { libc::poll(list.as_mut_ptr(), 2, -1) };
        match crate::errno::check(result.into()) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        if list[0].revents != 0 {
            // The news is in wait4; this only makes the descriptor quiet again.
            let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
            while rustix::io::read(events, &mut info).is_ok() {}
        }
        if list[1].revents & (libc::POLLHUP | libc::POLLERR) != 0 {
            // The builder is gone, and with this process goes its step.
            exit(0);
        }
    }
}

/// Takes all ended children, the status of `main` if it is among them.
fn collect(main: i32, usage: &mut Usage) -> Result<Option<i32>, Errno> {
    let mut found = None;
    loop {
        let mut status = 0;
        // SAFETY: all-zero is a valid rusage.
        let mut used: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are valid for the call.
        let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut used) };
        match crate::errno::check(pid.into()) {
            Ok(0) | Err(Errno::CHILD) => return Ok(found),
            Err(Errno::INTR) => continue,
            other => other?,
        };
        usage.cpu_micros += micros(used.ru_utime) + micros(used.ru_stime);
        usage.peak_kib = usage.peak_kib.max(u64::try_from(used.ru_maxrss).unwrap_or(0));
        if pid == main {
            found = Some(status);
        }
    }
}

fn micros(time: libc::timeval) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000 + u64::try_from(time.tv_usec).unwrap_or(0)
}

fn peak_of_self() -> u64 {
    // SAFETY: all-zero is a valid rusage, and the pointer is valid for the call.
    let used = unsafe {
        let mut used: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut used);
        used
    };
    u64::try_from(used.ru_maxrss).unwrap_or(0)
}
