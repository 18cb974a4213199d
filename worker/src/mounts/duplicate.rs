//! An equal of a directory that steps use: what a transaction works on where an overlay cannot
//! show renamed directories. Data is shared with the original where the file system can
//! (reflinks); everything else is as it was, hard links, attributes and times too.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use sys::root::{self, Context, PathError};
use sys::walk::{FileKind, Stat};
use sys::{copy, walk, xattr};

/// Attributes with this beginning are labels of security modules, which may refuse them.
const LABEL: &[u8] = b"security.";

/// Why there is no equal.
#[derive(Debug, thiserror::Error)]
pub(super) enum DuplicateError {
    /// The build ended meanwhile.
    #[error("cancelled")]
    Cancelled,
    /// An entry cannot be read or made.
    #[error(transparent)]
    Path(#[from] PathError),
}

type Result<T> = std::result::Result<T, DuplicateError>;

/// Makes the empty directory `to` the equal of `from`.
///
/// # Errors
/// The first entry that cannot be read or made.
pub(super) fn duplicate(from: &Path, to: &Path, cancelled: &dyn Fn() -> bool) -> Result<()> {
    let open = |dir: &Path| walk::open_dir(rustix::fs::CWD, dir).context("cannot open", dir);
    let copying =
        Copying { from: open(from)?, to: open(to)?, links: HashMap::new(), read: HashMap::new() };
    copying.run(cancelled)
}

struct Copying {
    from: OwnedFd,
    to: OwnedFd,
    /// The first name of files that have several.
    links: HashMap<((u32, u32), u64), PathBuf>,
    /// The times of directories before they were read.
    read: HashMap<PathBuf, Times>,
}

impl Copying {
    fn run(mut self, cancelled: &dyn Fn() -> bool) -> Result<()> {
        // Metadata of directories last, and of the deepest first: making an entry changes the time
        // of its directory.
        let mut made = vec![PathBuf::new()];
        let mut next = 0;
        while let Some(dir) = made.get(next).cloned() {
            next += 1;
            let source = walk::open_below(&self.from, &dir).context("cannot open", &dir)?;
            let times = Times::of(&source, OsStr::new(".")).context("cannot look at", &dir)?;
            self.read.insert(dir.clone(), times);
            let target = walk::open_below(&self.to, &dir).context("cannot open", &dir)?;
            for entry in walk::read_dir(&source).context("cannot read directory", &dir)? {
                if cancelled() {
                    return Err(DuplicateError::Cancelled);
                }
                let path = dir.join(&entry.name);
                self.entry(&source, &target, &path, &entry.stat).context("cannot copy", &path)?;
                if entry.stat.is_dir() {
                    made.push(path);
                }
            }
        }
        for dir in made.iter().rev() {
            self.dress(dir).context("cannot copy the metadata of", dir)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        source: &OwnedFd,
        target: &OwnedFd,
        path: &Path,
        stat: &Stat,
    ) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default();
        // Reading it below may change when it was last read.
        let times = Times::of(source, name)?;
        if stat.is_dir() {
            return Ok(rustix::fs::mkdirat(target, name, Mode::from_raw_mode(0o700))?);
        }
        if stat.links > 1 {
            let inode = (stat.device, stat.inode);
            if let Some(first) = self.links.get(&inode) {
                return Ok(rustix::fs::linkat(&self.to, first, target, name, AtFlags::empty())?);
            }
            self.links.insert(inode, path.to_owned());
        }
        match stat.kind {
            FileKind::Symlink => {
                rustix::fs::symlinkat(root::readlink_at(source, name)?, target, name)?;
            }
            FileKind::File => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let from = rustix::fs::openat(source, name, flags, Mode::empty())?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let to = rustix::fs::openat(target, name, flags, Mode::from_raw_mode(0o600))?;
                copy::copy_file(&from, &to)?;
            }
            kind => {
                let device = rustix::fs::makedev(stat.special.0, stat.special.1);
                let mode = Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(target, name, special(kind), mode, device)?;
            }
        }
        // chown clears bits of the mode, and capabilities: it comes first.
        let (uid, gid) = (Uid::from_raw(stat.uid), Gid::from_raw(stat.gid));
        rustix::fs::chownat(target, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if stat.kind != FileKind::Symlink {
            let mode = Mode::from_raw_mode(stat.mode);
            rustix::fs::chmodat(target, name, mode, AtFlags::empty())?;
        }
        attributes(source, target, name)?;
        times.give(target, name)
    }

    fn dress(&self, dir: &Path) -> io::Result<()> {
        let source = walk::open_below(&self.from, dir)?;
        let target = walk::open_below(&self.to, dir)?;
        let stat = Stat::of_fd(&source)?;
        rustix::fs::fchown(&target, Some(Uid::from_raw(stat.uid)), Some(Gid::from_raw(stat.gid)))?;
        rustix::fs::fchmod(&target, Mode::from_raw_mode(stat.mode))?;
        let here = OsStr::new(".");
        attributes(&source, &target, here)?;
        self.read.get(dir).map_or(Ok(()), |times| times.give(&target, here))
    }
}

/// When something was read and changed last.
struct Times(Timestamps);

impl Times {
    fn of(dir: impl AsFd, name: &OsStr) -> io::Result<Self> {
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let time = |tv_sec: i64, nanos: u64| Timespec { tv_sec, tv_nsec: nanos as i64 };
        Ok(Self(Timestamps {
            last_access: time(stat.st_atime, stat.st_atime_nsec),
            last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
        }))
    }

    fn give(&self, dir: impl AsFd, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::utimensat(dir, name, &self.0, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

fn special(kind: FileKind) -> FileType {
    match kind {
        FileKind::CharDevice => FileType::CharacterDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
        FileKind::Socket => FileType::Socket,
        _ => FileType::Fifo,
    }
}

/// Gives the entry the attributes that it has in `source`.
fn attributes(source: impl AsFd, target: impl AsFd, name: &OsStr) -> io::Result<()> {
    for attribute in xattr::list_at(&source, name)? {
        let Some(value) = xattr::get_at(&source, name, &attribute)? else { continue };
        match xattr::set_at(&target, name, &attribute, &value) {
            Ok(()) => {}
            Err(_) if attribute.starts_with(LABEL) && attribute != xattr::CAPABILITY.as_bytes() => {
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn everything_is_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("d/e")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("d/f"), "text").unwrap();
        fs::hard_link(from.join("d/f"), from.join("d/e/g")).unwrap();
        symlink("nowhere", from.join("l")).unwrap();
        let fifo = (FileType::Fifo, Mode::from_raw_mode(0o620));
        rustix::fs::mknodat(rustix::fs::CWD, from.join("p"), fifo.0, fifo.1, 0).unwrap();
        drop(std::os::unix::net::UnixListener::bind(from.join("s")).unwrap());
        fs::set_permissions(from.join("d/f"), fs::Permissions::from_mode(0o4751)).unwrap();
        let old = UNIX_EPOCH + Duration::from_nanos(5_000_000_007);
        let read = fs::FileTimes::new().set_modified(old).set_accessed(old);
        fs::File::open(from.join("d/f")).unwrap().set_times(read).unwrap();
        let fd = fs::File::open(&from).unwrap();
        let marked = xattr::set_at(&fd, OsStr::new("d"), b"user.drydock", b"1").is_ok();
        fs::File::open(from.join("d/e")).unwrap().set_modified(old).unwrap();
        fs::set_permissions(from.join("d"), fs::Permissions::from_mode(0o2711)).unwrap();
        fs::File::open(from.join("d")).unwrap().set_modified(old).unwrap();

        duplicate(&from, &to, &|| false).unwrap();
        for path in ["", "d", "d/e", "d/f", "d/e/g", "l", "p", "s"] {
            let (a, b) = (from.join(path), to.join(path));
            let (a, b) = (fs::symlink_metadata(a).unwrap(), fs::symlink_metadata(b).unwrap());
            let of = |m: &fs::Metadata| (m.mode(), m.uid(), m.gid(), m.mtime(), m.mtime_nsec());
            assert_eq!(of(&a), of(&b), "{path}");
        }
        let read = fs::symlink_metadata(to.join("d/f")).unwrap().accessed();
        assert_eq!(read.unwrap(), old);
        assert_eq!(fs::read_to_string(to.join("d/e/g")).unwrap(), "text");
        let inode = |path: &str| fs::metadata(to.join(path)).unwrap().ino();
        assert_eq!(inode("d/f"), inode("d/e/g"));
        assert_eq!(fs::read_link(to.join("l")).unwrap(), Path::new("nowhere"));
        if marked {
            let fd = fs::File::open(&to).unwrap();
            let value = xattr::get_at(&fd, OsStr::new("d"), b"user.drydock").unwrap();
            assert_eq!(value.as_deref(), Some(&b"1"[..]));
        }
        fs::create_dir(dir.path().join("none")).unwrap();
        let stopped = duplicate(&from, &dir.path().join("none"), &|| true);
        assert!(matches!(stopped, Err(DuplicateError::Cancelled)));
    }
}
