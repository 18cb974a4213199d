//! Bringing a lazy tree here: fetch, unpack, check, agree.

use std::sync::{Mutex, PoisonError};

use oci::layer::{LayerItem, LayerManifest, LayerReader, Node, to_layer_entry};
use oci::{Digest, Timestamp};
use registry::ErrorKind;
use solver::{ContentId, Event, Record, RecordStore, StepContext};

use super::import::Import;
use super::tree::{BlobLayer, From, LazyLayer, LazyTree, Place};
use crate::engine::Engine;
use crate::error::WorkerError;
use crate::image::{Making, Origin, compression_of};
use crate::key::{empty_content, linked_content, step_content};
use crate::output::{Payload, Rewrite, TreeOutput};

/// How many layers are fetched at the same time.
const PARALLEL_FETCHES: usize = 4;

/// Why a lazy tree is not here.
pub(crate) enum Absent {
    /// It cannot be had from the cache: the step has to run.
    Lost,
    /// Something else failed.
    Failed(WorkerError),
}

impl<E: Into<WorkerError>> std::convert::From<E> for Absent {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// A layer that is looked at: what of its cache is used for it.
struct Site<'a> {
    import: &'a Import,
    origin: &'a Origin,
    context: &'a StepContext<'a>,
}

impl Site<'_> {
    /// The layer cannot be had. A cache that went silent is not waited for a second time.
    fn missing(&self, layer: &BlobLayer, error: &WorkerError) -> Absent {
        if let WorkerError::Registry(error) = error {
            if matches!(error.kind, ErrorKind::Cancelled) {
                return Absent::Failed(WorkerError::Cancelled);
            }
            if error.kind.is_silence() {
                self.import.went_silent();
            }
        }
        self.refuse(layer, &error.to_string())
    }

    /// The layer is of no use; people are told, unless the build is being stopped.
    fn refuse(&self, layer: &BlobLayer, why: &str) -> Absent {
        if self.context.cancel.is_cancelled() {
            return Absent::Failed(WorkerError::Cancelled);
        }
        self.import.refuse(layer.blob.digest, why, self.context);
        Absent::Lost
    }
}

impl Engine {
    /// The tree of `content` that is here, whoever made it.
    pub(super) fn tree_here(&self, content: ContentId) -> Option<TreeOutput> {
        let payload = self.state.adopted(&content)?;
        self.load_payload(content, &payload).filter(|tree| tree.snapshot.is_some())
    }

    /// How many of the layers of `lazy` are here already, and the tree that they are.
    fn part_here(&self, lazy: &LazyTree) -> (usize, Option<TreeOutput>) {
        let all = lazy.layers.iter().enumerate().rev();
        // A tree that is here may be what a record says, and not what the layer is on.
        let mut found = all.filter_map(|(at, layer)| {
            let here = self.tree_here(layer.content)?;
            let fits = lazy.below(at).is_none_or(|below| self.is_layer_on(&here, &below));
            fits.then_some((at + 1, here))
        });
        found.next().map_or((0, None), |(count, tree)| (count, Some(tree)))
    }

    /// Whether nothing is known to be missing of what would have to be brought.
    pub(super) fn can_bring(&self, lazy: &LazyTree) -> bool {
        let Some(from) = &lazy.from else { return true };
        let (have, _) = self.part_here(lazy);
        let usable = |layer: &LazyLayer| {
            layer.place.blob().is_some_and(|it| self.is_to_be_had(&from.import, it))
        };
        lazy.layers[have..].iter().all(usable)
    }

    /// Whether nothing is known against a layer of a cache.
    fn is_to_be_had(&self, import: &Import, layer: &BlobLayer) -> bool {
        let asked = !import.is_silent() || self.state.blobs().has(&layer.blob);
        asked && !import.is_bad(&layer.blob.digest)
    }

    /// Whether every layer on the base is known to be somewhere.
    pub(super) fn can_push(&self, lazy: &LazyTree) -> bool {
        let Some(from) = &lazy.from else { return true };
        let known = lazy.blobs();
        known.is_some_and(|all| all.iter().all(|it| self.is_to_be_had(&from.import, it)))
    }

    /// Brings a tree here, with all layers below it.
    pub(crate) fn bring(
        &self,
        lazy: &LazyTree,
        context: &StepContext<'_>,
    ) -> Result<TreeOutput, Absent> {
        if let Some(here) = lazy.here() {
            return Ok(here.clone());
        }
        // Before the base is fetched for nothing.
        if !self.can_bring(lazy) {
            return Err(Absent::Lost);
        }
        let (have, mut top) = self.part_here(lazy);
        let missing = &lazy.layers[have..];
        if let Some(from) = &lazy.from {
            let origin = &from.loaded.origin;
            let site = Site { import: &from.import, origin, context };
            std::thread::scope(|scope| {
                let fetched = scope.spawn(|| self.fetch_all(missing, &site));
                if let (0, Some(base)) = (have, &lazy.base) {
                    top = Some(self.pull(base, context)?.output);
                }
                fetched.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })?;
            for layer in missing {
                top = Some(self.bring_layer(top.as_ref(), layer, &site)?);
            }
        } else if let Some(base) = &lazy.base {
            top = Some(self.pull(base, context)?.output);
        }
        let tree = top.unwrap_or_else(TreeOutput::empty);
        lazy.arrived(&tree);
        if let Some(from) = &lazy.from {
            self.adopt_record(from, &tree);
        }
        Ok(tree)
    }

    /// Fetches the blobs of `layers`, a few at a time, without a second one for one tree.
    fn fetch_all(&self, layers: &[LazyLayer], site: &Site<'_>) -> Result<(), Absent> {
        let queue = Mutex::new(layers.iter());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || -> Result<(), Absent> {
            while let Some(layer) = next() {
                let Some(blob) = layer.place.blob() else { return Err(Absent::Lost) };
                let cell = site.import.cell(layer.content);
                let _one = cell.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(error) = self.fetch_blob(&blob.blob, site.origin, Some(site.context)) {
                    while next().is_some() {}
                    return Err(site.missing(blob, &error));
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let count = PARALLEL_FETCHES.min(layers.len());
            let workers: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
            let ended = workers.into_iter().map(|worker| worker.join());
            let ended: Vec<_> =
                ended.map(|it| it.unwrap_or_else(|e| std::panic::resume_unwind(e))).collect();
            ended.into_iter().collect()
        })
    }

    /// Puts one layer onto the tree below it, and checks that it is what the record says.
    fn bring_layer(
        &self,
        below: Option<&TreeOutput>,
        layer: &LazyLayer,
        site: &Site<'_>,
    ) -> Result<TreeOutput, Absent> {
        let cell = site.import.cell(layer.content);
        let _one = cell.lock().unwrap_or_else(PoisonError::into_inner);
        let base = below.map_or_else(empty_content, |tree| tree.content);
        let here = self.tree_here(layer.content);
        if let Some(here) = here.filter(|here| self.is_layer_on(here, &base)) {
            return Ok(here);
        }
        match &layer.place {
            Place::Nowhere => Err(Absent::Lost),
            Place::Blob(blob) => {
                let made = (layer.content, layer.rewrite, layer.created);
                self.attach_layer(below, blob, made, site)
            }
            Place::Linked { content, created, blob } => {
                let own = self.tree_here(*content);
                let own = match own.filter(|own| self.is_layer_on(own, &empty_content())) {
                    Some(own) => own,
                    None => {
                        let made = (*content, layer.rewrite, *created);
                        self.attach_layer(None, blob, made, site)?
                    }
                };
                let snapshot = own.snapshot.as_ref().ok_or(Absent::Lost)?;
                let diff = self.snapshotter.get(snapshot).map_err(WorkerError::from)?.diff_digest;
                if linked_content(&base, &diff, layer.rewrite) != layer.content {
                    return Err(site.refuse(blob, "it makes other files than the record says"));
                }
                let below = below.cloned().unwrap_or_else(TreeOutput::empty);
                Ok(self.merge(&below, &own)?.output)
            }
        }
    }

    /// Unpacks a blob onto `below`; it has to make the tree `content`.
    fn attach_layer(
        &self,
        below: Option<&TreeOutput>,
        layer: &BlobLayer,
        (content, rewrite, created): (ContentId, Rewrite, Timestamp),
        site: &Site<'_>,
    ) -> Result<TreeOutput, Absent> {
        // Also where there is no room for it below a ceiling: the step has no blob to keep besides.
        let refuse = |error: WorkerError| site.missing(layer, &error);
        let _blob =
            self.fetch_blob(&layer.blob, site.origin, Some(site.context)).map_err(refuse)?;
        let name = &site.import.name;
        let status = self.extracting(layer, site.context);
        let unpack = || {
            self.check_type(layer)?;
            self.unpack_blob(name, &layer.blob, &layer.diff_id)
        };
        let unpacked = match unpack() {
            // A blob that was damaged here is as if it were not there.
            Err(_) if self.state.blobs().verify(&layer.blob.digest).is_ok_and(|good| !good) => {
                self.state.blobs().remove(&layer.blob.digest)?;
                self.fetch_blob(&layer.blob, site.origin, Some(site.context))
                    .and_then(|_held| unpack())
            }
            other => other,
        };
        let unpacked = unpacked.map_err(refuse)?;
        let parent = below.and_then(|tree| tree.snapshot.as_ref());
        let attached = self.attach(parent, unpacked).map_err(refuse)?;
        let snapshot = &attached.snapshot;
        status(Some(Timestamp::now()));
        let base = below.map_or_else(empty_content, |tree| tree.content);
        if step_content(&base, &snapshot.diff_digest, rewrite) != content {
            self.remove_snapshot(&snapshot.id);
            return Err(site.refuse(layer, "it makes other files than the record says"));
        }
        let making = Making { snapshot: snapshot.id.to_string(), rewrite, epoch: None };
        self.note_layer(&making, &layer.diff_id, &layer.blob)?;
        Ok(self.agree_at(content, &snapshot.id, rewrite, created)?.output)
    }

    fn extracting<'a>(
        &self,
        layer: &'a BlobLayer,
        context: &'a StepContext<'a>,
    ) -> impl Fn(Option<Timestamp>) + 'a {
        let started = Timestamp::now();
        let status = move |completed| {
            context.events.event(Event::Status {
                id: context.id,
                name: format!("extracting {}", layer.blob.digest),
                current: layer.blob.size,
                total: layer.blob.size,
                started,
                completed,
            });
        };
        status(None);
        status
    }

    /// Keeps a record of what was brought, unless there is one of this machine's own.
    pub(super) fn adopt_record(&self, from: &From, tree: &TreeOutput) {
        let record = &from.record;
        let kept = || -> Result<(), solver::StoreError> {
            // Whoever has it makes a record of its own.
            let Some(claim) = self.state.claim(&record.key)? else { return Ok(()) };
            let own = self.state.get(&record.key, Timestamp::EPOCH)?;
            if own.is_some_and(|own| self.load_payload(own.content, &own.payload).is_some()) {
                return Ok(());
            }
            let payload = Payload {
                snapshot: tree.snapshot.as_ref().map(ToString::to_string),
                created: tree.created,
                rewrite: tree.rewrite,
                used: None,
            };
            self.state.publish(
                claim.as_ref(),
                &Record {
                    key: record.key,
                    content: tree.content,
                    payload: payload.encode(),
                    started: record.started,
                    ended: record.ended,
                    duration: record.duration(),
                    name: from.name.clone(),
                    inputs: Vec::new(),
                },
            )
        };
        if let Err(error) = kept() {
            self.warn(&format!("what came from {} is not kept: {error}", from.import.name));
        }
    }

    /// Fetches the blobs of the layers on the base for an output that needs no more of them, and
    /// checks that each is what the records say.
    pub(super) fn fetch_layers(
        &self,
        lazy: &LazyTree,
        context: &StepContext<'_>,
    ) -> Result<(), Absent> {
        let Some(from) = &lazy.from else { return Ok(()) };
        let site = Site { import: &from.import, origin: &from.loaded.origin, context };
        self.fetch_all(&lazy.layers, &site)?;
        let mut below = lazy.base.as_ref().map_or_else(empty_content, |base| {
            crate::key::image_content(&base.config.rootfs.diff_ids)
        });
        for layer in &lazy.layers {
            let Some(blob) = layer.place.blob() else { return Err(Absent::Lost) };
            let held = self.fetch_blob(&blob.blob, site.origin, Some(context));
            lazy.keep(held.map_err(|error| site.missing(blob, &error))?);
            let diff = self.diff_of_blob(blob).map_err(|error| {
                // It is as its digest says, so it was made like that.
                site.refuse(blob, &error.to_string())
            })?;
            let content = match &layer.place {
                Place::Linked { .. } => linked_content(&below, &diff, layer.rewrite),
                _ => step_content(&below, &diff, layer.rewrite),
            };
            if content != layer.content {
                return Err(site.refuse(blob, "it makes other files than the record says"));
            }
            below = layer.content;
        }
        Ok(())
    }

    /// Whether a blob that is here is compressed as its type says: it may become one of an image,
    /// and whoever reads that goes by the type.
    fn check_type(&self, layer: &BlobLayer) -> Result<(), WorkerError> {
        let (actual, _) = self.decoded_blob(&layer.blob)?;
        let told = compression_of(&layer.blob.media_type);
        if told == Some(actual) {
            return Ok(());
        }
        Err(WorkerError::Unpack {
            image: "the cache".to_owned(),
            blob: layer.blob.digest,
            source: format!("its type is {}, and it is {actual}", layer.blob.media_type).into(),
        })
    }

    /// The digest of what a layer changes, from its blob alone; its diff id is checked on the way.
    fn diff_of_blob(&self, layer: &BlobLayer) -> Result<[u8; 32], WorkerError> {
        let fail = |source: Box<dyn std::error::Error + Send + Sync>| WorkerError::Unpack {
            image: "the cache".to_owned(),
            blob: layer.blob.digest,
            source,
        };
        self.check_type(layer)?;
        let (_, decoder) = self.decoded_blob(&layer.blob)?;
        let mut hashing = oci::digest::HashingReader::new(decoder);
        let mut tar = LayerReader::new(&mut hashing);
        let mut entries = Vec::new();
        while let Some(raw) = tar.next().map_err(|e| fail(e.into()))? {
            let mut hasher = blake3::Hasher::new();
            let size =
                std::io::copy(&mut tar.content(), &mut hasher).map_err(|e| fail(e.into()))?;
            let content = oci::layer::ContentHash(*hasher.finalize().as_bytes());
            match to_layer_entry(&raw, Some(content)).map_err(|e| fail(e.into()))? {
                LayerItem::Entry(mut entry) => {
                    if let Node::File { size: written, .. } = &mut entry.node {
                        *written = size;
                    }
                    entries.push(entry);
                }
                LayerItem::Opaque(_) | LayerItem::Skip(_) => {
                    return Err(fail("it has marks that no layer of a cache has".into()));
                }
            }
        }
        std::io::copy(&mut tar.into_inner(), &mut std::io::sink()).map_err(|e| fail(e.into()))?;
        let actual: Digest = hashing.finish().1;
        if actual != layer.diff_id {
            return Err(WorkerError::DiffId {
                image: "the cache".to_owned(),
                blob: layer.blob.digest,
                expected: layer.diff_id,
                actual,
            });
        }
        Ok(LayerManifest::new(entries).diff_digest())
    }
}
