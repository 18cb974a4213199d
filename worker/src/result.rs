//! From a written snapshot to a result: commit, identity, agreement.

use cache::{Held, Holding};
use oci::Timestamp;
use snapshotter::{Active, Hints, SnapshotId};
use solver::{ContentId, RecordStore};

use crate::engine::Engine;
use crate::error::WorkerError;
use crate::key::{empty_content, step_content};
use crate::output::{Output, Payload, Rewrite, TreeOutput};

/// A result that was just made.
pub(crate) struct Made {
    /// The result; its snapshot may be an earlier making of the same content.
    pub(crate) output: TreeOutput,
    /// What its record keeps.
    pub(crate) payload: Payload,
}

/// A root file system that is being written; garbage once its process is gone.
pub(crate) struct Writable {
    pub(crate) active: Active,
    _lease: Held,
}

/// The root file system that an op names among its inputs; none for an empty one.
///
/// # Errors
/// If the position is not there or is a context: a mistake of the graph's maker.
pub(crate) fn root_of(
    position: Option<usize>,
    inputs: &[Output],
) -> Result<Option<TreeOutput>, WorkerError> {
    let Some(position) = position else { return Ok(None) };
    match inputs.get(position).and_then(Output::tree) {
        Some(tree) => Ok(Some(tree.clone())),
        None => Err(WorkerError::Internal(format!("input {position} is no root file system"))),
    }
}

/// The identity of a root, empty ones included.
pub(crate) fn content_of(root: Option<&TreeOutput>) -> ContentId {
    root.map_or_else(empty_content, |r| r.content)
}

impl Engine {
    /// A writable snapshot on `root`, leased before it exists.
    pub(crate) fn prepare(&self, root: Option<&TreeOutput>) -> Result<Writable, WorkerError> {
        let parent = root.and_then(|r| r.snapshot.as_ref());
        let id = SnapshotId::random();
        let lease = self.state.lease().hold(Holding::InProgress, &id.to_string())?;
        let active = self.snapshotter.prepare_as(id, parent)?;
        Ok(Writable { active, _lease: lease })
    }

    /// Throws away what a failed step wrote. A failure leaves garbage for the next collection.
    pub(crate) fn discard(&self, writable: Writable) {
        let id = writable.active.id();
        if let Err(error) = self.snapshotter.discard(writable.active) {
            self.warn(&format!("cannot remove the unfinished snapshot {id}: {error}"));
        }
    }

    /// Commits `writable` and agrees with other makings of the same content: the first one counts,
    /// so that a step that ran again and changed nothing leaves image and times as they were.
    pub(crate) fn commit(
        &self,
        writable: Writable,
        root: Option<&TreeOutput>,
        rewrite: Rewrite,
    ) -> Result<Made, WorkerError> {
        let snapshot = self.snapshotter.commit(writable.active, &Hints::default())?;
        self.state.wrote();
        let content = step_content(&content_of(root), &snapshot.diff_digest);
        let payload = self.agree(content, &snapshot.id, rewrite)?;
        let output = self
            .load_payload(content, &payload.encode())
            .ok_or_else(|| WorkerError::Internal(format!("snapshot {} vanished", snapshot.id)))?;
        Ok(Made { output, payload })
    }

    /// Agrees on the making of `content`: the first that is still there. Another one's `id` is
    /// removed.
    pub(crate) fn agree(
        &self,
        content: ContentId,
        id: &SnapshotId,
        rewrite: Rewrite,
    ) -> Result<Payload, WorkerError> {
        let _held = self.state.lease().hold(Holding::Snapshot, &id.to_string())?;
        let own = Payload { snapshot: Some(id.to_string()), created: Timestamp::now(), rewrite };
        let usable = |text: &str| {
            let payload = Payload::decode(text);
            payload.is_some_and(|p| self.load_payload(content, &p.encode()).is_some())
        };
        let agreed = self.state.adopt(&content, &own.encode(), &usable)?;
        let payload = Payload::decode(&agreed).unwrap_or_else(|| own.clone());
        if payload.snapshot != own.snapshot {
            self.remove_snapshot(id);
        }
        Ok(payload)
    }

    /// The result that a record's payload tells of, leased; `None` if its data is gone.
    pub(crate) fn load_payload(&self, content: ContentId, payload: &str) -> Option<TreeOutput> {
        let payload = Payload::decode(payload)?;
        let mut lease = None;
        let mut snapshot = None;
        if let Some(text) = &payload.snapshot {
            let id: SnapshotId = text.parse().ok()?;
            let exists = || self.snapshotter.get(&id).is_ok();
            lease = Some(self.state.lease().hold_if(Holding::Snapshot, text, exists).ok()??);
            snapshot = Some(id);
        }
        Some(TreeOutput {
            snapshot,
            content,
            created: payload.created,
            rewrite: payload.rewrite,
            lease,
        })
    }

    /// Removes a snapshot that nothing else knows of. A failure leaves garbage for the next
    /// collection and is no reason to fail a build.
    pub(crate) fn remove_snapshot(&self, id: &SnapshotId) {
        if let Err(error) = self.snapshotter.remove(id) {
            self.warn(&format!("cannot remove snapshot {id}: {error}"));
        }
    }
}
