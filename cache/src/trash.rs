//! `trash/`: things that were taken out of use in one rename and wait to be deleted.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, IFlags, Mode, OFlags};

use crate::durable;
use crate::error::{At, CacheError};
use crate::lock;

/// Directory levels that are made accessible while deleting (a path has no more).
const MAX_DEPTH: usize = 2048;

/// The directory.
pub(crate) struct Trash {
    dir: PathBuf,
}

impl Trash {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Moves `path` here. Nothing there is fine.
    pub(crate) fn take(&self, path: &Path) -> Result<(), CacheError> {
        match fs::rename(path, self.dir.join(durable::unique_name())) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.at("take out of use", path),
        }
    }

    /// Says that the caller will delete what it takes, for as long as the result lives: builds
    /// that end meanwhile leave it alone. Waits for one that deletes what somebody left. None if
    /// that cannot be said; then others may delete the same, which does no harm.
    pub(crate) fn attend(&self) -> Option<File> {
        let dir = File::open(&self.dir).ok()?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&dir, FlockOperation::LockShared)).ok()?;
        Some(dir)
    }

    /// Deletes what is here, unless somebody else sees to that.
    pub(crate) fn empty_unattended(&self) -> Result<(), CacheError> {
        let dir = File::open(&self.dir).at("open", &self.dir)?;
        match lock::try_lock(&dir, lock::Mode::Exclusive).at("lock", &self.dir)? {
            true => self.empty(),
            false => Ok(()),
        }
    }

    /// Deletes what is here. Other processes may do the same at the same time.
    pub(crate) fn empty(&self) -> Result<(), CacheError> {
        for entry in fs::read_dir(&self.dir).at("list", &self.dir)?.flatten() {
            let path = entry.path();
            match remove(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => other.at("delete", &path)?,
            }
        }
        Ok(())
    }
}

fn remove(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return fs::remove_file(path);
    }
    match fs::remove_dir_all(path) {
        // An ordinary user cannot empty directories without the owner's permissions, and nobody
        // can remove what a step that was not confined made immutable in a cache mount.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

/// Gives the owner all permissions on every directory at and below `path`, and takes the flags
/// away that forbid changes. Everything here belongs to us alone, so no name can be swapped for a
/// link meanwhile.
fn open_up(path: &Path) -> io::Result<()> {
    let mut left = vec![(path.to_owned(), 0)];
    while let Some((dir, depth)) = left.pop() {
        release(&dir);
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        if depth == MAX_DEPTH {
            continue;
        }
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                left.push((entry.path(), depth + 1));
            } else if kind.is_file() {
                release(&entry.path());
            }
        }
    }
    Ok(())
}

/// Takes the flags away that forbid to change or remove a file or directory (ioctl_iflags(2)). What
/// cannot be done shows when it is removed.
pub(crate) fn release(path: &Path) {
    let how = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::open(path, how, Mode::empty()) else { return };
    let Ok(flags) = rustix::fs::ioctl_getflags(&file) else { return };
    let forbidding = IFlags::IMMUTABLE | IFlags::APPEND;
    if flags.intersects(forbidding) {
        let _ = rustix::fs::ioctl_setflags(&file, flags - forbidding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_and_deletes() {
        let dir = tempfile::tempdir().unwrap();
        let trash = Trash::new(dir.path().join("trash"));
        fs::create_dir(dir.path().join("trash")).unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/b/f"), "x").unwrap();
        fs::set_permissions(tree.join("a"), fs::Permissions::from_mode(0o0)).unwrap();
        trash.take(&tree).unwrap();
        trash.take(&tree).unwrap();
        assert!(!tree.exists());
        trash.empty().unwrap();
        assert_eq!(fs::read_dir(dir.path().join("trash")).unwrap().count(), 0);
    }

    #[test]
    fn what_somebody_sees_to_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let trash = Trash::new(dir.path().to_owned());
        fs::write(dir.path().join("x"), "x").unwrap();
        let (one, other) = (trash.attend(), trash.attend());
        assert!(one.is_some() && other.is_some());
        drop(one);
        trash.empty_unattended().unwrap();
        assert!(dir.path().join("x").exists());
        drop(other);
        trash.empty_unattended().unwrap();
        assert!(!dir.path().join("x").exists());
    }
}
