//! What one thread does for one vertex, from start to end, without asking the scheduler.
//!
//! The order of locks lives here: a claim exists only inside [`Job::attempt`], which holds a job
//! slot already and takes nothing else. Waiting for others is the waiter's.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

use graph::VertexIndex;
use oci::Timestamp;

use crate::share::{News, Outlet};
use crate::solution::Outcome;
use crate::waiter::{Attended, Desk};
use crate::work::WorkError;
use crate::{
    ActionKey, CancelToken, ContentId, Description, Done, Event, EventSink, Gathered, JobSlot,
    ProgressId, Record, RecordStore, StepContext, StoreError, Stream, Work,
};

/// What is told where the output of another process's run was shown, and no result came of it.
const AGAIN: &[u8] = b"the other build could not finish it: it is run again\n";

/// A vertex's key and what it was made of.
#[derive(Debug)]
pub(crate) struct Keyed {
    pub(crate) key: ActionKey,
    pub(crate) inputs: Vec<(String, String)>,
}

/// A result and where it is from.
#[derive(Clone)]
pub(crate) struct Reached<O> {
    /// None where it was let go of: nothing needs it any more.
    pub(crate) output: Option<O>,
    pub(crate) outcome: Outcome,
    pub(crate) content: Option<ContentId>,
    pub(crate) key: Option<ActionKey>,
    /// When the step started that made it.
    pub(crate) started: Timestamp,
    /// When that step ended.
    pub(crate) ended: Timestamp,
}

/// Why a vertex failed.
pub(crate) struct Failure {
    pub(crate) cause: Cause,
    /// Since when, if people have not been told that it started.
    pub(crate) untold: Option<Timestamp>,
    /// When it failed.
    pub(crate) at: Timestamp,
}

/// Whose fault it was.
pub(crate) enum Cause {
    Work(WorkError),
    Store(StoreError),
}

impl From<StoreError> for Cause {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What a thread answers.
pub(crate) enum Reply<O> {
    Ready(Reached<O>),
    Found(Reached<O>),
    /// The key, and that it has no acceptable record.
    Unknown(Keyed),
    /// Nobody holds the key any more.
    Freed {
        /// Whether its run was shown.
        shown: bool,
    },
    /// Nobody holds the key any more, and it has no acceptable record.
    Missed,
    Busy,
    /// It has not ended: it waits for something that others hold, and here for its turn to look.
    GivesWay(Sender<()>),
    Ran(Reached<O>),
    Failed(Failure),
    /// Inputs at these positions cannot be had after all.
    Lost(Vec<usize>),
    Stopped {
        started: bool,
    },
}

/// An answer, and about whom.
pub(crate) struct Message<O> {
    pub(crate) vertex: VertexIndex,
    /// Since when it runs, if people have been told so.
    pub(crate) told: Option<Timestamp>,
    pub(crate) reply: Reply<O>,
}

/// What is the same for all jobs of a solve.
pub(crate) struct Setting<'a, W> {
    pub(crate) work: &'a W,
    pub(crate) store: &'a dyn RecordStore,
    pub(crate) events: &'a dyn EventSink,
    /// Set when everything should stop, whoever asked for it.
    pub(crate) stop: &'a CancelToken,
    /// Set by the caller.
    pub(crate) asked: &'a CancelToken,
    /// Where steps that run are known.
    pub(crate) desk: &'a Desk,
}

/// What a thread has to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task {
    /// Describe, look up, load.
    Look,
    /// Claim, look again, run, publish.
    Attempt,
    /// Follow the run of another process.
    Follow,
    /// Look up again, load.
    LookAgain {
        /// Whether a run of another process was shown that has just ended.
        shown: bool,
    },
}

/// One vertex, made ready for a thread.
pub(crate) struct Job<'a, W: Work> {
    pub(crate) setting: &'a Setting<'a, W>,
    pub(crate) task: Task,
    pub(crate) vertex: VertexIndex,
    pub(crate) name: &'a str,
    pub(crate) id: ProgressId,
    pub(crate) not_before: Timestamp,
    pub(crate) inputs: Arc<[W::Output]>,
    /// Known after the look.
    pub(crate) keyed: Option<Arc<Keyed>>,
    /// Since when it runs, if people were told so.
    pub(crate) told: Cell<Option<Timestamp>>,
    /// Where the scheduler listens.
    pub(crate) replies: Sender<Message<W::Output>>,
}

impl<W: Work> Job<'_, W> {
    /// Does the task. A panic becomes a failure of the vertex.
    pub(crate) fn answer(self) -> Message<W::Output> {
        let began = Timestamp::now();
        let done = guarded(|| match (self.task, &self.keyed) {
            _ if self.setting.stop.is_cancelled() => Ok(self.stopped()),
            (Task::Attempt, Some(keyed)) => self.attempt(keyed),
            (Task::LookAgain { shown }, Some(keyed)) => self.look_again(keyed, shown),
            _ => self.look(began),
        });
        match done {
            Ok(reply) => self.message(reply),
            Err(cause) => self.failed(cause, Some(began)),
        }
    }

    /// What the scheduler is told.
    pub(crate) fn message(&self, reply: Reply<W::Output>) -> Message<W::Output> {
        Message { vertex: self.vertex, told: self.told.get(), reply }
    }

    /// It failed; `began` is when, if people know nothing of it.
    pub(crate) fn failed(&self, cause: Cause, began: Option<Timestamp>) -> Message<W::Output> {
        let at = Timestamp::now();
        let untold = self.told.get().is_none().then(|| began.unwrap_or(at));
        self.message(Reply::Failed(Failure { cause, untold, at }))
    }

    fn stopped(&self) -> Reply<W::Output> {
        Reply::Stopped { started: self.told.get().is_some() }
    }

    fn look(&self, began: Timestamp) -> Result<Reply<W::Output>, Cause> {
        let context = self.context();
        let keyed = match self.setting.work.describe(self.vertex, &self.inputs, &context) {
            Ok(Description::Keyed { key, inputs }) => Keyed { key, inputs },
            Ok(Description::Ready(output)) => {
                return Ok(Reply::Ready(Reached {
                    output: Some(output),
                    outcome: Outcome::Ready,
                    content: None,
                    key: None,
                    started: began,
                    ended: Timestamp::now(),
                }));
            }
            Ok(Description::Lost(inputs)) => return Ok(Reply::Lost(inputs)),
            Err(_) if self.setting.stop.is_cancelled() => return Ok(self.stopped()),
            Err(error) => return Err(Cause::Work(error)),
        };
        Ok(match self.look_up(&keyed.key)? {
            Some(found) => Reply::Found(found),
            None => Reply::Unknown(keyed),
        })
    }

    /// A record that is fresh enough and whose data is there, or can be had.
    fn look_up(&self, key: &ActionKey) -> Result<Option<Reached<W::Output>>, StoreError> {
        let work = self.setting.work;
        let local = self.setting.store.get(key, self.not_before)?.and_then(|record| {
            let output = work.load(self.vertex, &self.inputs, &record)?;
            Some((record, output))
        });
        let import =
            || work.import(self.vertex, &self.inputs, key, self.not_before, &self.context());
        Ok(local.or_else(import).map(|(record, output)| Reached {
            output: Some(output),
            outcome: Outcome::Cached,
            content: Some(record.content),
            key: Some(*key),
            started: record.started,
            ended: record.ended,
        }))
    }

    fn attempt(&self, keyed: &Keyed) -> Result<Reply<W::Output>, Cause> {
        let store = self.setting.store;
        let Some(claim) = store.claim(&keyed.key)? else { return Ok(Reply::Busy) };
        // Another process may have made it between the first look and the claim.
        if let Some(found) = self.look_up(&keyed.key)? {
            return Ok(Reply::Found(found));
        }
        match self.setting.work.gather(self.vertex, &self.inputs, &self.context()) {
            Ok(Gathered::Here) => {}
            Ok(Gathered::Lost(inputs)) => return Ok(Reply::Lost(inputs)),
            Err(_) if self.setting.stop.is_cancelled() => return Ok(self.stopped()),
            Err(error) => return Err(Cause::Work(error)),
        }
        let outlet = claim.outlet();
        let lasting = self.setting.work.outlasts_stop(self.vertex).then(|| outlet.clone());
        let attended = Attended::new(self.setting.desk, self.setting.stop, self.id, lasting);
        // After it is known there: who stops the build from now on finds it.
        if self.setting.stop.is_cancelled() {
            return Ok(self.stopped());
        }
        let started = Timestamp::now();
        let clock = Instant::now();
        outlet.tell(&News::Started(started));
        if self.told.get().is_none() {
            self.told.set(Some(started));
            self.setting.events.event(Event::Started { id: self.id, at: started });
        }
        let done = match self.run(&outlet, attended.stop()) {
            Ok(done) => done,
            Err(error) => {
                if !attended.stop().is_cancelled() {
                    self.tell_failure(&outlet, &error);
                }
                // Also where it went on for others: it is not at fault.
                let stopped = self.setting.stop.is_cancelled();
                return if stopped { Ok(self.stopped()) } else { Err(Cause::Work(error)) };
            }
        };
        let duration = clock.elapsed();
        let (output, record) = self.record(keyed, done, started, duration);
        store.publish(claim.as_ref(), &record)?;
        drop(claim);
        Ok(Reply::Ran(Reached {
            output: Some(output),
            outcome: Outcome::Ran { duration },
            content: Some(record.content),
            key: Some(record.key),
            started,
            ended: record.ended,
        }))
    }

    /// Runs it; its output goes to those who follow it, too.
    fn run(
        &self,
        outlet: &Arc<dyn Outlet>,
        stop: &CancelToken,
    ) -> Result<Done<W::Output>, WorkError> {
        let events = self.setting.events;
        events.share(self.id, outlet.clone());
        // Also when it panics: what was held back belongs to them before the claim goes.
        let _settle = Settle { events, id: self.id };
        let (vertex, told) = (self.vertex, self.told.get());
        let slot = OwnSlot { replies: &self.replies, vertex, told };
        let context = StepContext { id: self.id, events, cancel: stop, slot: Some(&slot) };
        self.setting.work.run(self.vertex, &self.inputs, &context)
    }

    fn tell_failure(&self, outlet: &Arc<dyn Outlet>, error: &WorkError) {
        if let Some(text) = self.setting.work.tell_failure(self.vertex, error) {
            outlet.tell(&News::Failed { at: Timestamp::now(), text: text.into() });
        }
    }

    fn record(
        &self,
        keyed: &Keyed,
        done: Done<W::Output>,
        started: Timestamp,
        duration: Duration,
    ) -> (W::Output, Record) {
        let record = Record {
            key: keyed.key,
            content: done.content,
            payload: done.payload,
            started,
            ended: Timestamp::now(),
            duration,
            name: self.name.to_owned(),
            inputs: keyed.inputs.clone(),
        };
        (done.output, record)
    }

    /// Another process has made it, or could not.
    fn look_again(&self, keyed: &Keyed, shown: bool) -> Result<Reply<W::Output>, Cause> {
        if let Some(found) = self.look_up(&keyed.key)? {
            return Ok(Reply::Found(found));
        }
        if shown {
            self.setting.events.log(self.id, Stream::Stderr, AGAIN);
        }
        Ok(Reply::Missed)
    }

    fn context(&self) -> StepContext<'_> {
        let (events, cancel) = (self.setting.events, self.setting.stop);
        StepContext { id: self.id, events, cancel, slot: None }
    }
}

/// The job slot of a step that runs.
struct OwnSlot<'a, O> {
    replies: &'a Sender<Message<O>>,
    vertex: VertexIndex,
    told: Option<Timestamp>,
}

impl<O: Send + Sync> JobSlot for OwnSlot<'_, O> {
    fn give_way(&self) {
        let (go_on, gone_on) = mpsc::channel();
        let Self { vertex, told, .. } = *self;
        let sent = self.replies.send(Message { vertex, told, reply: Reply::GivesWay(go_on) });
        // Where the scheduler has panicked, nobody else wants a slot.
        if sent.is_ok() {
            let _ = gone_on.recv();
        }
    }
}

/// The output of a step has ended.
struct Settle<'a> {
    events: &'a dyn EventSink,
    id: ProgressId,
}

impl Drop for Settle<'_> {
    fn drop(&mut self) {
        self.events.settle(self.id);
    }
}

/// Does what a worker may panic in: then it has failed.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, Cause>) -> Result<T, Cause> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|payload| Err(Cause::Work(panic_error(payload.as_ref()))))
}

fn panic_error(payload: &(dyn Any + Send)) -> WorkError {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it does not say why");
    format!("internal error, please report it: {text}").into()
}
