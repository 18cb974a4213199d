//! Leases: what each running process needs, so that garbage collection leaves it alone.
//!
//! A process has one lease: a file of random name in `leases/`, locked for as long as the process
//! lives. Lines are appended to it: `+kind id` when something gets held, `-kind id` when it is
//! let go. A lease that nobody has locked is dead: its process was killed, and what it had in
//! progress is garbage.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::durable;
use crate::error::{At, CacheError};
use crate::lock::{self, FileLock, Mode};

/// Tries of a random name before giving up.
const MAX_TRIES: usize = 100;

/// A lease file is never longer; what is beyond is not read.
const MAX_LEASE: u64 = 64 << 20;

/// What kind of thing is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holding {
    /// A committed snapshot (and so its parents), by its id.
    Snapshot,
    /// A snapshot that is being made, by its id: garbage once its process is gone.
    InProgress,
    /// A blob, by its digest.
    Blob,
    /// A control group, by its path: to be removed once its process is gone.
    Cgroup,
}

impl Holding {
    const ALL: [Self; 4] = [Self::Snapshot, Self::InProgress, Self::Blob, Self::Cgroup];

    fn word(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::InProgress => "in-progress",
            Self::Blob => "blob",
            Self::Cgroup => "cgroup",
        }
    }
}

/// This process's lease; clones are the same lease. The last one that goes ends it.
#[derive(Clone)]
pub struct Lease {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    path: PathBuf,
    gc_lock: PathBuf,
    file: File,
    counts: Mutex<HashMap<(Holding, String), usize>>,
    /// The last line may have no end: the disk was full.
    torn: AtomicBool,
}

impl Lease {
    /// Starts a lease in `dir`.
    pub(crate) fn create(dir: &Path, gc_lock: &Path) -> Result<Self, CacheError> {
        for _ in 0..MAX_TRIES {
            let name = durable::random_name();
            let path = dir.join(&name);
            let mut options = File::options();
            options.read(true).append(true).create_new(true).mode(0o600);
            let file = match options.open(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other.at("create", &path)?,
            };
            // Between the two, a process that looks for dead leases may have taken this for one.
            if !lock::try_lock(&file, Mode::Exclusive).at("lock", &path)?
                || !lock::is_same_file(&file, &path)
            {
                continue;
            }
            let gc_lock = gc_lock.to_owned();
            let (counts, torn) = (Mutex::default(), AtomicBool::new(false));
            return Ok(Self { inner: Arc::new(Inner { name, path, gc_lock, file, counts, torn }) });
        }
        Err(io::Error::from(io::ErrorKind::AlreadyExists)).at("create a lease in", dir)
    }

    /// Its random name, for things outside the state directory (control groups) that should be
    /// found when this process was killed.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Holds `id` until the last clone of the result is dropped.
    ///
    /// Garbage collection may have taken it just before: ask afterwards whether it is there, or
    /// use [`hold_if`](Self::hold_if).
    ///
    /// # Errors
    /// If `id` has a line break, or the lease cannot be written.
    pub fn hold(&self, kind: Holding, id: &str) -> Result<Held, CacheError> {
        let held = self.hold_if(kind, id, || true)?;
        held.ok_or_else(|| CacheError::Identity(id.to_owned()))
    }

    /// Holds `id` if, once it is held, it `exists`. Garbage collection cannot come between.
    ///
    /// # Errors
    /// If `id` has a line break, or the lease cannot be written.
    pub fn hold_if(
        &self,
        kind: Holding,
        id: &str,
        exists: impl FnOnce() -> bool,
    ) -> Result<Option<Held>, CacheError> {
        if id.is_empty() || id.contains('\n') {
            return Err(CacheError::Identity(id.to_owned()));
        }
        let key = (kind, id.to_owned());
        {
            let mut counts = self.inner.counts();
            if let Some(count) = counts.get_mut(&key) {
                // Held already, so it cannot have been collected.
                *count += 1;
            } else {
                let _no_collection = FileLock::acquire(&self.inner.gc_lock, Mode::Shared)?;
                self.inner.append('+', &key)?;
                if !exists() {
                    self.inner.append('-', &key)?;
                    return Ok(None);
                }
                counts.insert(key.clone(), 1);
            }
        }
        Ok(Some(Held { inner: Arc::new(HeldInner { lease: self.inner.clone(), key }) }))
    }
}

impl Inner {
    fn counts(&self) -> std::sync::MutexGuard<'_, HashMap<(Holding, String), usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, sign: char, (kind, id): &(Holding, String)) -> Result<(), CacheError> {
        let end = if self.torn.load(Ordering::SeqCst) { "\n" } else { "" };
        let line = format!("{end}{sign}{} {id}\n", kind.word());
        let written = (&self.file).write_all(line.as_bytes());
        self.torn.store(written.is_err(), Ordering::SeqCst);
        written.at("write", &self.path)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Something that is held; dropping the last clone lets it go.
#[derive(Clone)]
pub struct Held {
    inner: Arc<HeldInner>,
}

struct HeldInner {
    lease: Arc<Inner>,
    key: (Holding, String),
}

impl Held {
    /// What is held.
    pub fn id(&self) -> &str {
        &self.inner.key.1
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Held({} {})", self.inner.key.0.word(), self.inner.key.1)
    }
}

impl Drop for HeldInner {
    fn drop(&mut self) {
        let mut counts = self.lease.counts();
        let Some(count) = counts.get_mut(&self.key) else { return };
        *count -= 1;
        if *count == 0 {
            counts.remove(&self.key);
            // If it cannot be written, the thing stays held until the process ends.
            let _ = self.lease.append('-', &self.key);
        }
    }
}

/// The lease of a process that was killed. Whoever has this value is the only one who cleans up
/// after it.
pub struct DeadLease {
    name: String,
    path: PathBuf,
    holds: BTreeSet<(Holding, String)>,
    _locked: File,
}

impl DeadLease {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The ids of one kind that were held when it died.
    pub fn held(&self, kind: Holding) -> impl Iterator<Item = &str> {
        self.holds.iter().filter(move |(k, _)| *k == kind).map(|(_, id)| id.as_str())
    }

    /// Forgets the lease: everything that was in progress under it is cleaned up.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub fn clear(self) -> Result<(), CacheError> {
        fs::remove_file(&self.path).at("remove", &self.path)
    }
}

/// The dead leases in `dir`; those that hold nothing are removed at once.
pub(crate) fn dead(dir: &Path) -> Result<Vec<DeadLease>, CacheError> {
    let mut dead = Vec::new();
    for entry in fs::read_dir(dir).at("list", dir)?.flatten() {
        let path = entry.path();
        let Some(file) = open(&path)? else { continue };
        if !lock::try_lock(&file, Mode::Exclusive).at("lock", &path)?
            || !lock::is_same_file(&file, &path)
        {
            continue;
        }
        let holds = read(&file, &path)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let lease = DeadLease { name, path, holds, _locked: file };
        if lease.holds.is_empty() {
            lease.clear()?;
        } else {
            dead.push(lease);
        }
    }
    Ok(dead)
}

/// What all live leases hold. The caller has the GC lock exclusively.
pub(crate) fn live(dir: &Path) -> Result<BTreeSet<(Holding, String)>, CacheError> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir(dir).at("list", dir)?.flatten() {
        let path = entry.path();
        let Some(file) = open(&path)? else { continue };
        // A lock that can be had belongs to nobody: a dead lease.
        if !lock::try_lock(&file, Mode::Shared).at("lock", &path)? {
            all.extend(read(&file, &path)?);
        }
    }
    Ok(all)
}

/// The name of a lease, and what it holds.
type Named = (String, BTreeSet<(Holding, String)>);

/// What each live lease holds.
pub(crate) fn by_name(dir: &Path) -> Result<Vec<Named>, CacheError> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).at("list", dir)?.flatten() {
        let path = entry.path();
        let Some(file) = open(&path)? else { continue };
        if !lock::try_lock(&file, Mode::Shared).at("lock", &path)? {
            all.push((entry.file_name().to_string_lossy().into_owned(), read(&file, &path)?));
        }
    }
    Ok(all)
}

fn open(path: &Path) -> Result<Option<File>, CacheError> {
    match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.at("open", path).map(Some),
    }
}

fn read(file: &File, path: &Path) -> Result<BTreeSet<(Holding, String)>, CacheError> {
    let mut text = Vec::new();
    let mut limited = file.take(MAX_LEASE);
    limited.read_to_end(&mut text).at("read", path)?;
    Ok(parse(&text))
}

/// What is held at the end of the lines. A line without an end was never finished.
fn parse(text: &[u8]) -> BTreeSet<(Holding, String)> {
    let mut holds = BTreeSet::new();
    for line in text.split_inclusive(|b| *b == b'\n') {
        let Some(line) = line.strip_suffix(b"\n") else { continue };
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let Some((sign_and_word, id)) = line.split_once(' ') else { continue };
        for kind in Holding::ALL {
            let key = (kind, id.to_owned());
            if sign_and_word.strip_prefix('+') == Some(kind.word()) {
                holds.insert(key);
            } else if sign_and_word.strip_prefix('-') == Some(kind.word()) {
                holds.remove(&key);
            }
        }
    }
    holds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let leases = dir.path().join("leases");
        fs::create_dir(&leases).unwrap();
        let lock = dir.path().join("gc");
        (dir, leases, lock)
    }

    #[test]
    fn counts_within_the_process() {
        let (_dir, leases, lock) = dirs();
        let lease = Lease::create(&leases, &lock).unwrap();
        let key = (Holding::Snapshot, "s1".to_owned());
        let first = lease.hold(Holding::Snapshot, "s1").unwrap();
        let second = lease.hold_if(Holding::Snapshot, "s1", || false).unwrap().unwrap();
        drop(first);
        assert!(live(&leases).unwrap().contains(&key));
        drop(second.clone());
        assert!(live(&leases).unwrap().contains(&key));
        drop(second);
        assert!(live(&leases).unwrap().is_empty());
        assert!(lease.hold_if(Holding::Snapshot, "gone", || false).unwrap().is_none());
        assert!(live(&leases).unwrap().is_empty());
        assert!(lease.hold(Holding::Blob, "a\nb").is_err());
        drop(lease);
        assert_eq!(fs::read_dir(&leases).unwrap().count(), 0);
    }

    #[test]
    fn half_a_line_does_not_spoil_the_next() {
        let (_dir, leases, lock) = dirs();
        let lease = Lease::create(&leases, &lock).unwrap();
        (&lease.inner.file).write_all(b"+snapshot half").unwrap();
        lease.inner.torn.store(true, Ordering::SeqCst);
        let _held = lease.hold(Holding::Snapshot, "s1").unwrap();
        assert!(live(&leases).unwrap().contains(&(Holding::Snapshot, "s1".to_owned())));
    }

    #[test]
    fn the_dead_are_found_once() {
        let (_dir, leases, lock) = dirs();
        let own = Lease::create(&leases, &lock).unwrap();
        let text = "+in-progress p1\n+snapshot s1\n-snapshot s1\n+cgroup /a b\n+snapshot torn";
        fs::write(leases.join("x"), text).unwrap();
        fs::write(leases.join("empty"), "").unwrap();
        let found = dead(&leases).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].held(Holding::InProgress).collect::<Vec<_>>(), ["p1"]);
        assert_eq!(found[0].held(Holding::Cgroup).collect::<Vec<_>>(), ["/a b"]);
        assert_eq!(found[0].held(Holding::Snapshot).count(), 0);
        assert!(dead(&leases).unwrap().is_empty(), "somebody has it");
        for lease in found {
            lease.clear().unwrap();
        }
        assert_eq!(fs::read_dir(&leases).unwrap().count(), 1);
        drop(own);
    }
}
