//! Signal masks and dispositions around clone and exec.

use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::Errno;

/// Highest signal number (real-time signals included).
const SIGNALS: libc::c_int = 64;

/// Blocks every signal for the calling thread while it lives.
pub(crate) struct BlockAll {
    before: libc::sigset_t,
}

impl BlockAll {
    pub(crate) fn new() -> Self {
        let mut before = MaybeUninit::uninit();
        // SAFETY: both sets are valid memory; the call initialises `before`, it cannot fail with
        // SIG_SETMASK and valid pointers.
        unsafe {
            let mut all = MaybeUninit::uninit();
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            Self { before: before.assume_init() }
        }
    }
}

impl Drop for BlockAll {
    fn drop(&mut self) {
        // SAFETY: a set that the kernel gave us.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut());
        }
    }
}

/// Default dispositions for all signals (an ignored SIGPIPE would survive exec). Only in a child,
/// with signals blocked.
pub(crate) fn reset_dispositions() -> Result<(), Errno> {
    for number in 1..=SIGNALS {
        // glibc keeps 32 and 33 for itself and refuses them; they are never ignored.
        if number == libc::SIGKILL || number == libc::SIGSTOP || matches!(number, 32 | 33) {
            continue;
        }
        // SAFETY: SIG_DFL is a valid disposition for any other signal.
        if unsafe { libc::signal(number, libc::SIG_DFL) } == libc::SIG_ERR {
            return Err(crate::errno::last());
        }
    }
    Ok(())
}

/// An empty mask for the calling thread.
pub(crate) fn unblock_all() {
    // SAFETY: a valid, initialised set; cannot fail.
    unsafe {
        let mut none = MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

/// A descriptor that becomes readable on SIGCHLD, which must be blocked.
pub(crate) fn child_events() -> Result<OwnedFd, Errno> {
    // SAFETY: a valid, initialised set; the result is a new descriptor or -1.
    unsafe {
        let mut set = MaybeUninit::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        let fd = libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        crate::errno::check(fd.into())?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}
