//! Reading all that the cache keeps, at leisure: what nobody looked at for long may be damaged.

use cache::Holding;
use rayon::prelude::*;
use snapshotter::SnapshotId;

use crate::engine::Engine;
use crate::error::WorkerError;

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Snapshots that are as they were.
    pub snapshots: u64,
    /// Blobs that are what their names say.
    pub blobs: u64,
    /// Records and facts that can be read.
    pub records: u64,
    /// What was damaged, and is not used any more. A remark tells what it was.
    pub damaged: u64,
}

impl Engine {
    /// Reads every snapshot, blob and record and compares it with its digest or checksum. What is
    /// damaged is put away, so that the next build makes it again. Safe beside running builds.
    ///
    /// # Errors
    /// If something cannot be read or put away for another reason than damage.
    pub fn verify(&self) -> Result<Verified, WorkerError> {
        let before = self.damage_count();
        let mut verified = Verified { records: self.state.check_records()?, ..Verified::default() };
        for id in self.snapshotter.list()? {
            if self.cancel.is_cancelled() {
                return Err(WorkerError::Cancelled);
            }
            verified.snapshots += u64::from(self.verify_snapshot(&id)?);
        }
        let blobs = self.state.blobs();
        let digests: Vec<_> = blobs.list()?.into_iter().map(|blob| blob.digest).collect();
        let check = |digest| -> Result<u64, WorkerError> {
            if self.cancel.is_cancelled() {
                return Err(WorkerError::Cancelled);
            }
            Ok(u64::from(blobs.check(digest)?))
        };
        verified.blobs = digests.par_iter().map(check).sum::<Result<u64, WorkerError>>()?;
        // Reading them tells which cannot be.
        self.state.images().list()?;
        verified.damaged = self.damage_count() - before;
        Ok(verified)
    }

    /// Whether the snapshot is there and good. It stays while it is read.
    fn verify_snapshot(&self, id: &SnapshotId) -> Result<bool, WorkerError> {
        let exists = || self.snapshotter.get(id).is_ok();
        let held = self.state.lease().hold_if(Holding::Snapshot, &id.to_string(), exists)?;
        let Some(_held) = held else { return Ok(false) };
        match self.snapshotter.verify(id) {
            Err(error) if error.is_not_found() => Ok(false),
            other => Ok(other?),
        }
    }
}
