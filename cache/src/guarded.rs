//! Directories with a lock file beside them, which whoever uses the directory holds. Collection
//! asks, and takes away what nobody uses.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use crate::error::{At, CacheError};
use crate::lock::{self, Mode};
use crate::trash::Trash;

/// Whether somebody holds the lock file `lock`.
pub(crate) fn in_use(lock: &Path) -> bool {
    let open = File::open(lock).map(|file| lock::try_lock(&file, Mode::Exclusive));
    matches!(open, Ok(Ok(false)))
}

/// Moves `dir` into the trash unless somebody holds its lock file; whether it is gone. The lock
/// file stays: whoever opened it just now must lock what others lock.
pub(crate) fn remove(dir: &Path, lock: &Path, trash: &Trash) -> Result<bool, CacheError> {
    let file = match File::open(lock) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        other => Some(other.at("open", lock)?),
    };
    if let Some(file) = &file
        && !lock::try_lock(file, Mode::Exclusive).at("lock", lock)?
    {
        return Ok(false);
    }
    trash.take(dir)?;
    Ok(true)
}

/// When `dir` was made, and when it was last used: its lock file is touched each time.
pub(crate) fn times(dir: &Path, lock: &Path) -> (SystemTime, SystemTime) {
    let made = fs::metadata(dir).and_then(|meta| meta.created().or_else(|_| meta.modified()));
    let made = made.unwrap_or(SystemTime::UNIX_EPOCH);
    let used = fs::metadata(lock).and_then(|meta| meta.modified());
    (made, used.unwrap_or(made))
}
