//! The ceiling: how much a state directory may take, held also while steps write.
//!
//! Whatever writes much (a step, a copy, a layer that is unpacked, a blob) is a [`Growth`]. It has
//! a reservation in the [`ledger`], which all processes share: what is there already and all
//! reservations together are never more than the ceiling. A growth that has used its reservation
//! up is held ([`Brake`]) until it got more, for which others' results are evicted
//! ([`Janitor`]); if all that is left is in use, it fails with [`Full`].
//!
//! `docs/design/ceiling.md` says why, and how exact it is.

mod brake;
mod full;
mod grant;
mod growth;
mod ledger;
mod measure;
mod survey;
mod wait;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::error::CacheError;

pub use brake::{Brake, Gate};
pub use full::{Full, Holder, Shares, human};
pub use growth::Growth;
pub use ledger::{Build, Entry, Ledger, Worst};
pub use survey::snapshot_usage;
pub(crate) use survey::total;

/// Who hears of remarks.
pub type Listener = Box<dyn Fn(&str) + Send + Sync>;

/// Why the caller's part failed.
pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A step has at most this much ahead of what it wrote, in bytes.
const MAX_AHEAD: u64 = 256 << 20;

/// It has at least this much.
const MIN_AHEAD: u64 = 1 << 20;

/// It has this part of the ceiling, between the two: 256 MiB from 8 GiB on. So that several steps
/// have room below a small ceiling.
const AHEAD_PART: u64 = 32;

/// What each build may write beside its growths (records, leases, the names of images), in bytes: this
/// part of the ceiling, within [`MIN_REST`] and [`MAX_REST`].
const REST_PART: u64 = 64;
const MIN_REST: u64 = 256 << 10;
const MAX_REST: u64 = 8 << 20;

/// What is evicted beyond what is needed, as a part of the ceiling: so that not each step has to.
const SPARE_PART: u64 = 64;

/// How often a growth is looked at.
pub const LOOK: Duration = Duration::from_millis(50);

/// How much a state directory may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// In bytes, as du(1) counts them.
    pub bytes: u64,
    /// Who said so, for people: `--max-cache 10GB`.
    pub rule: String,
}

/// Makes room: the part that knows what snapshots are.
pub trait Janitor: Send + Sync {
    /// Evicts at least `bytes`, if that much can go. If it cannot, all that can goes, or nothing
    /// with `all_or_nothing`. Returns what came free, in bytes.
    ///
    /// # Errors
    /// If the state directory cannot be read or changed.
    fn evict(&self, bytes: u64, all_or_nothing: bool) -> Result<u64, Cause>;

    /// Who needs what, for a message.
    ///
    /// # Errors
    /// If the state directory cannot be read.
    fn shares(&self) -> Result<Shares, Cause>;

    /// Whether the build is being stopped: nobody waits for room any more.
    fn cancelled(&self) -> bool;
}

/// The ceiling of a state directory, in one process. Clones are the same.
#[derive(Clone)]
pub struct Ceiling {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    root: PathBuf,
    limit: Limit,
    /// The name of this process's lease: whoever is dead has no reservations.
    lease: String,
    /// What people know this build by.
    title: String,
    janitor: Box<dyn Janitor>,
    /// The directory with what the steps of this build tell.
    logs: OnceLock<PathBuf>,
    /// The growth that counts the logs; 0 is none.
    logs_of: AtomicU64,
    notes: Mutex<Vec<String>>,
    listener: OnceLock<Listener>,
    /// When all that could go was too little for the disk.
    vain: Mutex<Option<Instant>>,
    /// Who has the ledger was stopped for too long.
    blocked: AtomicBool,
    used: AtomicU64,
}

impl Ceiling {
    /// A ceiling for `root`. Nothing is written before something grows.
    pub fn new(
        root: &Path,
        limit: Limit,
        lease: &str,
        title: &str,
        janitor: Box<dyn Janitor>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                root: root.to_owned(),
                limit,
                lease: lease.to_owned(),
                title: title.to_owned(),
                janitor,
                logs: OnceLock::new(),
                logs_of: AtomicU64::new(0),
                notes: Mutex::default(),
                listener: OnceLock::new(),
                vain: Mutex::default(),
                blocked: AtomicBool::new(false),
                used: AtomicU64::new(0),
            }),
        }
    }

    /// How much it is, and who said so.
    pub fn limit(&self) -> &Limit {
        &self.inner.limit
    }

    /// Says where the logs of this build are: they count.
    pub fn count_logs(&self, dir: &Path) {
        let _ = self.inner.logs.set(dir.to_owned());
    }

    /// Whether anything grew in this process.
    pub fn was_used(&self) -> bool {
        self.inner.used.load(Ordering::Relaxed) > 0
    }

    /// Has remarks told to `listener` as they come, instead of keeping them.
    pub fn listen(&self, listener: Listener) {
        let _ = self.inner.listener.set(listener);
    }

    /// Remarks since the last call.
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.inner.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reserves for something that will write `expected` bytes, where that is known, at `paths`
    /// and nowhere else. What is at them already counts as written.
    ///
    /// # Errors
    /// [`Full`], at once if nothing can be given; or if the ledger cannot be written.
    pub fn grow(&self, what: What<'_>, cancelled: &dyn Fn() -> bool) -> Result<Growth, Refused> {
        self.inner.used.fetch_add(1, Ordering::Relaxed);
        Growth::open(&self.inner, what, cancelled)
    }

    /// Brings a state directory that is larger than the ceiling below it, as far as that can be
    /// done: for the end of a build, whose records and logs nobody watched. What came free, in bytes.
    ///
    /// # Errors
    /// If the ledger, or what is to go, cannot be read or written.
    pub fn settle(&self) -> Result<u64, CacheError> {
        self.inner.settle()
    }
}

/// What is going to grow.
#[derive(Clone, Debug, Default)]
pub struct What<'a> {
    /// For people: the name of a step.
    pub name: &'a str,
    /// Where it will write.
    pub paths: Vec<PathBuf>,
    /// How much it will write, in bytes, if that is known.
    pub expected: Option<u64>,
    /// Whether it fails where it would have to wait for others: it holds what they may wait for.
    pub hasty: bool,
}

/// Why there is no reservation.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no room.
    #[error(transparent)]
    Full(#[from] Box<Full>),
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] CacheError),
    /// The build was stopped while it waited.
    #[error("cancelled")]
    Cancelled,
}

impl From<Refused> for CacheError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full(full) => Self::Full(full),
            Refused::Ledger(error) => error,
            Refused::Cancelled => Self::Cancelled,
        }
    }
}

impl Limit {
    /// How much a growth has ahead of what it wrote, in bytes.
    pub fn ahead(&self) -> u64 {
        (self.bytes / AHEAD_PART).clamp(MIN_AHEAD, MAX_AHEAD)
    }

    /// What each build may write beside its growths, in bytes.
    pub fn rest(&self) -> u64 {
        (self.bytes / REST_PART).clamp(MIN_REST, MAX_REST)
    }

    fn spare(&self) -> u64 {
        self.bytes / SPARE_PART
    }
}

impl Inner {
    fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    fn set_blocked(&self) {
        self.blocked.store(true, Ordering::Relaxed);
    }

    fn clear_blocked(&self) {
        self.blocked.store(false, Ordering::Relaxed);
    }

    fn note(&self, text: String) {
        if let Some(listener) = self.listener.get() {
            return listener(&text);
        }
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.used.load(Ordering::Relaxed) > 0 {
            self.leave();
        }
    }
}

#[cfg(test)]
mod tests;
