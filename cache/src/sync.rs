//! Group commits: one `syncfs` for everything that was written in the last moments.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::clock::{self, BootId};
use crate::error::{At, CacheError};
use crate::warnings::Warnings;
use crate::watermark::Watermark;

/// How long a published value may wait for its group commit.
pub(crate) const GROUP: Duration = Duration::from_millis(200);

/// Whether a group commit makes published values durable by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// It raises the watermark.
    Raise,
    /// Something else will: the values are about to be written, synced, to the database.
    Leave,
}

/// Whether the watermark could be raised, of what is on the disk.
type Raised = Result<(), CacheError>;

/// Syncs the state directory's file system, in the background while something is pending.
pub(crate) struct Syncer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    /// Of the directory itself: a sync through a mount on top of it (an overlay) may do nothing.
    root: File,
    path: PathBuf,
    boot: Option<BootId>,
    watermark: Watermark,
    warnings: Arc<Warnings>,
    pending: Mutex<Pending>,
    wake: Condvar,
    /// Held during a commit, so that who finds nothing pending may rely on it.
    committing: Mutex<()>,
    count: AtomicU64,
}

#[derive(Default)]
struct Pending {
    since: Option<Instant>,
    stop: bool,
}

impl Syncer {
    pub(crate) fn new(
        path: &Path,
        boot: Option<BootId>,
        watermark: Watermark,
        warnings: Arc<Warnings>,
    ) -> Result<Self, CacheError> {
        let shared = Shared {
            root: File::open(path).at("open", path)?,
            path: path.to_owned(),
            boot,
            watermark,
            warnings,
            pending: Mutex::default(),
            wake: Condvar::new(),
            committing: Mutex::default(),
            count: AtomicU64::new(0),
        };
        Ok(Self { shared: Arc::new(shared), thread: Mutex::default() })
    }

    /// The open state directory.
    pub(crate) fn root(&self) -> &File {
        &self.shared.root
    }

    /// Whether what was written `at`, in `boot`, is on the disk.
    pub(crate) fn covers(&self, boot: BootId, at: u64) -> bool {
        self.shared.watermark.covers(boot, at)
    }

    /// Notes that something was written: it is synced at most [`GROUP`] later.
    pub(crate) fn wrote(&self) {
        {
            let mut pending = self.shared.pending();
            if pending.since.is_some() {
                return;
            }
            pending.since = Some(Instant::now());
        }
        self.shared.wake.notify_one();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let shared = self.shared.clone();
            let name = "group-commit".to_owned();
            match std::thread::Builder::new().name(name).spawn(move || shared.run()) {
                Ok(handle) => *thread = Some(handle),
                // Not lost: the end of the build syncs.
                Err(e) => self.shared.warnings.add(format!("cannot sync in the background: {e}")),
            }
        }
    }

    /// Syncs what is pending; nothing if nothing is.
    ///
    /// # Errors
    /// If the sync fails. A mark that cannot be raised (a full disk) is a warning: it costs
    /// something only if the power goes before another commit.
    pub(crate) fn sync(&self) -> Result<(), CacheError> {
        let raised = self.shared.commit(Mark::Raise, false)?;
        self.shared.warn(raised);
        Ok(())
    }

    /// Syncs whether or not something is pending here: another process's values are to be relied on.
    pub(crate) fn sync_for_fold(&self) -> Result<(), CacheError> {
        self.shared.commit(Mark::Leave, true).map(drop)
    }

    /// Syncs at once, for values that must be durable before they are written. Errors as of
    /// [`sync`](Self::sync).
    pub(crate) fn sync_always(&self) -> Result<(), CacheError> {
        let raised = self.shared.commit(Mark::Raise, true)?;
        self.shared.warn(raised);
        Ok(())
    }

    /// How many syncs were made.
    pub(crate) fn count(&self) -> u64 {
        self.shared.count.load(Ordering::Relaxed)
    }

    /// Counts syncs that were made elsewhere.
    pub(crate) fn counted(&self, syncs: u64) {
        self.shared.count.fetch_add(syncs, Ordering::Relaxed);
    }
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut pending = self.pending();
        while !pending.stop {
            let left = pending.since.map(|since| GROUP.saturating_sub(since.elapsed()));
            pending = match left {
                None => self.wake.wait(pending).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    drop(pending);
                    // What it could not mark, the end of the build tries again.
                    if let Err(e) = self.commit(Mark::Raise, false) {
                        self.warnings.add(e.to_string());
                    }
                    self.pending()
                }
                Some(left) => {
                    self.wake.wait_timeout(pending, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn commit(&self, mark: Mark, always: bool) -> Result<Raised, CacheError> {
        let _one_at_a_time = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let since = self.pending().since.take();
        if since.is_none() && !always {
            return Ok(Ok(()));
        }
        let at = clock::boottime_nanos();
        let done = self.sync_root().map(|()| match (mark, self.boot) {
            (Mark::Raise, Some(boot)) => {
                self.count.fetch_add(1, Ordering::Relaxed);
                self.watermark.raise(boot, at)
            }
            _ => Ok(()),
        });
        if !matches!(done, Ok(Ok(()))) {
            // Still to be done; tried again, but not in a busy loop.
            self.pending().since = Some(Instant::now());
        }
        done
    }

    fn warn(&self, raised: Raised) {
        if let Err(e) = raised {
            self.warnings
                .add(format!("if the power goes now, the last steps have to be run again: {e}"));
        }
    }

    fn sync_root(&self) -> Result<(), CacheError> {
        self.count.fetch_add(1, Ordering::Relaxed);
        rustix::fs::syncfs(&self.root).at("sync the file system of", &self.path)
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.pending().stop = true;
        self.shared.wake.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
        // A failed build's finished steps get their promise too.
        let _ = self.sync();
    }
}
