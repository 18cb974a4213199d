//! Who has a lock for which others wait long: a lock that is held for moments is held for long where
//! its holder was stopped (Ctrl-Z, a debugger), or where the disk is slow. Then people are told.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a wait for a lock that is held for moments is nobody's business.
pub(crate) const LONG: Duration = Duration::from_secs(5);

/// What the kernel knows of locks (proc_locks(5)).
const LOCKS: &str = "/proc/locks";

type Tell = dyn Fn(&str) + Send + Sync;

/// The locks are those of the whole process, so is who hears of them.
static TELL: Mutex<Option<Arc<Tell>>> = Mutex::new(None);

/// From now on `tell` is called, from any thread, with a line for people when a thread of this
/// process has waited long for a lock that others should hold for moments only.
pub fn on_long_wait(tell: impl Fn(&str) + Send + Sync + 'static) {
    *listener() = Some(Arc::new(tell));
}

fn listener() -> MutexGuard<'static, Option<Arc<Tell>>> {
    TELL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells who it hears of when a wait has lasted too long.
pub(crate) fn tell(text: &str) {
    let listener = listener().clone();
    if let Some(listener) = listener {
        listener(text);
    }
}

/// Does `wait`, which ends when the lock of the open file at `path` is there, and calls `tell` once if
/// that takes longer than `long`.
pub(crate) fn told_of<T>(
    (file, path): (&File, &Path),
    long: Duration,
    tell: impl Fn(&str) + Send,
    wait: impl FnOnce() -> T,
) -> T {
    let (over, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let watch = move || {
            if ended.recv_timeout(long) == Err(RecvTimeoutError::Timeout) {
                tell(&waiting(file, path));
            }
        };
        // Without a thread nobody is told; the wait is the same.
        let _ = thread::Builder::new().name("patience".to_owned()).spawn_scoped(scope, watch);
        let done = wait();
        drop(over);
        done
    })
}

/// What people are told who wait for the lock of `file`.
fn waiting(file: &File, path: &Path) -> String {
    let inode = file.metadata().map_or(0, |meta| meta.ino());
    let Some(Holder { pid, stopped }) = Holder::of(inode) else {
        return format!("waiting for another process that has locked {}", path.display());
    };
    let what = format!("waiting for process {pid}, which has locked {}", path.display());
    match stopped {
        true => format!("{what} and is stopped: `kill -CONT {pid}` lets it go on"),
        false => what,
    }
}

/// A process that has a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) pid: u32,
    /// By a signal, or by who traces it.
    pub(crate) stopped: bool,
}

impl Holder {
    /// Who has locked the file `inode`, as far as the kernel tells.
    pub(crate) fn of(inode: u64) -> Option<Self> {
        let pid = holder(&fs::read_to_string(LOCKS).ok()?, inode)?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        Some(Self { pid, stopped: is_stopped(&stat) })
    }
}

/// The process that has a lock of the whole file `inode`, as the kernel's table says. One of another
/// pid namespace has no number here.
fn holder(table: &str, inode: u64) -> Option<u32> {
    table.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // Those who wait have an arrow after the number.
        let [_, "FLOCK", _, _, pid, place, ..] = words[..] else { return None };
        let (_, number) = place.rsplit_once(':')?;
        (number.parse() == Ok(inode)).then(|| pid.parse().ok().filter(|pid| *pid > 0))?
    })
}

/// Whether the process of this `/proc/PID/stat` is stopped (proc_pid_stat(5)): by a signal, or by who
/// traces it.
fn is_stopped(stat: &str) -> bool {
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::{FileLock, Mode};

    #[test]
    fn who_has_it() {
        let table = "1: POSIX  ADVISORY  WRITE 11 fe:00:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 12 fe:00:78 0 EOF\n\
                     3: -> FLOCK  ADVISORY  READ 13 fe:00:77 0 EOF\n\
                     4: FLOCK  ADVISORY  READ 14 fe:00:77 0 EOF\n\
                     5: FLOCK  ADVISORY  READ -1 fe:00:79 0 EOF\nnonsense\n";
        assert_eq!(holder(table, 77), Some(14));
        assert_eq!(holder(table, 78), Some(12));
        assert_eq!((holder(table, 79), holder(table, 80), holder("", 1)), (None, None, None));
        assert!(is_stopped("14 (a) b) T 1 2") && is_stopped("14 (x) t 1"));
        assert!(!is_stopped("14 (T) S 1 2") && !is_stopped(""));
    }

    #[test]
    fn a_long_wait_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let held = FileLock::acquire(&path, Mode::Exclusive).unwrap();
        let file = File::open(&path).unwrap();
        let (told, tells) = mpsc::channel();
        let say = |text: &str| told.send(text.to_owned()).unwrap();
        let text = told_of((&file, &path), Duration::from_millis(1), say, || tells.recv().unwrap());
        let want = format!("waiting for process {}, which has locked ", std::process::id());
        // Where the kernel has no such table, nobody is named.
        assert!(text.starts_with(&want) || !Path::new(LOCKS).exists(), "{text}");
        assert!(text.ends_with("/k"), "{text}");
        drop(held);
        // A short one is not.
        let say = |text: &str| panic!("{text}");
        told_of((&file, &path), Duration::from_secs(600), say, || ());
    }
}
