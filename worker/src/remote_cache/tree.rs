//! A root file system whose layers are elsewhere until somebody needs them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cache::Held;
use cache::remote::{Made, RemoteRecord, RemoteTree, Times};
use oci::{Descriptor, Digest, Timestamp};
use solver::ContentId;

use super::import::Import;
use super::source::Loaded;
use crate::image::{ImageHandle, ImageLayer, Origin, compression_of};
use crate::key::image_content;
use crate::output::{Rewrite, TreeOutput};

/// A root file system whose layers are elsewhere.
pub struct LazyTree {
    /// The image that it rests on.
    pub(super) base: Option<Arc<ImageHandle>>,
    /// The layers on that, lowest first.
    pub(super) layers: Vec<LazyLayer>,
    /// The cache that they are in, and the record; none for a bare image.
    pub(super) from: Option<From>,
    /// Where it is since it was brought.
    here: OnceLock<TreeOutput>,
    /// Blobs that were fetched for an output.
    leases: Mutex<Vec<Held>>,
}

/// What a lazy tree was found by.
pub(super) struct From {
    pub(super) import: Arc<Import>,
    pub(super) loaded: Arc<Loaded>,
    pub(super) record: RemoteRecord,
    /// What people call the step.
    pub(super) name: String,
}

/// A layer of a lazy tree.
#[derive(Clone, Debug)]
pub(super) struct LazyLayer {
    /// What the tree up to here is.
    pub(super) content: ContentId,
    pub(super) created: Timestamp,
    pub(super) rewrite: Rewrite,
    pub(super) place: Place,
}

/// Where a layer is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Nobody carried it.
    Nowhere,
    /// It is a blob.
    Blob(BlobLayer),
    /// It is a blob that was made on nothing, as the tree `content`.
    Linked { content: ContentId, created: Timestamp, blob: BlobLayer },
}

/// A blob and what it unpacks to.
#[derive(Clone, Debug)]
pub(crate) struct BlobLayer {
    pub(crate) blob: Descriptor,
    pub(crate) diff_id: Digest,
}

impl Place {
    pub(super) fn blob(&self) -> Option<&BlobLayer> {
        match self {
            Self::Nowhere => None,
            Self::Blob(blob) | Self::Linked { blob, .. } => Some(blob),
        }
    }
}

impl std::convert::From<Times> for Rewrite {
    fn from(times: Times) -> Self {
        match times {
            Times::Never => Self::Never,
            Times::Clamp => Self::Clamp,
            Times::Set => Self::Set,
        }
    }
}

impl std::convert::From<Rewrite> for Times {
    fn from(rewrite: Rewrite) -> Self {
        match rewrite {
            Rewrite::Never => Self::Never,
            Rewrite::Clamp => Self::Clamp,
            Rewrite::Set => Self::Set,
        }
    }
}

impl LazyTree {
    fn new(base: Option<Arc<ImageHandle>>, layers: Vec<LazyLayer>, from: Option<From>) -> Self {
        Self { base, layers, from, here: OnceLock::new(), leases: Mutex::default() }
    }

    /// An image; `None` if some layer of it can only be had here.
    pub(crate) fn of_image(image: &Arc<ImageHandle>) -> Option<Self> {
        let elsewhere = |layer: &ImageLayer| match layer {
            ImageLayer::Blob(_) => true,
            ImageLayer::Stored(stored) => stored.blob.is_some(),
        };
        let carried = !matches!(image.origin, Origin::Store) && image.layers.iter().all(elsewhere);
        carried.then(|| Self::new(Some(image.clone()), Vec::new(), None))
    }

    /// The tree of a record. `images` are those of the build, one of which it rests on.
    pub(super) fn of_record(from: From, images: &HashMap<Digest, Arc<ImageHandle>>) -> Self {
        let trees = &from.loaded.records.trees;
        let (mut base, mut layers) = (None, Vec::new());
        for at in from.loaded.records.chain(from.record.tree) {
            let Some(tree) = trees.get(at) else { continue };
            if let Made::Image { layers: diff_ids } = &tree.made {
                let same = |it: &&Arc<ImageHandle>| it.config.rootfs.diff_ids == *diff_ids;
                let told = image_content(diff_ids) == tree.content;
                base = images.values().find(same).filter(|_| told).cloned();
                if base.is_some() || (told && diff_ids.is_empty()) {
                    continue;
                }
            }
            layers.push(LazyLayer {
                content: tree.content,
                created: tree.created,
                rewrite: tree.times.into(),
                place: place(tree, &from.loaded),
            });
        }
        Self::new(base, layers, Some(from))
    }

    /// The tree, if it was brought.
    pub(crate) fn here(&self) -> Option<&TreeOutput> {
        self.here.get()
    }

    pub(super) fn arrived(&self, tree: &TreeOutput) {
        // Who brings it second has brought the same.
        let _ = self.here.set(tree.clone());
    }

    /// Keeps a blob for as long as the tree is of use.
    pub(super) fn keep(&self, held: Held) {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).push(held);
    }

    /// The blobs of the layers on the base, lowest first; `None` if one was not carried.
    pub(crate) fn blobs(&self) -> Option<Vec<&BlobLayer>> {
        self.layers.iter().map(|layer| layer.place.blob()).collect()
    }

    /// Where those blobs come from.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.from.as_ref().map(|from| &from.loaded.origin)
    }
}

fn place(tree: &RemoteTree, loaded: &Loaded) -> Place {
    let blob = |made: &Made| match made {
        Made::Layer { blob, diff, .. } => {
            let blob = loaded.blobs.get(*blob)?;
            // It may become one of an image.
            compression_of(&blob.media_type)?;
            let blob = Descriptor::new(&*blob.media_type, blob.digest, blob.size);
            Some(BlobLayer { blob, diff_id: *diff })
        }
        _ => None,
    };
    match &tree.made {
        Made::Elsewhere {} | Made::Image { .. } => Place::Nowhere,
        Made::Layer { .. } => blob(&tree.made).map_or(Place::Nowhere, Place::Blob),
        Made::Linked { layer, .. } => {
            let own = loaded.records.trees.get(*layer);
            let linked = own.and_then(|own| {
                let (content, created) = (own.content, own.created);
                Some(Place::Linked { content, created, blob: blob(&own.made)? })
            });
            linked.unwrap_or(Place::Nowhere)
        }
    }
}
