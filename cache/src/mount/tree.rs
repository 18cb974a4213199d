//! The entries of a directory that steps wrote to. Every path is taken from the directory, and no
//! link on the way is followed: a step may have planted one (CVE-2024-9675).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::attributes;
use crate::error::{At, CacheError};
use crate::trash;

/// A directory, and how errors call it.
pub(super) struct Tree {
    fd: OwnedFd,
    path: PathBuf,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    /// A character device 0:0, by which an overlay hides what is below
    /// (`filesystems/overlayfs.rst`, "whiteouts and opaque directories").
    Whiteout,
    Other,
}

impl Kind {
    fn of(stat: &Stat) -> Self {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Self::Directory,
            FileType::CharacterDevice if stat.st_rdev == 0 => Self::Whiteout,
            _ => Self::Other,
        }
    }
}

impl Tree {
    pub(super) fn open(path: &Path) -> Result<Self, CacheError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).at("open", path)?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// The path of an entry, for errors.
    pub(super) fn shown(&self, path: &Path) -> PathBuf {
        self.path.join(path)
    }

    /// Opens the directory at `path`; the root where it is empty.
    pub(super) fn dir(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), resolve)
    }

    /// Opens the directory that `path` is in, and gives its name there.
    pub(super) fn parent<'p>(&self, path: &'p Path) -> Result<(OwnedFd, &'p OsStr), Errno> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        Ok((self.dir(path.parent().unwrap_or(Path::new("")))?, name))
    }

    /// What is at `path`; nothing where something else than a directory is on the way.
    pub(super) fn kind(&self, path: &Path) -> Result<Option<Kind>, CacheError> {
        if path.as_os_str().is_empty() {
            return Ok(Some(Kind::Directory));
        }
        let stat = self.parent(path).and_then(|(dir, name)| {
            rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map(|s| Kind::of(&s))
        });
        match stat {
            Ok(kind) => Ok(Some(kind)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(errno).at("look at", &self.shown(path)),
        }
    }

    /// The entries of the directory at `path`, by name.
    pub(super) fn entries(&self, path: &Path) -> Result<Vec<(OsString, Kind)>, CacheError> {
        let read = || -> Result<_, Errno> {
            let fd = self.dir(path)?;
            let mut entries = Vec::new();
            for entry in Dir::read_from(&fd)? {
                let name = OsString::from_vec(entry?.file_name().to_bytes().to_vec());
                if name != "." && name != ".." {
                    let stat = rustix::fs::statat(&fd, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                    entries.push((name, Kind::of(&stat)));
                }
            }
            entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            Ok(entries)
        };
        read().at("list", &self.shown(path))
    }

    /// An attribute of the directory at `path`.
    pub(super) fn attribute(
        &self,
        path: &Path,
        name: &[u8],
    ) -> Result<Option<Vec<u8>>, CacheError> {
        let get = || -> io::Result<_> { attributes::get(&self.dir(path)?, name) };
        get().at("read an attribute of", &self.shown(path))
    }

    /// Whether something is at `path`.
    pub(super) fn has(&self, path: &Path) -> Result<bool, CacheError> {
        Ok(self.kind(path)?.is_some())
    }

    /// Renames `path` to `to` of another tree on the same file system, over what is no directory
    /// there. Flags that forbid it (chattr(1): a step that was not confined may have set them) are
    /// taken away.
    pub(super) fn rename(&self, path: &Path, to: &Self, new: &Path) -> Result<(), CacheError> {
        let rename = || -> Result<(), Errno> {
            let (from, name) = self.parent(path)?;
            let (dir, new_name) = to.parent(new)?;
            match rustix::fs::renameat(&from, name, &dir, new_name) {
                Err(Errno::PERM) => {
                    for (dir, name) in [(&from, name), (&dir, new_name)] {
                        for entry in [OsStr::new("."), name] {
                            trash::release(&attributes::descriptor(dir).join(entry));
                        }
                    }
                    rustix::fs::renameat(from, name, dir, new_name)
                }
                other => other,
            }
        };
        rename().at("move", &self.shown(path))
    }

    /// Makes the directory `path`, unless it is there.
    pub(super) fn make(&self, path: &Path) -> Result<(), CacheError> {
        let made = self.parent(path).and_then(|(dir, name)| {
            match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700)) {
                Err(Errno::EXIST) => Ok(()),
                other => other,
            }
        });
        made.at("create", &self.shown(path))
    }
}
