//! Files behind URLs.

use std::sync::Arc;

use graph::HttpSource;
use solver::StepContext;

use super::{FileTree, Secrets};
use crate::engine::Engine;
use crate::error::WorkerError;

impl Engine {
    /// The file that `source` names, as it is today. It is asked for again only if it may have
    /// changed.
    pub(crate) fn http_file(
        &self,
        source: &HttpSource,
        secrets: &dyn Secrets,
        context: &StepContext<'_>,
    ) -> Result<Arc<FileTree>, WorkerError> {
        let _ = (secrets, context);
        Err(WorkerError::Unsupported(source.url.clone()))
    }
}
