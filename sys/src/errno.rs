//! Results of raw system calls.

use rustix::io::Errno;

/// The result of `libc::syscall`, or the thread's errno.
pub(crate) fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result < 0 { Err(last()) } else { Ok(result) }
}

/// The thread's errno.
pub(crate) fn last() -> Errno {
    // SAFETY: glibc and musl give a valid pointer to the calling thread's errno.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}
