//! Metadata of directories and extended attributes of what an overlay wrote.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

/// The longest value and the longest list of names that Linux returns, in bytes
/// (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const MAX_BYTES: usize = 65536;
/// Where a directory that was renamed has its content (`filesystems/overlayfs.rst`,
/// "Renaming directories").
pub(super) const REDIRECT: &[u8] = b"trusted.overlay.redirect";
/// On a directory that hides the one below.
pub(super) const OPAQUE: &[u8] = b"trusted.overlay.opaque";
/// What the names of overlay's own attributes begin with.
const MARK: &[u8] = b"trusted.overlay.";
/// What those of an overlay that a step itself made begin with ("Nesting overlayfs mounts").
const NESTED: &[u8] = b"trusted.overlay.overlay.";
/// Security modules label what they find, and refuse changes.
const LABEL: &[u8] = b"security.";
/// Of these the one that belongs to the file.
const CAPABILITY: &[u8] = b"security.capability";

/// Metadata of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds and nanoseconds since the epoch.
    pub(super) accessed: (i64, u32),
    pub(super) modified: (i64, u32),
}

impl Meta {
    pub(super) fn of(dir: impl AsFd) -> Result<Self, Errno> {
        let stat = rustix::fs::fstat(dir)?;
        Ok(Self {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            accessed: (stat.st_atime, stat.st_atime_nsec as u32),
            modified: (stat.st_mtime, stat.st_mtime_nsec as u32),
        })
    }

    /// Gives `to` this metadata, and the attributes of `from`.
    pub(super) fn apply(&self, from: impl AsFd, to: impl AsFd) -> io::Result<()> {
        rustix::fs::fchown(&to, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))?;
        copy(&from, &to)?;
        rustix::fs::fchmod(&to, Mode::from_raw_mode(self.mode))?;
        let time =
            |(seconds, nanos): (i64, u32)| Timespec { tv_sec: seconds, tv_nsec: i64::from(nanos) };
        let (last_access, last_modification) = (time(self.accessed), time(self.modified));
        Ok(rustix::fs::futimens(&to, &Timestamps { last_access, last_modification })?)
    }
}

/// The path that leads to what is open.
pub(super) fn descriptor(fd: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// Whether overlay keeps it for itself.
fn is_mark(name: &[u8]) -> bool {
    name.starts_with(MARK) && !name.starts_with(NESTED)
}

/// An attribute of an open file.
pub(super) fn get(fd: impl AsFd, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    match read(|buffer| rustix::fs::fgetxattr(&fd, OsStr::from_bytes(name), buffer)) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn list(fd: impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    names(|buffer| rustix::fs::flistxattr(&fd, buffer))
}

/// Names, which end with zeros; none where the file system has no attributes.
fn names(call: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> io::Result<Vec<Vec<u8>>> {
    match read(call) {
        Ok(names) => {
            let names = names.split(|b| *b == 0).filter(|name| !name.is_empty());
            Ok(names.map(<[u8]>::to_vec).collect())
        }
        Err(Errno::NOTSUP) => Ok(Vec::new()),
        Err(errno) => Err(errno.into()),
    }
}

/// Nearly all are short: what is long is asked for twice.
fn read(call: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; 512];
    match call(&mut small) {
        Ok(length) => Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; MAX_BYTES];
            let length = call(&mut large)?;
            large.truncate(length);
            Ok(large)
        }
        Err(errno) => Err(errno),
    }
}

/// Gives `to` the attributes of `from` and takes others away, but for overlay's own.
fn copy(from: impl AsFd, to: impl AsFd) -> io::Result<()> {
    let wanted: Vec<_> = list(&from)?.into_iter().filter(|name| !is_mark(name)).collect();
    for name in list(&to)?.iter().filter(|name| !is_mark(name) && !wanted.contains(name)) {
        match rustix::fs::fremovexattr(&to, OsStr::from_bytes(name)) {
            Ok(()) | Err(Errno::NODATA) => {}
            Err(_) if is_label(name) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    for name in &wanted {
        let Some(value) = get(&from, name)? else { continue };
        match rustix::fs::fsetxattr(&to, OsStr::from_bytes(name), &value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(_) if is_label(name) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn is_label(name: &[u8]) -> bool {
    name.starts_with(LABEL) && name != CAPABILITY
}

/// Takes overlay's own attributes off the entry `name` of an open directory; a link itself is
/// meant.
pub(super) fn strip(dir: impl AsFd, name: &OsStr) -> io::Result<()> {
    let path = descriptor(&dir).join(Path::new(name));
    let marks = names(|buffer| rustix::fs::llistxattr(&path, buffer))?;
    for mark in marks.iter().filter(|name| is_mark(name)) {
        match rustix::fs::lremovexattr(&path, OsStr::from_bytes(mark)) {
            Ok(()) | Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
