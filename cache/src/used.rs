//! `used/`: when a snapshot was last of use, as the change time of a file of its name, and how
//! often, as its length: it is a hole, which takes no space.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use oci::Timestamp;

use crate::error::{At, CacheError};

/// More uses than this say nothing new: then half of them counts.
const MAX_COUNT: u64 = 1 << 20;

/// The last uses of snapshots.
pub struct LastUsed {
    dir: PathBuf,
}

impl LastUsed {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Notes that `id` is of use now. Of two that note it at the same time one may count.
    ///
    /// # Errors
    /// If `id` is not a plain name, or the note cannot be written.
    pub fn touch(&self, id: &str) -> Result<(), CacheError> {
        let path = self.path(id)?;
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.at("open", &path)?;
        let count = file.metadata().at("read", &path)?.len();
        // A change of the length sets the time (ftruncate(2)).
        let next = if count < MAX_COUNT { count + 1 } else { MAX_COUNT / 2 };
        file.set_len(next).at("touch", &path)
    }

    /// How often `id` was of use.
    pub fn count(&self, id: &str) -> u64 {
        let meta = self.path(id).ok().and_then(|path| std::fs::metadata(path).ok());
        meta.map_or(0, |meta| meta.len())
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
        assert_eq!((used.count("a"), used.count("b")), (2, 0));
        used.forget("a");
        assert_eq!(used.get("a"), None);
        for bad in ["", ".", "..", "a/b", "/a", "a/"] {
            assert!(used.touch(bad).is_err(), "{bad}");
        }
    }
}
