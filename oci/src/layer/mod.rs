//! Layers: the entry list of one layer, and the codec between it and a tar stream.
//!
//! The [`LayerManifest`] is the middle of everything: snapshots are committed to one, tars are
//! written from one and read into one, content identities are digests over (parts of) one.
//!
//! # A layer's way
//!
//! A base layer comes from a registry. It is decompressed ([`decoder`]), read entry by entry
//! ([`LayerReader`]), each entry becomes what it means in a layer ([`to_layer_entry`]), and all of
//! them a manifest ([`ManifestBuilder`]), while whoever unpacks writes the files. A step on top of
//! it changes some of them; its manifest names just the changes. Both form a [`Tree`], in which
//! later steps look things up. When the image is exported, the step's manifest is written as a
//! tar ([`write_layer`]) into an [`Encoder`].
//!
//! ```
//! use std::io::{Cursor, Read};
//! use std::sync::Arc;
//! use oci::Timestamp;
//! use oci::layer::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let file = |path: &str, content: &[u8]| Entry {
//!     path: TreePath::new(path.as_bytes()).unwrap(),
//!     node: Node::File {
//!         size: content.len() as u64,
//!         content: ContentHash(*blake3::hash(content).as_bytes()),
//!     },
//!     meta: Metadata { mode: 0o644, mtime: Timestamp::from_seconds(9), ..Metadata::default() },
//! };
//! let etc = Entry {
//!     path: TreePath::new(b"etc")?,
//!     node: Node::Directory { opaque: false },
//!     meta: Metadata { mode: 0o755, ..Metadata::default() },
//! };
//!
//! // What the base has, and what a step did to it: `etc/motd` is gone, `etc/issue` is new.
//! let base = LayerManifest::new(vec![etc.clone(), file("etc/motd", b"hello\n")]);
//! let gone = Entry {
//!     path: TreePath::new(b"etc/motd")?,
//!     node: Node::Whiteout,
//!     meta: Metadata::default(),
//! };
//! let step = LayerManifest::new(vec![etc, gone, file("etc/issue", b"drydock\n")]);
//!
//! // The merged view.
//! let tree = Tree::new(vec![Arc::new(base), Arc::new(step.clone())]);
//! let seen: Vec<String> = tree.walk(&TreePath::root()).map(|e| e.path.to_string()).collect();
//! assert_eq!(seen, ["/etc", "/etc/issue"]);
//!
//! // The step's tar, compressed.
//! let mut open = |_: &Entry| Ok(Box::new(&b"drydock\n"[..]) as Box<dyn Read>);
//! let encoder = Encoder::new(Compression::Gzip, None, Vec::new())?;
//! let encoder = write_layer(&step, &mut open, &WriteOptions::default(), encoder)?;
//! let blob = encoder.finish()?;
//!
//! // And back, as whoever pulls the image does it.
//! let input = decoder(Compression::detect(&blob), Box::new(Cursor::new(blob)));
//! let mut reader = LayerReader::new(input);
//! let mut builder = ManifestBuilder::new();
//! while let Some(entry) = reader.next()? {
//!     let mut hasher = blake3::Hasher::new();
//!     std::io::copy(&mut reader.content(), &mut hasher)?;
//!     let content = ContentHash(*hasher.finalize().as_bytes());
//!     builder.push(to_layer_entry(&entry, Some(content))?);
//! }
//! let base = Tree::new(tree.layers()[..1].to_vec());
//! assert_eq!(builder.finish(&base), step);
//! # Ok(())
//! # }
//! ```

mod builder;
mod capability;
mod compression;
mod encoding;
mod entry;
mod extension;
mod gzip;
mod header;
mod item;
mod manifest;
mod path;
mod pax;
mod reader;
mod resolve;
mod sparse;
mod tree;
mod walk;
mod whiteout;
mod writer;

pub use builder::ManifestBuilder;
pub use capability::{CAPABILITY_XATTR, CapabilityError, normalise_capability};
pub use compression::{
    Compression, CompressionError, DEFAULT_ZSTD_LEVEL, DETECT_BYTES, Encoder, MAX_XZ_MEMORY,
    MAX_ZSTD_LEVEL, ZstdEncoder, decoder, detect, encoder_version,
};
pub use encoding::{MAX_PATH_BYTES, ManifestDecodeError};
pub use entry::{ContentHash, Entry, Metadata, Node};
pub use extension::{MAX_EXTENSION_BYTES, MAX_RAW_PATH};
pub use gzip::{BLOCK_SIZE, DEFAULT_GZIP_LEVEL, GzipEncoder, MAX_GZIP_LEVEL};
pub use header::is_tar;
pub use item::{LayerItem, LayerItemError, SkipReason, to_layer_entry};
pub use manifest::LayerManifest;
pub use path::{MAX_PATH, TreePath, TreePathError};
pub use reader::{Content, LayerReader, MAX_EXTENSIONS, ReadError, TarEntry, TarKind};
pub use resolve::{MAX_SYMLINKS, ResolveError, Resolved};
pub use sparse::{MAX_SEGMENTS, MAX_SPARSE_SIZE, Segment};
pub use tree::Tree;
pub use whiteout::{AUFS_PREFIX, OPAQUE_NAME, WHITEOUT_PREFIX, WhiteoutName};
pub use writer::{LayerWriter, WriteError, WriteOptions, write_layer};
