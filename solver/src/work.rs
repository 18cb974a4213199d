//! What the solver needs of a worker.

use graph::VertexIndex;

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
}

impl StepContext<'_> {
    /// Tells output of the step.
    pub fn log(&self, stream: Stream, data: &[u8]) {
        self.events.log(self.id, stream, data);
    }
}
