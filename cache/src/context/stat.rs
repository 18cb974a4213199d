//! What stat(2) says of a file in a build context, and opening one without leaving the context.

use std::fs::File;
use std::os::fd::OwnedFd;

use oci::Timestamp;
use oci::layer::TreePath;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// The kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket: copies and walks take it for an empty regular file.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl FileKind {
    pub(super) fn of(kind: FileType) -> Option<Self> {
        Some(match kind {
            FileType::Directory => Self::Directory,
            FileType::RegularFile => Self::File,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice => Self::CharDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::Unknown => return None,
        })
    }
}

/// What stat(2) says of a file, not following a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its kind.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky: `0o7777`.
    pub mode: u32,
    /// In bytes.
    pub size: u64,
    /// Last change of the content.
    pub mtime: Timestamp,
    pub(super) ctime: Timestamp,
    pub(super) dev: u64,
    pub(super) ino: u64,
    pub(super) links: u64,
    /// Of a device: major and minor number.
    pub(super) rdev: (u32, u32),
}

impl Stat {
    #[allow(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
    pub(super) fn of(raw: &rustix::fs::Stat) -> Option<Self> {
        let time = |seconds: i64, nanos: u64| Timestamp { seconds, nanos: nanos as u32 };
        let rdev = raw.st_rdev as u64;
        Some(Self {
            kind: FileKind::of(FileType::from_raw_mode(raw.st_mode))?,
            mode: raw.st_mode & 0o7777,
            size: raw.st_size as u64,
            mtime: time(raw.st_mtime as i64, raw.st_mtime_nsec as u64),
            ctime: time(raw.st_ctime as i64, raw.st_ctime_nsec as u64),
            dev: raw.st_dev as u64,
            ino: raw.st_ino as u64,
            links: raw.st_nlink as u64,
            rdev: (rustix::fs::major(rdev), rustix::fs::minor(rdev)),
        })
    }

    /// Whether the file's content cannot have changed between the two, as far as times tell.
    pub(super) fn same_content(&self, other: &Self) -> bool {
        self.identity() == other.identity() && self.version() == other.version()
    }

    /// Which file it is.
    pub(super) fn identity(&self) -> (u64, u64) {
        (self.dev, self.ino)
    }

    /// What changes with every change of its content.
    pub(super) fn version(&self) -> (u64, Timestamp, Timestamp) {
        (self.size, self.ctime, self.mtime)
    }
}

/// Opens `path` below `root`, following no symbolic link anywhere.
pub(super) fn open_beneath(root: &File, path: &TreePath, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let raw = if path.is_root() { b"." } else { path.as_bytes() };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(root, raw, flags, Mode::empty(), resolve) {
        // Before Linux 5.6, or in a container whose filter does not know the call.
        Err(Errno::NOSYS | Errno::PERM) => open_by_steps(root, path, flags),
        Err(Errno::AGAIN) => open_by_steps(root, path, flags),
        other => other,
    }
}

/// One component at a time: none of them can be a link.
fn open_by_steps(root: &File, path: &TreePath, flags: OFlags) -> Result<OwnedFd, Errno> {
    let Some(name) = path.file_name() else {
        return openat(root, c".", flags, Mode::empty());
    };
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut dir: Option<OwnedFd> = None;
    for component in path.parent().unwrap_or_default().components() {
        dir = Some(match &dir {
            None => openat(root, component, step, Mode::empty())?,
            Some(dir) => openat(dir, component, step, Mode::empty())?,
        });
    }
    match &dir {
        None => openat(root, name, flags, Mode::empty()),
        Some(dir) => openat(dir, name, flags, Mode::empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_opening_follow_no_link() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/f"), "x").unwrap();
        std::os::unix::fs::symlink("b", dir.path().join("a/l")).unwrap();
        std::os::unix::fs::symlink("f", dir.path().join("a/b/m")).unwrap();
        let root = File::open(dir.path()).unwrap();
        let path = |s: &str| TreePath::new(s.as_bytes()).unwrap();
        for open in [open_beneath, |r: &File, p: &TreePath, f| {
            open_by_steps(r, p, f | OFlags::NOFOLLOW | OFlags::CLOEXEC)
        }] {
            for good in ["", "a", "a/b/f"] {
                assert!(open(&root, &path(good), OFlags::RDONLY).is_ok(), "{good}");
            }
            for bad in ["a/l/f", "a/b/m"] {
                assert!(open(&root, &path(bad), OFlags::RDONLY).is_err(), "{bad}");
            }
        }
    }
}
