//! What can be asked of a Dockerfile without building it.

mod outline;
mod targets;

pub use outline::{Outline, OutlineArg, OutlineMount};
pub use targets::Target;
pub(crate) use targets::targets;
