//! The solver: what has to run, in which order, and what need not.
//!
//! It walks a [`graph::Definition`], asks the [`Work`] it is given for the [`ActionKey`] of each
//! vertex, looks the key up in a [`RecordStore`], and lets `Work` run what is not known, in
//! parallel. It knows no kinds of op, no files and no processes; what happens is told as
//! [`Event`]s.

pub mod cancel;
mod edge;
pub mod event;
mod job;
pub mod key;
mod lookers;
pub mod record;
mod scheduler;
pub mod share;
pub mod solution;
pub mod store;
mod waiter;
pub mod work;

pub use cancel::{CancelToken, HookGuard};
pub use event::{Event, EventSink, ProgressId, Stream, Warning};
pub use key::{ActionKey, ContentId, KeyBuilder};
pub use record::Record;
pub use scheduler::{not_before, solve};
pub use share::{Follow, Followed, News, Outlet, Waker, Watch};
pub use solution::{Counts, Outcome, Solution, SolveError, SolveOptions, StepReport};
pub use store::{Claim, RecordStore, StoreError};
pub use work::{Description, Done, Gathered, JobSlot, StepContext, Work};
