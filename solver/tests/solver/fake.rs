//! A worker, a record store and an event sink that live in memory, and checks on what they saw.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use graph::{
    Definition, FileAction, FileOp, Freshness, MkdirAction, Op, Vertex, VertexIndex, VertexMeta,
};
use oci::Timestamp;
use solver::work::WorkError;
use solver::{
    ActionKey, CancelToken, Claim, ContentId, Description, Done, Event, EventSink, Follow,
    Followed, KeyBuilder, News, Outlet, ProgressId, Record, RecordStore, Solution, SolveError,
    SolveOptions, StepContext, StoreError, Waker, Watch, Work, solve,
};

/// Longer than any test should take; a hang ends as a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A result: what it is, and that is all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tree(pub(crate) ContentId);

/// What a vertex does when it is run, or before.
#[derive(Clone, Debug, Default)]
pub(crate) enum Act {
    /// Makes content that depends on its label and its inputs.
    #[default]
    Make,
    /// Makes content that depends on this text alone.
    MakeFixed(&'static str),
    /// Needs no key.
    Ready,
    /// Fails when run.
    Fail,
    /// Fails when described.
    FailDescribe,
    /// Panics when run.
    Panic,
    /// Panics when described.
    PanicDescribe,
    /// Runs until it is cancelled.
    Hang,
    /// Runs until so many run at the same time.
    Meet(usize),
    /// Runs until the gate is opened.
    Gate,
    /// Runs until the gate is opened, and fails.
    GateFail,
    /// Runs until the gate is opened, and lets others run first meanwhile.
    Rest,
    /// Lets others run first until so many have begun; then runs until it is cancelled.
    Occupy(usize),
    /// Opens the gate.
    Open,
}

/// How one vertex behaves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spec {
    pub(crate) label: String,
    pub(crate) act: Act,
    pub(crate) sleep: Duration,
    pub(crate) freshness: Freshness,
    pub(crate) inputs: Vec<usize>,
}

/// A vertex that makes something of `inputs`.
pub(crate) fn make(label: &str, inputs: &[usize]) -> Spec {
    Spec { label: label.into(), inputs: inputs.to_vec(), ..Spec::default() }
}

/// A vertex that does `act`.
pub(crate) fn acts(label: &str, act: Act, inputs: &[usize]) -> Spec {
    Spec { act, ..make(label, inputs) }
}

pub(crate) fn content(parts: &[&str]) -> ContentId {
    let mut builder = KeyBuilder::new("fake-content");
    parts.iter().for_each(|part| {
        builder.part(part.as_bytes());
    });
    builder.content_id()
}

/// The worker.
pub(crate) struct Fake {
    pub(crate) specs: Vec<Spec>,
    pub(crate) runs: Mutex<Vec<usize>>,
    /// Payloads whose data is gone.
    pub(crate) vanished: Mutex<HashSet<String>>,
    running: AtomicUsize,
    pub(crate) most_running: AtomicUsize,
    pub(crate) describes: AtomicUsize,
    /// Where steps wait.
    pub(crate) gate: AtomicBool,
}

impl Fake {
    pub(crate) fn key(&self, vertex: usize, inputs: &[Tree]) -> ActionKey {
        let mut builder = KeyBuilder::new("fake-action");
        builder.part(self.specs[vertex].label.as_bytes());
        inputs.iter().for_each(|input| {
            builder.part(input.0.as_bytes());
        });
        builder.action_key()
    }

    fn make(&self, vertex: usize, inputs: &[Tree]) -> ContentId {
        match self.specs[vertex].act {
            Act::MakeFixed(text) => content(&[text]),
            _ => content(&["made", &self.key(vertex, inputs).to_string()]),
        }
    }

    /// Lets others run first, unless the gate is open; whether it is not.
    fn rest(&self, context: &StepContext<'_>) -> bool {
        if self.gate.load(Ordering::SeqCst) || context.cancel.is_cancelled() {
            return false;
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        context.give_way();
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_running.fetch_max(now, Ordering::SeqCst);
        true
    }

    pub(crate) fn ran(&self) -> Vec<usize> {
        let mut runs = self.runs.lock().unwrap().clone();
        runs.sort_unstable();
        runs
    }
}

impl Work for Fake {
    type Output = Tree;

    fn describe(
        &self,
        vertex: VertexIndex,
        inputs: &[Tree],
        _context: &StepContext<'_>,
    ) -> Result<Description<Tree>, WorkError> {
        self.describes.fetch_add(1, Ordering::SeqCst);
        let spec = &self.specs[vertex.0];
        assert_eq!(inputs.len(), spec.inputs.len(), "{} sees all inputs", spec.label);
        match spec.act {
            Act::Ready => Ok(Description::Ready(Tree(content(&["ready", &spec.label])))),
            Act::FailDescribe => Err("no such file".into()),
            Act::PanicDescribe => panic!("bad index in describe"),
            _ => Ok(Description::Keyed {
                key: self.key(vertex.0, inputs),
                inputs: vec![("label".into(), spec.label.clone())],
            }),
        }
    }

    fn load(&self, _vertex: VertexIndex, _inputs: &[Tree], record: &Record) -> Option<Tree> {
        let gone = self.vanished.lock().unwrap().contains(&record.payload);
        (!gone).then_some(Tree(record.content))
    }

    fn run(
        &self,
        vertex: VertexIndex,
        inputs: &[Tree],
        context: &StepContext<'_>,
    ) -> Result<Done<Tree>, WorkError> {
        let spec = &self.specs[vertex.0];
        self.runs.lock().unwrap().push(vertex.0);
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_running.fetch_max(now, Ordering::SeqCst);
        std::thread::sleep(spec.sleep);
        let end = Instant::now() + PATIENCE;
        while match spec.act {
            Act::Hang => !context.cancel.is_cancelled(),
            Act::Gate | Act::GateFail => {
                !self.gate.load(Ordering::SeqCst) && !context.cancel.is_cancelled()
            }
            Act::Meet(count) => self.most_running.load(Ordering::SeqCst) < count,
            Act::Rest => self.rest(context),
            Act::Occupy(others) => {
                let begun = self.runs.lock().unwrap().len();
                if begun > others { !context.cancel.is_cancelled() } else { self.rest(context) }
            }
            _ => false,
        } {
            assert!(Instant::now() < end, "{} waits in vain", spec.label);
            std::thread::sleep(Duration::from_millis(1));
        }
        if matches!(spec.act, Act::Open) {
            self.gate.store(true, Ordering::SeqCst);
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        match spec.act {
            Act::Fail => Err(format!("{} exited\nwith 1", spec.label).into()),
            Act::Panic => panic!("bad index in {}", spec.label),
            Act::Hang | Act::Occupy(_) => Err("killed".into()),
            Act::Gate | Act::Rest if context.cancel.is_cancelled() => Err("killed".into()),
            Act::GateFail => Err("the gate is broken".into()),
            _ => {
                let content = self.make(vertex.0, inputs);
                // It may have made the data again that had gone.
                let payload = format!("{}-{now}-{}", spec.label, self.runs.lock().unwrap().len());
                Ok(Done { content, payload, output: Tree(content) })
            }
        }
    }

    fn tell_failure(&self, vertex: VertexIndex, error: &WorkError) -> Option<String> {
        let tells =
            !matches!(self.specs[vertex.0].act, Act::Hang | Act::Occupy(_) | Act::Gate | Act::Rest);
        tells.then(|| format!("as there: {error}"))
    }

    fn take_failure(&self, _vertex: VertexIndex, told: &str) -> Option<WorkError> {
        told.starts_with("as there").then(|| told.to_owned().into())
    }
}

/// The store.
#[derive(Default)]
pub(crate) struct Memory {
    inner: Arc<Inner>,
    /// A record that another process publishes just before the next claim.
    pub(crate) late: Mutex<Option<Record>>,
    fail_publish: bool,
    fail_get: bool,
}

#[derive(Default)]
struct Inner {
    state: Mutex<Kept>,
    /// Something was told or freed, or somebody called a waker.
    changed: Condvar,
}

#[derive(Default)]
struct Kept {
    records: HashMap<ActionKey, Record>,
    claimed: HashMap<ActionKey, Arc<Mutex<Vec<News<'static>>>>>,
    /// How many want a key.
    wanted: HashMap<ActionKey, usize>,
    changes: u64,
}

impl Inner {
    fn change<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> T {
        let mut kept = self.state.lock().unwrap();
        kept.changes += 1;
        self.changed.notify_all();
        change(&mut kept)
    }
}

/// A claim; dropping it wakes those who wait.
pub(crate) struct Held {
    key: ActionKey,
    inner: Arc<Inner>,
}

impl Claim for Held {
    fn key(&self) -> ActionKey {
        self.key
    }

    fn outlet(&self) -> Arc<dyn Outlet> {
        let told = self.inner.state.lock().unwrap().claimed[&self.key].clone();
        Arc::new(Teller { key: self.key, inner: self.inner.clone(), told })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.inner.change(|kept| kept.claimed.remove(&self.key));
    }
}

struct Teller {
    key: ActionKey,
    inner: Arc<Inner>,
    told: Arc<Mutex<Vec<News<'static>>>>,
}

impl Outlet for Teller {
    fn tell(&self, news: &News<'_>) {
        let news = match news.clone() {
            News::Started(at) => News::Started(at),
            News::Output { stream, at, data } => {
                News::Output { stream, at, data: data.into_owned().into() }
            }
            News::Failed { at, text } => News::Failed { at, text: text.into_owned().into() },
        };
        self.inner.change(|_| self.told.lock().unwrap().push(news));
    }

    fn is_wanted(&self) -> bool {
        self.inner.state.lock().unwrap().wanted.get(&self.key).is_some_and(|count| *count > 0)
    }
}

/// One thread that waits.
struct Sleeper {
    inner: Arc<Inner>,
    seen: u64,
}

impl Watch for Sleeper {
    fn follow(&mut self, key: &ActionKey) -> Result<Box<dyn Follow>, StoreError> {
        let inner = self.inner.clone();
        let told = inner.change(|kept| {
            *kept.wanted.entry(*key).or_default() += 1;
            kept.claimed.get(key).cloned()
        });
        Ok(Box::new(Run { key: *key, inner, told, taken: 0, wants: true }))
    }

    fn sleep(&mut self, limit: Duration) {
        let kept = self.inner.state.lock().unwrap();
        let nothing_new = |kept: &mut Kept| kept.changes == self.seen;
        let (kept, _) = self.inner.changed.wait_timeout_while(kept, limit, nothing_new).unwrap();
        self.seen = kept.changes;
    }

    fn waker(&self) -> Waker {
        let inner = self.inner.clone();
        Arc::new(move || inner.change(|_| ()))
    }
}

struct Run {
    key: ActionKey,
    inner: Arc<Inner>,
    told: Option<Arc<Mutex<Vec<News<'static>>>>>,
    taken: usize,
    wants: bool,
}

impl Follow for Run {
    fn next(&mut self) -> Result<Followed, StoreError> {
        let Some(told) = &self.told else { return Ok(Followed::Over) };
        let held =
            |kept: &Kept| kept.claimed.get(&self.key).is_some_and(|now| Arc::ptr_eq(now, told));
        let over = !held(&self.inner.state.lock().unwrap());
        let news = told.lock().unwrap().get(self.taken).cloned();
        self.taken += usize::from(news.is_some());
        Ok(match (news, over) {
            (Some(news), _) => Followed::News(news),
            (None, false) => Followed::Nothing,
            (None, true) => Followed::Over,
        })
    }

    fn decline(&mut self) {
        if std::mem::take(&mut self.wants) {
            self.inner.change(|kept| *kept.wanted.get_mut(&self.key).unwrap() -= 1);
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.decline();
    }
}

impl Memory {
    /// A store on a full disk.
    pub(crate) fn unwritable() -> Self {
        Self { fail_publish: true, ..Self::default() }
    }

    /// A store on a broken disk.
    pub(crate) fn unreadable() -> Self {
        Self { fail_get: true, ..Self::default() }
    }

    /// Takes a key as another process would.
    pub(crate) fn hold(&self, key: ActionKey) -> Held {
        let before = self.inner.change(|kept| kept.claimed.insert(key, Arc::default()));
        assert!(before.is_none(), "free before");
        Held { key, inner: self.inner.clone() }
    }

    /// Wants a key as another process would, until the answer is dropped.
    pub(crate) fn want(&self, key: &ActionKey) -> Box<dyn Follow> {
        self.watch().unwrap().follow(key).unwrap()
    }

    /// How many want a key.
    pub(crate) fn wanted(&self, key: &ActionKey) -> usize {
        self.inner.state.lock().unwrap().wanted.get(key).copied().unwrap_or(0)
    }

    pub(crate) fn put(&self, record: Record) {
        self.inner.state.lock().unwrap().records.insert(record.key, record);
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.inner.state.lock().unwrap().records.values().cloned().collect()
    }

    pub(crate) fn nothing_claimed(&self) -> bool {
        self.inner.state.lock().unwrap().claimed.is_empty()
    }
}

impl RecordStore for Memory {
    fn get(&self, key: &ActionKey, not_before: Timestamp) -> Result<Option<Record>, StoreError> {
        if self.fail_get {
            return Err(StoreError::new("read a record", "disk on fire"));
        }
        let kept = self.inner.state.lock().unwrap();
        Ok(kept.records.get(key).filter(|record| record.started >= not_before).cloned())
    }

    fn claim(&self, key: &ActionKey) -> Result<Option<Box<dyn Claim>>, StoreError> {
        if let Some(record) = self.late.lock().unwrap().take() {
            self.put(record);
        }
        let fresh = self.inner.change(|kept| {
            let fresh = !kept.claimed.contains_key(key);
            kept.claimed.entry(*key).or_default();
            fresh
        });
        Ok(fresh.then(|| Box::new(Held { key: *key, inner: self.inner.clone() }) as Box<dyn Claim>))
    }

    fn watch(&self) -> Result<Box<dyn Watch>, StoreError> {
        Ok(Box::new(Sleeper { inner: self.inner.clone(), seen: 0 }))
    }

    fn publish(&self, claim: &dyn Claim, record: &Record) -> Result<(), StoreError> {
        assert_eq!(claim.key(), record.key);
        assert!(
            self.inner.state.lock().unwrap().claimed.contains_key(&record.key),
            "claim is held"
        );
        if self.fail_publish {
            return Err(StoreError::new("write a record", "disk is full"));
        }
        self.put(record.clone());
        Ok(())
    }

    fn adopt(
        &self,
        _content: &ContentId,
        payload: &str,
        _usable: &dyn Fn(&str) -> bool,
    ) -> Result<String, StoreError> {
        Ok(payload.to_owned())
    }
}

/// The sink: keeps everything.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) events: Mutex<Vec<Event>>,
    next: AtomicU64,
}

impl EventSink for Seen {
    fn event(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    fn next_id(&self) -> ProgressId {
        ProgressId(self.next.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

impl Seen {
    /// The events of each vertex, by name, one letter each: Vertex, Started, Cached, Done,
    /// Failed, X for cancelled, N for finishing for another build.
    pub(crate) fn stories(&self) -> BTreeMap<String, String> {
        let mut names = HashMap::new();
        let mut stories: BTreeMap<String, String> = BTreeMap::new();
        for event in self.events.lock().unwrap().iter() {
            let (id, letter) = match event {
                Event::Vertex { id, name, .. } => {
                    names.insert(*id, name.clone());
                    (id, 'V')
                }
                Event::Started { id, .. } => (id, 'S'),
                Event::Cached { id, .. } => (id, 'C'),
                Event::Done { id, .. } => (id, 'D'),
                Event::Failed { id, error, .. } => {
                    assert!(!error.contains('\n'), "one line: {error:?}");
                    (id, 'F')
                }
                Event::Cancelled { id, .. } => (id, 'X'),
                Event::Finishing { id, .. } => (id, 'N'),
                _ => continue,
            };
            let name = names.get(id).expect("a vertex is announced first").clone();
            stories.entry(name).or_default().push(letter);
        }
        stories
    }

    /// How many events of one letter there were.
    pub(crate) fn story_count(&self, letter: char) -> usize {
        self.stories().values().map(|story| story.matches(letter).count()).sum()
    }

    /// Names in the order in which they became active.
    pub(crate) fn announced(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let name = |event: &Event| match event {
            Event::Vertex { name, .. } => Some(name.clone()),
            _ => None,
        };
        events.iter().filter_map(name).collect()
    }

    /// That each vertex told one of the stories that are allowed.
    pub(crate) fn check(&self) {
        for (name, story) in self.stories() {
            let plain = story.replace('N', "");
            assert!(["V", "VC", "VSD", "VSF", "VSX"].contains(&plain.as_str()), "{name}: {story}");
        }
    }
}

/// A build that can be solved again and again against one store.
pub(crate) struct Bench {
    pub(crate) definition: Definition,
    pub(crate) work: Fake,
    pub(crate) store: Memory,
    pub(crate) seen: Seen,
    pub(crate) options: SolveOptions,
}

impl Bench {
    pub(crate) fn new(specs: Vec<Spec>) -> Self {
        Self::with(specs, Memory::default())
    }

    pub(crate) fn with(specs: Vec<Spec>, store: Memory) -> Self {
        let mut definition = Definition::default();
        for (at, spec) in specs.iter().enumerate() {
            // The position makes the vertices differ even where their keys are equal.
            let action = MkdirAction { path: format!("/{at}"), mode: 0o755, user: String::new() };
            let index = definition.add(Vertex {
                op: Op::File(FileOp { root: None, actions: vec![FileAction::Mkdir(action)] }),
                inputs: spec.inputs.iter().copied().map(VertexIndex).collect(),
                meta: VertexMeta {
                    name: format!("{at}"),
                    freshness: spec.freshness,
                    ..VertexMeta::default()
                },
            });
            assert_eq!(index.0, at);
        }
        let work = Fake {
            specs,
            runs: Mutex::default(),
            vanished: Mutex::default(),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
            describes: AtomicUsize::new(0),
            gate: AtomicBool::new(false),
        };
        let options = SolveOptions {
            jobs: NonZeroUsize::new(4).unwrap(),
            fresh_since: Timestamp::now(),
            cancel: CancelToken::new(),
        };
        Self { definition, work, store, seen: Seen::default(), options }
    }

    pub(crate) fn jobs(mut self, jobs: usize) -> Self {
        self.options.jobs = NonZeroUsize::new(jobs).unwrap();
        self
    }

    pub(crate) fn solve(&self, targets: &[usize]) -> Result<Solution<Tree>, SolveError> {
        let targets: Vec<_> = targets.iter().copied().map(VertexIndex).collect();
        let solution =
            solve(&self.definition, &targets, &self.work, &self.store, &self.seen, &self.options);
        self.seen.check();
        solution
    }

    /// Solves for the last vertex.
    pub(crate) fn solve_last(&self) -> Result<Solution<Tree>, SolveError> {
        self.solve(&[self.work.specs.len() - 1])
    }

    /// The same store, for the next build with other specs.
    pub(crate) fn next(self, specs: Vec<Spec>) -> Self {
        Self::with(specs, self.store)
    }

    pub(crate) fn story(&self, vertex: usize) -> String {
        self.seen.stories().remove(&vertex.to_string()).unwrap_or_default()
    }
}

/// A record of `key` whose step started and ended at `at`.
pub(crate) fn record(key: ActionKey, what: &str, at: Timestamp) -> Record {
    Record {
        key,
        content: content(&[what]),
        payload: what.to_owned(),
        started: at,
        ended: at,
        duration: Duration::ZERO,
        name: what.to_owned(),
        inputs: Vec::new(),
    }
}
