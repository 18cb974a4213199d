//! Layers: the entry list of one layer, and the codec between it and a tar stream.
//!
//! The [`LayerManifest`] is the middle of everything: snapshots are committed to one, tars are
//! written from one and read into one, content identities are digests over (parts of) one.

mod entry;
mod path;

pub use entry::{ContentHash, Entry, LayerManifest, Metadata, Node};
pub use path::{TreePath, TreePathError};
