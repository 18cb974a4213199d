//! `COPY --link`: a layer put onto another root file system.

use crate::engine::Engine;
use crate::error::WorkerError;
use crate::output::TreeOutput;
use crate::result::Made;

impl Engine {
    /// Puts the only layer of `layer` onto `base`.
    pub(crate) fn merge(&self, base: &TreeOutput, layer: &TreeOutput) -> Result<Made, WorkerError> {
        let _ = (base, layer);
        Err(WorkerError::Unsupported("merge".to_owned()))
    }
}
