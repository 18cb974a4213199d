//! The ledger: who has reserved how much. One small file, changed under a lock, replaced whole.
//!
//! It holds nothing that could not be found out again: what a state directory takes is surveyed,
//! and reservations of processes that are gone are void. So it is never synced, and a damaged one
//! is an empty one.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use oci::Timestamp;
use serde::{Deserialize, Serialize};

use crate::durable::{self, Durability};
use crate::error::{At, CacheError};
use crate::lock::{self, FileLock, Mode};

/// The file in the state directory.
const FILE: &str = "ledger";

/// The file is never longer, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Nothing is larger, in bytes; nor are there more growths. A file that says so is damaged.
const MAX_SIZE: u64 = 1 << 60;

/// A survey is believed for so long, in seconds: who has no ceiling writes without telling.
const FRESH: i64 = 60;

/// All reservations of a state directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// What everything took that no reservation was for, when it was last surveyed; in bytes.
    #[serde(default)]
    pub surveyed: Option<Survey>,
    /// The builds that have reserved something since they began.
    #[serde(default)]
    pub builds: Vec<Build>,
    /// The largest excess over a reservation that was ever seen here.
    #[serde(default)]
    pub worst: Worst,
    /// Counts growths: of two, the later one has the larger number.
    #[serde(default)]
    pub next: u64,
}

/// What was found by looking at everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// When.
    pub at: Timestamp,
    /// Without what has a reservation, in bytes.
    pub bytes: u64,
    /// What was written since by growths that ended, in bytes. What was removed is not taken off.
    pub since: u64,
}

/// The reservations of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Its lease: void once nobody has that locked.
    pub lease: String,
    /// What people know it by.
    pub title: String,
    /// Its process id, for people.
    pub process: u32,
    /// What grows.
    pub growths: Vec<Entry>,
}

/// One reservation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number.
    pub number: u64,
    /// What it is for.
    pub name: String,
    /// In bytes, with what is written already.
    pub granted: u64,
    /// Where it writes, below the state directory.
    pub paths: Vec<PathBuf>,
    /// It is held, and waits for others to end.
    pub waiting: bool,
}

/// By how much a reservation was ever exceeded before that was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worst {
    /// In bytes.
    pub bytes: u64,
    /// How long nobody had looked, in milliseconds.
    pub millis: u64,
}

/// The ledger, with the right to change it.
pub(crate) struct Locked {
    pub(crate) ledger: Ledger,
    path: PathBuf,
    _lock: FileLock,
}

impl Ledger {
    /// The ledger of the state directory `root`, to look at: reservations of the dead are in it.
    pub fn of(root: &Path) -> Self {
        read(&root.join(FILE))
    }

    /// Whether all of it can be true.
    fn is_plausible(&self) -> bool {
        let survey = self.surveyed.unwrap_or_default();
        let grants = self.builds.iter().flat_map(|build| &build.growths).map(|g| g.granted);
        let sizes = [self.next, survey.bytes, survey.since, self.worst.bytes];
        grants.chain(sizes).fold(0, u64::saturating_add) < MAX_SIZE
    }

    /// An upper bound of what is there without a reservation. None if that has to be found out.
    pub(crate) fn settled(&self, now: Timestamp) -> Option<u64> {
        let survey = self.surveyed?;
        let age = now.seconds.saturating_sub(survey.at.seconds);
        (0..FRESH).contains(&age).then(|| survey.bytes.saturating_add(survey.since))
    }

    /// What all have reserved but for growth `number`, with `rest` for each build.
    pub(crate) fn others(&self, number: u64, rest: u64) -> u64 {
        let of = |build: &Build| -> u64 {
            build.growths.iter().filter(|g| g.number != number).map(|g| g.granted).sum()
        };
        self.builds.iter().map(|build| of(build) + rest).sum()
    }

    /// Everything that is counted by a reservation, below `root`.
    pub(crate) fn paths(&self, root: &Path) -> HashSet<PathBuf> {
        let all = self.builds.iter().flat_map(|b| &b.growths).flat_map(|g| &g.paths);
        all.map(|path| root.join(path)).collect()
    }

    /// Whether something grows, other than `number`, that will end by itself.
    pub(crate) fn others_run(&self, number: u64) -> bool {
        let mut all = self.builds.iter().flat_map(|b| &b.growths);
        all.any(|growth| growth.number != number && !growth.waiting)
    }

    /// Whether there is a build, other than that with this lease, of which nothing grows.
    pub(crate) fn others_idle(&self, lease: &str) -> bool {
        self.builds.iter().any(|build| build.lease != lease && build.growths.is_empty())
    }

    /// Whether `number` began last of all that wait.
    pub(crate) fn is_youngest(&self, number: u64) -> bool {
        self.builds.iter().flat_map(|b| &b.growths).all(|growth| growth.number <= number)
    }

    /// The build with this lease.
    pub(crate) fn build(&mut self, lease: &str, title: &str) -> &mut Build {
        let at = self.builds.iter().position(|b| b.lease == lease).unwrap_or_else(|| {
            self.builds.push(Build {
                lease: lease.to_owned(),
                title: title.to_owned(),
                process: std::process::id(),
                growths: Vec::new(),
            });
            self.builds.len() - 1
        });
        &mut self.builds[at]
    }

    /// The reservation `number`.
    pub(crate) fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        self.builds.iter_mut().flat_map(|b| &mut b.growths).find(|g| g.number == number)
    }

    /// Takes the reservation `number` out; what was written with it is there now.
    pub(crate) fn end(&mut self, number: u64, written: u64) {
        for build in &mut self.builds {
            build.growths.retain(|growth| growth.number != number);
        }
        if let Some(survey) = &mut self.surveyed {
            survey.since = survey.since.saturating_add(written);
        }
    }

    /// Notes an excess.
    pub(crate) fn exceeded(&mut self, seen: Worst) {
        if seen.bytes > self.worst.bytes {
            self.worst = seen;
        }
    }

    /// Drops the builds that are not alive.
    pub(crate) fn forget_dead(&mut self, alive: &dyn Fn(&str) -> bool) {
        let before = self.builds.len();
        self.builds.retain(|build| alive(&build.lease));
        if self.builds.len() < before {
            // Nobody knows what they wrote.
            self.surveyed = None;
        }
    }
}

impl Locked {
    /// The ledger of `root`, on behalf of the process with this lease, if nobody has it.
    pub(crate) fn try_acquire(root: &Path, lease: &str) -> Result<Option<Self>, CacheError> {
        let none = std::time::Duration::ZERO;
        let lock = FileLock::acquire_within(&lock_path(root), Mode::Exclusive, none)?;
        Ok(lock.map(|lock| Self::read(root, lease, lock)))
    }

    fn read(root: &Path, lease: &str, lock: FileLock) -> Self {
        let path = root.join(FILE);
        let mut ledger = read(&path);
        let leases = root.join("leases");
        ledger.forget_dead(&|name| name == lease || is_alive(&leases, name));
        Self { ledger, path, _lock: lock }
    }

    /// Writes it. On a disk that is full the old one stays: then nothing was granted.
    pub(crate) fn write(&self) -> Result<(), CacheError> {
        let encode = |source| CacheError::Encode { object: "the ledger of reservations", source };
        let bytes = serde_json::to_vec(&self.ledger).map_err(encode)?;
        durable::write_file(&self.path, &bytes, Durability::Grouped)
    }
}

/// What is locked for it.
pub(crate) fn lock_path(root: &Path) -> PathBuf {
    root.join("locks").join(FILE)
}

fn read(path: &Path) -> Ledger {
    let read = || -> Result<Option<Ledger>, CacheError> {
        let file = match File::open(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.at("open", path)?,
        };
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_FILE), &mut bytes)
            .at("read", path)?;
        Ok(serde_json::from_slice(&bytes).ok().filter(Ledger::is_plausible))
    };
    read().ok().flatten().unwrap_or_default()
}

/// Whether somebody has the lease `name` locked.
fn is_alive(leases: &Path, name: &str) -> bool {
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric());
    let Ok(file) = File::open(leases.join(name)) else { return false };
    plain && !lock::try_lock(&file, Mode::Shared).unwrap_or(false)
}
