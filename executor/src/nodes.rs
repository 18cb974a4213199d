//! Nodes of devices that a step is given besides those of every step.
//!
//! No file system that a step can make nodes on lets devices be opened (`nodev`: mount(8)). The
//! nodes that it is given are on a tmpfs that it does not see, and are bound from there one by
//! one.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, FileType, Gid, Mode, Uid, makedev};
use rustix::io::Errno;
use sys::mount::{Mount, MountFlags, MountSource};

use crate::error::ExecError;
use crate::spec::{DeviceNode, NodeKind};

/// Nodes take no space; the kernel rounds up to a page.
const SIZE: u64 = 1024 * 1024;
/// What may be done with a node.
pub(crate) const FLAGS: MountFlags =
    MountFlags { read_only: false, nosuid: true, nodev: false, noexec: true };

/// A tmpfs of nodes that is not attached anywhere.
pub(crate) struct Nodes {
    pub(crate) mount: OwnedFd,
    /// Name on the tmpfs, and where it is to be bound.
    pub(crate) list: Vec<(CString, PathBuf)>,
}

/// A node of which everything is known.
pub(crate) struct Filled {
    pub(crate) path: PathBuf,
    pub(crate) kind: FileType,
    pub(crate) number: (u32, u32),
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
}

impl Nodes {
    pub(crate) fn new() -> Result<Self, ExecError> {
        let mount = Mount {
            target: PathBuf::from("/dev"),
            source: MountSource::Tmpfs { size: Some(SIZE), mode: 0o755 },
            flags: MountFlags { nosuid: true, ..MountFlags::default() },
        };
        let opened = mount.open();
        let mount = opened.map_err(|source| ExecError::Mount { target: mount.target, source })?;
        Ok(Self { mount, list: Vec::new() })
    }

    /// Makes a node.
    pub(crate) fn add(&mut self, node: &Filled) -> Result<(), ExecError> {
        let Filled { path, kind, number: (major, minor), mode, owner: (uid, gid) } = node;
        let failed = |errno| ExecError::Create { path: path.clone(), errno };
        let name =
            CString::new(format!("n{}", self.list.len())).map_err(|_| failed(Errno::INVAL))?;
        let bits = Mode::from_raw_mode(*mode);
        rustix::fs::mknodat(&self.mount, &name, *kind, bits, makedev(*major, *minor))
            .map_err(failed)?;
        if (*uid, *gid) != (0, 0) {
            let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
            rustix::fs::chownat(&self.mount, &name, Some(uid), Some(gid), AtFlags::empty())
                .map_err(failed)?;
        }
        // The builder's umask was applied.
        rustix::fs::chmodat(&self.mount, &name, bits, AtFlags::empty()).map_err(failed)?;
        self.list.push((name, path.clone()));
        Ok(())
    }
}

/// A device of the host for a step, with what its specification leaves open: the number is that of
/// the host's node (CDI: `fillMissingInfo`), the mode 0666 (runc), the owner `owner`, whom the
/// process runs as.
pub(crate) fn fill(node: &DeviceNode, owner: (u32, u32)) -> Result<Filled, ExecError> {
    let found = match (node.kind, node.number) {
        (Some(NodeKind::Fifo), _) => (NodeKind::Fifo, (0, 0)),
        (Some(kind), Some(number)) => (kind, number),
        (kind, number) => {
            let (found, host) = on_host(&node.host_path)?;
            if kind.is_some_and(|kind| kind != found) {
                return Err(refuse(&node.host_path, "the host's device is of another type"));
            }
            (found, number.unwrap_or(host))
        }
    };
    let (kind, number) = found;
    Ok(Filled {
        path: node.path.clone(),
        kind: match kind {
            NodeKind::Character => FileType::CharacterDevice,
            NodeKind::Block => FileType::BlockDevice,
            NodeKind::Fifo => FileType::Fifo,
        },
        number,
        mode: node.mode.unwrap_or(0o666),
        owner: (node.uid.unwrap_or(owner.0), node.gid.unwrap_or(owner.1)),
    })
}

/// The same where no node can be made: the host's own is bound, with its mode and its owner.
pub(crate) fn of_host(node: &DeviceNode) -> Result<Mount, ExecError> {
    let host = &node.host_path;
    let (kind, number) = on_host(host)?;
    if node.kind.is_some_and(|it| it != kind) || node.number.is_some_and(|it| it != number) {
        let reason = "the host's device is another one than the specification describes, and as \
                      an ordinary user no node can be made";
        return Err(refuse(host, reason));
    }
    let may = |access| rustix::fs::access(host, access).is_ok();
    if !may(Access::READ_OK) && !may(Access::WRITE_OK) {
        let meta = std::fs::metadata(host);
        let mode = meta.map(|it| format!(" (its mode is {:o})", it.mode() & 0o7777));
        let reason = format!(
            "the user who builds may not open it{}; build as root, or give that user access to it",
            mode.unwrap_or_default()
        );
        return Err(refuse(host, &reason));
    }
    Ok(Mount {
        target: node.path.clone(),
        source: MountSource::Bind { source: host.clone(), recursive: false },
        flags: FLAGS,
    })
}

fn on_host(path: &Path) -> Result<(NodeKind, (u32, u32)), ExecError> {
    let meta = std::fs::metadata(path).map_err(|error| refuse(path, &error.to_string()))?;
    let kind = match meta.file_type() {
        it if it.is_char_device() => NodeKind::Character,
        it if it.is_block_device() => NodeKind::Block,
        it if it.is_fifo() => NodeKind::Fifo,
        _ => return Err(refuse(path, "it is not a device node")),
    };
    let number = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
    Ok((kind, number))
}

fn refuse(path: &Path, reason: &str) -> ExecError {
    ExecError::Device { path: path.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> DeviceNode {
        DeviceNode {
            path: "/dev/own".into(),
            host_path: "/dev/full".into(),
            kind: None,
            number: None,
            mode: None,
            uid: None,
            gid: Some(9),
        }
    }

    #[test]
    fn what_is_left_open_is_the_hosts() {
        let filled = fill(&node(), (5, 6)).unwrap();
        assert_eq!((filled.kind, filled.number), (FileType::CharacterDevice, (1, 7)));
        assert_eq!((filled.mode, filled.owner), (0o666, (5, 9)));
        let all = DeviceNode {
            kind: Some(NodeKind::Block),
            number: Some((7, 0)),
            host_path: "/missing".into(),
            ..node()
        };
        assert_eq!(fill(&all, (0, 0)).unwrap().number, (7, 0));
        let other = DeviceNode { kind: Some(NodeKind::Block), ..node() };
        let error = fill(&other, (0, 0)).err().unwrap().to_string();
        assert!(error.contains("/dev/full") && error.contains("another type"), "{error}");
        for (path, reason) in [("/missing", "No such file"), ("/etc/passwd", "not a device")] {
            let missing = DeviceNode { host_path: path.into(), ..node() };
            let error = fill(&missing, (0, 0)).err().unwrap().to_string();
            assert!(error.contains(reason), "{error}");
            assert!(of_host(&missing).is_err());
        }
    }

    #[test]
    fn the_hosts_own_node() {
        assert_eq!(of_host(&node()).unwrap().target, Path::new("/dev/own"));
        let other = DeviceNode { number: Some((1, 3)), ..node() };
        assert!(of_host(&other).unwrap_err().to_string().contains("another one"));
    }
}
