//! What is told of a build by a user with one id.

use super::failure::Failure;
use crate::rootless::Unavailable;

/// What is told at the start.
pub(crate) fn note(missing: &Unavailable) -> String {
    format!(
        "this build has one user id and one group id ({}): every file has to belong to 0:0, and \
         every step runs as root without other groups; anything else ends it",
        missing.reasons()
    )
}

/// What is told with a failure.
pub(crate) fn advise(failure: Failure, missing: &Unavailable) -> Failure {
    let told = failure.hint(
        "this build had one user id and one group id: other owners, users and groups could not be \
         had, neither by COPY and USER nor inside a step (chown, setgroups: Invalid argument, \
         Operation not permitted); with a range of ids they work as for root",
    );
    missing.hints().into_iter().fold(told, Failure::hint)
}
