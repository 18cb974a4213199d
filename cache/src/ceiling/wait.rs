//! Waiting for the ledger, and for whom.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use super::Inner;
use super::ledger::{Ledger, Locked, lock_path};
use crate::error::CacheError;
use crate::holder::Holder;

/// How often it is tried, at first and at last.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LAST_PAUSE: Duration = Duration::from_millis(20);

/// Who waits longer says so; and ends, if its build is being stopped.
const TELL: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 3 });

/// How long somebody is waited for who does nothing: the user may let it go on.
const STOPPED: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 60 });

impl Inner {
    /// Waits for the ledger. Evicting is done with it locked, so it may take a while; but a
    /// process that was stopped by Ctrl-Z has it until somebody lets it go on.
    ///
    /// # Errors
    /// [`CacheError::Blocked`] if who has it was stopped for long; [`CacheError::Cancelled`]; or that it cannot be
    /// locked at all.
    pub(super) fn locked(&self) -> Result<Locked, CacheError> {
        let began = Instant::now();
        let (mut pause, mut told, mut stopped) = (FIRST_PAUSE, None, None);
        loop {
            if let Some(locked) = Locked::try_acquire(&self.root, &self.lease)? {
                self.clear_blocked();
                return Ok(locked);
            }
            if began.elapsed() >= TELL {
                if self.janitor.cancelled() {
                    return Err(CacheError::Cancelled);
                }
                let locked = fs::metadata(lock_path(&self.root));
                let blocker = locked.ok().and_then(|meta| Holder::of(meta.ino()));
                let halted = blocker.filter(|blocker| blocker.stopped);
                if told.is_none() || (halted.is_some() && told != Some(blocker)) {
                    self.tell_blocked(blocker);
                    told = Some(blocker);
                }
                match (halted, stopped) {
                    (Some(blocker), Some((same, since))) if blocker == same => {
                        self.give_up(blocker, since)?;
                    }
                    (Some(blocker), _) => stopped = Some((blocker, Instant::now())),
                    (None, _) => stopped = None,
                }
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    fn tell_blocked(&self, blocker: Option<Holder>) {
        let who = match blocker {
            None => "another process".to_owned(),
            Some(blocker) => format!("process {}{}", blocker.pid, self.title_of(blocker)),
        };
        let advice = match blocker {
            Some(Holder { pid, stopped: true }) => format!(
                " and is stopped: let it go on (`kill -CONT {pid}`, or `fg` in its shell), or \
                 end it"
            ),
            _ => String::new(),
        };
        self.note(format!(
            "waiting for the ledger of the cache's ceiling, which {who} has locked{advice}"
        ));
    }

    /// Fails once who has it does nothing for too long: then also whoever asks next does not wait.
    fn give_up(&self, blocker: Holder, since: Instant) -> Result<(), CacheError> {
        if since.elapsed() < STOPPED && !self.is_blocked() {
            return Ok(());
        }
        self.set_blocked();
        Err(CacheError::Blocked {
            object: "the ledger of the cache's ceiling",
            process: blocker.pid,
            title: self.title_of(blocker),
        })
    }

    /// What people know a builder by, in parentheses; nothing where that is not known.
    fn title_of(&self, blocker: Holder) -> String {
        let builds = Ledger::of(&self.root).builds;
        let title = builds.into_iter().find(|build| build.process == blocker.pid);
        title.map_or_else(String::new, |build| format!(" ({})", build.title))
    }
}
