//! Namespaces of the calling thread.

use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

/// Gives the calling thread its own copy of the mounts, out of which nothing propagates. The
/// thread also gets its own working directory and root (`CLONE_FS`).
///
/// # Errors
/// The kernel's refusal; `EPERM` without CAP_SYS_ADMIN.
pub fn unshare_mount_namespace() -> Result<(), Errno> {
    unshare(UnshareFlags::NEWNS | UnshareFlags::FS)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
}

/// `unshare(2)` of anything but the file descriptor table.
pub(crate) fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    // SAFETY: the descriptor table stays shared, which is what the function asks for; no other
    // flag bears on memory safety.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Whether this process may make all the namespaces that a sandbox has, tried on a thread that
/// ends at once.
///
/// # Errors
/// The kernel's refusal: `EPERM` without the right, `EINVAL` or `ENOSPC` where one is compiled out
/// or limited (`/proc/sys/user/max_*_namespaces`).
pub fn probe() -> Result<(), Errno> {
    let all = UnshareFlags::NEWNS
        | UnshareFlags::FS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWCGROUP;
    std::thread::spawn(move || unshare(all)).join().unwrap_or(Err(Errno::CANCELED))
}
