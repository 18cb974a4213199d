//! Unpacking an image: layers download and unpack side by side, and are put on each other in
//! order.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cache::{Holding, StoredLayer};
use oci::digest::HashingReader;
use oci::{Descriptor, Digest, Timestamp};
use snapshotter::{Snapshot, SnapshotId, Unpacked};
use solver::{Event, StepContext};

use crate::ceiling::{Gated, Growing};
use crate::engine::Engine;
use crate::error::WorkerError;
use crate::key::image_content;
use crate::output::{Payload, Rewrite, TreeOutput};
use crate::result::Made;

use super::{ImageHandle, ImageLayer};

/// How many layers are fetched and unpacked at the same time.
const PARALLEL_LAYERS: usize = 4;

/// A layer that was unpacked and not yet put on another one; leased.
pub(crate) struct Held {
    layer: Unpacked,
    /// What it has reserved below the ceiling.
    growing: Growing,
    _lease: cache::Held,
}

/// A snapshot that was just made of one; kept until it is agreed on.
pub(crate) struct Attached {
    pub(crate) snapshot: Snapshot,
    _growing: Growing,
    _lease: cache::Held,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    fn drop_unpacked(&self, unpacked: Held) {
        if let Err(error) = self.snapshotter.discard_unpacked(unpacked.layer) {
            self.warn(&format!("cannot remove an unpacked layer: {error}"));
        }
    }

    /// The root file system of an image of the local store, where nothing has to be unpacked.
    pub(crate) fn image_at_hand(&self, image: &ImageHandle) -> Option<TreeOutput> {
        let diff_ids = &image.config.rootfs.diff_ids;
        let payload = match image.layers.last() {
            None => Payload {
                snapshot: None,
                created: image.config.created.unwrap_or_default(),
                rewrite: Rewrite::Never,
                used: None,
            },
            Some(ImageLayer::Stored(layer)) => Payload {
                snapshot: Some(layer.snapshot.clone()?),
                created: image.config.created.unwrap_or_default(),
                rewrite: Rewrite::Never,
                used: None,
            },
            Some(ImageLayer::Blob(_)) => return None,
        };
        self.load_payload(image_content(diff_ids), &payload.encode())
    }

    /// Unpacks the layers of `image` that are not unpacked yet.
    ///
    /// # Errors
    /// If a layer cannot be fetched or unpacked, or is not what manifest and config say.
    pub(crate) fn pull(
        &self,
        image: &ImageHandle,
        context: &StepContext<'_>,
    ) -> Result<Made, WorkerError> {
        let diff_ids = &image.config.rootfs.diff_ids;
        let (mut have, mut top) = self.unpacked_prefix(diff_ids)?;
        let jobs: Vec<usize> = (have..diff_ids.len()).collect();
        let mut unpacked = self.unpack_all(image, &jobs, context)?.into_iter();
        while let Some(layer) = unpacked.next() {
            have += 1;
            match self.stack(top.as_ref(), layer, &diff_ids[..have], &image.name) {
                Ok(output) => top = Some(output),
                Err(error) => {
                    unpacked.for_each(|layer| self.drop_unpacked(layer));
                    return Err(error);
                }
            }
        }
        let output = match top {
            Some(output) => output,
            None if !diff_ids.is_empty() => {
                return Err(WorkerError::Internal(format!("{} vanished", image.name)));
            }
            None => TreeOutput {
                snapshot: None,
                content: image_content(diff_ids),
                created: Timestamp::EPOCH,
                rewrite: Rewrite::Never,
                lease: None,
                lazy: None,
            },
        };
        let payload = Payload {
            snapshot: output.snapshot.as_ref().map(ToString::to_string),
            created: output.created,
            rewrite: Rewrite::Never,
            used: None,
        };
        Ok(Made { output, payload })
    }

    /// Puts an unpacked layer of `image` on `below`; `diff_ids` are those up to it.
    fn stack(
        &self,
        below: Option<&TreeOutput>,
        layer: Held,
        diff_ids: &[Digest],
        image: &str,
    ) -> Result<TreeOutput, WorkerError> {
        let attached = self.attach(below.and_then(|t| t.snapshot.as_ref()), layer)?;
        let made = self.agree(image_content(diff_ids), &attached.snapshot.id, Rewrite::Never)?;
        self.mark_pulled(&made.payload, image)?;
        Ok(made.output)
    }

    /// Makes a snapshot of an unpacked layer on `parent`.
    pub(crate) fn attach(
        &self,
        parent: Option<&SnapshotId>,
        layer: Held,
    ) -> Result<Attached, WorkerError> {
        if let Err(error) = layer.growing.will_write(self.copy_size(parent)) {
            self.drop_unpacked(layer);
            return Err(error);
        }
        let Held { layer, growing: _growing, _lease } = layer;
        let snapshot = self.snapshotter.attach(parent, layer)?;
        self.state.wrote();
        _growing.is_now(self, &snapshot.id);
        Ok(Attached { snapshot, _growing, _lease })
    }

    /// The longest run of lower layers that is unpacked already, for this image or another one.
    fn unpacked_prefix(
        &self,
        diff_ids: &[Digest],
    ) -> Result<(usize, Option<TreeOutput>), WorkerError> {
        for have in (1..=diff_ids.len()).rev() {
            let content = image_content(&diff_ids[..have]);
            if let Some(payload) = self.state.adopted(&content)
                && let Some(output) = self.load_payload(content, &payload)
            {
                return Ok((have, Some(output)));
            }
        }
        Ok((0, None))
    }

    /// Fetches and unpacks `jobs` (positions of layers), a few at a time; in their order. If one
    /// fails, nothing of the others stays.
    fn unpack_all(
        &self,
        image: &ImageHandle,
        jobs: &[usize],
        context: &StepContext<'_>,
    ) -> Result<Vec<Held>, WorkerError> {
        let queue = Mutex::new(jobs.iter().copied());
        let next = || lock(&queue).next();
        let done: Mutex<Vec<(usize, Held)>> = Mutex::default();
        let work = || -> Result<(), WorkerError> {
            while let Some(index) = next() {
                if context.cancel.is_cancelled() {
                    return Err(WorkerError::Cancelled);
                }
                match self.unpack_layer(image, index, context) {
                    Ok(unpacked) => lock(&done).push((index, unpacked)),
                    Err(error) => {
                        // The others stop at their next layer.
                        while next().is_some() {}
                        return Err(error);
                    }
                }
            }
            Ok(())
        };
        let result = std::thread::scope(|scope| {
            let count = PARALLEL_LAYERS.min(jobs.len());
            let workers: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
            let mut result = Ok(());
            for worker in workers {
                let ended = worker.join();
                result = result.and(ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            result
        });
        let mut all = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        all.sort_by_key(|(index, _)| *index);
        let unpacked = all.into_iter().map(|(_, unpacked)| unpacked);
        match result {
            Ok(()) => Ok(unpacked.collect()),
            Err(error) => {
                unpacked.for_each(|layer| self.drop_unpacked(layer));
                Err(error)
            }
        }
    }

    fn unpack_layer(
        &self,
        image: &ImageHandle,
        index: usize,
        context: &StepContext<'_>,
    ) -> Result<Held, WorkerError> {
        let diff_id = image.config.rootfs.diff_ids[index];
        let (blob, _held) = match &image.layers[index] {
            ImageLayer::Blob(blob) | ImageLayer::Stored(StoredLayer { blob: Some(blob), .. }) => {
                (blob.clone(), self.fetch_blob(blob, &image.origin, Some(context))?)
            }
            ImageLayer::Stored(stored) => self.stored_blob(stored)?,
        };
        let started = Timestamp::now();
        let status = |completed| {
            context.events.event(Event::Status {
                id: context.id,
                name: format!("extracting {}", blob.digest),
                current: blob.size,
                total: blob.size,
                started,
                completed,
            });
        };
        status(None);
        let unpacked = match self.unpack_blob(&image.name, &blob, &diff_id) {
            // A blob that was damaged here is as if it were not there.
            Err(_) if self.state.blobs().drop_if_damaged(&blob)? => {
                self.fetch_blob(&blob, &image.origin, Some(context))?;
                self.unpack_blob(&image.name, &blob, &diff_id)?
            }
            other => other?,
        };
        status(Some(Timestamp::now()));
        Ok(unpacked)
    }

    /// Unpacks a verified blob and checks that it unpacks to `diff_id`.
    pub(crate) fn unpack_blob(
        &self,
        image: &str,
        blob: &Descriptor,
        diff_id: &Digest,
    ) -> Result<Held, WorkerError> {
        let fail = |source: Box<dyn std::error::Error + Send + Sync>| WorkerError::Unpack {
            image: image.to_owned(),
            blob: blob.digest,
            source,
        };
        let mut reader = HashingReader::new(self.decoded_blob(blob)?.1);
        let id = SnapshotId::random();
        let lease = self.state.lease().hold(Holding::InProgress, &id.to_string())?;
        let growing = self.grow_snapshot(&id, None)?;
        let unpacked = growing.watched(&|text| self.warn(text), || {
            let mut gated = Gated::new(&mut reader, &growing);
            self.snapshotter.unpack_as(id, &mut gated).map_err(|e| fail(e.into()))
        })?;
        let unpacked = Held { layer: unpacked, growing, _lease: lease };
        // What follows the end of the archive is part of the diff id.
        if let Err(error) = io::copy(&mut reader, &mut io::sink()) {
            self.drop_unpacked(unpacked);
            return Err(fail(error.into()));
        }
        let (_, actual, _) = reader.finish();
        if actual != *diff_id {
            self.drop_unpacked(unpacked);
            return Err(WorkerError::DiffId {
                image: image.to_owned(),
                blob: blob.digest,
                expected: *diff_id,
                actual,
            });
        }
        Ok(unpacked)
    }
}
