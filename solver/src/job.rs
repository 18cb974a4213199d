//! What one thread does for one vertex, from start to end, without asking the scheduler.
//!
//! The order of locks lives here: a claim exists only inside [`Job::attempt`], which holds a job
//! slot already and takes nothing else.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use graph::VertexIndex;
use oci::Timestamp;

use crate::solution::Outcome;
use crate::work::WorkError;
use crate::{
    ActionKey, CancelToken, ContentId, Description, Done, Event, EventSink, ProgressId, Record,
    RecordStore, StepContext, StoreError, Work,
};

/// How long a thread waits for another process's key before it looks at the cancel token.
const WAIT_SLICE: Duration = Duration::from_millis(100);

/// A vertex's key and what it was made of.
#[derive(Debug)]
pub(crate) struct Keyed {
    pub(crate) key: ActionKey,
    pub(crate) inputs: Vec<(String, String)>,
}

/// A result and where it is from.
#[derive(Clone)]
pub(crate) struct Reached<O> {
    pub(crate) output: O,
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
    /// Nobody holds the key any more, and it has no acceptable record.
    Missed,
    Busy,
    Ran(Reached<O>),
    Failed(Failure),
    Stopped {
        started: bool,
    },
}

/// An answer, and about whom.
pub(crate) struct Message<O> {
    pub(crate) vertex: VertexIndex,
    pub(crate) reply: Reply<O>,
}

/// What is the same for all jobs of a solve.
pub(crate) struct Setting<'a, W> {
    pub(crate) work: &'a W,
    pub(crate) store: &'a dyn RecordStore,
    pub(crate) events: &'a dyn EventSink,
    /// Set when everything should stop, whoever asked for it.
    pub(crate) stop: &'a CancelToken,
}

/// What a thread has to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task {
    /// Describe, look up, load.
    Look,
    /// Claim, look again, run, publish.
    Attempt,
    /// Wait for the key's holder, look up, load.
    AwaitKey,
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
    /// Whether people were told that it started.
    pub(crate) told: Cell<bool>,
}

impl<W: Work> Job<'_, W> {
    /// Does the task. A panic becomes a failure of the vertex.
    pub(crate) fn answer(self) -> Message<W::Output> {
        Message { vertex: self.vertex, reply: self.perform() }
    }

    fn perform(&self) -> Reply<W::Output> {
        let began = Timestamp::now();
        let done = catch_unwind(AssertUnwindSafe(|| match (self.task, &self.keyed) {
            _ if self.setting.stop.is_cancelled() => Ok(Reply::Stopped { started: false }),
            (Task::Attempt, Some(keyed)) => self.attempt(keyed),
            (Task::AwaitKey, Some(keyed)) => self.await_key(keyed),
            (Task::Look | Task::Attempt | Task::AwaitKey, _) => self.look(began),
        }));
        let cause = match done {
            Ok(Ok(reply)) => return reply,
            Ok(Err(cause)) => cause,
            Err(payload) => Cause::Work(panic_error(payload.as_ref())),
        };
        let untold = (!self.told.get()).then_some(began);
        Reply::Failed(Failure { cause, untold })
    }

    fn look(&self, began: Timestamp) -> Result<Reply<W::Output>, Cause> {
        let context = self.context();
        let keyed = match self.setting.work.describe(self.vertex, &self.inputs, &context) {
            Ok(Description::Keyed { key, inputs }) => Keyed { key, inputs },
            Ok(Description::Ready(output)) => {
                return Ok(Reply::Ready(Reached {
                    output,
                    outcome: Outcome::Ready,
                    content: None,
                    key: None,
                    started: began,
                    ended: Timestamp::now(),
                }));
            }
            Err(_) if self.setting.stop.is_cancelled() => {
                return Ok(Reply::Stopped { started: false });
            }
            Err(error) => return Err(Cause::Work(error)),
        };
        Ok(match self.look_up(&keyed.key)? {
            Some(found) => Reply::Found(found),
            None => Reply::Unknown(keyed),
        })
    }

    /// A record that is fresh enough and whose data is there.
    fn look_up(&self, key: &ActionKey) -> Result<Option<Reached<W::Output>>, StoreError> {
        let Some(record) = self.setting.store.get(key, self.not_before)? else { return Ok(None) };
        let output = self.setting.work.load(self.vertex, &self.inputs, &record);
        Ok(output.map(|output| Reached {
            output,
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
        if self.setting.stop.is_cancelled() {
            return Ok(Reply::Stopped { started: false });
        }
        let started = Timestamp::now();
        let clock = Instant::now();
        self.told.set(true);
        self.setting.events.event(Event::Started { id: self.id, at: started });
        let done = match self.setting.work.run(self.vertex, &self.inputs, &self.context()) {
            Ok(done) => done,
            Err(_) if self.setting.stop.is_cancelled() => {
                return Ok(Reply::Stopped { started: true });
            }
            Err(error) => return Err(Cause::Work(error)),
        };
        let duration = clock.elapsed();
        let (output, record) = self.record(keyed, done, started, duration);
        store.publish(claim.as_ref(), &record)?;
        drop(claim);
        Ok(Reply::Ran(Reached {
            output,
            outcome: Outcome::Ran { duration },
            content: Some(record.content),
            key: Some(record.key),
            started,
            ended: record.ended,
        }))
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

    fn await_key(&self, keyed: &Keyed) -> Result<Reply<W::Output>, Cause> {
        while !self.setting.store.wait(&keyed.key, WAIT_SLICE)? {
            if self.setting.stop.is_cancelled() {
                return Ok(Reply::Stopped { started: false });
            }
        }
        Ok(self.look_up(&keyed.key)?.map_or(Reply::Missed, Reply::Found))
    }

    fn context(&self) -> StepContext<'_> {
        StepContext { id: self.id, events: self.setting.events, cancel: self.setting.stop }
    }
}

fn panic_error(payload: &(dyn Any + Send)) -> WorkError {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it does not say why");
    format!("internal error, please report it: {text}").into()
}
