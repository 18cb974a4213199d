//! The right to run one step, between processes: a lock named after its key, whose file tells
//! those who wait for it what becomes of the step.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use solver::{ActionKey, Claim, News, Outlet};

use crate::error::{At, CacheError};
use crate::inflight::{news, want};
use crate::lock::FileLock;

/// The most that is told of one run, in bytes: whoever follows it misses the rest. The build that
/// runs it keeps it all.
const MAX_TOLD: u64 = 1 << 30;

/// A claimed key.
pub(crate) struct KeyClaim {
    key: ActionKey,
    want: PathBuf,
    outlet: Arc<KeyOutlet>,
    /// None while it is being dropped.
    lock: Option<FileLock>,
}

/// Where the holder of a key tells of its step.
struct KeyOutlet {
    want: PathBuf,
    /// Shares the lock's open file, not the lock: that is freed when the claim is dropped.
    told: Mutex<Told>,
}

struct Told {
    file: File,
    bytes: u64,
    /// Half a frame may be there, or too much: nothing can follow it.
    ended: bool,
}

impl Claim for KeyClaim {
    fn key(&self) -> ActionKey {
        self.key
    }

    fn outlet(&self) -> Arc<dyn Outlet> {
        self.outlet.clone()
    }
}

impl Outlet for KeyOutlet {
    fn tell(&self, news: &News<'_>) {
        let bytes = news::encode(news);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.bytes = told.bytes.saturating_add(bytes.len() as u64);
        // Nobody's result depends on it: on a full disk those who follow see less.
        if !told.ended && (told.bytes > MAX_TOLD || told.file.write_all(&bytes).is_err()) {
            told.ended = true;
        }
    }

    fn is_wanted(&self) -> bool {
        want::is_wanted(&self.want)
    }
}

impl Drop for KeyClaim {
    fn drop(&mut self) {
        self.lock = None;
        let told = self.outlet.told.lock().unwrap_or_else(PoisonError::into_inner);
        // Those who follow it were woken when its name went, before it was free: now it is.
        let _ = told.file.set_modified(std::time::SystemTime::now());
        want::sweep(&self.want);
    }
}

/// The lock file of `key`.
pub(crate) fn path(locks: &Path, key: &ActionKey) -> PathBuf {
    locks.join(hex::encode(key.as_bytes()))
}

/// Claims `key`; none if somebody else has it.
pub(crate) fn claim(
    locks: &Path,
    inflight: &Path,
    key: &ActionKey,
) -> Result<Option<KeyClaim>, CacheError> {
    let path = path(locks, key);
    let Some(lock) = FileLock::try_new_transient(&path)? else { return Ok(None) };
    let file = lock.file().try_clone().at("open", &path)?;
    let want = want::path(inflight, key);
    let told = Mutex::new(Told { file, bytes: 0, ended: false });
    let outlet = Arc::new(KeyOutlet { want: want.clone(), told });
    Ok(Some(KeyClaim { key: *key, want, outlet, lock: Some(lock) }))
}

/// Removes the lock files of keys that nobody holds.
pub(crate) fn sweep(locks: &Path) -> Result<(), CacheError> {
    for entry in fs::read_dir(locks).at("list", locks)?.flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|n| n.parse::<ActionKey>().is_ok()) {
            // Taking it and letting it go removes it.
            drop(FileLock::try_new_transient(&entry.path())?);
        }
    }
    Ok(())
}
