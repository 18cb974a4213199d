//! The OCI image model: what an image *is*, as plain data.
//!
//! Nothing here opens a path or a socket or reads the environment. Identities
//! ([`Digest`], [`Reference`], [`Platform`]), documents ([`ImageConfig`],
//! [`ImageManifest`], [`ImageIndex`], [`Descriptor`]) and layers
//! ([`layer`]: the entry list of a layer and the codec between it and a tar
//! stream) live in one file each.

pub mod config;
pub mod descriptor;
pub mod digest;
pub mod layer;
pub mod layout;
pub mod manifest;
pub mod platform;
pub mod reference;
mod text;
pub mod time;

pub use config::{History, ImageConfig, RuntimeConfig};
pub use descriptor::{Descriptor, media_type};
pub use digest::{Digest, DigestError, Hasher};
pub use manifest::{Document, ImageIndex, ImageManifest};
pub use platform::Platform;
pub use reference::{Reference, ReferenceError};
pub use time::Timestamp;
