//! The layers of an image as exporters want them: diff ids, blobs, files.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use cache::{Held, Holding, StoredLayer};
use exporter::{LayerError, LayerFormat, Layers};
use oci::digest::HashingWriter;
use oci::layer::{self, Compression, Encoder};
use oci::layer::{Entry, LayerManifest, Tree, WriteOptions, write_layer};
use oci::{Descriptor, Digest, Reference, Timestamp, media_type};
use serde::{Deserialize, Serialize};
use snapshotter::SnapshotId;
use solver::CancelToken;

use crate::engine::Engine;
use crate::error::WorkerError;
use crate::output::Rewrite;

use super::Origin;

/// The domain of facts that tell how the tar of a diff id is made again.
const MAKING_FACT: &str = "layer";
/// The domain of facts that tell the diff id of a making.
const DIFF_FACT: &str = "diff-id";
/// The domain of facts that tell the blob of a diff id in some compression.
const BLOB_FACT: &str = "blob";
/// How often a blob is made again that a garbage collection took before it could be held.
const MAX_COLLECTED: usize = 3;

/// How a layer's tar is made: the same making gives the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Making {
    /// The snapshot whose diff it is.
    pub(crate) snapshot: String,
    /// What happens to times.
    pub(crate) rewrite: Rewrite,
    /// The time that they are rewritten to; none leaves them alone.
    pub(crate) epoch: Option<Timestamp>,
}

/// One layer of an image that is put together.
#[derive(Clone)]
pub(crate) struct AssembledLayer {
    pub(crate) diff_id: Digest,
    /// The snapshot that it was unpacked to or made in.
    pub(crate) snapshot: Option<SnapshotId>,
    /// How its tar was made, for a layer of this build.
    pub(crate) making: Option<Making>,
    /// The blob that its manifest had for it.
    pub(crate) blob: Option<Descriptor>,
    /// Where that comes from, if not from where the image does.
    pub(crate) origin: Option<Origin>,
}

/// The layers of one image.
pub struct ImageLayers {
    engine: Arc<Engine>,
    layers: Vec<AssembledLayer>,
    diff_ids: Vec<Digest>,
    origin: Origin,
    leaf: Option<SnapshotId>,
    /// Keeps the leaf, and with it the chain, and every blob that was asked for.
    leases: Mutex<Vec<Held>>,
}

impl ImageLayers {
    pub(crate) fn new(
        engine: Arc<Engine>,
        layers: Vec<AssembledLayer>,
        origin: Origin,
        leaf: Option<SnapshotId>,
    ) -> Self {
        let diff_ids = layers.iter().map(|l| l.diff_id).collect();
        // Whoever hands the layers in holds them; this holds them for as long as it lives.
        let lease = leaf.as_ref().and_then(|leaf| {
            let exists = || engine.snapshotter.get(leaf).is_ok();
            engine.state.lease().hold_if(Holding::Snapshot, &leaf.to_string(), exists).ok()?
        });
        let leases = Mutex::new(lease.into_iter().collect());
        Self { engine, layers, diff_ids, origin, leaf, leases }
    }

    /// The layers as the image store keeps them.
    pub fn stored(&self) -> Vec<StoredLayer> {
        let stored = |l: &AssembledLayer| StoredLayer {
            diff_id: l.diff_id,
            snapshot: l.snapshot.as_ref().map(ToString::to_string),
            blob: l.blob.clone(),
        };
        self.layers.iter().map(stored).collect()
    }

    /// Whether layers come from a cache and not from snapshots.
    pub fn is_elsewhere(&self) -> bool {
        self.layers.iter().any(|layer| layer.origin.is_some())
    }

    /// Where the blob of a layer comes from.
    fn origin_of<'a>(&'a self, layer: &'a AssembledLayer) -> &'a Origin {
        layer.origin.as_ref().unwrap_or(&self.origin)
    }

    fn keep(&self, held: Held) {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).push(held);
    }

    /// The registry's name for the image that it rests on, where that was pulled.
    pub fn source(&self) -> Option<&Reference> {
        self.origin.registry()
    }

    /// The snapshot of the whole tree; none where there are no layers.
    pub fn leaf(&self) -> Option<&SnapshotId> {
        self.leaf.as_ref()
    }
}

impl Layers for ImageLayers {
    fn diff_ids(&self) -> &[Digest] {
        &self.diff_ids
    }

    fn blob(&self, index: usize, format: &LayerFormat) -> Result<Descriptor, LayerError> {
        let layer = &self.layers[index];
        if let Some(blob) = &layer.blob
            && (!format.force || compression_of(&blob.media_type) == Some(format.compression))
        {
            let held = self.engine.fetch_blob(blob, self.origin_of(layer), None)?;
            self.keep(held);
            return Ok(blob.clone());
        }
        let (blob, held) = self.engine.layer_blob(layer, self.origin_of(layer), format)?;
        self.keep(held);
        Ok(blob)
    }

    fn describe(&self, index: usize, format: &LayerFormat) -> Result<Descriptor, LayerError> {
        let layer = &self.layers[index];
        match &layer.blob {
            Some(blob)
                if self.is_elsewhere()
                    && matches!(self.origin_of(layer), Origin::Registry(_))
                    && (!format.force
                        || compression_of(&blob.media_type) == Some(format.compression)) =>
            {
                Ok(blob.clone())
            }
            _ => self.blob(index, format),
        }
    }

    fn bring(&self, index: usize, blob: &Descriptor) -> Result<(), LayerError> {
        let layer = &self.layers[index];
        if layer.blob.as_ref().is_some_and(|own| own.digest == blob.digest) {
            self.keep(self.engine.fetch_blob(blob, self.origin_of(layer), None)?);
        }
        Ok(())
    }

    fn origin(&self, index: usize) -> Option<Reference> {
        let layer = &self.layers[index];
        match (self.origin_of(layer), &layer.blob) {
            (Origin::Registry(reference), Some(_)) => Some(reference.clone()),
            _ => None,
        }
    }

    fn tree(&self) -> Result<Tree, LayerError> {
        Ok(self.engine.snapshotter.tree(self.leaf.as_ref())?)
    }

    fn open(&self, index: usize, entry: &Entry) -> Result<Box<dyn Read>, LayerError> {
        let chain = match &self.leaf {
            Some(leaf) => self.engine.snapshotter.chain(leaf)?,
            None => Vec::new(),
        };
        let id = chain.get(index).ok_or("the image has no such layer")?;
        Ok(Box::new(self.engine.snapshotter.open_verified(id, entry)?))
    }
}

/// The compression that a layer's media type tells.
pub(crate) fn compression_of(media: &str) -> Option<Compression> {
    match media {
        media_type::OCI_LAYER | media_type::DOCKER_LAYER => Some(Compression::None),
        media_type::OCI_LAYER_GZIP | media_type::DOCKER_LAYER_GZIP => Some(Compression::Gzip),
        media_type::OCI_LAYER_ZSTD => Some(Compression::Zstd),
        _ => None,
    }
}

impl Engine {
    /// The diff id of a snapshot's layer, computed once per making. With `format`, the blob is
    /// made in the same pass.
    pub(crate) fn diff_id(
        &self,
        making: &Making,
        format: Option<&LayerFormat>,
    ) -> Result<Digest, WorkerError> {
        let key = serde_json::to_vec(making).expect("a making has only plain fields");
        if let Some(known) = self
            .state
            .get_fact(DIFF_FACT, &key)
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .and_then(|text| text.parse().ok())
        {
            return Ok(known);
        }
        let diff_id = match format {
            Some(format) => self.make_blob(making, format)?.0,
            None => {
                let out = HashingWriter::new(io::sink());
                self.write_tar(making, out)?.finish().1
            }
        };
        // The way back first: a diff id that is known can be made.
        self.state.put_fact(MAKING_FACT, diff_id.to_string().as_bytes(), &key)?;
        self.state.put_fact(DIFF_FACT, &key, diff_id.to_string().as_bytes())?;
        Ok(diff_id)
    }

    /// The blob of a layer in a compression: the one that was made before, or a new one. It stays
    /// as long as the second result lives.
    pub(crate) fn layer_blob(
        &self,
        layer: &AssembledLayer,
        origin: &Origin,
        format: &LayerFormat,
    ) -> Result<(Descriptor, Held), WorkerError> {
        if let Some(known) = self.known_blob(&layer.diff_id, format)? {
            return Ok(known);
        }
        for _ in 0..MAX_COLLECTED {
            let blob = match &layer.blob {
                Some(original) => self.convert_blob(&layer.diff_id, original, origin, format)?,
                None => self.make_again(layer, format)?,
            };
            if let Some(held) = self.hold_blob(&blob)? {
                return Ok((blob, held));
            }
        }
        Err(WorkerError::LayerGone { diff_id: layer.diff_id })
    }

    /// Makes the blob of a layer of which only the diff id has to be met.
    fn make_again(
        &self,
        layer: &AssembledLayer,
        format: &LayerFormat,
    ) -> Result<Descriptor, WorkerError> {
        for making in self.makings(layer) {
            let Ok(id) = making.snapshot.parse::<SnapshotId>() else { continue };
            let exists = || self.snapshotter.get(&id).is_ok();
            let lease = self.state.lease();
            let held = lease.hold_if(Holding::Snapshot, &making.snapshot, exists)?;
            let Some(_held) = held.filter(|_| exists()) else { continue };
            let (made, blob) = self.make_blob(&making, format)?;
            if made == layer.diff_id {
                return Ok(blob);
            }
        }
        Err(WorkerError::LayerGone { diff_id: layer.diff_id })
    }

    /// The ways in which a layer may have been made, the likeliest first. Several snapshots can
    /// have one diff id (the same COPY on two bases), and any of them may be gone.
    fn makings(&self, layer: &AssembledLayer) -> Vec<Making> {
        let mut makings: Vec<Making> = layer.making.iter().cloned().collect();
        let noted = self
            .state
            .get_fact(MAKING_FACT, layer.diff_id.to_string().as_bytes())
            .and_then(|bytes| serde_json::from_slice::<Making>(&bytes).ok());
        if let Some(snapshot) = layer.snapshot.as_ref().map(ToString::to_string) {
            let plain = Making { snapshot: snapshot.clone(), rewrite: Rewrite::Never, epoch: None };
            makings.extend(noted.clone().map(|noted| Making { snapshot, ..noted }));
            makings.push(plain);
        }
        makings.extend(noted);
        makings
    }

    /// The blob of a stored layer that has none of a manifest, for unpacking it again.
    pub(crate) fn stored_blob(
        &self,
        layer: &StoredLayer,
    ) -> Result<(Descriptor, Held), WorkerError> {
        let layer = AssembledLayer {
            diff_id: layer.diff_id,
            snapshot: layer.snapshot.as_ref().and_then(|text| text.parse().ok()),
            making: None,
            blob: layer.blob.clone(),
            origin: None,
        };
        self.layer_blob(&layer, &Origin::Store, &LayerFormat::default())
    }

    fn known_blob(
        &self,
        diff_id: &Digest,
        format: &LayerFormat,
    ) -> Result<Option<(Descriptor, Held)>, WorkerError> {
        let fact = self.state.get_fact(BLOB_FACT, &blob_key(diff_id, format));
        let Some(blob) = fact.and_then(|f| serde_json::from_slice::<Descriptor>(&f).ok()) else {
            return Ok(None);
        };
        let held = self.hold_blob(&blob)?.filter(|_| self.state.blobs().has(&blob));
        Ok(held.map(|held| (blob, held)))
    }

    /// Writes a snapshot's layer as a blob; its diff id comes out of the same pass.
    fn make_blob(
        &self,
        making: &Making,
        format: &LayerFormat,
    ) -> Result<(Digest, Descriptor), WorkerError> {
        let fail = |source: Box<dyn std::error::Error + Send + Sync>| WorkerError::LayerWrite {
            snapshot: making.snapshot.clone(),
            source,
        };
        let writer = self.state.blobs().create()?;
        let encoder =
            Encoder::new(format.compression, format.level, writer).map_err(|e| fail(e.into()))?;
        let tar = self.write_tar(making, HashingWriter::new(encoder))?;
        let (encoder, diff_id, _) = tar.finish();
        let blob = encoder
            .finish()
            .map_err(|e| fail(e.into()))?
            .finish(media_type_of(format.compression).unwrap_or(media_type::OCI_LAYER))?;
        self.remember_blob(&diff_id, format, &blob)?;
        Ok((diff_id, blob))
    }

    /// The same layer in another compression.
    fn convert_blob(
        &self,
        diff_id: &Digest,
        original: &Descriptor,
        origin: &Origin,
        format: &LayerFormat,
    ) -> Result<Descriptor, WorkerError> {
        let _held = self.fetch_blob(original, origin, None)?;
        let fail = |source: Box<dyn std::error::Error + Send + Sync>| WorkerError::Unpack {
            image: "the base image".to_owned(),
            blob: original.digest,
            source,
        };
        let (_, decoder) = self.decoded_blob(original)?;
        let mut decoder = Stoppable { inner: decoder, cancel: self.cancel.clone() };
        let writer = self.state.blobs().create()?;
        let encoder =
            Encoder::new(format.compression, format.level, writer).map_err(|e| fail(e.into()))?;
        let mut tar = HashingWriter::new(encoder);
        if let Err(error) = io::copy(&mut decoder, &mut tar) {
            self.state.blobs().drop_if_damaged(original)?;
            return Err(fail(error.into()));
        }
        let (encoder, actual, _) = tar.finish();
        if actual != *diff_id {
            self.state.blobs().drop_if_damaged(original)?;
        }
        if actual != *diff_id {
            return Err(WorkerError::DiffId {
                image: "the base image".to_owned(),
                blob: original.digest,
                expected: *diff_id,
                actual,
            });
        }
        let writer = encoder.finish().map_err(|e| fail(e.into()))?;
        let blob =
            writer.finish(media_type_of(format.compression).unwrap_or(media_type::OCI_LAYER))?;
        self.remember_blob(diff_id, format, &blob)?;
        Ok(blob)
    }

    fn remember_blob(
        &self,
        diff_id: &Digest,
        format: &LayerFormat,
        blob: &Descriptor,
    ) -> Result<(), WorkerError> {
        let value = serde_json::to_vec(blob).expect("a descriptor has only string keys");
        Ok(self.state.put_fact(BLOB_FACT, &blob_key(diff_id, format), &value)?)
    }

    /// Remembers that a snapshot was made of a layer that came as `blob`: its tar and its blob are
    /// what they were elsewhere.
    pub(crate) fn note_layer(
        &self,
        making: &Making,
        diff_id: &Digest,
        blob: &Descriptor,
    ) -> Result<(), WorkerError> {
        let key = serde_json::to_vec(making).expect("a making has only plain fields");
        self.state.put_fact(MAKING_FACT, diff_id.to_string().as_bytes(), &key)?;
        self.state.put_fact(DIFF_FACT, &key, diff_id.to_string().as_bytes())?;
        match compression_of(&blob.media_type) {
            Some(compression) => {
                let format = LayerFormat { compression, level: None, force: false };
                self.remember_blob(diff_id, &format, blob)
            }
            None => Ok(()),
        }
    }

    /// Writes the tar of a layer to `out`; stops when the engine is cancelled.
    fn write_tar<W: Write>(&self, making: &Making, out: W) -> Result<W, WorkerError> {
        let fail = |source: Box<dyn std::error::Error + Send + Sync>| {
            if self.cancel.is_cancelled() {
                return WorkerError::Cancelled;
            }
            WorkerError::LayerWrite { snapshot: making.snapshot.clone(), source }
        };
        let id: SnapshotId = making.snapshot.parse().map_err(|e| fail(Box::new(e)))?;
        let manifest = self.snapshotter.manifest(&id)?;
        let mut open = |entry: &Entry| -> io::Result<Box<dyn Read>> {
            let file = self.snapshotter.open_verified(&id, entry).map_err(io::Error::other)?;
            Ok(Box::new(Stoppable { inner: file, cancel: self.cancel.clone() }))
        };
        let options = WriteOptions { epoch: making.epoch };
        if let (Some(epoch), Rewrite::Set) = (making.epoch, making.rewrite) {
            let mut entries = manifest.entries().to_vec();
            entries.iter_mut().for_each(|e| e.meta.mtime = epoch);
            let rewritten = LayerManifest::new(entries);
            return write_layer(&rewritten, &mut open, &options, out).map_err(|e| fail(e.into()));
        }
        write_layer(&manifest, &mut open, &options, out).map_err(|e| fail(e.into()))
    }
}

/// A reader that fails once the build is cancelled: compressing a large layer takes long.
struct Stoppable<R> {
    inner: R,
    cancel: CancelToken,
}

impl<R: Read> Read for Stoppable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            // Not `Interrupted`, after which a reader is asked again.
            return Err(io::Error::other("cancelled"));
        }
        self.inner.read(buffer)
    }
}

/// A blob belongs to its diff id, compressor, level and version of the encoder.
fn blob_key(diff_id: &Digest, format: &LayerFormat) -> Vec<u8> {
    let version = layer::encoder_version(format.compression, format.level);
    format!("{diff_id} {version}").into_bytes()
}

/// The media type of a layer in `compression`; none where images cannot have that.
pub(super) fn media_type_of(compression: Compression) -> Option<&'static str> {
    match compression {
        Compression::None => Some(media_type::OCI_LAYER),
        Compression::Gzip => Some(media_type::OCI_LAYER_GZIP),
        Compression::Zstd => Some(media_type::OCI_LAYER_ZSTD),
        Compression::Bzip2 | Compression::Xz => None,
    }
}
