//! Why an export failed.

use std::io;
use std::path::PathBuf;

use oci::{Digest, Reference};

use crate::LayerError;

/// Why an export failed. Nothing half-written is left where the caller hands in a temporary
/// destination; a registry has no tag that points to missing content.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A layer cannot be had.
    #[error("cannot export layer {index}: {source}")]
    Layer {
        /// Its position, from 0.
        index: usize,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// A blob that was just made or pulled cannot be read.
    #[error("cannot read blob {digest} for the export: {source}")]
    Blob {
        /// Which.
        digest: Digest,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The merged tree cannot be read.
    #[error("cannot read the image's files: {0}")]
    Tree(#[source] LayerError),
    /// The output stream cannot be written.
    #[error("cannot write the {what}: {source}")]
    Write {
        /// What was being written.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the destination cannot be written.
    #[error("cannot write {path:?}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A layer tar of the root file system cannot be written.
    #[error("cannot write the root file system: {0}")]
    Rootfs(#[from] oci::layer::WriteError),
    /// A registry refused or failed.
    #[error("cannot push {reference}: {source}")]
    Push {
        /// Where to.
        reference: Reference,
        /// Why.
        #[source]
        source: registry::RegistryError,
    },
    /// The build was cancelled.
    #[error("the export was cancelled")]
    Cancelled,
}

impl ExportError {
    /// Makes an IO error of a stream.
    pub(crate) fn write(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Write { what, source }
    }
}
