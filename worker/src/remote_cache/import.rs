//! A cache that a build may use, while it is being read and afterwards.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use oci::{Digest, Platform, Timestamp};
use registry::Client;
use solver::{ActionKey, ContentId, Event, EventSink, StepContext, Warning};

use super::source::{CacheSource, Loaded};

/// How often somebody who waits for the records looks whether the build is being stopped.
const LOOK: Duration = Duration::from_millis(20);
/// How long somebody waits for records of which nothing comes: what they could spare is not known,
/// and a registry may be tried several times that is silent each time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The caches that a build may use besides its own. They are being read from the moment this is
/// made; nobody waits for that but who finds nothing here.
pub struct RemoteCaches {
    imports: Vec<Arc<Import>>,
    /// Steps whose result is wanted with its bytes: a record without them is of no use any more.
    needed: Mutex<HashSet<ActionKey>>,
    /// Questions that were answered wrongly.
    wrong: Mutex<HashSet<ContentId>>,
    /// Whether nothing more is believed.
    given_up: AtomicBool,
}

/// One cache.
pub(crate) struct Import {
    /// As people know it.
    pub(crate) name: String,
    stage: Mutex<Stage>,
    over: Condvar,
    /// Whether people were told how the reading went; locked while somebody waits to tell it.
    told: Mutex<bool>,
    /// How many bytes of its records came.
    came: AtomicU64,
    /// Whether it went silent while a layer came.
    silent: AtomicBool,
    /// Layers that are not there, or not what they should be.
    bad: Mutex<HashSet<Digest>>,
    /// Records that cannot be those of the steps that they were found for.
    unfit: Mutex<HashSet<ActionKey>>,
    /// For making each tree once.
    cells: Mutex<HashMap<ContentId, Arc<Mutex<()>>>>,
}

enum Stage {
    Reading,
    Read(Arc<Loaded>),
    Failed(String),
    /// It ended with the build.
    Stopped,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is done under these locks is one insertion or look each.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RemoteCaches {
    /// Begins to read the caches, each on a thread of its own.
    pub(super) fn start(
        sources: Vec<CacheSource>,
        client: &Arc<Client>,
        platform: &Platform,
    ) -> Self {
        let imports = sources.into_iter().map(|source| Import::start(source, client, platform));
        Self {
            imports: imports.collect(),
            needed: Mutex::default(),
            wrong: Mutex::default(),
            given_up: AtomicBool::new(false),
        }
    }

    /// The caches, in the order in which they are asked.
    pub(super) fn imports(&self) -> &[Arc<Import>] {
        if self.given_up.load(Ordering::SeqCst) { &[] } else { &self.imports }
    }

    /// Asks them nothing any more.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::SeqCst);
    }

    /// The layers that were asked for and not there, or not what they should be.
    pub(super) fn bad_layers(&self) -> BTreeSet<Digest> {
        self.imports.iter().flat_map(|import| lock(&import.bad).clone()).collect()
    }

    /// From now on the result of `key` is of use only with its bytes.
    pub(super) fn need(&self, key: ActionKey) {
        lock(&self.needed).insert(key);
    }

    pub(super) fn is_needed(&self, key: &ActionKey) -> bool {
        lock(&self.needed).contains(key)
    }

    /// The answer to `question` was wrong.
    pub(super) fn distrust(&self, question: ContentId) {
        lock(&self.wrong).insert(question);
    }

    /// What was answered to a question elsewhere.
    pub(crate) fn answer(
        &self,
        question: &ContentId,
        context: &StepContext<'_>,
    ) -> Option<ContentId> {
        if lock(&self.wrong).contains(question) {
            return None;
        }
        let mut read = self.imports().iter().filter_map(|import| import.wait(context));
        read.find_map(|loaded| loaded.records.answer(question))
    }
}

impl Import {
    fn start(source: CacheSource, client: &Arc<Client>, platform: &Platform) -> Arc<Self> {
        let import = Arc::new(Self {
            name: source.to_string(),
            stage: Mutex::new(Stage::Reading),
            over: Condvar::new(),
            told: Mutex::new(false),
            came: AtomicU64::new(0),
            silent: AtomicBool::new(false),
            bad: Mutex::default(),
            unfit: Mutex::default(),
            cells: Mutex::default(),
        });
        let (this, client, platform) = (import.clone(), client.clone(), platform.clone());
        // Never joined: a build that needs nothing of it does not wait for its end. It holds
        // nothing of the state directory.
        let read = move || {
            let _failed = EndOnPanic(&this);
            let stage = match source.load(&client, &platform, &*this) {
                Ok(loaded) => Stage::Read(Arc::new(loaded)),
                // The build's own requests may end before it is told to.
                Err(error) if error.is_cancelled() => Stage::Stopped,
                Err(error) => Stage::Failed(error.to_string()),
            };
            this.end(stage);
        };
        if let Err(error) = std::thread::Builder::new().name("import".to_owned()).spawn(read) {
            import.end(Stage::Failed(format!("cannot start a thread for it: {error}")));
        }
        import
    }

    fn end(&self, stage: Stage) {
        let mut now = lock(&self.stage);
        if matches!(*now, Stage::Reading) {
            *now = stage;
        }
        drop(now);
        self.over.notify_all();
    }

    /// The records, once they are here; `None` if they cannot be had or the build is being
    /// stopped. The first who asks tells people how it went.
    pub(super) fn wait(&self, context: &StepContext<'_>) -> Option<Arc<Loaded>> {
        let mut told = lock(&self.told);
        if *told {
            return match &*lock(&self.stage) {
                Stage::Read(loaded) => Some(loaded.clone()),
                Stage::Reading | Stage::Failed(_) | Stage::Stopped => None,
            };
        }
        let events = context.events;
        let id = events.next_id();
        events.event(Event::Vertex {
            id,
            digest: Digest::of(format!("import {} {}", id.0, self.name).as_bytes()).to_string(),
            name: format!("importing cache manifest from {}", self.name),
            inputs: Vec::new(),
        });
        events.event(Event::Started { id, at: Timestamp::now() });
        // Reading that was stopped with the build failed for no other reason.
        let ended = self.read(context, PATIENCE).filter(|_| !context.cancel.is_cancelled());
        let at = Timestamp::now();
        match &ended {
            None => events.event(Event::Cancelled { id, at }),
            Some(Ok(_)) => events.event(Event::Done { id, at }),
            Some(Err(error)) => {
                let message =
                    format!("the cache {} cannot be used, going on without it: {error}", self.name);
                events.event(Event::Warning(Warning { id: Some(id), message }));
                events.event(Event::Failed { id, at, error: error.clone() });
            }
        }
        *told = true;
        ended?.ok()
    }

    /// Waits for the end of the reading, or until nothing came for `patience`.
    fn read(
        &self,
        context: &StepContext<'_>,
        patience: Duration,
    ) -> Option<Result<Arc<Loaded>, String>> {
        let mut stage = lock(&self.stage);
        let (mut since, mut seen) = (Instant::now(), self.came.load(Ordering::Relaxed));
        loop {
            let came = self.came.load(Ordering::Relaxed);
            if came != seen {
                (since, seen) = (Instant::now(), came);
            } else if matches!(*stage, Stage::Reading) && since.elapsed() >= patience {
                let error = format!("nothing came of it for {} s", patience.as_secs());
                *stage = Stage::Failed(error);
            }
            match &*stage {
                Stage::Read(loaded) => return Some(Ok(loaded.clone())),
                Stage::Failed(error) => return Some(Err(error.clone())),
                Stage::Stopped => return None,
                Stage::Reading if context.cancel.is_cancelled() => return None,
                Stage::Reading => {
                    let waited = self.over.wait_timeout(stage, LOOK);
                    stage = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    /// A layer is not there, or not what it should be: people are told, and it is not asked for
    /// again.
    pub(super) fn refuse(&self, blob: Digest, why: &str, context: &StepContext<'_>) {
        if lock(&self.bad).insert(blob) {
            let message = format!(
                "layer {blob} of the cache {} cannot be used, what it is the result of is done \
                 again: {why}",
                self.name
            );
            let id = Some(context.id);
            context.events.event(Event::Warning(Warning { id, message }));
        }
    }

    /// A record cannot be that of the step `context`: people are told.
    pub(super) fn refuse_record(&self, key: ActionKey, context: &StepContext<'_>) {
        if lock(&self.unfit).insert(key) {
            let message = format!(
                "the cache {} says that this step is a layer on something else than it is, its \
                 record is not used",
                self.name
            );
            let id = Some(context.id);
            context.events.event(Event::Warning(Warning { id, message }));
        }
    }

    /// It is not asked for more layers.
    pub(super) fn went_silent(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::SeqCst)
    }

    pub(super) fn is_bad(&self, blob: &Digest) -> bool {
        lock(&self.bad).contains(blob)
    }

    /// The lock under which the tree `content` is made from this cache.
    pub(super) fn cell(&self, content: ContentId) -> Arc<Mutex<()>> {
        lock(&self.cells).entry(content).or_default().clone()
    }
}

/// Counts what comes of the records.
impl registry::Progress for Import {
    fn bytes(&self, done: u64, _total: u64) {
        self.came.store(done, Ordering::Relaxed);
    }

    fn retrying(&self, _what: &str, _error: &str, _attempt: u32) {}
}

/// Whoever waits is not left waiting.
struct EndOnPanic<'a>(&'a Import);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end(Stage::Failed("internal error, please report it".to_owned()));
        }
    }
}

/// Tells that a result is from elsewhere.
pub(super) fn tell_from(events: &dyn EventSink, context: &StepContext<'_>, import: &Import) {
    let (id, now) = (context.id, Timestamp::now());
    let name = format!("from {}", import.name);
    let completed = Some(now);
    events.event(Event::Status { id, name, current: 0, total: 0, started: now, completed });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Silent;

    fn import() -> Import {
        Import {
            name: "cache".to_owned(),
            stage: Mutex::new(Stage::Reading),
            over: Condvar::new(),
            told: Mutex::new(false),
            came: AtomicU64::new(0),
            silent: AtomicBool::new(false),
            bad: Mutex::default(),
            unfit: Mutex::default(),
            cells: Mutex::default(),
        }
    }

    #[test]
    fn silence_ends_the_waiting() {
        let (import, silent) = (import(), Silent::default());
        let context = silent.context();
        let patience = Duration::from_millis(30);
        let error = import.read(&context, patience).unwrap().err().unwrap();
        assert_eq!(error, "nothing came of it for 0 s");
        // What comes later is too late: everybody was told.
        import.end(Stage::Failed("other".to_owned()));
        assert_eq!(import.read(&context, patience).unwrap().err().unwrap(), error);
    }

    #[test]
    fn a_slow_one_is_waited_for() {
        let (import, silent) = (import(), Silent::default());
        let context = silent.context();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1..=20 {
                    registry::Progress::bytes(&import, n, 100);
                    std::thread::sleep(Duration::from_millis(5));
                }
                import.end(Stage::Failed("over".to_owned()));
            });
            let read = import.read(&context, Duration::from_secs(20));
            assert_eq!(read.unwrap().err().unwrap(), "over");
        });
    }
}
