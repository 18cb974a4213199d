//! Why a document of records is refused.

use super::{MAX_CHAIN, MAX_DOCUMENT, VERSION};

/// Why a document of records is refused. Whoever meets it goes on without the document.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is larger than [`MAX_DOCUMENT`].
    #[error("the cache records have {0} bytes, more than the {MAX_DOCUMENT} that are allowed")]
    TooLarge(u64),
    /// It is not the JSON that is written.
    #[error("the cache records are damaged: {0}")]
    Json(#[from] serde_json::Error),
    /// Another version wrote it.
    #[error("the cache records are of version {0}, and this program reads version {VERSION}")]
    Version(u64),
    /// It points at a tree or layer that is not there, or not before what needs it.
    #[error("the cache records are damaged: {what} {at} points at {target}, which cannot be")]
    Pointer {
        /// What points: `tree`, `record`, …
        what: &'static str,
        /// Which, from 0.
        at: usize,
        /// At what.
        target: usize,
    },
    /// Records or answers are not in order, each once.
    #[error("the cache records are damaged: {0} are not in order")]
    Order(&'static str),
    /// A chain of layers is longer than [`MAX_CHAIN`].
    #[error("the cache records are damaged: tree {0} has more than {MAX_CHAIN} layers")]
    Chain(usize),
}
