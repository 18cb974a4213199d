//! Keeping a state directory small by rules, now and then.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::policy::Disk;
use crate::ceiling;
use crate::error::{At, CacheError};
use crate::lock::{FileLock, Mode};
use crate::state::State;

/// The lock of who applies rules; its time is when that was done last.
const LOCK: &str = "policy";

/// The right to apply rules.
pub struct Turn {
    _lock: FileLock,
}

impl State {
    /// The right to apply rules, if nobody did so within `interval` and nobody is doing it now.
    ///
    /// # Errors
    /// If the lock cannot be taken.
    pub fn turn(&self, interval: Duration) -> Result<Option<Turn>, CacheError> {
        let path = self.lock_path(LOCK);
        let last = std::fs::metadata(&path).and_then(|meta| meta.modified()).ok();
        let age = last.and_then(|last| SystemTime::now().duration_since(last).ok());
        // Without the file, or where the clock was set back, it is due.
        if age.is_some_and(|age| age < interval) {
            return Ok(None);
        }
        let lock = FileLock::acquire_within(&path, Mode::Exclusive, Duration::ZERO)?;
        Ok(lock.map(|lock| Turn { _lock: lock }))
    }

    /// What the state directory takes, in bytes, as du(1) counts, and what its file system has.
    ///
    /// # Errors
    /// If the file system does not tell.
    pub fn footprint(&self) -> Result<(u64, Disk), CacheError> {
        Ok((ceiling::total(self.root()), disk(self.root())?))
    }
}

impl Turn {
    /// Notes that it was done.
    ///
    /// # Errors
    /// If the time of the lock file cannot be set.
    pub fn done(self, state: &State) -> Result<(), CacheError> {
        let path = state.lock_path(LOCK);
        let file = File::options().write(true).open(&path).at("open", &path)?;
        file.set_modified(SystemTime::now()).at("touch", &path)
    }
}

/// The file system of `root`.
fn disk(root: &Path) -> Result<Disk, CacheError> {
    let stat = rustix::fs::statvfs(root).at("look at the file system of", root)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Disk { size: bytes(stat.f_blocks), free: bytes(stat.f_bavail) })
}
