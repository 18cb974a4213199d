//! What `--call` asks of a Dockerfile instead of an image.

mod ignore;

use super::Context;
use super::failure::Failure;
use crate::args::{BuildArgs, Call, CallSpec};

/// Answers `spec.call`.
///
/// # Errors
/// If there is no answer.
pub(crate) fn run(spec: CallSpec, args: &BuildArgs, _context: &Context) -> Result<(), Failure> {
    if spec.call == Call::Ignore {
        return ignore::run(spec.format, args);
    }
    let known = Call::NAMES.iter().find(|(_, call)| *call == spec.call);
    let name = known.map_or("", |(name, _)| *name);
    Err(Failure::error(format!("not supported yet: --call={name}")))
}
