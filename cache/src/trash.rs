//! `trash/`: things that were taken out of use in one rename and wait to be deleted.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::durable;
use crate::error::{At, CacheError};

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
        // An ordinary user cannot empty directories without the owner's permissions.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

/// Gives the owner all permissions on every directory at and below `path`. Everything here
/// belongs to us alone, so no name can be swapped for a link meanwhile.
fn open_up(path: &Path) -> io::Result<()> {
    let mut left = vec![(path.to_owned(), 0)];
    while let Some((dir, depth)) = left.pop() {
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        if depth == MAX_DEPTH {
            continue;
        }
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                left.push((entry.path(), depth + 1));
            }
        }
    }
    Ok(())
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
}
