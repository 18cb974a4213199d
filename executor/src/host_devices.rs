//! The devices of the host, for a step that is not confined.
//!
//! Its /dev is a tmpfs of its own like that of any other step, filled with nodes for what the
//! host has: what the step makes or removes in it is gone afterwards, and not the host's.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, FileType, Gid, Mode, Uid};
use rustix::io::Errno;
use sys::mount::{Mount, MountFlags, MountSource};

use crate::devices;
use crate::error::ExecError;

/// How deep devices are looked for below /dev; the host's own reach three (`/dev/cpu/0/msr`).
const MAX_DEPTH: usize = 8;
/// How many devices are taken.
const MAX_DEVICES: usize = 65_536;

/// Directories of /dev that a step has its own of, and a terminal that it has not: who runs the
/// builder may be sitting at it.
const OWN: [&str; 4] = ["pts", "shm", "mqueue", "console"];

/// One device node.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Device {
    /// Below /dev.
    name: PathBuf,
    kind: FileType,
    number: u64,
    /// Permission bits.
    mode: u32,
    owner: (u32, u32),
}

/// Makes nodes for the host's devices in `dev`, beside those that every step has. What the
/// builder may not make itself is left out: the step has no more than the builder.
pub(crate) fn make(dev: &OwnedFd) -> Result<(), ExecError> {
    for device in below(Path::new("/dev")) {
        let failed = |errno| devices::failed(&device.name, errno);
        parents(dev, &device.name).map_err(failed)?;
        match node(dev, &device) {
            Ok(()) | Err(Errno::EXIST | Errno::PERM) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    Ok(())
}

/// What is to be bound into a /dev where no node can be made: the devices that the builder can
/// open, less those that every step has. The others would be of no use.
pub(crate) fn bound() -> Vec<Mount> {
    let devices = below(Path::new("/dev")).into_iter();
    let paths = devices.map(|it| Path::new("/dev").join(it.name));
    let open = |path: &PathBuf| {
        let may = |access| rustix::fs::access(path, access).is_ok();
        may(Access::READ_OK) || may(Access::WRITE_OK)
    };
    paths
        .filter(|path| !devices::is_standard(path))
        .filter(open)
        .map(|path| Mount {
            target: path.clone(),
            source: MountSource::Bind { source: path, recursive: false },
            flags: MountFlags { nosuid: true, noexec: true, ..MountFlags::default() },
        })
        .collect()
}

/// The device nodes below a directory, sorted by name. Links are left out: they name nodes that
/// are found themselves. What vanishes while we look is no device.
fn below(top: &Path) -> Vec<Device> {
    let mut found = Vec::new();
    let mut pending = vec![(PathBuf::new(), 0)];
    while let Some((dir, depth)) = pending.pop() {
        let Ok(entries) = fs::read_dir(top.join(&dir)) else { continue };
        for entry in entries.flatten() {
            if depth == 0 && OWN.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            let name = dir.join(entry.file_name());
            let Ok(meta) = entry.metadata() else { continue };
            let kind = meta.file_type();
            if kind.is_dir() && depth + 1 < MAX_DEPTH {
                pending.push((name, depth + 1));
            } else if (kind.is_char_device() || kind.is_block_device()) && found.len() < MAX_DEVICES
            {
                found.push(Device {
                    name,
                    kind: FileType::from_raw_mode(meta.mode()),
                    number: meta.rdev(),
                    mode: meta.mode() & 0o7777,
                    owner: (meta.uid(), meta.gid()),
                });
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn parents(dev: impl AsFd, name: &Path) -> Result<(), Errno> {
    let mut dirs: Vec<_> = name.ancestors().skip(1).collect();
    dirs.reverse();
    for dir in dirs.into_iter().filter(|it| !it.as_os_str().is_empty()) {
        match devices::directory(&dev, dir) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn node(dev: impl AsFd, device: &Device) -> Result<(), Errno> {
    let Device { name, kind, number, mode, owner: (uid, gid) } = device;
    let mode = Mode::from_raw_mode(*mode);
    rustix::fs::mknodat(&dev, name, *kind, mode, *number)?;
    let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
    rustix::fs::chownat(&dev, name, Some(uid), Some(gid), AtFlags::empty())?;
    // The builder's umask was applied.
    rustix::fs::chmodat(&dev, name, mode, AtFlags::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_devices_of_this_host() {
        let all = below(Path::new("/dev"));
        let null = all.iter().find(|it| it.name == Path::new("null")).unwrap();
        assert_eq!(
            (null.kind, null.number),
            (FileType::CharacterDevice, rustix::fs::makedev(1, 3))
        );
        assert!(
            all.iter().all(|it| !it.name.starts_with("pts") && it.name != Path::new("console"))
        );
    }

    #[test]
    fn files_and_links_are_no_devices() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("file"), "").unwrap();
        fs::create_dir_all(temp.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("/dev/null", temp.path().join("a/b/link")).unwrap();
        assert_eq!(below(temp.path()), []);
    }

    #[test]
    fn what_every_step_has_is_not_bound_twice() {
        let all = bound();
        assert!(all.iter().all(|it| it.target != Path::new("/dev/null")));
        assert!(all.iter().all(|it| it.target != Path::new("/dev/ptmx")));
    }
}
