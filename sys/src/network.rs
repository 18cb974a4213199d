//! Network devices of the calling thread's network namespace.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

/// Brings `lo` up; the kernel then gives it 127.0.0.1 and ::1 (netdevice(7)). Does not allocate.
///
/// # Errors
/// The kernel's refusal; `EPERM` without CAP_NET_ADMIN.
pub fn loopback_up() -> Result<(), Errno> {
    // SAFETY: no memory is passed; the result is a new descriptor or -1.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        crate::errno::check(fd.into())?;
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = byte.cast_signed();
    }
    // IFF_UP and IFF_RUNNING are below 1 << 15.
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is valid for the call and names a device.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    crate::errno::check(result.into()).map(drop)
}
