//! Why a cache of another machine cannot be read.

use cache::remote::DocumentError;
use oci::manifest::ManifestError;
use registry::{ErrorKind, RegistryError};

use crate::image::LayoutError;

/// Why a cache of another machine cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The registry refused or failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The directory cannot be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The manifest cannot be understood.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The records cannot be understood.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The config of an image is no JSON.
    #[error("the config of the image is damaged: {0}")]
    Config(serde_json::Error),
    /// A layer is of no type that can be read.
    #[error("its layer {digest} is of the type {media_type:?}, which cannot be read")]
    LayerType {
        /// The layer.
        digest: oci::Digest,
        /// Its type.
        media_type: String,
    },
    /// It is an image without a cache.
    #[error("it is an image, and there is no cache in it (build it with --cache-to type=inline)")]
    NoCache,
}

impl ImportError {
    /// Whether nothing is wrong but that the build is being stopped.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Registry(error) if matches!(error.kind, ErrorKind::Cancelled))
    }
}
