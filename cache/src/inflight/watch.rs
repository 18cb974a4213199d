//! Sleeping until something happens to one of several files.

use std::cell::OnceCell;
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use solver::{ActionKey, Follow, StoreError, Waker, Watch};

use super::follow::Run;
use super::want;
use crate::claim;
use crate::error::{At, CacheError};

/// Whoever follows something looks again at least this often, whatever inotify says: it sees
/// nothing on some file systems, and a killed holder's lock is freed a moment after its file is closed.
const BACK_STOP: Duration = Duration::from_millis(20);

/// What happens to the file of a lock: output, the end of its holder.
const WATCHED: WatchFlags =
    WatchFlags::MODIFY.union(WatchFlags::CLOSE_WRITE).union(WatchFlags::ATTRIB);

/// Watched files.
#[derive(Debug)]
pub(super) struct Events(OwnedFd);

/// Keeps a file watched.
#[derive(Debug)]
pub(super) struct Mark {
    events: Arc<Events>,
    watch: i32,
}

impl Events {
    /// Watches the open file, which was at `path`. None where the host has no watches left: then
    /// the back-stop does it.
    pub(super) fn mark(self: &Arc<Self>, path: &Path, file: &File) -> Option<Mark> {
        // By the open file: the name may mean another one by now, or none.
        let open = format!("/proc/self/fd/{}", file.as_raw_fd());
        let watch = inotify::add_watch(&self.0, open, WATCHED)
            .or_else(|_| inotify::add_watch(&self.0, path, WATCHED));
        Some(Mark { events: self.clone(), watch: watch.ok()? })
    }

    fn new() -> Option<Arc<Self>> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        Some(Arc::new(Self(fd)))
    }

    fn drain(&self) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.0, &mut buffer);
        while events.next().is_ok() {}
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let _ = inotify::remove_watch(&self.events.0, self.watch);
    }
}

/// All that a process waits for.
pub(crate) struct Watcher {
    locks: PathBuf,
    inflight: PathBuf,
    /// Made for the first thing that is followed: closing one waits for the kernel's readers, some 10
    /// ms, which a build without neighbours should not pay. None where the host has no more of them
    /// (fs.inotify.max_user_instances).
    events: OnceCell<Option<Arc<Events>>>,
    bell: Arc<OwnedFd>,
    /// Shared with everything that is followed.
    followed: Arc<()>,
}

impl Watcher {
    /// Watches nothing yet.
    pub(crate) fn new(locks: PathBuf, inflight: PathBuf) -> Result<Self, CacheError> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .at("make an event for waiting in", &inflight)?;
        Ok(Self {
            locks,
            inflight,
            events: OnceCell::new(),
            bell: Arc::new(bell),
            followed: Arc::new(()),
        })
    }
}

impl Watch for Watcher {
    fn follow(&mut self, key: &ActionKey) -> Result<Box<dyn Follow>, StoreError> {
        let (lock, want) = (claim::path(&self.locks, key), want::path(&self.inflight, key));
        let events = self.events.get_or_init(Events::new);
        let run = Run::new(lock, want, events.as_ref(), self.followed.clone());
        let run = run.map_err(|e| StoreError::new("follow a step of another build", e))?;
        Ok(Box::new(run))
    }

    fn sleep(&mut self, limit: Duration) {
        let followed = Arc::strong_count(&self.followed) > 1;
        let limit = if followed { limit.min(BACK_STOP) } else { limit };
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        let mut fds = vec![PollFd::new(&*self.bell, PollFlags::IN)];
        let events = self.events.get().and_then(Option::as_ref);
        fds.extend(events.map(|events| PollFd::new(&events.0, PollFlags::IN)));
        // Whatever ends it, the caller looks at everything.
        if poll(&mut fds, Some(&limit)).is_ok_and(|ready| ready > 0) {
            let _ = rustix::io::read(&*self.bell, &mut [0; 8]);
            events.iter().for_each(|events| events.drain());
        }
    }

    fn waker(&self) -> Waker {
        let bell = self.bell.clone();
        Arc::new(move || {
            // It can only be full, and then it rings already.
            let _ = rustix::io::write(&*bell, &1u64.to_ne_bytes());
        })
    }
}
