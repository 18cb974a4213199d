//! What is exported.

use std::io::Read;
use std::sync::Arc;

use oci::layer::Compression;
use oci::layer::{Entry, Tree};
use oci::{Descriptor, Digest, ImageConfig, Reference, Timestamp};

/// An image that is ready to leave: its config is final, its layers can be had.
#[derive(Clone)]
pub struct Image {
    /// The config, with `rootfs.diff_ids` and every time filled in.
    pub config: ImageConfig,
    /// Where the layers come from.
    pub layers: Arc<dyn Layers>,
    /// SOURCE_DATE_EPOCH, where it was given.
    pub epoch: Option<Timestamp>,
}

/// The layers of one image, lowest first. The worker implements it over snapshots.
pub trait Layers: Send + Sync {
    /// The digests of the uncompressed tars, as the config lists them.
    fn diff_ids(&self) -> &[Digest];

    /// Makes sure that the blob of layer `index` is in the blob store, and describes it. A blob that was
    /// made or pulled before is taken as it is unless `format.force` asks for another
    /// compression. Thread-safe: layers are made in parallel.
    ///
    /// # Errors
    /// If the layer cannot be read, compressed, stored or fetched again.
    fn blob(&self, index: usize, format: &LayerFormat) -> Result<Descriptor, LayerError>;

    /// The same blob, which may be left where it is: a push to a registry that has it needs no byte
    /// of it.
    ///
    /// # Errors
    /// As [`blob`](Self::blob).
    fn describe(&self, index: usize, format: &LayerFormat) -> Result<Descriptor, LayerError> {
        self.blob(index, format)
    }

    /// Makes sure that the blob of layer `index`, which was [described](Self::describe) as `blob`, is
    /// in the blob store.
    ///
    /// # Errors
    /// If it cannot be fetched.
    fn bring(&self, index: usize, blob: &Descriptor) -> Result<(), LayerError> {
        let _ = (index, blob);
        Ok(())
    }

    /// A repository that the blob of layer `index` is known to be in: a push to the same registry can mount
    /// it from there.
    fn origin(&self, index: usize) -> Option<Reference>;

    /// The merged tree of all layers.
    ///
    /// # Errors
    /// If a layer manifest cannot be read.
    fn tree(&self) -> Result<Tree, LayerError>;

    /// The content of a regular file of the merged tree: `entry` stands in layer `index`.
    ///
    /// # Errors
    /// If it cannot be opened.
    fn open(&self, index: usize, entry: &Entry) -> Result<Box<dyn Read>, LayerError>;
}

/// Why a layer cannot be had; the worker's own error.
pub type LayerError = Box<dyn std::error::Error + Send + Sync>;

/// How layers are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LayerFormat {
    /// The compression of blobs that are made now: none, gzip or zstd.
    pub compression: Compression,
    /// Its level; none for the default.
    pub level: Option<i32>,
    /// Whether blobs that exist in another compression are converted.
    pub force: bool,
}

impl Default for LayerFormat {
    fn default() -> Self {
        Self { compression: Compression::Gzip, level: None, force: false }
    }
}
