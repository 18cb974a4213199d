//! Something that grows, and what it has reserved.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::CacheError;

use super::grant::{Given, Got, Want};
use super::ledger::{Entry, Locked};
use super::measure::{self, Measure};
use super::{Brake, Full, Inner, Refused, What, Worst};

/// Something that grows. Dropping it gives its reservation back: what it wrote is counted as
/// what it takes then.
pub struct Growth {
    pub(super) inner: Arc<Inner>,
    pub(super) number: u64,
    pub(super) name: String,
    state: Mutex<State>,
    changed: Condvar,
}

/// What is known of it.
pub(super) struct State {
    /// In bytes, with what is written.
    pub(super) granted: u64,
    /// What it was told to have written (see [`Growth::take`]), in bytes.
    counted: u64,
    pub(super) paths: Vec<PathBuf>,
    pub(super) brakes: Vec<Arc<dyn Brake>>,
    failure: Option<Box<Full>>,
    worst: Worst,
    /// Whether it waits for nobody.
    hasty: bool,
    /// When it was walked last.
    looked: Instant,
    over: bool,
}

impl Growth {
    pub(super) fn open(
        inner: &Arc<Inner>,
        what: What<'_>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Self, Refused> {
        let written = measure::usage(&what.paths);
        let more = what.expected.unwrap_or_else(|| inner.limit.ahead());
        let mut want = Want::ahead(0, written, more);
        want.hasty = what.hasty;
        if what.expected.is_some() {
            want.least = more;
        }
        let known = {
            let mut locked = inner.locked()?;
            locked.ledger.next += 1;
            want.number = locked.ledger.next;
            let entry = Entry {
                number: want.number,
                name: what.name.to_owned(),
                granted: written,
                paths: what.paths.iter().map(|path| below(&inner.root, path)).collect(),
                waiting: false,
            };
            if written > 0
                && let Some(survey) = &mut locked.ledger.surveyed
            {
                // From now on it is counted here.
                survey.bytes = survey.bytes.saturating_sub(written);
            }
            locked.ledger.build(&inner.lease, &inner.title).growths.push(entry);
            let given = inner.give_known(&mut locked, &want);
            locked.write()?;
            given
        };
        // From here on the reservation is given back however this ends.
        let growth = Self {
            inner: inner.clone(),
            number: want.number,
            name: what.name.to_owned(),
            state: Mutex::new(State {
                granted: written,
                counted: 0,
                paths: what.paths,
                brakes: Vec::new(),
                failure: None,
                worst: Worst::default(),
                hasty: what.hasty,
                looked: Instant::now(),
                over: false,
            }),
            changed: Condvar::new(),
        };
        let granted = match known {
            Given::Granted(granted) => granted,
            Given::Unknown | Given::Lacking(_) => {
                let ended = |pause: Duration| growth.sleep_unless(pause, cancelled);
                let tell = |text: &str| inner.note(text.to_owned());
                inner.obtain(&growth.name, &want, &ended, &tell)?.granted
            }
        };
        growth.state().granted = granted;
        Ok(growth)
    }

    /// Sleeps; true if it was cancelled meanwhile.
    fn sleep_unless(&self, pause: Duration, cancelled: &dyn Fn() -> bool) -> bool {
        let end = Instant::now() + pause;
        loop {
            if cancelled() || self.inner.janitor.cancelled() {
                return true;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            std::thread::sleep(left.min(super::LOOK));
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what holds it. All that writes must be held by one of them.
    pub fn hold_by(&self, brake: Arc<dyn Brake>) {
        self.state().brakes.push(brake);
    }

    /// From now on it fails where it would have to wait for others, as
    /// [`What::hasty`](super::What::hasty) says.
    pub fn hurry(&self) {
        self.state().hasty = true;
    }

    /// It will write at `paths`, too. What is there already was counted as there until now.
    ///
    /// # Errors
    /// If the ledger cannot be written.
    pub fn also_at(&self, mut paths: Vec<PathBuf>) -> Result<(), CacheError> {
        if paths.is_empty() {
            return Ok(());
        }
        let there = {
            let mut locked = self.inner.locked()?;
            let root = &self.inner.root;
            // What another step counts already is counted once.
            let taken = locked.ledger.paths(root);
            paths.retain(|path| !taken.contains(path));
            let there = measure::usage(&paths);
            let relative = paths.iter().map(|path| below(root, path));
            if let Some(entry) = locked.ledger.entry(self.number) {
                entry.paths.extend(relative);
                entry.granted = entry.granted.saturating_add(there);
            }
            if let Some(survey) = &mut locked.ledger.surveyed {
                survey.bytes = survey.bytes.saturating_sub(there);
            }
            locked.write()?;
            there
        };
        let mut state = self.state();
        state.paths.extend(paths);
        state.granted = state.granted.saturating_add(there);
        Ok(())
    }

    /// What it wrote is at `path` now, under its final name, instead of where it was first to write.
    pub fn is_now_at(&self, path: PathBuf) {
        if let Some(first) = self.state().paths.first_mut() {
            *first = path;
        }
    }

    /// For who writes through this process and counts: `bytes` are about to be written. Gets more
    /// room first, where there is not enough.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn take(&self, bytes: u64) -> Result<(), Refused> {
        let (written, granted) = {
            let mut state = self.state();
            state.counted += bytes;
            if state.counted <= state.granted {
                return Ok(());
            }
            (state.counted - bytes, state.granted)
        };
        let ahead = self.inner.limit.ahead().max(granted.saturating_sub(written));
        let more = bytes.saturating_add(ahead);
        let hasty = self.state().hasty;
        let want = Want { number: self.number, written, more, least: bytes, hasty };
        let never = |pause: Duration| self.sleep_unless(pause, &|| false);
        let tell = |text: &str| self.inner.note(text.to_owned());
        match self.inner.obtain(&self.name, &want, &never, &tell) {
            Ok(got) => {
                self.state().granted = got.granted;
                Ok(())
            }
            Err(refused) => {
                if let Refused::Full(full) = &refused {
                    self.fail(full.clone());
                }
                Err(refused)
            }
        }
    }

    /// Why it failed, if it did.
    pub fn failure(&self) -> Option<Box<Full>> {
        self.state().failure.clone()
    }

    /// The work that it is about has ended: ends [`watch`](Self::watch).
    pub fn end(&self) {
        self.state().over = true;
        self.changed.notify_all();
    }

    /// Waits; true if the work has ended.
    pub(super) fn wait(&self, pause: Duration) -> bool {
        let state = self.state();
        let waited = self.changed.wait_timeout_while(state, pause, |state| !state.over);
        waited.unwrap_or_else(PoisonError::into_inner).0.over
    }

    pub(super) fn fail(&self, full: Box<Full>) {
        self.state().failure = Some(full);
    }

    /// Asks for more without waiting for anybody. True if it got it.
    pub(super) fn ask(&self, written: u64) -> bool {
        let want = self.want(written);
        let asked = Locked::try_acquire(&self.inner.root, &self.inner.lease);
        let Ok(Some(mut locked)) = asked else { return false };
        self.update_paths(&mut locked);
        match self.inner.give_known(&mut locked, &want) {
            Given::Granted(granted) if locked.write().is_ok() => {
                self.state().granted = granted;
                true
            }
            _ => false,
        }
    }

    /// Gets more, whatever it takes.
    pub(super) fn get(&self, written: u64, tell: &dyn Fn(&str)) -> Result<Got, Refused> {
        let got =
            self.inner.obtain(&self.name, &self.want(written), &|pause| self.wait(pause), tell)?;
        self.state().granted = got.granted;
        Ok(got)
    }

    /// Gets as much as it has written, whatever that takes.
    pub(super) fn get_at_the_end(&self, written: u64) -> Result<(), Refused> {
        let want = Want { more: 0, least: 0, ..self.want(written) };
        let ended = |pause: Duration| self.sleep_unless(pause, &|| false);
        let tell = |text: &str| self.inner.note(text.to_owned());
        let got = self.inner.obtain(&self.name, &want, &ended, &tell)?;
        self.state().granted = got.granted;
        Ok(())
    }

    fn want(&self, written: u64) -> Want {
        let hasty = self.state().hasty;
        Want { hasty, ..Want::ahead(self.number, written, self.inner.limit.ahead()) }
    }

    /// Writes down where it writes by now.
    fn update_paths(&self, locked: &mut Locked) {
        let root = &self.inner.root;
        let state = self.state();
        let relative = state.paths.iter().map(|path| below(root, path));
        if let Some(entry) = locked.ledger.entry(self.number) {
            entry.paths = relative.collect();
        }
    }

    /// Notes by how much its reservation is exceeded, and how long nobody had looked.
    pub(super) fn note_excess(&self, written: u64) {
        let mut state = self.state();
        let bytes = written.saturating_sub(state.granted);
        let millis = u64::try_from(state.looked.elapsed().as_millis()).unwrap_or(u64::MAX);
        state.looked = Instant::now();
        if bytes > state.worst.bytes {
            state.worst = Worst { bytes, millis };
        }
    }

    /// A first look at it.
    pub(super) fn measure(&self) -> Measure {
        Measure::new(&self.inner.root, &self.state().paths)
    }
}

/// A path as the ledger has it: below the state directory.
fn below(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).to_owned()
}

impl Drop for Growth {
    fn drop(&mut self) {
        let (paths, counted) = {
            let state = self.state();
            (state.paths.clone(), state.counted)
        };
        let there = measure::usage(&paths);
        self.note_excess(there);
        let worst = self.state().worst;
        self.inner.end(self.number, there.max(counted), worst);
    }
}
