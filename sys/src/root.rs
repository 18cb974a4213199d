//! A directory that names from outside can't leave.
//!
//! Names in images, archives and contexts are hostile: `../../etc/passwd`, absolute names, and
//! links that an earlier entry planted (CVE-2019-14271, CVE-2024-1753). A [`Root`] resolves every
//! path in the kernel with `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`: `..` and absolute
//! links clamp at the root, as after a `chroot`, without a window in which a link can be swapped.
//!
//! Every operation follows links in the directories of its path and, where nothing else is said,
//! never in the last component.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::walk::{self, DirEntry, Stat};
use crate::xattr;

/// How many symbolic links one path may lead through, as in the kernel (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// How often a lookup that raced with a rename is tried again: `openat2(2)` answers `EAGAIN`.
const MAX_RACES: usize = 64;

/// How deep [`Root::remove_all`] recurses before it flattens what is deeper; each level holds
/// one descriptor.
const MAX_RECURSION: usize = 64;

/// An operation on a path that failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}: {source}", path.display())]
pub struct PathError {
    /// What was tried, as in "cannot create directory".
    pub operation: &'static str,
    /// On what, as the caller named it.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

impl PathError {
    /// The kind of the cause.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// Names operation and path of an IO error.
pub trait Context<T> {
    /// The same result; the error says what was done to what.
    ///
    /// # Errors
    /// The error of `self`.
    fn context(self, operation: &'static str, path: impl AsRef<Path>) -> Result<T, PathError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, operation: &'static str, path: impl AsRef<Path>) -> Result<T, PathError> {
        self.map_err(|source| PathError {
            operation,
            path: path.as_ref().to_owned(),
            source: source.into(),
        })
    }
}

/// What [`Root::mknod`] makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// A character device with major and minor number.
    Char(u32, u32),
    /// A block device with major and minor number.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// An open directory; see the module.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

type Result<T, E = PathError> = std::result::Result<T, E>;

impl Root {
    /// Takes an open directory; `O_PATH` is enough. It may be a mount that is attached nowhere.
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Opens the directory `path` of the host.
    ///
    /// # Errors
    /// If it is not a directory or can't be opened.
    pub fn at(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).context("cannot open", path)?;
        Ok(Self { fd })
    }

    /// The directory itself.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// A second handle of the same directory.
    ///
    /// # Errors
    /// Those of `dup`.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self { fd: self.fd.try_clone().context("cannot duplicate the descriptor of", "/")? })
    }

    fn openat2(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..MAX_RACES {
            match rustix::fs::openat2(&self.fd, path, flags | OFlags::CLOEXEC, mode, resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// Opens `path` with `flags` (`O_CLOEXEC` is added); a last component that is a link is
    /// followed inside the root unless they have `NOFOLLOW`.
    ///
    /// # Errors
    /// Those of `openat2`.
    pub fn open(&self, path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd> {
        let path = path.as_ref();
        self.openat2(path, flags, Mode::empty()).context("cannot open", path)
    }

    /// Opens the regular file `path` for reading; links are followed inside the root. A pipe or
    /// a device can't block or act: it is an error.
    ///
    /// # Errors
    /// Those of `openat2`; `InvalidInput` for anything but a regular file.
    pub fn open_file(&self, path: impl AsRef<Path>) -> Result<File> {
        let path = path.as_ref();
        let what = "cannot open";
        let probe = self.openat2(path, OFlags::PATH, Mode::empty()).context(what, path)?;
        if Stat::of_fd(&probe).context(what, path)?.kind != walk::FileKind::File {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
                .context(what, path);
        }
        // Opened again through the descriptor that was looked at, so nothing can be swapped.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(xattr::descriptor_path(&probe), flags, Mode::empty());
        Ok(File::from(fd.context(what, path)?))
    }

    /// Opens the directory that `path` is in, links followed inside the root, and gives the last
    /// component.
    ///
    /// # Errors
    /// Those of `openat2`; `InvalidInput` if the path ends with `..` or names the root.
    pub fn open_parent(&self, path: impl AsRef<Path>) -> Result<(OwnedFd, OsString)> {
        self.parent_of(path.as_ref()).context("cannot open the directory of", path.as_ref())
    }

    fn parent_of(&self, path: &Path) -> io::Result<(OwnedFd, OsString)> {
        let (parent, name) = split(path)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Ok((self.openat2(parent, flags, Mode::empty())?, name.to_owned()))
    }

    /// Creates the regular file `path`, which must not exist, for writing and reading. `mode` is
    /// subject to the umask: see [`Self::chmod`].
    ///
    /// # Errors
    /// Those of `openat2`.
    pub fn create_file(&self, path: impl AsRef<Path>, mode: u32) -> Result<File> {
        let path = path.as_ref();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let fd = self.openat2(path, flags, Mode::from_raw_mode(mode & 0o777));
        Ok(File::from(fd.context("cannot create", path)?))
    }

    /// Creates the directory `path`. `mode` is subject to the umask.
    ///
    /// # Errors
    /// Those of `mkdirat`.
    pub fn mkdir(&self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        self.at_parent("cannot create directory", path.as_ref(), |dir, name| {
            Ok(rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode))?)
        })
    }

    /// Creates the directory `path` and every directory that is missing on the way; links are
    /// followed inside the root, also those whose target does not exist yet. Returns what was
    /// created, outermost first, as paths without links.
    ///
    /// # Errors
    /// `NotADirectory` if something else is in the way; those of `mkdirat`.
    pub fn mkdir_all(&self, path: impl AsRef<Path>, mode: u32) -> Result<Vec<PathBuf>> {
        let path = path.as_ref();
        let what = "cannot create directory";
        let mut created = Vec::new();
        let mut links = 0;
        // What is still to do, outermost last; what is done, without links.
        let mut rest: Vec<OsString> = components(path);
        let mut done = PathBuf::new();
        while let Some(name) = rest.pop() {
            if name == ".." {
                done.pop();
                continue;
            }
            let here = done.join(&name);
            match self.lookup(&here).context(what, path)? {
                None => {
                    let (dir, name) = self.parent_of(&here).context(what, path)?;
                    match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode)) {
                        Ok(()) => created.push(here.clone()),
                        Err(Errno::EXIST) => {}
                        Err(error) => return Err(error).context(what, path),
                    }
                    done = here;
                }
                Some(stat) if stat.is_dir() => done = here,
                Some(stat) if stat.kind == walk::FileKind::Symlink => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP).context(what, path);
                    }
                    let target = self.readlink(&here)?;
                    if target.is_absolute() {
                        done = PathBuf::new();
                    }
                    rest.extend(components(&target));
                }
                Some(_) => return Err(Errno::NOTDIR).context(what, path),
            }
        }
        Ok(created)
    }

    /// Metadata of the last component itself, none if it or its directory does not exist.
    fn lookup(&self, path: &Path) -> io::Result<Option<Stat>> {
        match self.openat2(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(Some(Stat::of_fd(fd)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates a symbolic link at `path` with `target` as its text.
    ///
    /// # Errors
    /// Those of `symlinkat`.
    pub fn symlink(&self, target: &[u8], path: impl AsRef<Path>) -> Result<()> {
        self.at_parent("cannot create link", path.as_ref(), |dir, name| {
            Ok(rustix::fs::symlinkat(OsStr::from_bytes(target), dir, name)?)
        })
    }

    /// Gives the file at `existing` (not followed) the further name `path`.
    ///
    /// # Errors
    /// Those of `linkat`.
    pub fn hard_link(&self, existing: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<()> {
        let (from, from_name) = self.open_parent(existing)?;
        self.at_parent("cannot create hard link", path.as_ref(), |dir, name| {
            Ok(rustix::fs::linkat(from, from_name, dir, name, AtFlags::empty())?)
        })
    }

    /// Creates a device node or pipe. `mode` is subject to the umask.
    ///
    /// # Errors
    /// Those of `mknodat`; devices need `CAP_MKNOD` in the first user namespace.
    pub fn mknod(&self, path: impl AsRef<Path>, special: Special, mode: u32) -> Result<()> {
        let (kind, major, minor) = match special {
            Special::Char(major, minor) => (FileType::CharacterDevice, major, minor),
            Special::Block(major, minor) => (FileType::BlockDevice, major, minor),
            Special::Fifo => (FileType::Fifo, 0, 0),
        };
        let device = rustix::fs::makedev(major, minor);
        self.at_parent("cannot create device", path.as_ref(), |dir, name| {
            let mode = Mode::from_raw_mode(mode & 0o777);
            Ok(rustix::fs::mknodat(dir, name, kind, mode, device)?)
        })
    }

    /// Removes the file, link or node `path`, not a directory.
    ///
    /// # Errors
    /// Those of `unlinkat`.
    pub fn unlink(&self, path: impl AsRef<Path>) -> Result<()> {
        self.at_parent("cannot remove", path.as_ref(), |dir, name| {
            Ok(rustix::fs::unlinkat(dir, name, AtFlags::empty())?)
        })
    }

    /// Removes the empty directory `path`.
    ///
    /// # Errors
    /// Those of `unlinkat`.
    pub fn rmdir(&self, path: impl AsRef<Path>) -> Result<()> {
        self.at_parent("cannot remove directory", path.as_ref(), |dir, name| {
            Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
        })
    }

    /// Removes `path` and everything below it, however deep; that it does not exist is no error.
    /// For the root itself (an empty path or `/`): everything in it.
    ///
    /// # Errors
    /// Those of `unlinkat`; what was removed before stays so.
    pub fn remove_all(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let what = "cannot remove";
        if components(path).is_empty() {
            let dir = walk::open_dir(&self.fd, Path::new(".")).context(what, path)?;
            return clear(&dir).context(what, path);
        }
        match self.parent_of(path) {
            Ok((dir, name)) => remove_entry(dir.as_fd(), &name).context(what, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).context(what, path),
        }
    }

    /// Moves `from` to `to`, replacing a file or empty directory there.
    ///
    /// # Errors
    /// Those of `renameat`.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        let (old_dir, old_name) = self.open_parent(from)?;
        self.at_parent("cannot rename to", to.as_ref(), |dir, name| {
            Ok(rustix::fs::renameat(old_dir, old_name, dir, name)?)
        })
    }

    /// Changes the owner. Clears setuid, setgid and the capabilities of a file: do it before
    /// [`Self::chmod`] and [`Self::set_xattr`].
    ///
    /// # Errors
    /// Those of `fchownat`.
    pub fn chown(&self, path: impl AsRef<Path>, uid: u32, gid: u32) -> Result<()> {
        self.on("cannot change the owner of", path.as_ref(), |fd| {
            let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
            rustix::fs::chownat(fd, c"", Some(user), Some(group), AtFlags::EMPTY_PATH)
                .map_err(|errno| crate::userns::owner_error(uid, gid, errno))
        })
    }

    /// Changes the permission bits, setuid, setgid and sticky included. A symbolic link has
    /// none: `EOPNOTSUPP`.
    ///
    /// # Errors
    /// Those of `chmod`.
    pub fn chmod(&self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        self.on("cannot change the mode of", path.as_ref(), |fd| {
            if Stat::of_fd(&fd)?.kind == walk::FileKind::Symlink {
                return Err(Errno::OPNOTSUPP.into());
            }
            // fchmodat has no AT_EMPTY_PATH before Linux 6.6, and fchmod refuses O_PATH.
            Ok(rustix::fs::chmod(xattr::descriptor_path(&fd), Mode::from_raw_mode(mode & 0o7777))?)
        })
    }

    /// Sets the time of the last change; seconds and nanoseconds since the epoch. The time of
    /// the last access stays.
    ///
    /// # Errors
    /// Those of `utimensat`.
    pub fn set_mtime(&self, path: impl AsRef<Path>, mtime: (i64, u32)) -> Result<()> {
        let path = path.as_ref();
        let what = "cannot set the time of";
        if components(path).is_empty() {
            return set_mtime_at(&self.fd, OsStr::new("."), mtime).context(what, path);
        }
        self.at_parent(what, path, |dir, name| set_mtime_at(dir, name, mtime))
    }

    /// Names of the extended attributes.
    ///
    /// # Errors
    /// Those of `listxattr`.
    pub fn list_xattr(&self, path: impl AsRef<Path>) -> Result<Vec<Vec<u8>>> {
        self.on("cannot list the attributes of", path.as_ref(), xattr::list)
    }

    /// The value of an extended attribute; none if there is none.
    ///
    /// # Errors
    /// Those of `getxattr`.
    pub fn get_xattr(&self, path: impl AsRef<Path>, name: &[u8]) -> Result<Option<Vec<u8>>> {
        self.on("cannot read an attribute of", path.as_ref(), |fd| xattr::get(fd, name))
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// Those of `setxattr`.
    pub fn set_xattr(&self, path: impl AsRef<Path>, name: &[u8], value: &[u8]) -> Result<()> {
        self.on("cannot set an attribute of", path.as_ref(), |fd| xattr::set(fd, name, value))
    }

    /// Removes an extended attribute; that it is not there is no error.
    ///
    /// # Errors
    /// Those of `removexattr`.
    pub fn remove_xattr(&self, path: impl AsRef<Path>, name: &[u8]) -> Result<()> {
        self.on("cannot remove an attribute of", path.as_ref(), |fd| xattr::remove(fd, name))
    }

    /// Metadata.
    ///
    /// # Errors
    /// Those of `openat2` and `statx`.
    pub fn stat(&self, path: impl AsRef<Path>) -> Result<Stat> {
        self.on("cannot look at", path.as_ref(), Stat::of_fd)
    }

    /// Metadata; none if the path does not lead to anything (a file on the way included).
    ///
    /// # Errors
    /// Those of `openat2` and `statx`.
    pub fn try_stat(&self, path: impl AsRef<Path>) -> Result<Option<Stat>> {
        match self.stat(path) {
            Ok(stat) => Ok(Some(stat)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Metadata of what `path` leads to, links followed inside the root.
    ///
    /// # Errors
    /// Those of `openat2` and `statx`.
    pub fn stat_followed(&self, path: impl AsRef<Path>) -> Result<Stat> {
        let path = path.as_ref();
        let what = "cannot look at";
        let fd = self.openat2(path, OFlags::PATH, Mode::empty()).context(what, path)?;
        Stat::of_fd(fd).context(what, path)
    }

    /// The text of a symbolic link.
    ///
    /// # Errors
    /// Those of `readlinkat`; `InvalidInput` for anything else.
    pub fn readlink(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        self.at_parent("cannot read link", path.as_ref(), |dir, name| readlink_at(dir, name))
    }

    /// The entries of the directory `path`, sorted; links are followed inside the root.
    ///
    /// # Errors
    /// Those of `openat2`, `getdents64` and `statx`.
    pub fn read_dir(&self, path: impl AsRef<Path>) -> Result<Vec<DirEntry>> {
        let path = path.as_ref();
        let what = "cannot read directory";
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let dir = self.openat2(path, flags, Mode::empty()).context(what, path)?;
        walk::read_dir(dir).context(what, path)
    }

    fn at_parent<T>(
        &self,
        operation: &'static str,
        path: &Path,
        call: impl FnOnce(BorrowedFd<'_>, &OsStr) -> io::Result<T>,
    ) -> Result<T> {
        let (dir, name) = self.parent_of(path).context(operation, path)?;
        call(dir.as_fd(), &name).context(operation, path)
    }

    fn on<T>(
        &self,
        operation: &'static str,
        path: &Path,
        call: impl FnOnce(OwnedFd) -> io::Result<T>,
    ) -> Result<T> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let fd = self.openat2(path, flags, Mode::empty()).context(operation, path)?;
        call(fd).context(operation, path)
    }
}

/// Sets the time of the last change of `name` in the directory `dir`, a link itself included;
/// the time of the last access stays.
///
/// # Errors
/// Those of `utimensat`.
pub fn set_mtime_at(dir: impl AsFd, name: &OsStr, mtime: (i64, u32)) -> io::Result<()> {
    let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let times = Timestamps {
        last_access: omit,
        last_modification: Timespec { tv_sec: mtime.0, tv_nsec: mtime.1.into() },
    };
    Ok(rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The text of the symbolic link `name` in the directory `dir`.
///
/// # Errors
/// Those of `readlinkat`.
pub fn readlink_at(dir: impl AsFd, name: &OsStr) -> io::Result<PathBuf> {
    let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
}

/// The components of a path, outermost last, without `.`; an absolute path is one from the root.
fn components(path: &Path) -> Vec<OsString> {
    let parts = path.as_os_str().as_bytes().split(|b| *b == b'/');
    let kept = parts.filter(|p| !matches!(*p, b"" | b"."));
    kept.map(|p| OsStr::from_bytes(p).to_owned()).rev().collect()
}

/// The path of the directory and the last component.
fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let bytes = path.as_os_str().as_bytes();
    let end = bytes.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1);
    let start = bytes[..end].iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
    let name = OsStr::from_bytes(&bytes[start..end]);
    if !walk::is_component(name) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path does not end with a plain name",
        ));
    }
    Ok((Path::new(OsStr::from_bytes(&bytes[..start])), name))
}

/// Removes everything in an open directory, not the directory itself, however deep it is.
///
/// # Errors
/// Those of `unlinkat` and `getdents64`.
pub fn clear(dir: impl AsFd) -> io::Result<()> {
    let dir = dir.as_fd();
    // What is too deep is moved up here by `clear_level`, so a further round may be needed.
    let mut flattened = 0;
    loop {
        let before = flattened;
        clear_level(dir, dir, 0, &mut flattened)?;
        if flattened == before {
            return Ok(());
        }
    }
}

fn remove_entry(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    match walk::open_dir(dir, Path::new(name)) {
        Ok(inner) => clear(inner)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn clear_level(
    top: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    depth: usize,
    flattened: &mut u64,
) -> io::Result<()> {
    for name in walk::read_names(dir)? {
        match rustix::fs::unlinkat(dir, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        if depth >= MAX_RECURSION {
            *flattened += 1;
            let up = format!(".deep-{flattened}-{}", std::process::id());
            rustix::fs::renameat(dir, &name, top, up)?;
            continue;
        }
        let inner = match walk::open_dir(dir, Path::new(&name)) {
            Ok(inner) => inner,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        clear_level(top, inner.as_fd(), depth + 1, flattened)?;
        match rustix::fs::unlinkat(dir, &name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
