//! Reading directories: sorted names with full metadata, relative to descriptors, links never
//! followed.
//!
//! [`read_dir`] reads one directory; whoever wants a parallel walk calls it for many. [`walk`]
//! is the plain sequential one.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, StatxFlags};

/// What an entry of a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// Metadata of one file, from `statx`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky: `0o7777`.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// In bytes.
    pub size: u64,
    /// Allocated, in units of 512 bytes.
    pub blocks: u64,
    /// Names of the file.
    pub links: u32,
    /// The inode.
    pub inode: u64,
    /// Major and minor number of the device that it lies on.
    pub device: (u32, u32),
    /// Major and minor number of the device that it is.
    pub special: (u32, u32),
    /// Last change of the content: seconds since the epoch and nanoseconds.
    pub mtime: (i64, u32),
    /// Last change of the inode: seconds since the epoch and nanoseconds.
    pub ctime: (i64, u32),
}

impl Stat {
    /// What `statx` says of `name` relative to `dir`; a symbolic link is not followed. With an
    /// empty name: of `dir` itself, which may be any kind of descriptor.
    ///
    /// # Errors
    /// Those of `statx`.
    pub fn of(dir: impl AsFd, name: impl rustix::path::Arg) -> io::Result<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
        let raw = rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS)?;
        let kind = match u32::from(raw.stx_mode) & 0o170_000 {
            0o100_000 => FileKind::File,
            0o040_000 => FileKind::Directory,
            0o120_000 => FileKind::Symlink,
            0o020_000 => FileKind::CharDevice,
            0o060_000 => FileKind::BlockDevice,
            0o010_000 => FileKind::Fifo,
            _ => FileKind::Socket,
        };
        Ok(Self {
            kind,
            mode: u32::from(raw.stx_mode) & 0o7777,
            uid: raw.stx_uid,
            gid: raw.stx_gid,
            size: raw.stx_size,
            blocks: raw.stx_blocks,
            links: raw.stx_nlink,
            inode: raw.stx_ino,
            device: (raw.stx_dev_major, raw.stx_dev_minor),
            special: (raw.stx_rdev_major, raw.stx_rdev_minor),
            mtime: (raw.stx_mtime.tv_sec, raw.stx_mtime.tv_nsec),
            ctime: (raw.stx_ctime.tv_sec, raw.stx_ctime.tv_nsec),
        })
    }

    /// What `statx` says of an open file.
    ///
    /// # Errors
    /// Those of `statx`.
    pub fn of_fd(fd: impl AsFd) -> io::Result<Self> {
        Self::of(fd, c"")
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == FileKind::Directory
    }
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// One component, never `.` or `..`.
    pub name: OsString,
    /// Its metadata.
    pub stat: Stat,
}

/// Opens the directory `path` relative to `dir` for reading; its last component is not followed.
///
/// # Errors
/// Those of `openat`; `ENOTDIR` for anything else than a directory, a link to one included.
pub fn open_dir(dir: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, path, flags, Mode::empty())?)
}

/// The names in an open directory, sorted by their bytes.
///
/// # Errors
/// Those of `getdents64`.
pub fn read_names(dir: impl AsFd) -> io::Result<Vec<OsString>> {
    // Heap memory, so that deep recursions of callers stay cheap on the stack.
    let mut buffer = vec![MaybeUninit::uninit(); 32 * 1024];
    rustix::fs::seek(&dir, rustix::fs::SeekFrom::Start(0))?;
    let mut raw = RawDir::new(&dir, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = raw.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The entries of an open directory with their metadata, sorted by the bytes of their names.
/// An entry that vanishes meanwhile is left out.
///
/// # Errors
/// Those of `getdents64` and `statx`.
pub fn read_dir(dir: impl AsFd) -> io::Result<Vec<DirEntry>> {
    let names = read_names(&dir)?;
    let mut entries = Vec::with_capacity(names.len());
    for name in names {
        match Stat::of(&dir, name.as_os_str()) {
            Ok(stat) => entries.push(DirEntry { name, stat }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(entries)
}

/// Calls `visit` for everything below the open directory `root`, depth first, names in order;
/// a directory before what is in it. Paths are relative to `root`. `visit` returns whether to go
/// into a directory.
///
/// Each directory is opened by its path from `root` with no link followed, so the number of open
/// descriptors does not grow with the depth.
///
/// # Errors
/// The first one of reading a directory or of `visit`.
pub fn walk(
    root: impl AsFd,
    visit: &mut dyn FnMut(&Path, &Stat) -> io::Result<bool>,
) -> io::Result<()> {
    let root = root.as_fd();
    let mut pending: Vec<(PathBuf, Stat)> = Vec::new();
    let push = |pending: &mut Vec<(PathBuf, Stat)>, parent: &Path| -> io::Result<()> {
        let dir = open_below(root, parent)?;
        let entries = read_dir(&dir)?;
        pending.extend(entries.into_iter().rev().map(|e| (parent.join(e.name), e.stat)));
        Ok(())
    };
    push(&mut pending, Path::new(""))?;
    while let Some((path, stat)) = pending.pop() {
        if visit(&path, &stat)? && stat.is_dir() {
            push(&mut pending, &path)?;
        }
    }
    Ok(())
}

/// Opens the directory at `path` (relative, plain components) below `root`, following no link in
/// any component.
///
/// # Errors
/// Those of `openat2`; `ELOOP` for a link on the way.
pub fn open_below(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::ResolveFlags;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?)
}

/// Whether `name` is one plain component of a path.
pub(crate) fn is_component(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    !matches!(bytes, b"" | b"." | b"..") && !bytes.contains(&b'/') && !bytes.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_first_in_order_and_links_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        for d in ["b", "b/c", "b-x"] {
            std::fs::create_dir(dir.path().join(d)).unwrap();
        }
        std::fs::write(dir.path().join("b/c/f"), b"12345").unwrap();
        std::os::unix::fs::symlink("b", dir.path().join("a")).unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let mut seen = Vec::new();
        walk(&root, &mut |path, stat| {
            seen.push((path.to_str().unwrap().to_owned(), stat.kind, stat.size));
            Ok(true)
        })
        .unwrap();
        let names: Vec<_> = seen.iter().map(|s| s.0.as_str()).collect();
        assert_eq!(names, ["a", "b", "b/c", "b/c/f", "b-x"]);
        assert_eq!(seen[0].1, FileKind::Symlink);
        assert_eq!((seen[3].1, seen[3].2), (FileKind::File, 5));
        assert!(open_below(&root, Path::new("a/c")).is_err());
        assert!(open_dir(&root, Path::new("a")).is_err());
    }

    #[test]
    fn a_directory_larger_than_the_buffer() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..2000 {
            std::fs::write(dir.path().join(format!("{n:0>60}")), b"").unwrap();
        }
        let fd = std::fs::File::open(dir.path()).unwrap();
        // Twice: reading starts at the beginning each time.
        assert_eq!(read_dir(&fd).unwrap().len(), 2000);
        assert_eq!(read_names(&fd).unwrap().len(), 2000);
    }
}
