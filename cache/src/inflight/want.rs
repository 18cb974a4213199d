//! Who waits for a step says so: by a shared lock on a file that exists only while it is needed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use solver::ActionKey;

use crate::error::{At, CacheError};
use crate::lock::{self, Mode};

/// What the names of these files begin with.
const PREFIX: &str = "want-";

/// How often a file that was removed under our hands, or is just being looked at, is opened again.
const MAX_REOPENS: usize = 1000;

/// The file of those who want `key`.
pub(crate) fn path(inflight: &Path, key: &ActionKey) -> PathBuf {
    inflight.join(format!("{PREFIX}{}", hex::encode(key.as_bytes())))
}

/// Says that a result is wanted, until it is dropped.
#[derive(Debug)]
pub(crate) struct Want {
    path: PathBuf,
    file: File,
}

impl Want {
    /// Wants what `path` is for. None if others are in the way all the time: then it is as if
    /// nobody had asked, and the step is run again where its maker is stopped.
    pub(crate) fn new(path: PathBuf) -> Result<Option<Self>, CacheError> {
        for _ in 0..MAX_REOPENS {
            let file = lock::open(&path)?;
            // The maker looks, or the last one who wanted it cleans up, for a moment.
            if lock::try_lock(&file, Mode::Shared).at("lock", &path)?
                && lock::is_same_file(&file, &path)
            {
                return Ok(Some(Self { path, file }));
            }
            std::thread::yield_now();
        }
        Ok(None)
    }
}

impl Drop for Want {
    fn drop(&mut self) {
        remove_unwanted(&self.file, &self.path);
    }
}

/// Whether somebody wants what `path` is for. One who cannot be asked does.
pub(crate) fn is_wanted(path: &Path) -> bool {
    match File::open(path) {
        Err(e) => e.kind() != std::io::ErrorKind::NotFound,
        Ok(file) => lock::try_lock(&file, Mode::Exclusive) != Ok(true),
    }
}

/// Removes what somebody left who was killed.
pub(crate) fn sweep(path: &Path) {
    if let Ok(file) = File::open(path) {
        remove_unwanted(&file, path);
    }
}

/// Whether a file in `inflight/` is one of these.
pub(crate) fn is_want(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|key| key.parse::<ActionKey>().is_ok())
}

fn remove_unwanted(file: &File, path: &Path) {
    if lock::try_lock(file, Mode::Exclusive) == Ok(true) && lock::is_same_file(file, path) {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_takes_the_file_along() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("want-x");
        assert!(!is_wanted(&path));
        let one = Want::new(path.clone()).unwrap().unwrap();
        let two = Want::new(path.clone()).unwrap().unwrap();
        assert!(is_wanted(&path));
        sweep(&path);
        drop(one);
        assert!(is_wanted(&path));
        drop(two);
        assert!(!is_wanted(&path) && !path.exists());
    }

    #[test]
    fn what_a_killed_one_left_means_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("want-x");
        File::create(&path).unwrap();
        assert!(!is_wanted(&path));
        sweep(&path);
        assert!(!path.exists());
    }

    #[test]
    fn many_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("want-x");
        let stays = Want::new(path.clone()).unwrap().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        drop(Want::new(path.clone()).unwrap());
                        assert!(is_wanted(&path), "one of them stays");
                    }
                });
            }
        });
        drop(stays);
        assert!(!path.exists());
    }
}
