//! Cache mounts: directories that outlive builds (`RUN --mount=type=cache`).
//!
//! A cache mount is known by a name. Below `mounts-v1/<hash of the name>/` are its copies `0`,
//! `1`, …, each a directory with a lock file `<n>.lock` beside it that whoever uses the copy
//! holds, and a file `name` for people. More than one copy exists only where somebody would not
//! share (BuildKit: `sharing=private`). Whoever looks for a copy, fills or collects one holds the
//! lock file `choice`: so a copy that cannot be locked is used by a step, never only looked at.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::durable;
use crate::error::{At, CacheError};
use crate::lock::{self, FileLock, Mode};
use crate::trash::Trash;
use crate::{guarded, space};

/// The file with the name.
const NAME: &str = "name";
/// What lock files end with.
const LOCK: &str = ".lock";
/// What a copy ends with that is being filled.
const NEW: &str = ".new";
/// How often somebody who waits looks again.
const POLL: Duration = Duration::from_millis(10);
/// The lock of those who choose.
const CHOICE: &str = "choice";
/// How long to wait for others to choose before the wait counts as one: they may be filling.
const CHOOSING: Duration = Duration::from_millis(200);
/// Copies of one cache mount: more steps than this do not run beside each other.
const MAX_COPIES: usize = 4096;

/// What happens when two want one cache mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Both use it.
    Shared,
    /// The second gets a copy of its own.
    Private,
    /// The second waits.
    Locked,
}

/// All cache mounts of a state directory.
pub struct CacheMounts {
    dir: PathBuf,
    trash: Arc<Trash>,
}

/// A cache mount in use. Its lock is freed when this is dropped.
#[derive(Debug)]
pub struct CacheMount {
    path: PathBuf,
    _lock: File,
}

impl CacheMount {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Fills a new cache mount.
type Fill<'a> = dyn Fn(&Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + 'a;

/// How a cache mount is wanted.
pub struct Wanted<'a> {
    /// Its name.
    pub name: &'a str,
    /// What happens when somebody else uses it.
    pub sharing: Sharing,
    /// Whether what it holds is thrown away first.
    pub fresh: bool,
    /// Fills a new one, which is an empty directory.
    pub fill: &'a Fill<'a>,
    /// Looked at while waiting; true gives up.
    pub cancelled: &'a dyn Fn() -> bool,
}

/// One copy of a cache mount, for usage and collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMount {
    /// What [`CacheMounts::remove`] knows it by.
    pub id: String,
    /// The name of the cache mount.
    pub name: String,
    /// The directory.
    pub path: PathBuf,
    /// What it takes on the disk, in bytes.
    pub size: u64,
    /// When it was made.
    pub created: SystemTime,
    /// When it was last used.
    pub last_used: SystemTime,
}

impl CacheMounts {
    pub(crate) fn new(dir: PathBuf, trash: Arc<Trash>) -> Self {
        Self { dir, trash }
    }

    /// Takes a cache mount into use, making it if need be; `None` if the wait was given up.
    ///
    /// # Errors
    /// If it cannot be made, or `fill` fails.
    pub fn open(&self, wanted: &Wanted<'_>) -> Result<Option<CacheMount>, CacheError> {
        let home = self.home(wanted.name)?;
        loop {
            let choice = choice(&home)?;
            if choice.is_some()
                && let Some(mount) = self.choose(&home, wanted)?
            {
                return Ok(Some(mount));
            }
            drop(choice);
            if (wanted.cancelled)() {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Takes the first copy that nobody is in the way of.
    fn choose(&self, home: &Path, wanted: &Wanted<'_>) -> Result<Option<CacheMount>, CacheError> {
        for number in 0..MAX_COPIES {
            let lock = home.join(format!("{number}{LOCK}"));
            // Only those who do not share make a second copy.
            if number > 0 && wanted.sharing == Sharing::Locked && !lock.exists() {
                break;
            }
            if let Some(mount) = take(home, number, &lock, wanted, &self.trash)? {
                return Ok(Some(mount));
            }
        }
        Ok(None)
    }

    fn home(&self, name: &str) -> Result<PathBuf, CacheError> {
        let home = self.dir.join(blake3::hash(name.as_bytes()).to_hex().as_str());
        fs::create_dir_all(&home).at("create", &home)?;
        let file = home.join(NAME);
        if !file.exists() {
            durable::write_file(&file, name.as_bytes(), durable::Durability::Grouped)?;
        }
        Ok(home)
    }

    /// Every copy of every cache mount.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn list(&self) -> Result<Vec<StoredMount>, CacheError> {
        let stored = |id: String| {
            let path = self.dir.join(&id);
            let name = fs::read(path.with_file_name(NAME)).unwrap_or_default();
            let (created, last_used) = guarded::times(&path, &self.lock_of(&id));
            StoredMount {
                name: String::from_utf8_lossy(&name).into_owned(),
                size: space::disk_usage(&path),
                created,
                last_used,
                path,
                id,
            }
        };
        Ok(self.ids()?.into_iter().map(stored).collect())
    }

    /// What [`Self::list`] lists, by their ids alone: nothing in them is looked at.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn ids(&self) -> Result<Vec<String>, CacheError> {
        let mut found = Vec::new();
        for home in fs::read_dir(&self.dir).at("list", &self.dir)?.flatten() {
            let Ok(entries) = fs::read_dir(home.path()) else { continue };
            let home = home.file_name().to_string_lossy().into_owned();
            let numbers = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned());
            let copies = numbers.filter(|n| n.parse::<usize>().is_ok());
            found.extend(copies.map(|n| format!("{home}/{n}")));
        }
        found.sort();
        Ok(found)
    }

    fn lock_of(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}{LOCK}"))
    }

    /// Whether somebody uses the copy `id`, or is about to.
    pub fn in_use(&self, id: &str) -> bool {
        match self.choice_of(id) {
            Ok(Some(_choice)) => guarded::in_use(&self.lock_of(id)),
            _ => true,
        }
    }

    fn choice_of(&self, id: &str) -> Result<Option<FileLock>, CacheError> {
        let copy = self.dir.join(id);
        choice(copy.parent().unwrap_or(&self.dir))
    }

    /// Removes the copy `id` unless somebody uses it; whether it is gone.
    ///
    /// # Errors
    /// If it cannot be renamed away.
    pub fn remove(&self, id: &str) -> Result<bool, CacheError> {
        match self.choice_of(id)? {
            Some(_choice) => guarded::remove(&self.dir.join(id), &self.lock_of(id), &self.trash),
            None => Ok(false),
        }
    }
}

/// The lock of those who choose a copy of the cache mount in `home`; `None` if it took too long.
fn choice(home: &Path) -> Result<Option<FileLock>, CacheError> {
    FileLock::acquire_within(&home.join(CHOICE), Mode::Exclusive, CHOOSING)
}

/// Takes one copy, if nobody is in the way.
fn take(
    home: &Path,
    number: usize,
    lock: &Path,
    wanted: &Wanted<'_>,
    trash: &Trash,
) -> Result<Option<CacheMount>, CacheError> {
    let path = home.join(number.to_string());
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(false);
    let file = file.open(lock).at("open", lock)?;
    let shared = wanted.sharing == Sharing::Shared;
    // Nobody else may see it half full, nor lose what it holds under its hands.
    let alone = !shared || wanted.fresh || !path.exists();
    let mode = if alone { Mode::Exclusive } else { Mode::Shared };
    if !lock::try_lock(&file, mode).at("lock", lock)? {
        return Ok(None);
    }
    if alone {
        if wanted.fresh {
            trash.take(&path)?;
        }
        if !path.exists() {
            fill(home, number, &path, wanted)?;
        }
    }
    // Nobody can come in between: who would holds the lock of those who choose.
    if alone && shared && !lock::try_lock(&file, Mode::Shared).at("lock", lock)? {
        return Ok(None);
    }
    file.set_modified(SystemTime::now()).at("touch", lock)?;
    Ok(Some(CacheMount { path, _lock: file }))
}

/// Makes a copy beside its place and moves it there when it is full.
fn fill(home: &Path, number: usize, path: &Path, wanted: &Wanted<'_>) -> Result<(), CacheError> {
    let new = home.join(format!("{number}{NEW}"));
    if new.exists() {
        fs::remove_dir_all(&new).at("remove", &new)?;
    }
    fs::create_dir(&new).at("create", &new)?;
    (wanted.fill)(&new).map_err(|source| CacheError::Collect {
        operation: format!("fill cache mount {:?}", wanted.name),
        source,
    })?;
    fs::rename(&new, path).at("rename to", path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn store() -> (tempfile::TempDir, CacheMounts) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["mounts", "trash"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let trash = Arc::new(Trash::new(dir.path().join("trash")));
        let mounts = CacheMounts::new(dir.path().join("mounts"), trash);
        (dir, mounts)
    }

    fn open(mounts: &CacheMounts, sharing: Sharing, fresh: bool) -> Option<CacheMount> {
        let fill = |dir: &Path| Ok(fs::write(dir.join("seed"), "s")?);
        let cancelled = || true;
        let wanted = Wanted { name: "/c", sharing, fresh, fill: &fill, cancelled: &cancelled };
        mounts.open(&wanted).unwrap()
    }

    #[test]
    fn who_shares_and_who_does_not() {
        let (_dir, mounts) = store();
        let first = open(&mounts, Sharing::Shared, false).unwrap();
        assert_eq!(fs::read_to_string(first.path().join("seed")).unwrap(), "s");
        let second = open(&mounts, Sharing::Shared, false).unwrap();
        assert_eq!(first.path(), second.path());
        assert!(open(&mounts, Sharing::Locked, false).is_none());
        let own = open(&mounts, Sharing::Private, false).unwrap();
        assert_ne!(own.path(), first.path());
        drop((first, second));
        // The first copy is free again; the other one is somebody's.
        let locked = open(&mounts, Sharing::Locked, false).unwrap();
        assert!(locked.path().ends_with("0"));
        assert!(open(&mounts, Sharing::Locked, false).is_none());
        drop((own, locked));
        assert!(open(&mounts, Sharing::Private, false).unwrap().path().ends_with("0"));
        assert_eq!(mounts.list().unwrap().len(), 2);
    }

    #[test]
    fn those_who_come_while_one_is_filled_share_it() {
        let (_dir, mounts) = store();
        let fill = |dir: &Path| {
            std::thread::sleep(Duration::from_millis(400));
            Ok(fs::write(dir.join("seed"), "s")?)
        };
        let sharing = Sharing::Shared;
        let open = || {
            let wanted =
                Wanted { name: "n", sharing, fresh: false, fill: &fill, cancelled: &|| false };
            mounts.open(&wanted).unwrap().unwrap()
        };
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
            let all: Vec<_> = all.into_iter().map(|one| one.join().unwrap()).collect();
            assert!(all.iter().all(|one| one.path().ends_with("0")), "{all:?}");
        });
    }

    #[test]
    fn fresh_ones_are_empty_again_and_stay() {
        let (_dir, mounts) = store();
        fs::write(open(&mounts, Sharing::Shared, false).unwrap().path().join("x"), "").unwrap();
        assert!(open(&mounts, Sharing::Shared, false).unwrap().path().join("x").exists());
        let used = open(&mounts, Sharing::Shared, false).unwrap();
        // What somebody uses is not taken away.
        let fresh = open(&mounts, Sharing::Shared, true).unwrap();
        assert!(used.path().join("x").exists() && !fresh.path().join("x").exists());
        drop((used, fresh));
        assert!(!open(&mounts, Sharing::Locked, true).unwrap().path().join("x").exists());
        assert!(!open(&mounts, Sharing::Shared, false).unwrap().path().join("x").exists());
    }

    #[test]
    fn half_full_ones_are_filled_again() {
        let (_dir, mounts) = store();
        let calls = Cell::new(0);
        let fill = |dir: &Path| {
            calls.set(calls.get() + 1);
            fs::write(dir.join("half"), "")?;
            if calls.get() == 1 { Err("disk full".into()) } else { Ok(()) }
        };
        let cancelled = || false;
        let sharing = Sharing::Locked;
        let wanted =
            Wanted { name: "n", sharing, fresh: false, fill: &fill, cancelled: &cancelled };
        let error = mounts.open(&wanted).unwrap_err().to_string();
        assert!(error.contains("\"n\"") && error.contains("disk full"), "{error}");
        assert!(mounts.open(&wanted).unwrap().is_some());
    }

    #[test]
    fn collected_unless_used() {
        let (_dir, mounts) = store();
        let used = open(&mounts, Sharing::Shared, false).unwrap();
        let stored = mounts.list().unwrap().remove(0);
        assert_eq!((stored.name.as_str(), stored.path.as_path()), ("/c", used.path()));
        assert!(mounts.in_use(&stored.id) && !mounts.remove(&stored.id).unwrap());
        drop(used);
        assert!(!mounts.in_use(&stored.id) && mounts.remove(&stored.id).unwrap());
        assert!(mounts.list().unwrap().is_empty());
    }
}
