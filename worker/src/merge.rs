//! `COPY --link`: a layer put onto another root file system.

use cache::Holding;
use snapshotter::SnapshotId;

use crate::engine::Engine;
use crate::error::WorkerError;
use crate::key::linked_content;
use crate::output::{Payload, TreeOutput};
use crate::result::Made;

impl Engine {
    /// Puts the only layer of `layer` onto `base`. No file is copied or read for it, and the layer
    /// stays the one that it is, with its blobs and the time when it was made.
    ///
    /// # Errors
    /// If the snapshot can't be made, or `layer` has no layer or several: a mistake of the graph's
    /// maker.
    pub(crate) fn merge(&self, base: &TreeOutput, layer: &TreeOutput) -> Result<Made, WorkerError> {
        let Some(own) = &layer.snapshot else {
            return Err(WorkerError::Internal("a linked copy made no layer".to_owned()));
        };
        let Some(parent) = &base.snapshot else {
            // An image without layers: on nothing the layer is what it is.
            let payload = Payload {
                snapshot: Some(own.to_string()),
                created: layer.created,
                rewrite: layer.rewrite,
                used: None,
            };
            return Ok(Made { output: layer.clone(), payload });
        };
        let id = SnapshotId::random();
        let _unfinished = self.state.lease().hold(Holding::InProgress, &id.to_string())?;
        let snapshot = self.snapshotter.rebase_as(id, own, parent)?;
        self.state.wrote();
        let content = linked_content(&base.content, &snapshot.diff_digest, layer.rewrite);
        self.agree_at(content, &snapshot.id, layer.rewrite, layer.created)
    }
}
