//! What a solve is asked and what it answers.

use std::num::NonZeroUsize;
use std::time::Duration;

use graph::VertexIndex;
use oci::Timestamp;

use crate::work::WorkError;
use crate::{ActionKey, CancelToken, ContentId, StoreError};

/// How to solve.
#[derive(Clone)]
pub struct SolveOptions {
    /// How many steps may run at the same time. Lookups are not counted.
    pub jobs: NonZeroUsize,
    /// What the freshness of vertices counts from: for those that want results of this build, a
    /// record whose step started before it is not accepted. The start of the build, as a rule, so
    /// that equal steps of one build, or of two builds at the same time, still run once.
    pub fresh_since: Timestamp,
    /// Stops the solve.
    pub cancel: CancelToken,
}

/// The results of a solve.
#[derive(Clone, Debug)]
pub struct Solution<O> {
    /// The result of each target, in the targets' order.
    pub outputs: Vec<O>,
    /// What became of each vertex that the targets need, by index.
    pub steps: Vec<StepReport>,
    /// How many vertices ended in which way.
    pub counts: Counts,
}

/// What became of one vertex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepReport {
    /// Which.
    pub vertex: VertexIndex,
    /// Whether it had to run.
    pub outcome: Outcome,
    /// What came out; `None` where the result was at hand and has no record.
    pub content: Option<ContentId>,
    /// When the step ended that made the result, in whatever build that was: the `created` of its
    /// history entry.
    pub ended: Timestamp,
    /// Its key; `None` where the result was at hand.
    pub key: Option<ActionKey>,
}

/// Whether a vertex had to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran, in this solve.
    Ran {
        /// How long, without waiting for anything.
        duration: Duration,
    },
    /// Its result was known, or was made meanwhile by an equal step of this build or of another
    /// process.
    Cached,
    /// Its result was at hand.
    Ready,
}

/// How many vertices ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ran.
    pub ran: usize,
    /// Known, or made by somebody else.
    pub cached: usize,
    /// At hand.
    pub ready: usize,
}

impl Counts {
    /// Counts steps.
    pub(crate) fn of(steps: &[StepReport]) -> Self {
        let mut counts = Self::default();
        for step in steps {
            match step.outcome {
                Outcome::Ran { .. } => counts.ran += 1,
                Outcome::Cached => counts.cached += 1,
                Outcome::Ready => counts.ready += 1,
            }
        }
        counts
    }
}

/// Why there is no solution.
#[derive(Debug, thiserror::Error)]
pub enum SolveError {
    /// A step failed. Where several did, the first; never one that was only stopped.
    #[error("{name}: {source}")]
    Failed {
        /// Which.
        vertex: VertexIndex,
        /// Its name.
        name: String,
        /// Why, as the worker told it.
        source: WorkError,
    },
    /// The caller cancelled it.
    #[error("the build was cancelled")]
    Cancelled,
    /// Records can neither be read nor written.
    #[error(transparent)]
    Store(#[from] StoreError),
}
