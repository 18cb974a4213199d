//! What the solver needs of a worker.

use graph::VertexIndex;
use oci::Timestamp;

use crate::{ActionKey, CancelToken, ContentId, EventSink, ProgressId, Record, Stream};

/// Knows how to describe, load and run the vertices of one definition.
///
/// Every method may be called from any thread, for different vertices at the same time.
pub trait Work: Sync {
    /// A result at hand: as long as a clone of it lives, its data stays.
    type Output: Clone + Send + Sync;

    /// Tells what the vertex is, now that its inputs are known: its key, or its result where
    /// bringing it is no work (a directory in place).
    ///
    /// # Errors
    /// If the key cannot be made: a source file is missing, cannot be read, …
    fn describe(
        &self,
        vertex: VertexIndex,
        inputs: &[Self::Output],
        context: &StepContext<'_>,
    ) -> Result<Description<Self::Output>, WorkError>;

    /// The result that `record` tells of; `None` if its data is no longer there, which makes the
    /// lookup a miss.
    fn load(
        &self,
        vertex: VertexIndex,
        inputs: &[Self::Output],
        record: &Record,
    ) -> Option<Self::Output>;

    /// A result of another machine that nobody here has a usable record of: its record, and the
    /// result, whose data may still be elsewhere. Asked after the store.
    fn import(
        &self,
        vertex: VertexIndex,
        inputs: &[Self::Output],
        key: &ActionKey,
        not_before: Timestamp,
        context: &StepContext<'_>,
    ) -> Option<(Record, Self::Output)> {
        let _ = (vertex, inputs, key, not_before, context);
        None
    }

    /// Brings here what of the inputs is still elsewhere, before the vertex runs. Answers with the
    /// positions of those that cannot be had after all: their vertices are brought to a result
    /// again, and then this one is described again. With none of them it is only described again.
    ///
    /// # Errors
    /// If it fails for another reason, or was cancelled.
    fn gather(
        &self,
        vertex: VertexIndex,
        inputs: &[Self::Output],
        context: &StepContext<'_>,
    ) -> Result<Gathered, WorkError> {
        let _ = (vertex, inputs, context);
        Ok(Gathered::Here)
    }

    /// Runs the vertex.
    ///
    /// # Errors
    /// If it fails or was cancelled.
    fn run(
        &self,
        vertex: VertexIndex,
        inputs: &[Self::Output],
        context: &StepContext<'_>,
    ) -> Result<Done<Self::Output>, WorkError>;

    /// Whether the vertex, while it runs, can go on for other builds when this one is being stopped.
    fn outlasts_stop(&self, vertex: VertexIndex) -> bool {
        let _ = vertex;
        true
    }

    /// Whether a result is dropped as soon as all that is made of it has ended, if it is not one of
    /// the targets; else it is kept until the solve ends. Where it is needed after all (something
    /// that was made of it turned out to be [`Lost`](Gathered::Lost)), it is brought again: looked
    /// up, or else run.
    fn lets_go(&self, output: &Self::Output) -> bool {
        let _ = output;
        false
    }

    /// Tells builds that wait for the vertex why it failed; none where it might not fail for them.
    fn tell_failure(&self, vertex: VertexIndex, error: &WorkError) -> Option<String> {
        let _ = (vertex, error);
        None
    }

    /// The failure of the same vertex in another build, as [`tell_failure`](Self::tell_failure) told it;
    /// none if this one should find out by itself.
    fn take_failure(&self, vertex: VertexIndex, told: &str) -> Option<WorkError> {
        let _ = (vertex, told);
        None
    }
}

/// Why a step failed; the worker's own error type, kept for the caller to look into.
pub type WorkError = Box<dyn std::error::Error + Send + Sync>;

/// What a vertex turned out to be.
pub enum Description<O> {
    /// Its result is here.
    Ready(O),
    /// It has a key; whether it must run is for the store to say.
    Keyed {
        /// The key.
        key: ActionKey,
        /// What the key was made of, readable, in the key's order.
        inputs: Vec<(String, String)>,
    },
    /// It cannot be told: the inputs at these positions, which are elsewhere, cannot be had after
    /// all.
    Lost(Vec<usize>),
}

/// Whether all inputs of a vertex are at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gathered {
    /// They are.
    Here,
    /// Those at these positions cannot be had; where there are none, what the key was made of
    /// turned out to be wrong.
    Lost(Vec<usize>),
}

/// A vertex that ran.
pub struct Done<O> {
    /// What came out.
    pub content: ContentId,
    /// How [`Work::load`] finds it again.
    pub payload: String,
    /// The result.
    pub output: O,
}

/// What a step may use while it runs.
pub struct StepContext<'a> {
    /// Its identity in progress events.
    pub id: ProgressId,
    /// Where events go.
    pub events: &'a dyn EventSink,
    /// Set when the step should stop.
    pub cancel: &'a CancelToken,
    /// The job slot that it has, if it runs in one.
    pub slot: Option<&'a dyn JobSlot>,
}

/// The right to run beside a limited number of other steps.
pub trait JobSlot: Sync {
    /// Lets other steps that are ready use it, and takes it again when one of them gives it back; at
    /// once if there are none, or the build is being stopped.
    ///
    /// To be called again and again while the step waits for what another one may hold, between
    /// two looks whether that is free: so whoever has a slot never waits for somebody who has none.
    fn give_way(&self);
}

impl StepContext<'_> {
    /// Lets other steps that are ready run first ([`JobSlot::give_way`]).
    pub fn give_way(&self) {
        self.slot.iter().for_each(|slot| slot.give_way());
    }

    /// Tells output of the step.
    pub fn log(&self, stream: Stream, data: &[u8]) {
        self.events.log(self.id, stream, data);
    }
}
