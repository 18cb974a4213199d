//! Files that a process sees but that are in no layer: on a tmpfs of the run's own, bound
//! one by one, read-only.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use sys::mount::{Mount, MountFlags, MountSource};

use crate::error::ExecError;
use crate::spec::{InjectedFile, ProcessSpec};
use crate::{hosts, network};

/// The empty directory that hides masked ones.
pub(crate) const EMPTY: &CStr = c"empty";

const ROOT: (u32, u32) = (0, 0);

/// The tmpfs and what is to be bound from it.
pub(crate) struct PrivateFiles {
    pub(crate) mount: OwnedFd,
    /// Files of the system, bound before the caller's mounts.
    pub(crate) system: Vec<Part>,
    /// The caller's files, bound last.
    pub(crate) injected: Vec<Part>,
}

/// One file.
pub(crate) struct Part {
    /// Its name on the tmpfs.
    pub(crate) name: CString,
    /// Where the process sees it.
    pub(crate) target: PathBuf,
    /// Restrictions.
    pub(crate) flags: MountFlags,
}

/// Writes all private files of a run; `resolv` is its /etc/resolv.conf.
pub(crate) fn create(spec: &ProcessSpec, resolv: &str) -> Result<PrivateFiles, ExecError> {
    let mount = Mount {
        target: PathBuf::from("/"),
        source: MountSource::Tmpfs { size: None, mode: 0o755 },
        flags: MountFlags { nosuid: true, nodev: true, ..MountFlags::default() },
    }
    .open()
    .map_err(|source| ExecError::Mount { target: "/etc".into(), source })?;
    rustix::fs::mkdirat(&mount, EMPTY, Mode::from_raw_mode(0o555))
        .map_err(|errno| ExecError::Create { path: "/".into(), errno })?;
    let gateway = || network::gateway(spec.network);
    let hosts = hosts::content(&spec.hostname, &spec.extra_hosts, gateway);
    let hostname = format!("{}\n", spec.hostname);
    let mut files = PrivateFiles { mount, system: Vec::new(), injected: Vec::new() };
    let system: [(&str, &[u8]); 3] = [
        ("/etc/resolv.conf", resolv.as_bytes()),
        ("/etc/hosts", hosts.as_bytes()),
        ("/etc/hostname", hostname.as_bytes()),
    ];
    for (number, (target, data)) in system.into_iter().enumerate() {
        let name = format!("s{number}");
        let part = files.write(&name, Path::new(target), (0o644, ROOT), data)?;
        files.system.push(part);
    }
    for (number, InjectedFile { path, mode, owner, data }) in spec.files.iter().enumerate() {
        let name = format!("i{number}");
        let part = files.write(&name, Path::new(path), (*mode, *owner), data)?;
        files.injected.push(part);
    }
    Ok(files)
}

impl PrivateFiles {
    fn write(
        &self,
        name: &str,
        target: &Path,
        (mode, (uid, gid)): (u32, (u32, u32)),
        data: &[u8],
    ) -> Result<Part, ExecError> {
        let executable = mode & 0o111 != 0;
        let flags = MountFlags { noexec: !executable, ..MountFlags::DATA.read_only() };
        let failed = |errno| ExecError::Create { path: target.to_path_buf(), errno };
        let open = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.mount, name, open, Mode::from_raw_mode(0o600))
            .map_err(failed)?;
        write_all(&file, data).map_err(failed)?;
        // chown clears bits of the mode: it comes first.
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::fchown(&file, Some(uid), Some(gid)).map_err(failed)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777)).map_err(failed)?;
        let name = CString::new(name).map_err(|_| failed(Errno::INVAL))?;
        Ok(Part { name, target: target.to_path_buf(), flags })
    }
}

fn write_all(file: &OwnedFd, mut data: &[u8]) -> Result<(), Errno> {
    while !data.is_empty() {
        match rustix::io::write(file, data) {
            Ok(length) => data = &data[length..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
