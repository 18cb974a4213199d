//! `used/`: when a snapshot was last of use, as the change time of a file of its name.

use std::fs::File;
use std::path::{Path, PathBuf};

use oci::Timestamp;

use crate::error::{At, CacheError};

/// The last uses of snapshots.
pub struct LastUsed {
    dir: PathBuf,
}

impl LastUsed {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Notes that `id` is of use now.
    ///
    /// # Errors
    /// If `id` is not a plain name, or the note cannot be written.
    pub fn touch(&self, id: &str) -> Result<(), CacheError> {
        let path = self.path(id)?;
        let now = rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
            last_modification: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        };
        let flags = rustix::fs::AtFlags::empty();
        match rustix::fs::utimensat(rustix::fs::CWD, &path, &now, flags) {
            Err(rustix::io::Errno::NOENT) => File::create(&path).map(drop).at("create", &path),
            other => other.at("touch", &path),
        }
    }

    /// When `id` was last of use; none if that was never noted.
    pub fn get(&self, id: &str) -> Option<Timestamp> {
        let modified = std::fs::metadata(self.path(id).ok()?).ok()?.modified().ok()?;
        Some(Timestamp::from(modified))
    }

    /// Forgets `id`.
    pub fn forget(&self, id: &str) {
        if let Ok(path) = self.path(id) {
            let _ = std::fs::remove_file(path);
        }
    }

    fn path(&self, id: &str) -> Result<PathBuf, CacheError> {
        if plain(id) { Ok(self.dir.join(id)) } else { Err(CacheError::Identity(id.to_owned())) }
    }
}

/// Whether `id` is the name of a file in a directory.
fn plain(id: &str) -> bool {
    let component = Path::new(id).file_name().is_some_and(|n| n == id);
    component && id.len() <= 255 && !id.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touches_and_forgets() {
        let dir = tempfile::tempdir().unwrap();
        let used = LastUsed::new(dir.path().to_owned());
        assert_eq!(used.get("a"), None);
        used.touch("a").unwrap();
        used.touch("a").unwrap();
        assert!(used.get("a").unwrap().seconds > 1_600_000_000);
        used.forget("a");
        assert_eq!(used.get("a"), None);
        for bad in ["", ".", "..", "a/b", "/a", "a/"] {
            assert!(used.touch(bad).is_err(), "{bad}");
        }
    }
}
