//! From a written snapshot to a result: commit, identity, agreement.

use std::cell::RefCell;

use cache::{Held, Holding};
use oci::Timestamp;
use snapshotter::{Active, Hints, SnapshotId};
use solver::{ContentId, RecordStore};

use crate::ceiling::Growing;
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
    /// What it has reserved below the ceiling.
    pub(crate) growing: Growing,
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
        self.prepare_for(root, 0)
    }

    /// As [`Self::prepare`], for so many bytes that are known to be written.
    pub(crate) fn prepare_for(
        &self,
        root: Option<&TreeOutput>,
        bytes: u64,
    ) -> Result<Writable, WorkerError> {
        let parent = root.and_then(|r| r.snapshot.as_ref());
        let id = SnapshotId::random();
        let lease = self.state.lease().hold(Holding::InProgress, &id.to_string())?;
        // Plain copies begin with all that is below.
        let known = bytes.saturating_add(self.copy_size(parent));
        let growing = self.grow_snapshot(&id, (known > 0).then_some(known))?;
        let active = self.snapshotter.prepare_as(id, parent)?;
        Ok(Writable { active, growing, _lease: lease })
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
        hints: &Hints,
    ) -> Result<Made, WorkerError> {
        let snapshot = self.snapshotter.commit(writable.active, hints)?;
        self.state.wrote();
        writable.growing.is_now(self, &snapshot.id);
        let content = step_content(&content_of(root), &snapshot.diff_digest, rewrite);
        self.agree(content, &snapshot.id, rewrite)
    }

    /// Agrees on the making of `content`: the first that is still there. Another one's `id` is
    /// removed. Whichever it is, it is leased from before the agreement on.
    pub(crate) fn agree(
        &self,
        content: ContentId,
        id: &SnapshotId,
        rewrite: Rewrite,
    ) -> Result<Made, WorkerError> {
        self.agree_at(content, id, rewrite, Timestamp::now())
    }

    /// As [`Self::agree`], of a layer that was made at `created`.
    pub(crate) fn agree_at(
        &self,
        content: ContentId,
        id: &SnapshotId,
        rewrite: Rewrite,
        created: Timestamp,
    ) -> Result<Made, WorkerError> {
        let own = Payload { snapshot: Some(id.to_string()), created, rewrite, used: None };
        let text = own.encode();
        let mine = self
            .load_payload(content, &text)
            .ok_or_else(|| WorkerError::Internal(format!("snapshot {id} vanished")))?;
        let earlier = RefCell::new(None);
        let usable = |text: &str| {
            let found = self.load_payload(content, text).filter(|o| o.snapshot.is_some());
            let usable = found.is_some();
            earlier.replace(found);
            usable
        };
        let agreed = self.state.adopt(&content, &text, &usable)?;
        let (Some(output), Some(payload)) = (earlier.into_inner(), Payload::decode(&agreed)) else {
            return Ok(Made { output: mine, payload: own });
        };
        if payload.snapshot != own.snapshot {
            drop(mine);
            self.remove_snapshot(id);
        }
        Ok(Made { output, payload })
    }

    /// The result that a record's payload tells of, leased; `None` if its data is gone.
    pub(crate) fn load_payload(&self, content: ContentId, payload: &str) -> Option<TreeOutput> {
        let payload = Payload::decode(payload)?;
        let mut lease = None;
        let mut snapshot = None;
        if let Some(text) = &payload.snapshot {
            let id: SnapshotId = text.parse().ok()?;
            // The whole chain: a hole below the leaf makes it as useless as a missing leaf.
            let exists = || self.snapshotter.find(&id).is_ok();
            lease = Some(self.state.lease().hold_if(Holding::Snapshot, text, exists).ok()??);
            snapshot = Some(id);
            if let Err(error) = self.state.last_used().touch(text) {
                self.warn(&format!("the last use of a snapshot cannot be noted: {error}"));
            }
        }
        Some(TreeOutput {
            snapshot,
            content,
            created: payload.created,
            rewrite: payload.rewrite,
            lease,
            lazy: None,
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
