//! The loop that brings every vertex to its end.
//!
//! One thread, the caller's, owns all state: it takes replies of other threads from a channel,
//! lets [`edge::step`] decide, and does what that asks for.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, Scope};

use graph::{Definition, Freshness, VertexIndex};
use oci::Timestamp;

use crate::edge::{self, Ending, Request, Signal, State};
use crate::job::{Cause, Failure, Job, Keyed, Message, Reached, Reply, Setting, Task};
use crate::lookers::Lookers;
use crate::solution::{Counts, Outcome, Solution, SolveError, SolveOptions, StepReport};
use crate::waiter::{Desk, Waiter};
use crate::{ActionKey, CancelToken, Event, EventSink, ProgressId, RecordStore, Work};

/// Brings `targets`, and what they need, to their results: from the store where it knows them,
/// else by running them.
///
/// Each vertex that becomes active is told as [`Event::Vertex`], in that order. Then comes either
/// [`Event::Cached`], or [`Event::Started`] and exactly one of [`Event::Done`],
/// [`Event::Failed`] and [`Event::Cancelled`], or nothing where the build ended before it could
/// start. `Status` and `Log` may come before `Started`, while the vertex is described.
///
/// # Errors
/// The first failure of a step or of the store, after everything else was stopped; or that the
/// caller cancelled.
///
/// # Panics
/// If a target is not in `definition`.
pub fn solve<W: Work>(
    definition: &Definition,
    targets: &[VertexIndex],
    work: &W,
    store: &dyn RecordStore,
    events: &dyn EventSink,
    options: &SolveOptions,
) -> Result<Solution<W::Output>, SolveError> {
    // Its own token: a failed step stops its siblings, not what else the caller is doing.
    let stop = CancelToken::new();
    let linked = stop.clone();
    let _link = options.cancel.on_cancel(move || linked.cancel());
    let desk = Desk::new();
    let asked = &options.cancel;
    let setting = Setting { work, store, events, stop: &stop, asked, desk: &desk };

    let reachable = definition.reachable(targets);
    let (replies, inbox) = mpsc::channel();
    thread::scope(|scope| {
        // Also when this thread panics: the scope waits for all others.
        let _stop_others = CancelOnDrop(&stop);
        let mut nodes = nodes(definition, &reachable, options.fresh_since);
        targets.iter().for_each(|target| nodes[target.0].uses += 1);
        let mut scheduler = Scheduler {
            scope,
            definition,
            setting: &setting,
            nodes,
            reachable: &reachable,
            pending: VecDeque::new(),
            queue: BTreeSet::new(),
            free_slots: isize::try_from(options.jobs.get()).unwrap_or(isize::MAX),
            leaders: HashMap::new(),
            at_work: 0,
            stopped: false,
            failure: None,
            to_look: Vec::new(),
            lookers: Lookers::new(scope, replies.clone()),
            waiter: Waiter::new(scope, &setting, replies.clone()),
            replies,
        };
        scheduler.run(&inbox);
        scheduler.conclude(targets)
    })
}

struct CancelOnDrop<'a>(&'a CancelToken);

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// What is known of one vertex.
struct Node<O> {
    state: State,
    not_before: Timestamp,
    /// Who needs it; once for each use.
    dependents: Vec<VertexIndex>,
    /// How many uses of it there are by vertices that have not ended; one more if it is a target.
    uses: usize,
    /// Since it is active.
    id: Option<ProgressId>,
    /// Since when people think that it runs, here or elsewhere.
    told: Option<Timestamp>,
    inputs: Arc<[O]>,
    /// Which result of each input is in `inputs`.
    turns: Vec<u32>,
    /// How many results it had: another one is brought where the last one cannot be had.
    turn: u32,
    keyed: Option<Arc<Keyed>>,
    /// Vertices with the same key that wait for this one.
    followers: Vec<VertexIndex>,
    /// Where its thread waits while it rests.
    resting: Option<Sender<()>>,
    reached: Option<Reached<O>>,
}

/// When a step must have started for its result to be accepted; `since` is the build's start.
pub fn not_before(freshness: Freshness, since: Timestamp) -> Timestamp {
    match freshness {
        Freshness::Any => Timestamp::EPOCH,
        Freshness::MaxAge(age) => {
            let oldest = since.to_system_time().and_then(|since| since.checked_sub(age));
            oldest.map_or(Timestamp::EPOCH, Timestamp::from).max(Timestamp::EPOCH)
        }
        Freshness::Build => since,
    }
}

fn nodes<O>(definition: &Definition, reachable: &[VertexIndex], since: Timestamp) -> Vec<Node<O>> {
    let mut nodes: Vec<Node<O>> = definition
        .vertices()
        .iter()
        .map(|vertex| Node {
            state: State::Waiting { missing: vertex.inputs.len() },
            not_before: not_before(vertex.meta.freshness, since),
            dependents: Vec::new(),
            uses: 0,
            id: None,
            told: None,
            inputs: Arc::from([]),
            turns: Vec::new(),
            turn: 0,
            keyed: None,
            followers: Vec::new(),
            resting: None,
            reached: None,
        })
        .collect();
    for vertex in reachable {
        for input in &definition.vertex(*vertex).inputs {
            nodes[input.0].dependents.push(*vertex);
            nodes[input.0].uses += 1;
        }
    }
    nodes
}

struct Scheduler<'scope, 'env, W: Work> {
    scope: &'scope Scope<'scope, 'env>,
    definition: &'env Definition,
    setting: &'env Setting<'env, W>,
    nodes: Vec<Node<W::Output>>,
    reachable: &'env [VertexIndex],
    /// Signals that are not yet worked off.
    pending: VecDeque<(VertexIndex, Signal)>,
    /// Who waits for a job slot; the lowest index gets the next one.
    queue: BTreeSet<VertexIndex>,
    /// Below zero where steps that rested had to go on with the end of the build.
    free_slots: isize,
    /// Who makes a key, or waits for another process that does.
    leaders: HashMap<ActionKey, VertexIndex>,
    /// Tasks that have been given to threads and are not answered.
    at_work: usize,
    /// Whether every vertex was told to stop.
    stopped: bool,
    failure: Option<SolveError>,
    /// Who is to be looked up, and how, and was not yet given to a thread.
    to_look: Vec<(VertexIndex, Task)>,
    lookers: Lookers<'scope, 'env, W>,
    waiter: Waiter<'scope, 'env, W>,
    replies: Sender<Message<W::Output>>,
}

impl<'scope, 'env, W: Work> Scheduler<'scope, 'env, W>
where
    W::Output: 'scope,
{
    fn run(&mut self, inbox: &Receiver<Message<W::Output>>) {
        self.pending.extend(self.reachable.iter().map(|vertex| (*vertex, Signal::Begin)));
        self.settle();
        while let Some(message) = self.next(inbox) {
            self.receive(message);
            self.settle();
        }
    }

    /// The next answer; `None` when no thread is at work any more: then every vertex has ended.
    fn next(&mut self, inbox: &Receiver<Message<W::Output>>) -> Option<Message<W::Output>> {
        if let ([(vertex, task)], 0) = (self.to_look.as_slice(), self.at_work) {
            // Nothing else can happen before its answer, so this thread looks itself: waking
            // another one and being woken would take longer than a hit does.
            let job = self.job(*vertex, *task);
            self.to_look.clear();
            return Some(job.answer());
        }
        for (vertex, task) in std::mem::take(&mut self.to_look) {
            let job = self.job(vertex, task);
            self.at_work += 1;
            self.lookers.hand_out(job, self.at_work);
        }
        if self.at_work == 0 {
            return None;
        }
        let message = inbox.recv().ok()?;
        // The last word of its thread, unless that only waits for its turn.
        self.at_work -= usize::from(!matches!(message.reply, Reply::GivesWay(_)));
        Some(message)
    }

    /// Works off all signals, and gives away job slots.
    fn settle(&mut self) {
        if !self.stopped && self.setting.stop.is_cancelled() {
            self.stop_all();
        }
        loop {
            while let Some((vertex, signal)) = self.pending.pop_front() {
                let (state, requests) = edge::step(self.nodes[vertex.0].state, signal);
                self.nodes[vertex.0].state = state;
                for request in requests {
                    self.execute(vertex, *request);
                }
            }
            if self.free_slots <= 0 {
                return;
            }
            let Some(vertex) = self.queue.pop_first() else { return };
            self.free_slots -= 1;
            self.pending.push_back((vertex, Signal::Slot));
        }
    }

    /// Stops threads by the token, and ends the vertices that no thread works on.
    fn stop_all(&mut self) {
        self.stopped = true;
        self.setting.stop.cancel();
        // Before anything that is pending, so that nothing new begins.
        for vertex in self.reachable.iter().rev() {
            self.pending.push_front((*vertex, Signal::Stop));
        }
    }

    fn receive(&mut self, message: Message<W::Output>) {
        let Message { vertex, told, reply } = message;
        let node = &mut self.nodes[vertex.0];
        node.told = told;
        let signal = match reply {
            Reply::Ready(reached) => {
                node.reached = Some(reached);
                Signal::Ready
            }
            Reply::Found(reached) => {
                node.reached = Some(reached);
                Signal::Found
            }
            Reply::Ran(reached) => {
                node.reached = Some(reached);
                Signal::Ran
            }
            Reply::Unknown(keyed) => {
                node.keyed = Some(Arc::new(keyed));
                Signal::Missed
            }
            Reply::Freed { shown } => Signal::Freed { shown },
            Reply::Lost(_) if self.stopped => Signal::Stopped { started: told.is_some() },
            Reply::Lost(inputs) => Signal::Lost { missing: self.bring_again(vertex, &inputs) },
            Reply::Missed => Signal::Missed,
            Reply::GivesWay(go_on) => {
                node.resting = Some(go_on);
                Signal::GiveWay
            }
            Reply::Busy => Signal::Busy,
            Reply::Stopped { started } => Signal::Stopped { started },
            Reply::Failed(failure) => {
                self.note_failure(vertex, failure);
                Signal::Failed
            }
        };
        self.pending.push_back((vertex, signal));
        if self.stopped {
            // It may have come to a state that waits for something that will not happen.
            self.pending.push_back((vertex, Signal::Stop));
        }
    }

    /// Has the inputs at `positions` brought to a result again, unless somebody else asked for that
    /// already; returns how many inputs the vertex has to wait for.
    fn bring_again(&mut self, vertex: VertexIndex, positions: &[usize]) -> usize {
        self.stop_leading(vertex);
        let turns = std::mem::take(&mut self.nodes[vertex.0].turns);
        let mut missing = 0;
        for (position, input) in self.definition.vertex(vertex).inputs.iter().enumerate() {
            let turn = self.nodes[input.0].turn;
            if positions.contains(&position) && turns.get(position) == Some(&turn) {
                self.reopen(*input);
            }
            let node = &mut self.nodes[input.0];
            if !matches!(node.state, State::Ended(_)) {
                node.dependents.push(vertex);
                missing += 1;
            }
        }
        missing
    }

    /// Has a vertex that has ended brought to a result again; and before it those of its inputs
    /// that were let go of, and so on.
    fn reopen(&mut self, vertex: VertexIndex) {
        let mut open = vec![vertex];
        while let Some(vertex) = open.pop() {
            if !matches!(self.nodes[vertex.0].state, State::Ended(_)) {
                continue;
            }
            let mut missing = 0;
            for input in &self.definition.vertex(vertex).inputs {
                let node = &mut self.nodes[input.0];
                node.uses += 1;
                let here = node.reached.as_ref().is_some_and(|reached| reached.output.is_some());
                if !here || !matches!(node.state, State::Ended(_)) {
                    node.dependents.push(vertex);
                    missing += 1;
                    open.push(*input);
                }
            }
            let node = &mut self.nodes[vertex.0];
            let (state, requests) = edge::step(node.state, Signal::Reopen { missing });
            node.state = state;
            // To people it is another step: the one that is told of has ended.
            (node.id, node.told, node.keyed) = (None, None, None);
            requests.iter().for_each(|request| self.execute(vertex, *request));
        }
    }

    /// A vertex has ended: what it was made of is dropped where nothing else needs it.
    fn let_go_of_inputs(&mut self, vertex: VertexIndex) {
        for input in &self.definition.vertex(vertex).inputs {
            let node = &mut self.nodes[input.0];
            node.uses = node.uses.saturating_sub(1);
            if let (0, Some(reached)) = (node.uses, &mut node.reached) {
                let goes = |output: &mut W::Output| self.setting.work.lets_go(output);
                reached.output.take_if(goes);
            }
        }
    }

    /// Lets others make the vertex's key: it may get another one.
    fn stop_leading(&mut self, vertex: VertexIndex) {
        let node = &mut self.nodes[vertex.0];
        let followers = std::mem::take(&mut node.followers);
        let led = node.keyed.take().map(|keyed| keyed.key);
        if let Some(key) = led.filter(|key| self.leaders.get(key) == Some(&vertex)) {
            self.leaders.remove(&key);
        }
        self.pending.extend(followers.into_iter().map(|follower| (follower, Signal::Missed)));
    }

    /// Tells of the failure, and keeps it if it is the first.
    fn note_failure(&mut self, vertex: VertexIndex, failure: Failure) {
        let Some(id) = self.nodes[vertex.0].id else { return };
        if let Some(at) = failure.untold {
            self.emit(Event::Started { id, at });
        }
        let name = self.definition.vertex(vertex).meta.name.clone();
        let (text, error) = match failure.cause {
            Cause::Work(source) => {
                (source.to_string(), SolveError::Failed { vertex, name, source })
            }
            Cause::Store(source) => (source.to_string(), SolveError::Store(source)),
        };
        let error_line = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        self.emit(Event::Failed { id, at: failure.at, error: error_line });
        self.failure.get_or_insert(error);
    }

    fn execute(&mut self, vertex: VertexIndex, request: Request) {
        match request {
            Request::Announce => self.announce(vertex),
            Request::Look => self.to_look.push((vertex, Task::Look)),
            Request::LookAgain { shown } => {
                self.to_look.push((vertex, Task::LookAgain { shown }));
            }
            Request::Elect => self.elect(vertex),
            Request::Enqueue => {
                self.queue.insert(vertex);
            }
            Request::Unqueue => {
                self.queue.remove(&vertex);
                // It ran elsewhere, and was to be run again.
                if self.nodes[vertex.0].told.is_some() {
                    self.show_cancelled(vertex);
                }
            }
            Request::Attempt => self.spawn(self.job(vertex, Task::Attempt)),
            Request::FreeSlot => self.free_slots += 1,
            Request::GiveWay => self.give_way(vertex),
            Request::TakeSlot => {
                // Unless it was just given one.
                if self.queue.remove(&vertex) {
                    self.free_slots -= 1;
                }
            }
            Request::GoOn => {
                // Its thread is there: it waits for nothing else.
                if let Some(resting) = self.nodes[vertex.0].resting.take() {
                    let _ = resting.send(());
                }
            }
            Request::FollowKey => {
                let job = self.job(vertex, Task::Follow);
                self.at_work += 1;
                self.waiter.follow(job);
            }
            Request::Finish => self.finish(vertex),
            Request::Fail => self.stop_all(),
            Request::ShowCancelled => self.show_cancelled(vertex),
        }
    }

    /// Gives the vertex's slot to the first that is ready to run, or to the first of those that rest.
    fn give_way(&mut self, vertex: VertexIndex) {
        self.free_slots += 1;
        let ready = |at: &&VertexIndex| self.nodes[at.0].state == State::Queued;
        let next = self.queue.iter().find(ready).or(self.queue.first()).copied();
        if let Some(next) = next.filter(|_| self.free_slots > 0) {
            self.queue.remove(&next);
            self.free_slots -= 1;
            self.pending.push_back((next, Signal::Slot));
        }
        self.queue.insert(vertex);
    }

    fn show_cancelled(&self, vertex: VertexIndex) {
        if let Some(id) = self.nodes[vertex.0].id {
            self.emit(Event::Cancelled { id, at: Timestamp::now() });
        }
    }

    fn announce(&mut self, vertex: VertexIndex) {
        let described = self.definition.vertex(vertex);
        let id = self.nodes[vertex.0].id.unwrap_or_else(|| {
            let id = self.setting.events.next_id();
            let digest = |at: &VertexIndex| self.definition.digest(*at).to_string();
            self.emit(Event::Vertex {
                id,
                digest: digest(&vertex),
                name: described.meta.name.clone(),
                inputs: described.inputs.iter().map(digest).collect(),
            });
            id
        });
        let output = |at: &VertexIndex| self.nodes[at.0].reached.as_ref()?.output.clone();
        let inputs = described.inputs.iter().filter_map(output).collect();
        let turns = described.inputs.iter().map(|at| self.nodes[at.0].turn).collect();
        let node = &mut self.nodes[vertex.0];
        (node.id, node.turns) = (Some(id), turns);
        node.inputs = inputs;
    }

    fn job(&self, vertex: VertexIndex, task: Task) -> Job<'env, W> {
        let node = &self.nodes[vertex.0];
        Job {
            setting: self.setting,
            task,
            vertex,
            name: &self.definition.vertex(vertex).meta.name,
            id: node.id.unwrap_or(ProgressId(0)),
            not_before: node.not_before,
            inputs: node.inputs.clone(),
            keyed: node.keyed.clone(),
            told: Cell::new(node.told),
            replies: self.replies.clone(),
        }
    }

    /// Gives a task that may take long a thread of its own.
    fn spawn(&mut self, job: Job<'env, W>) {
        self.at_work += 1;
        // Without it, the step just stops when the build does.
        let _ = self.waiter.start();
        let vertex = job.vertex;
        let told = job.told.get();
        let replies = self.replies.clone();
        let thread = thread::Builder::new().name(format!("step {}", vertex.0));
        let perform = move || {
            // Nobody listens where the scheduler has panicked.
            let _ = replies.send(job.answer());
        };
        if let Err(error) = thread.spawn_scoped(self.scope, perform) {
            let cause = Cause::Work(format!("cannot start a thread for it: {error}").into());
            let at = Timestamp::now();
            let untold = told.is_none().then_some(at);
            let reply = Reply::Failed(Failure { cause, untold, at });
            let _ = self.replies.send(Message { vertex, told, reply });
        }
    }

    /// Decides who makes the vertex's key: the first that asks.
    fn elect(&mut self, vertex: VertexIndex) {
        let Some(key) = self.nodes[vertex.0].keyed.as_ref().map(|keyed| keyed.key) else { return };
        let leader = *self.leaders.entry(key).or_insert(vertex);
        // At the front: nothing may happen to the leader before this is settled.
        if leader == vertex {
            self.pending.push_front((vertex, Signal::Lead));
        } else {
            self.nodes[leader.0].followers.push(vertex);
            self.pending.push_front((vertex, Signal::Follow));
        }
    }

    /// Tells that it ended, and passes its result on.
    fn finish(&mut self, vertex: VertexIndex) {
        let node = &mut self.nodes[vertex.0];
        let (Some(id), Some(reached)) = (node.id, node.reached.clone()) else { return };
        let followers = std::mem::take(&mut node.followers);
        let dependents = std::mem::take(&mut node.dependents);
        node.inputs = Arc::from([]);
        node.turn += 1;
        let led = node.keyed.as_ref().map(|keyed| keyed.key);
        self.let_go_of_inputs(vertex);
        let node = &self.nodes[vertex.0];
        let at = Timestamp::now();
        match (node.state, node.told) {
            // It was seen running elsewhere: its time is the time that it took there.
            (State::Ended(Ending::Cached), Some(told)) => {
                self.emit(Event::Done { id, at: reached.ended.max(told) });
            }
            (State::Ended(Ending::Cached), None) => self.emit(Event::Cached { id, at }),
            (State::Ended(Ending::Ready), _) => {
                self.emit(Event::Started { id, at: reached.started });
                self.emit(Event::Done { id, at });
            }
            _ => self.emit(Event::Done { id, at }),
        }
        if let Some(key) = led.filter(|key| self.leaders.get(key) == Some(&vertex)) {
            self.leaders.remove(&key);
        }
        for follower in followers {
            let node = &mut self.nodes[follower.0];
            if node.state != State::Following {
                continue; // the build is being stopped
            }
            // One rule for records and for results in flight: the step started late enough.
            let signal = if reached.started >= node.not_before {
                node.reached = Some(Reached { outcome: Outcome::Cached, ..reached.clone() });
                Signal::Found
            } else {
                Signal::Missed
            };
            self.pending.push_back((follower, signal));
        }
        self.pending.extend(dependents.into_iter().map(|d| (d, Signal::InputDone)));
    }

    fn emit(&self, event: Event) {
        self.setting.events.event(event);
    }

    fn conclude(self, targets: &[VertexIndex]) -> Result<Solution<W::Output>, SolveError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let reached = |at: &VertexIndex| self.nodes[at.0].reached.as_ref();
        let steps = self.reachable.iter().map(|vertex| {
            let Reached { outcome, content, key, ended, .. } = reached(vertex)?.clone();
            Some(StepReport { vertex: *vertex, outcome, content, ended, key })
        });
        let outputs = targets.iter().map(|target| reached(target)?.output.clone());
        // Without a failure, only a cancelled build leaves a vertex without a result.
        let steps: Vec<_> = steps.collect::<Option<_>>().ok_or(SolveError::Cancelled)?;
        let outputs = outputs.collect::<Option<_>>().ok_or(SolveError::Cancelled)?;
        let counts = Counts::of(&steps);
        Ok(Solution { outputs, steps, counts })
    }
}
