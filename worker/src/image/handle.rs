//! A resolved image: its config, and where each of its layers can be had.

use std::sync::Arc;

use cache::StoredLayer;
use oci::{Descriptor, Digest, ImageConfig, Reference};

use super::Layout;

/// An image that was resolved for a build.
pub struct ImageHandle {
    /// As it is shown: the reference with its digest.
    pub name: String,
    /// What a graph knows it by: the digest of its manifest, or of its config where it was built
    /// here and never had a manifest.
    pub id: Digest,
    /// Its config.
    pub config: ImageConfig,
    /// Its layers, lowest first; as many as the config has diff ids.
    pub layers: Vec<ImageLayer>,
    /// Where missing blobs come from.
    pub origin: Origin,
}

/// One layer of an image.
#[derive(Clone, Debug)]
pub enum ImageLayer {
    /// A blob, as a manifest lists it.
    Blob(Descriptor),
    /// A layer that the local store tells of.
    Stored(StoredLayer),
}

impl ImageLayer {
    /// The blob, where it is known.
    pub(crate) fn blob(&self) -> Option<&Descriptor> {
        match self {
            Self::Blob(blob) => Some(blob),
            Self::Stored(stored) => stored.blob.as_ref(),
        }
    }
}

/// Where an image came from.
#[derive(Clone)]
pub enum Origin {
    /// A registry.
    Registry(Reference),
    /// A layout or archive on this machine.
    Layout(Arc<Layout>),
    /// The local store.
    Store,
}

impl Origin {
    /// The registry's name, where it came from one.
    pub fn registry(&self) -> Option<&Reference> {
        match self {
            Self::Registry(reference) => Some(reference),
            Self::Layout(_) | Self::Store => None,
        }
    }
}

/// What an image takes before it is unpacked: the sizes of its blobs, in bytes.
pub(crate) fn blob_sizes(layers: &[StoredLayer]) -> u64 {
    layers.iter().filter_map(|l| l.blob.as_ref()).map(|b| b.size).sum()
}
