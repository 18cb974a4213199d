//! Work in a copy of this process: what it does to itself is gone with it.

use std::fs::File;
use std::io::{Read, Write};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::init::exit;

/// The most that is read of an answer, in bytes.
const ANSWER_BYTES: u64 = 1024 * 1024;

/// Does `work` in a forked child, and returns what it answers: at most 1 MiB. The child ends without
/// running destructors of what it inherited, so nothing of this process's may be in the middle of
/// something. An answer that is cut short or missing tells that the child did not come to its end.
///
/// # Errors
/// `EBUSY` where this process has more than one thread: a lock that another thread holds would
/// be locked in the child for good. Else the kernel's refusal to fork.
pub fn run(work: impl FnOnce() -> Vec<u8>) -> Result<Vec<u8>, Errno> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err(Errno::BUSY);
    }
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    // SAFETY: there is one thread, so the child has a whole and consistent copy of the process.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        drop(read);
        // A panic must not unwind into the parent's frames, of which this process has a copy.
        let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        let sent = answer.is_ok_and(|answer| File::from(write).write_all(&answer).is_ok());
        exit(i32::from(!sent));
    }
    crate::errno::check(pid.into())?;
    drop(write);
    let mut answer = Vec::new();
    let got = File::from(read).take(ANSWER_BYTES).read_to_end(&mut answer);
    let Some(pid) = Pid::from_raw(pid) else { return Err(Errno::CHILD) };
    while matches!(waitpid(Some(pid), WaitOptions::empty()), Err(Errno::INTR)) {}
    got.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(answer)
}
