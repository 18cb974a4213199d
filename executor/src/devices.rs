//! The private /dev: what the OCI runtime specification lists under "default devices" and "dev
//! symbolic links". In a user namespace nodes cannot be made (mknod(2)); there the host's are bound,
//! over empty files.

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

/// Whose device nodes a /dev has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nodes {
    /// Its own.
    Own,
    /// Those of the host: empty files stand where [`host_nodes`] are to be attached.
    Host,
}

/// A filled /dev, not attached anywhere.
pub(crate) fn create(nodes: Nodes) -> Result<OwnedFd, ExecError> {
    let mount = Mount {
        target: PathBuf::from("/dev"),
        source: MountSource::Tmpfs { size: Some(SIZE), mode: 0o755 },
        flags: MountFlags { nosuid: true, ..MountFlags::default() },
    };
    let dev =
        mount.open().map_err(|source| ExecError::Mount { target: mount.target.clone(), source })?;
    for (name, major, minor) in NODES {
        let made = match nodes {
            Nodes::Own => node(&dev, name, major, minor),
            Nodes::Host => place(&dev, name),
        };
        made.map_err(|errno| failed(name, errno))?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, &dev, name).map_err(|errno| failed(name, errno))?;
    }
    for name in DIRS {
        directory(&dev, name).map_err(|errno| failed(name, errno))?;
    }
    Ok(dev)
}

/// The names of the device nodes.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    NODES.into_iter().map(|(name, ..)| name)
}

/// What is to be mounted into a /dev with [`Nodes::Host`].
pub(crate) fn host_nodes() -> impl Iterator<Item = Mount> {
    NODES.into_iter().map(|(name, ..)| {
        let path = Path::new("/dev").join(name);
        Mount {
            target: path.clone(),
            source: MountSource::Bind { source: path, recursive: false },
            flags: MountFlags { nosuid: true, noexec: true, ..MountFlags::default() },
        }
    })
}

/// Whether [`create`] makes something at this path.
pub(crate) fn is_standard(path: &Path) -> bool {
    let mut names = NODES.iter().map(|it| it.0).chain(LINKS.iter().map(|it| it.0)).chain(DIRS);
    names.any(|name| path == Path::new("/dev").join(name))
}

/// The null device, of a /dev that [`create`] made or of the host, for standard input.
pub(crate) fn open_null(nodes: Nodes, dev: &OwnedFd) -> Result<OwnedFd, ExecError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let opened = match nodes {
        Nodes::Own => rustix::fs::openat(dev, "null", flags, Mode::empty()),
        Nodes::Host => rustix::fs::open("/dev/null", flags, Mode::empty()),
    };
    opened.map_err(|errno| failed("null", errno))
}

fn place(dev: impl AsFd, name: &str) -> Result<(), Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(dev, name, flags, Mode::empty()).map(drop)
}

fn node(dev: impl AsFd, name: &str, major: u32, minor: u32) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(&dev, name, FileType::CharacterDevice, mode, makedev(major, minor))?;
    // The builder's umask was applied.
    rustix::fs::chmodat(&dev, name, mode, rustix::fs::AtFlags::empty())
}

/// Makes a directory with the usual mode.
pub(crate) fn directory(dev: impl AsFd, name: impl rustix::path::Arg + Copy) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(0o755);
    rustix::fs::mkdirat(&dev, name, mode)?;
    rustix::fs::chmodat(&dev, name, mode, rustix::fs::AtFlags::empty())
}

/// The error of something in /dev.
pub(crate) fn failed(name: impl AsRef<Path>, errno: Errno) -> ExecError {
    ExecError::Create { path: Path::new("/dev").join(name), errno }
}
