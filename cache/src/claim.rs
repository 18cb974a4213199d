//! The right to run one step, between processes: a lock named after its key.

use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use solver::{ActionKey, Claim};

use crate::error::{At, CacheError};
use crate::lock::{self, FileLock};

/// A wait looks at the lock again at least this often, whatever inotify says (it sees nothing
/// on some file systems).
const BACK_STOP: Duration = Duration::from_millis(20);

/// A claimed key.
pub(crate) struct KeyClaim {
    key: ActionKey,
    _lock: FileLock,
}

impl Claim for KeyClaim {
    fn key(&self) -> ActionKey {
        self.key
    }
}

/// The lock file of `key`.
pub(crate) fn path(locks: &Path, key: &ActionKey) -> PathBuf {
    locks.join(hex::encode(key.as_bytes()))
}

/// Claims `key`; none if somebody else has it.
pub(crate) fn claim(locks: &Path, key: &ActionKey) -> Result<Option<KeyClaim>, CacheError> {
    let lock = FileLock::try_transient(&path(locks, key))?;
    Ok(lock.map(|lock| KeyClaim { key: *key, _lock: lock }))
}

/// Waits until nobody has `key`, or `timeout` is over. True if it is free.
pub(crate) fn wait(locks: &Path, key: &ActionKey, timeout: Duration) -> Result<bool, CacheError> {
    let path = path(locks, key);
    if lock::is_free(&path)? {
        return Ok(true);
    }
    let end = Instant::now() + timeout;
    let watch = Watch::new(&path);
    loop {
        // After the watch was set: what happened before is seen here, what comes later, there.
        if lock::is_free(&path)? {
            return Ok(true);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        match &watch {
            Some(watch) => watch.wait(left.min(BACK_STOP)).at("watch", &path)?,
            None => std::thread::sleep(left.min(BACK_STOP)),
        }
    }
}

/// An inotify watch on one lock file: a holder that ends removes it, one that is killed has it
/// closed.
struct Watch(rustix::fd::OwnedFd);

impl Watch {
    /// None where the host has no watches left: then the back-stop does it.
    fn new(path: &Path) -> Option<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        let events = WatchFlags::CLOSE_WRITE | WatchFlags::ATTRIB | WatchFlags::DELETE_SELF;
        inotify::add_watch(&fd, path, events).ok()?;
        Some(Self(fd))
    }

    fn wait(&self, limit: Duration) -> Result<(), rustix::io::Errno> {
        let limit = Timespec { tv_sec: 0, tv_nsec: limit.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&limit)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => Ok(()),
            Ok(_) => {
                let mut buffer = [MaybeUninit::uninit(); 1024];
                let mut events = inotify::Reader::new(&self.0, &mut buffer);
                while events.next().is_ok() {}
                Ok(())
            }
            Err(e) => Err(e),
        }
    }
}
