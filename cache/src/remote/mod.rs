//! What of a cache goes to other machines: a document of records, and its rules.
//!
//! A document says which keys lead to which trees, which layers those are made of, and what a few
//! questions about trees were answered. The layers are blobs beside it. Nothing here opens a file
//! or a socket; what is read may be anybody's, so [`Document::parse`] is total and bounded, and
//! what it lets pass leads round in no circle and points at nothing that is not there.

mod document;
mod error;
mod times;

pub use document::{
    Answer, Document, MAX_CHAIN, MAX_DOCUMENT, Made, RemoteRecord, RemoteTree, VERSION,
};
pub use error::DocumentError;
pub use times::Times;

/// The media type of a document that is the config of a manifest of its own.
pub const CONFIG_TYPE: &str = "application/vnd.drydock.cache.config.v1+json";
