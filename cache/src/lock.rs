//! Advisory locks on files (flock(2)): freed by the kernel however their holder ends.
//!
//! The order in which locks may be taken stands in `docs/state-dir.md`.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{At, CacheError};
use crate::holder;

/// How often a lock file that was removed under our hands is opened again.
const MAX_REOPENS: usize = 1000;

/// How long to sleep between tries of a lock that has a time limit.
const POLL: Duration = Duration::from_millis(1);

/// After how many microseconds each a lock that is held for moments is tried again, before a thread is
/// started that tells people when the wait becomes long.
const QUICK_TRIES: [u64; 5] = [20, 50, 100, 300, 1000];

/// Who else may hold the lock at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Other shared holders.
    Shared,
    /// Nobody.
    Exclusive,
}

/// A held lock; dropping it frees it.
#[derive(Debug)]
pub(crate) struct FileLock {
    file: File,
    /// The file to remove when the lock is freed.
    remove: Option<PathBuf>,
}

impl FileLock {
    /// Waits for the lock on `path`, a file that is never removed. Only for locks that are held
    /// for moments: people are told if one is held for longer.
    pub(crate) fn acquire(path: &Path, mode: Mode) -> Result<Self, CacheError> {
        let file = open(path)?;
        for pause in QUICK_TRIES {
            if try_lock(&file, mode).at("lock", path)? {
                return Ok(Self { file, remove: None });
            }
            std::thread::sleep(Duration::from_micros(pause));
        }
        let operation = match mode {
            Mode::Shared => FlockOperation::LockShared,
            Mode::Exclusive => FlockOperation::LockExclusive,
        };
        let wait = || retry(|| flock(&file, operation));
        holder::told_of((&file, path), holder::LONG, holder::tell, wait).at("lock", path)?;
        Ok(Self { file, remove: None })
    }

    /// Tries for the lock on `path`, a file that is never removed, until `limit` is over.
    pub(crate) fn acquire_within(
        path: &Path,
        mode: Mode,
        limit: Duration,
    ) -> Result<Option<Self>, CacheError> {
        let file = open(path)?;
        let end = Instant::now() + limit;
        loop {
            if try_lock(&file, mode).at("lock", path)? {
                return Ok(Some(Self { file, remove: None }));
            }
            if Instant::now() >= end {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Tries for the exclusive lock on `path`, a file that exists only while it is needed: the
    /// holder removes it. `None` if somebody else has it.
    ///
    /// Between open and lock, the holder before may have removed the file: then we have locked a
    /// file that nobody else will ever see, and start again.
    pub(crate) fn try_transient(path: &Path) -> Result<Option<Self>, CacheError> {
        for _ in 0..MAX_REOPENS {
            let file = open(path)?;
            if !try_lock(&file, Mode::Exclusive).at("lock", path)? {
                // One that only probes (whoever follows its holder) holds it shared, for a moment.
                if !try_lock(&file, Mode::Shared).at("lock", path)? {
                    return Ok(None);
                }
                std::thread::yield_now();
                continue;
            }
            if is_same_file(&file, path) {
                return Ok(Some(Self { file, remove: Some(path.to_owned()) }));
            }
        }
        Ok(None)
    }
}

impl FileLock {
    /// The same, of a file that is empty, for a lock whose file tells what its holder does: what a
    /// killed holder told goes first. Whoever reads it never sees it locked again, so that it is
    /// not taken for the words of somebody who lives.
    pub(crate) fn try_new_transient(path: &Path) -> Result<Option<Self>, CacheError> {
        for _ in 0..MAX_REOPENS {
            if !remove_dead(path)? {
                return Ok(None);
            }
            let Some(lock) = Self::try_transient(path)? else { return Ok(None) };
            if lock.file.metadata().at("look at", path)?.len() == 0 {
                return Ok(Some(lock));
            }
        }
        Ok(None)
    }

    /// The locked file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if let Some(path) = &self.remove {
            let _ = fs::remove_file(path);
        }
        // Frees it even if a child that was just forked still has a copy of the descriptor.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// Removes the file of a lock whose holder was killed after it had told something; false if it
/// lives. An empty file tells nothing, and stays.
///
/// The lock is held shared meanwhile: nobody can take it, and those who probe it find it free. So
/// that only one removes what this name means, and no file that came after it, those who
/// do this exclude each other by a lock on the directory.
pub(crate) fn remove_dead(path: &Path) -> Result<bool, CacheError> {
    let file = match File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        other => other.at("open", path)?,
    };
    if file.metadata().at("look at", path)?.len() == 0 {
        return Ok(true);
    }
    if !try_lock(&file, Mode::Shared).at("lock", path)? {
        return Ok(false);
    }
    let directory = path.parent().unwrap_or(Path::new("."));
    let only = File::open(directory).at("open", directory)?;
    retry(|| flock(&only, FlockOperation::LockExclusive)).at("lock", directory)?;
    if is_same_file(&file, path) {
        fs::remove_file(path).at("remove", path)?;
    }
    unlock(&only);
    unlock(&file);
    Ok(true)
}

/// Frees what [`try_lock`] took.
pub(crate) fn unlock(file: &File) {
    let _ = flock(file, FlockOperation::Unlock);
}

/// Tries to lock an open file.
pub(crate) fn try_lock(file: &File, mode: Mode) -> Result<bool, Errno> {
    let operation = match mode {
        Mode::Shared => FlockOperation::NonBlockingLockShared,
        Mode::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    match retry(|| flock(file, operation)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(other) => Err(other),
    }
}

/// Whether `path` still names the open file.
pub(crate) fn is_same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// Opens a file to lock it, or to write a part of it, making it if need be.
pub(crate) fn open(path: &Path) -> Result<File, CacheError> {
    // Rust opens with O_CLOEXEC: no program that a step runs can inherit the lock.
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .at("open", path)
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transient_locks_exclude_and_leave_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let held = FileLock::try_transient(&path).unwrap().unwrap();
        assert!(FileLock::try_transient(&path).unwrap().is_none());
        drop(held);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_holder_wrote_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        fs::write(&path, "news of a step").unwrap();
        let held = FileLock::try_new_transient(&path).unwrap().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
        assert!(FileLock::try_new_transient(&path).unwrap().is_none());
        drop(held);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_holder_wrote_is_never_seen_locked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let claimers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..500 {
                            let Some(mut held) = FileLock::try_new_transient(&path).unwrap() else {
                                continue;
                            };
                            assert!(is_same_file(held.file(), &path));
                            // It is killed, having told something.
                            fs::write(&path, "news of a step").unwrap();
                            held.remove = None;
                        }
                    })
                })
                .collect();
            let reads = scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::SeqCst) {
                    let Ok(file) = File::open(&path) else { continue };
                    // Of a run that is over, whoever reads it next finds it free.
                    let told = file.metadata().unwrap().len() > 0;
                    if told && try_lock(&file, Mode::Shared).unwrap() {
                        unlock(&file);
                        assert!(try_lock(&file, Mode::Shared).unwrap());
                    }
                }
            });
            claimers.into_iter().for_each(|claimer| claimer.join().unwrap());
            over.store(true, std::sync::atomic::Ordering::SeqCst);
            reads.join().unwrap();
        });
    }

    #[test]
    fn only_one_holder_ever() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let (inside, total) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        if let Some(_held) = FileLock::try_transient(&path).unwrap() {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                            total.fetch_add(1, Ordering::SeqCst);
                            inside.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert!(total.into_inner() > 0);
    }

    #[test]
    fn a_limit_ends_the_wait() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let held = FileLock::acquire(&path, Mode::Exclusive).unwrap();
        let soon = Duration::from_millis(5);
        assert!(FileLock::acquire_within(&path, Mode::Shared, soon).unwrap().is_none());
        drop(held);
        assert!(FileLock::acquire_within(&path, Mode::Shared, soon).unwrap().is_some());
    }
}
