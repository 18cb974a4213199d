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
    let bind = Mount {
        target: PathBuf::from("/"),
        source: MountSource::Bind { source: "/".into(), recursive: false },
        flags: MountFlags::DATA.read_only(),
    };
    bind.open().map(drop).map_err(|source| Unsupported::Mounts { source })
}
