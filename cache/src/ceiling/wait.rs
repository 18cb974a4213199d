//! Waiting for the ledger, and for whom.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Inner;
use super::ledger::{Ledger, Locked, lock_path};
use crate::error::CacheError;

/// How often it is tried, at first and at last.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LAST_PAUSE: Duration = Duration::from_millis(20);

/// Who waits longer says so; and ends, if its build is being stopped.
const TELL: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 3 });

/// How long somebody is waited for who does nothing: the user may let it go on.
const STOPPED: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 60 });

/// A process that has a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Blocker {
    process: u32,
    /// By a signal, or by a debugger.
    stopped: bool,
}

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
                let blocker = Blocker::of(&lock_path(&self.root));
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

    fn tell_blocked(&self, blocker: Option<Blocker>) {
        let who = match blocker {
            None => "another process".to_owned(),
            Some(blocker) => format!("process {}{}", blocker.process, self.title_of(blocker)),
        };
        let advice = match blocker {
            Some(Blocker { process, stopped: true }) => format!(
                " and is stopped: let it go on (`kill -CONT {process}`, or `fg` in its shell), or \
                 end it"
            ),
            _ => String::new(),
        };
        self.note(format!(
            "waiting for the ledger of the cache's ceiling, which {who} has locked{advice}"
        ));
    }

    /// Fails once who has it does nothing for too long: then also whoever asks next does not wait.
    fn give_up(&self, blocker: Blocker, since: Instant) -> Result<(), CacheError> {
        if since.elapsed() < STOPPED && !self.is_blocked() {
            return Ok(());
        }
        self.set_blocked();
        Err(CacheError::Blocked {
            object: "the ledger of the cache's ceiling",
            process: blocker.process,
            title: self.title_of(blocker),
        })
    }

    /// What people know a builder by, in parentheses; nothing where that is not known.
    fn title_of(&self, blocker: Blocker) -> String {
        let builds = Ledger::of(&self.root).builds;
        let title = builds.into_iter().find(|build| build.process == blocker.process);
        title.map_or_else(String::new, |build| format!(" ({})", build.title))
    }
}

impl Blocker {
    /// Who has the file locked, as far as proc_locks(5) tells: it knows no processes of other
    /// namespaces.
    fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        let place = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()), meta.ino());
        let process = holder(&fs::read_to_string("/proc/locks").ok()?, place)?;
        Some(Self { process, stopped: is_stopped(process) })
    }
}

/// The process that has flock(2)ed the file of this device and inode.
fn holder(locks: &str, (major, minor, inode): (u32, u32, u64)) -> Option<u32> {
    let place = format!("{major:02x}:{minor:02x}:{inode}");
    locks.lines().find_map(|line| {
        // `1: FLOCK ADVISORY WRITE 71 fe:00:12 0 EOF`; of those who wait there is an arrow before.
        let mut fields = line.split_ascii_whitespace().skip(1);
        let kind = fields.next()?;
        let process = fields.nth(2)?.parse().ok().filter(|process| *process > 0)?;
        (kind == "FLOCK" && fields.next()? == place).then_some(process)
    })
}

/// Whether a process is stopped (proc_pid_stat(5)): its name may hold anything, parentheses too.
fn is_stopped(process: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = text.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    matches!(state, Some('T' | 't'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_lock() {
        let text = "1: FLOCK  ADVISORY  WRITE 71 fe:00:12 0 EOF\n\
                    1: -> FLOCK  ADVISORY  WRITE 72 fe:00:13 0 EOF\n\
                    2: POSIX  ADVISORY  WRITE 73 fe:00:13 0 EOF\n\
                    3: FLOCK  ADVISORY  WRITE 74 fe:00:13 0 EOF\n\
                    4: FLOCK  ADVISORY  WRITE 0 fe:00:14 0 EOF\nshort\n";
        for (inode, process) in [(12, Some(71)), (13, Some(74)), (14, None), (15, None)] {
            assert_eq!(holder(text, (0xfe, 0, inode)), process);
        }
        assert!(!is_stopped(std::process::id()) && !is_stopped(u32::MAX));
    }
}
