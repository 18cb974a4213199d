//! Trees of git repositories.

use graph::GitSource;
use solver::StepContext;

use super::Secrets;
use crate::engine::Engine;
use crate::error::WorkerError;
use crate::result::Made;

impl Engine {
    /// The commit that `source` means today, as 40 or 64 hexadecimal digits.
    pub(crate) fn git_commit(
        &self,
        source: &GitSource,
        secrets: &dyn Secrets,
        context: &StepContext<'_>,
    ) -> Result<String, WorkerError> {
        let _ = (secrets, context);
        Err(WorkerError::Unsupported(source.remote.clone()))
    }

    /// Checks `commit` of `source` out into a snapshot.
    pub(crate) fn git_checkout(
        &self,
        source: &GitSource,
        commit: &str,
        secrets: &dyn Secrets,
        context: &StepContext<'_>,
    ) -> Result<Made, WorkerError> {
        let _ = (commit, secrets, context);
        Err(WorkerError::Unsupported(source.remote.clone()))
    }
}
