//! What a host lacks for running steps.

use std::path::PathBuf;

use sys::capability::{self, Capabilities};
use sys::mount::{Mount, MountFlags, MountSource};

use crate::error::Unsupported;

/// Capabilities that the sandbox needs to be built, with their names.
const NEEDED: [(Capabilities, &str); 7] = [
    (Capabilities::SYS_ADMIN, "CAP_SYS_ADMIN"),
    (Capabilities::SETUID, "CAP_SETUID"),
    (Capabilities::SETGID, "CAP_SETGID"),
    (Capabilities::SETPCAP, "CAP_SETPCAP"),
    (Capabilities::MKNOD, "CAP_MKNOD"),
    (Capabilities::CHOWN, "CAP_CHOWN"),
    (Capabilities::NET_ADMIN, "CAP_NET_ADMIN"),
];

pub(crate) fn probe() -> Result<(), Unsupported> {
    if crate::seccomp::filter().is_none() {
        return Err(Unsupported::Architecture);
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Unsupported::NotRoot);
    }
    let have = capability::effective().map_err(|errno| Unsupported::Namespaces { errno })?;
    for (needed, name) in NEEDED {
        if !have.contains(needed) {
            return Err(Unsupported::Capability { name });
        }
    }
    sys::namespace::probe().map_err(|errno| Unsupported::Namespaces { errno })?;
    if sys::userns::inside()
        && let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo")
        && let Some(path) = masked(&mounts)
    {
        return Err(Unsupported::MaskedProc { path });
    }
    let bind = Mount {
        target: PathBuf::from("/"),
        // A file: of a directory, what is mounted below may have to come along
        // (mount_namespaces(7)).
        source: MountSource::Bind { source: "/dev/null".into(), recursive: false },
        flags: MountFlags::DATA.read_only(),
    };
    bind.open().map(drop).map_err(|source| Unsupported::Mounts { source })
}

/// Whether limits of resources (getrlimit(2)) may be raised above the builder's own. In a user
/// namespace the capability does not count for this (`do_prlimit` asks `capable`).
pub(crate) fn may_raise_limits() -> bool {
    !sys::userns::inside()
        && capability::effective().is_ok_and(|have| have.contains(Capabilities::SYS_RESOURCE))
}

/// What hides a part of /proc, in the text of a mountinfo file (proc_pid_mountinfo(5)). Mounts on
/// directories that the kernel keeps empty for them hide nothing (`mnt_already_visible`).
fn masked(mountinfo: &str) -> Option<String> {
    const EMPTY: [&str; 3] = ["/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd", "/proc/openprom"];
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    points
        .filter(|point| point.starts_with("/proc/"))
        .find(|point| !EMPTY.contains(point))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_parts_of_proc() {
        let host = "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
                    23 22 0:30 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw\n\
                    24 27 0:22 / /sys rw - sysfs sysfs rw\n";
        assert_eq!(masked(host), None);
        let container = format!("{host}25 22 0:31 / /proc/kcore rw - tmpfs tmpfs rw\n");
        assert_eq!(masked(&container).as_deref(), Some("/proc/kcore"));
    }
}
