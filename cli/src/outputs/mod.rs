//! Where a finished build goes: what is asked for, checked before the build, and put in place
//! after it.

pub mod destination;
pub mod metadata;
pub mod open;
pub mod plan;

pub use destination::{DestinationError, OutputFile, check_directory, remove_old};
pub use metadata::ImageResult;
pub use open::{OpenOutput, OpenTarget, OutputStream, open};
pub use plan::OutputPlan;
