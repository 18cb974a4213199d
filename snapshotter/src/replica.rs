//! Copies of root file systems: what the plain-copy kind of snapshot has instead of an overlay.
//!
//! Data is shared with the original where the file system can (reflinks). Hard links are not
//! kept: writing to one name of a file from below changes that name alone, as an overlay does it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use sys::root::{Context, PathError};
use sys::walk::{FileKind, Stat};
use sys::{copy, root, walk, xattr};

type Result<T, E = PathError> = std::result::Result<T, E>;

/// Copies everything in the directory `from` into the empty directory `to`, with owners, modes,
/// times and capabilities. Sockets are left out.
///
/// # Errors
/// The first thing that can't be read or made.
pub(crate) fn copy_tree(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let mut directories: Vec<(PathBuf, Stat)> = Vec::new();
    let mut level = vec![PathBuf::new()];
    while !level.is_empty() {
        let made: Vec<Vec<(PathBuf, Stat)>> =
            level.par_iter().map(|dir| copy_dir(from, to, dir)).collect::<Result<_>>()?;
        let made: Vec<_> = made.into_iter().flatten().collect();
        level = made.iter().map(|(path, _)| path.clone()).collect();
        directories.extend(made);
    }
    // Times last: whatever is made in a directory changes its own.
    directories.par_iter().try_for_each(|(path, stat)| {
        let fd = walk::open_below(to, path).context("cannot open", path)?;
        rustix::fs::fchown(&fd, Some(Uid::from_raw(stat.uid)), Some(Gid::from_raw(stat.gid)))
            .context("cannot change the owner of", path)?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(stat.mode))
            .context("cannot change the mode of", path)?;
        root::set_mtime_at(&fd, OsStr::new("."), stat.mtime).context("cannot set the time of", path)
    })
}

/// Copies what is in one directory; the directories in it are made, and returned.
fn copy_dir(from: &OwnedFd, to: &OwnedFd, dir: &Path) -> Result<Vec<(PathBuf, Stat)>> {
    let source = walk::open_below(from, dir).context("cannot open", dir)?;
    let target = walk::open_below(to, dir).context("cannot open", dir)?;
    let mut directories = Vec::new();
    for entry in walk::read_dir(&source).context("cannot read directory", dir)? {
        let path = dir.join(&entry.name);
        if entry.stat.is_dir() {
            rustix::fs::mkdirat(&target, &entry.name, Mode::from_raw_mode(0o700))
                .context("cannot create directory", &path)?;
            directories.push((path, entry.stat));
        } else {
            copy_entry(&source, &entry.name, &entry.stat, &target, &entry.name)
                .context("cannot copy", &path)?;
        }
    }
    Ok(directories)
}

/// Copies one entry that is not a directory, with its metadata.
///
/// # Errors
/// If it can't be read, or made.
pub(crate) fn copy_entry(
    source: impl AsFd,
    name: &OsStr,
    stat: &Stat,
    target: impl AsFd,
    new_name: &OsStr,
) -> std::io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(stat.uid)), Some(Gid::from_raw(stat.gid)));
    let mode = Mode::from_raw_mode(stat.mode);
    let kind = match stat.kind {
        FileKind::File => return copy_file(source, name, stat, target, new_name),
        FileKind::Directory | FileKind::Socket => return Ok(()),
        FileKind::Symlink => {
            let text = root::readlink_at(&source, name)?;
            rustix::fs::symlinkat(text, &target, new_name)?;
            rustix::fs::chownat(&target, new_name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            return root::set_mtime_at(&target, new_name, stat.mtime);
        }
        FileKind::CharDevice => FileType::CharacterDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
        FileKind::Fifo => FileType::Fifo,
    };
    let device = rustix::fs::makedev(stat.special.0, stat.special.1);
    rustix::fs::mknodat(&target, new_name, kind, Mode::from_raw_mode(0o600), device)?;
    rustix::fs::chownat(&target, new_name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::chmodat(&target, new_name, mode, AtFlags::empty())?;
    root::set_mtime_at(&target, new_name, stat.mtime)
}

fn copy_file(
    source: impl AsFd,
    name: &OsStr,
    stat: &Stat,
    target: impl AsFd,
    new_name: &OsStr,
) -> std::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let from = rustix::fs::openat(source, name, flags, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let to = rustix::fs::openat(&target, new_name, flags, Mode::from_raw_mode(0o600))?;
    copy::copy_file(&from, &to)?;
    // chown clears setuid and capabilities: it comes first.
    rustix::fs::fchown(&to, Some(Uid::from_raw(stat.uid)), Some(Gid::from_raw(stat.gid)))?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.mode))?;
    if let Some(value) = xattr::get(&from, xattr::CAPABILITY.as_bytes())? {
        xattr::set(&to, xattr::CAPABILITY.as_bytes(), &value)?;
    }
    root::set_mtime_at(&target, new_name, stat.mtime)
}
