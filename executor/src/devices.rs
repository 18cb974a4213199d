//! The private /dev: what the OCI runtime specification lists under "default devices" and "dev
//! symbolic links".

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, makedev};
use rustix::io::Errno;
use sys::mount::{Mount, MountFlags, MountSource};

use crate::error::ExecError;

/// Enough for nodes and links; /dev is no place for data (Docker's size).
const SIZE: u64 = 64 * 1024 * 1024;

/// Character devices, all with mode 0666: name, major and minor number.
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links: name and target.
const LINKS: [(&str, &str); 6] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
];

/// Places of other mounts.
const DIRS: [&str; 3] = ["pts", "shm", "mqueue"];

/// A filled /dev, not attached anywhere.
pub(crate) fn create() -> Result<OwnedFd, ExecError> {
    let mount = Mount {
        target: PathBuf::from("/dev"),
        source: MountSource::Tmpfs { size: Some(SIZE), mode: 0o755 },
        flags: MountFlags { nosuid: true, ..MountFlags::default() },
    };
    let dev =
        mount.open().map_err(|source| ExecError::Mount { target: mount.target.clone(), source })?;
    for (name, major, minor) in NODES {
        node(&dev, name, major, minor).map_err(|errno| failed(name, errno))?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, &dev, name).map_err(|errno| failed(name, errno))?;
    }
    for name in DIRS {
        directory(&dev, name).map_err(|errno| failed(name, errno))?;
    }
    Ok(dev)
}

/// The null device of a /dev that [`create`] made, for standard input.
pub(crate) fn open_null(dev: &OwnedFd) -> Result<OwnedFd, ExecError> {
    rustix::fs::openat(dev, "null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed("null", errno))
}

fn node(dev: impl AsFd, name: &str, major: u32, minor: u32) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(&dev, name, FileType::CharacterDevice, mode, makedev(major, minor))?;
    // The builder's umask was applied.
    rustix::fs::chmodat(&dev, name, mode, rustix::fs::AtFlags::empty())
}

fn directory(dev: impl AsFd, name: &str) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(0o755);
    rustix::fs::mkdirat(&dev, name, mode)?;
    rustix::fs::chmodat(&dev, name, mode, rustix::fs::AtFlags::empty())
}

fn failed(name: &str, errno: Errno) -> ExecError {
    ExecError::Create { path: Path::new("/dev").join(name), errno }
}
