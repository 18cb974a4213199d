//! The one way in which files are written whole: a temporary file in the same directory, then a
//! rename. A reader sees the old file or the new one, never a part.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::error::{At, CacheError};

/// When a written file has to survive a loss of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After the next group commit ([`crate::State::sync`]), or never mind.
    Grouped,
    /// When the call returns: the file and its directory are synced.
    Now,
}

/// The beginning of the name of every temporary file.
pub(crate) const TEMPORARY: &str = ".tmp-";

/// A temporary file older than this was left by a process that was killed.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Writes `bytes` as the file `path` (mode 0600), replacing what is there.
///
/// # Errors
/// If the file cannot be written, synced or renamed; then `path` is as it was.
pub fn write_file(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), CacheError> {
    let (temporary, mut file) = create_beside(path)?;
    let written = (|| {
        file.write_all(bytes).at("write", &temporary)?;
        if durability == Durability::Now {
            file.sync_data().at("sync", &temporary)?;
        }
        fs::rename(&temporary, path).at("write", path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
        return written;
    }
    if durability == Durability::Now {
        sync_parent(path)?;
    }
    Ok(())
}

/// Syncs the directory that `path` is in, so that its name survives a loss of power.
pub(crate) fn sync_parent(path: &Path) -> Result<(), CacheError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    File::open(parent).and_then(|d| d.sync_all()).at("sync", parent)
}

/// A new temporary file in the directory of `path`.
pub(crate) fn create_beside(path: &Path) -> Result<(PathBuf, File), CacheError> {
    let temporary = path.with_file_name(format!("{TEMPORARY}{}", unique_name()));
    let file = File::options()
        .write(true)
        .read(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .at("create", &temporary)?;
    Ok((temporary, file))
}

/// A name that no other process and no other call gives.
pub(crate) fn unique_name() -> String {
    static PROCESS: OnceLock<String> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let process = PROCESS.get_or_init(random_name);
    format!("{process}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// 16 random hex digits.
pub(crate) fn random_name() -> String {
    let mut raw = [0u8; 8];
    if rustix::rand::getrandom(&mut raw, rustix::rand::GetRandomFlags::empty()).is_err() {
        // Only kernels before 3.17 get here: process id and time still tell processes apart.
        let time = crate::clock::boottime_nanos() ^ (u64::from(std::process::id()) << 32);
        raw = time.to_le_bytes();
    }
    hex::encode(raw)
}

/// Removes temporary files in `dir` that killed processes left a day ago or earlier.
pub(crate) fn sweep_abandoned(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(TEMPORARY);
        let old = || {
            let modified = entry.metadata().ok()?.modified().ok()?;
            Some(SystemTime::now().duration_since(modified).ok()? > ABANDONED)
        };
        if ours && old() == Some(true) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_files_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for (text, durability) in [("one", Durability::Grouped), ("two", Durability::Now)] {
            write_file(&path, text.as_bytes(), durability).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let inside = path.join("not-a-directory");
        assert!(write_file(&inside, b"", Durability::Grouped).is_err());
    }

    #[test]
    fn only_old_temporary_files_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let (fresh, _) = create_beside(&dir.path().join("x")).unwrap();
        let (old, file) = create_beside(&dir.path().join("x")).unwrap();
        file.set_modified(SystemTime::now() - 2 * ABANDONED).unwrap();
        sweep_abandoned(dir.path());
        assert!(fresh.exists() && !old.exists());
    }
}
