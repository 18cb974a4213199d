//! Why steps run: what a step is made of is compared with what it was made of in the last build.
//!
//! ```text
//! describe → Line (the same calls make the key) → Note ┐
//! last build of the line (cache::History)     → Note ┴ align → compare → Cause
//! ```
//!
//! [`align`], [`compare`] and [`selection`] are pure. [`Recorder`] gathers the notes of one build and keeps
//! them for the next one. Design: `docs/design/explain.md`.

mod align;
mod cause;
mod compare;
mod note;
mod recorder;
mod secret;
mod selection;
#[cfg(test)]
mod tests;

pub use cause::{Cause, FileChange, FileWhat, sentence};
pub use note::{Explained, ExplainedBuild};
pub use recorder::{Explain, builds, sweep};

pub(crate) use recorder::Recorder;
pub(crate) use selection::{FileEntry, entries_of};
