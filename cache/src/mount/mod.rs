//! Cache mounts: directories that outlive builds (`RUN --mount=type=cache`).
//!
//! A cache mount is known by a name. Below `mounts-v1/<hash of the name>/` are its copies `0`,
//! `1`, …, each a directory with a lock file `<n>.lock` beside it that whoever uses the copy
//! holds, and files `name` and `purpose` for people. More than one copy exists only where somebody
//! would not share (BuildKit: `sharing=private`). Whoever looks for a copy, fills or collects one holds the
//! lock file `choice`: so a copy that cannot be locked is used by a step, never only looked at.
//!
//! A step uses a copy live, or through a transaction: then its changes are in `<n>.step`, until
//! they are decided, and in `<n>.commit`, until they are merged.

mod attributes;
mod emptied;
mod merge;
mod plan;
mod redo;
mod transaction;
mod tree;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::durable;
use crate::error::{At, CacheError};
use crate::lock::{self, FileLock, Mode};
use crate::trash::Trash;
use crate::{guarded, space};
pub use emptied::Emptied;
pub use merge::Observer;
pub use transaction::{Method, View};
use transaction::{Places, Transaction, complete, recover};

/// The file with the name.
const NAME: &str = "name";
/// The file with what it is used for.
const PURPOSE: &str = "purpose";
/// No purpose is longer, in characters.
const MAX_PURPOSE: usize = 300;
/// What lock files end with.
const LOCK: &str = ".lock";
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

/// A cache mount in use. Its lock is freed when this is dropped; changes of a transaction that was
/// not given to [`commit`] are forgotten then.
pub struct CacheMount {
    name: String,
    places: Places,
    path: PathBuf,
    /// Whether a transaction begins with nothing.
    fresh: bool,
    transaction: Option<Transaction>,
    trash: Arc<Trash>,
    _lock: File,
}

impl CacheMount {
    /// The directory that is committed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What a step is to see.
    pub fn view(&self) -> View {
        match &self.transaction {
            Some(transaction) => transaction.view(),
            None => View::Directory(self.path.clone()),
        }
    }
}

impl std::fmt::Debug for CacheMount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CacheMount").field("view", &self.view()).finish_non_exhaustive()
    }
}

impl Drop for CacheMount {
    fn drop(&mut self) {
        if let Some(transaction) = &self.transaction {
            // What cannot be removed now is when the mount is used again.
            let _ = transaction.discard(&self.trash);
        }
    }
}

/// Makes what a step changed in `mounts` a part of them. The step has ended: nothing of it runs or
/// is mounted any more. Mounts without a transaction have it already.
///
/// All of them are prepared before the first is decided, and decided before the first is merged. Who
/// ends before the decision has changed nothing. After it the changes count, however this ends:
/// whoever uses the mount next completes them first.
///
/// # Errors
/// [`CacheError::Commit`] if nothing was changed, [`CacheError::Unfinished`] after a decision.
pub fn commit(mounts: Vec<CacheMount>) -> Result<(), CacheError> {
    commit_observed(mounts, &mut || Ok(()))
}

/// As [`commit`]; `observer` is asked before each change, and an error of it is as one of the change.
///
/// # Errors
/// As [`commit`], and those of `observer`.
pub fn commit_observed(
    mut mounts: Vec<CacheMount>,
    observer: &mut Observer<'_>,
) -> Result<(), CacheError> {
    let mut synced = false;
    for mount in &mounts {
        let Some(transaction) = &mount.transaction else { continue };
        let prepare = || {
            if !synced {
                // They are all on one file system. What is decided has to be there after a loss
                // of power, too.
                let dir = File::open(&mount.path).at("open", &mount.path)?;
                rustix::fs::syncfs(dir).at("sync the file system of", &mount.path)?;
            }
            transaction.prepare()
        };
        prepare().map_err(|source| failed(mount, source))?;
        synced = true;
    }
    let mut decided = Vec::new();
    for mount in &mut mounts {
        let Some(transaction) = &mount.transaction else { continue };
        transaction.decide().map_err(|source| failed(mount, source))?;
        mount.transaction = None;
        decided.push(mount);
    }
    for mount in decided {
        let completed = complete(&mount.places, &mount.trash, observer);
        completed.map_err(|source| unfinished(&mount.name, source))?;
    }
    Ok(())
}

fn failed(mount: &CacheMount, source: CacheError) -> CacheError {
    CacheError::Commit { name: mount.name.clone(), source: Box::new(source) }
}

fn unfinished(name: &str, source: CacheError) -> CacheError {
    CacheError::Unfinished { name: name.to_owned(), source: Box::new(source) }
}

/// Why a caller's part failed.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Fills a new cache mount.
type Fill<'a> = dyn Fn(&Path) -> Result<(), Cause> + 'a;

/// How a cache mount is wanted.
pub struct Wanted<'a> {
    /// Its name.
    pub name: &'a str,
    /// What messages call it.
    pub shown: &'a str,
    /// What happens when somebody else uses it.
    pub sharing: Sharing,
    /// What it holds is thrown away first, unless the same build did that before.
    pub fresh: Option<&'a Emptied>,
    /// Fills a new one, which is an empty directory.
    pub fill: &'a Fill<'a>,
    /// Looked at while waiting; true gives up.
    pub cancelled: &'a dyn Fn() -> bool,
    /// Keeps changes apart until they are given to [`commit`]; then nobody else uses the copy
    /// meanwhile, whatever `sharing` says. With `fresh` the step sees a new one, and what is
    /// committed stays until that takes its place.
    pub transaction: Option<Method<'a>>,
}

impl Wanted<'_> {
    fn shared(&self) -> bool {
        self.sharing == Sharing::Shared && self.transaction.is_none()
    }
}

/// One copy of a cache mount, for usage and collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMount {
    /// What [`CacheMounts::remove`] knows it by.
    pub id: String,
    /// The name of the cache mount.
    pub name: String,
    /// What it was used for last, if that is known: `cached mount /c from exec make`.
    pub purpose: Option<String>,
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
            let chosen = if choice.is_some() { self.choose(&home, wanted)? } else { None };
            // A transaction may begin with a copy, which takes its time: others choose meanwhile.
            drop(choice);
            if let Some(mount) = chosen {
                return begin(mount, wanted).map(Some);
            }
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
            let places = Places::new(home, number);
            if let Some(mount) = take(places, &lock, wanted, &self.trash)? {
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

    /// Remembers for people what the cache mount `name` is used for: one line.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn note_purpose(&self, name: &str, purpose: &str) -> Result<(), CacheError> {
        let file = self.home(name)?.join(PURPOSE);
        let words = purpose.split_whitespace().collect::<Vec<_>>().join(" ");
        let line: String = words.chars().take(MAX_PURPOSE).collect();
        if fs::read(&file).is_ok_and(|there| there == line.as_bytes()) {
            return Ok(());
        }
        durable::write_file(&file, line.as_bytes(), durable::Durability::Grouped)
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
            let purpose = fs::read(path.with_file_name(PURPOSE)).ok();
            StoredMount {
                purpose: purpose.map(|line| String::from_utf8_lossy(&line).into_owned()),
                name: String::from_utf8_lossy(&name).into_owned(),
                size: Self::parts(&path).iter().map(|part| space::disk_usage(part)).sum(),
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
            let names = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned());
            // A part may be left where the copy itself is gone.
            let number = |name: String| {
                let part = Places::PARTS.iter().find_map(|part| name.strip_suffix(part));
                part.unwrap_or(&name).parse::<usize>().ok()
            };
            let copies: BTreeSet<usize> = names.filter_map(number).collect();
            found.extend(copies.into_iter().map(|n| format!("{home}/{n}")));
        }
        found.sort();
        Ok(found)
    }

    /// A copy, and what may be beside it.
    fn parts(copy: &Path) -> Vec<PathBuf> {
        let name = copy.file_name().unwrap_or_default().to_string_lossy();
        let part = |ending: &&str| copy.with_file_name(format!("{name}{ending}"));
        [""].iter().chain(&Places::PARTS).map(part).collect()
    }

    /// What goes with the copy `id`, for usage.
    pub(crate) fn paths(&self, id: &str) -> Vec<PathBuf> {
        Self::parts(&self.dir.join(id))
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
        let Some(_choice) = self.choice_of(id)? else { return Ok(false) };
        let copy = self.dir.join(id);
        if !guarded::remove(&copy, &self.lock_of(id), &self.trash)? {
            return Ok(false);
        }
        // Nobody can have taken it meanwhile: who would holds the lock of those who choose. The copy
        // went first: what was decided means nothing without it.
        Self::parts(&copy).iter().try_for_each(|part| self.trash.take(part))?;
        Ok(true)
    }
}

/// The lock of those who choose a copy of the cache mount in `home`; `None` if it took too long.
fn choice(home: &Path) -> Result<Option<FileLock>, CacheError> {
    FileLock::acquire_within(&home.join(CHOICE), Mode::Exclusive, CHOOSING)
}

/// Takes one copy, if nobody is in the way, and brings it into order.
fn take(
    places: Places,
    lock: &Path,
    wanted: &Wanted<'_>,
    trash: &Arc<Trash>,
) -> Result<Option<CacheMount>, CacheError> {
    let path = places.base();
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(false);
    let file = file.open(lock).at("open", lock)?;
    let shared = wanted.shared();
    let fresh = wanted.fresh.is_some_and(|emptied| !emptied.has(&path));
    // Nobody else may see it half full, nor lose what it holds under its hands.
    let alone = !shared || fresh || !path.exists() || places.unfinished();
    let mode = if alone { Mode::Exclusive } else { Mode::Shared };
    if !lock::try_lock(&file, mode).at("lock", lock)? {
        return Ok(None);
    }
    if alone {
        let emptied = fresh && wanted.transaction.is_none();
        if emptied {
            places.discard(trash)?;
        } else {
            let recovered = recover(&places, trash, &mut || Ok(()));
            recovered.map_err(|source| unfinished(wanted.shown, source))?;
        }
        if !path.exists() && (emptied || !fresh) {
            fill(&places, wanted)?;
        }
    }
    // Nobody can come in between: who would holds the lock of those who choose.
    if alone && shared && !lock::try_lock(&file, Mode::Shared).at("lock", lock)? {
        return Ok(None);
    }
    file.set_modified(SystemTime::now()).at("touch", lock)?;
    if let Some(emptied) = wanted.fresh {
        // Nobody has looked in between, see above.
        emptied.add(&path);
    }
    let (name, trash) = (wanted.shown.to_owned(), trash.clone());
    Ok(Some(CacheMount { name, places, path, fresh, transaction: None, trash, _lock: file }))
}

/// Begins the transaction that is wanted, if any.
fn begin(mut mount: CacheMount, wanted: &Wanted<'_>) -> Result<CacheMount, CacheError> {
    if let Some(method) = &wanted.transaction {
        let begun = match mount.fresh {
            true => Transaction::fresh(&mount.places, wanted.fill),
            false => Transaction::begin(&mount.places, method),
        };
        if begun.is_err() {
            // Half a copy, maybe.
            let _ = recover(&mount.places, &mount.trash, &mut || Ok(()));
        }
        mount.transaction = Some(begun.map_err(|source| CacheError::Collect {
            operation: format!(
                "keep the changes of a step to cache mount {:?} apart",
                wanted.shown
            ),
            source: Box::new(source),
        })?);
    }
    Ok(mount)
}

/// Makes a copy beside its place and moves it there when it is full.
fn fill(places: &Places, wanted: &Wanted<'_>) -> Result<(), CacheError> {
    let (new, path) = (places.new_copy(), places.base());
    if new.exists() {
        fs::remove_dir_all(&new).at("remove", &new)?;
    }
    fs::create_dir(&new).at("create", &new)?;
    (wanted.fill)(&new).map_err(|source| CacheError::Collect {
        operation: format!("fill cache mount {:?}", wanted.shown),
        source,
    })?;
    fs::rename(&new, &path).at("rename to", &path)
}

#[cfg(test)]
mod tests;
