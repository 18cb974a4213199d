//! Caches of other machines: what a build uses of them, and what of it goes there.
//!
//! A build that may use a cache begins to read its manifest and records when it starts, and asks
//! them where its own records know nothing. A hit is a [`LazyTree`]: a result of which it is known
//! what it is and where its layers are. Layers come when somebody needs bytes; what comes is
//! checked, and what is not there or not right is a miss, after all (`docs/design/remote-cache.md`).

mod bring;
mod carry;
mod document;
mod error;
mod export;
mod fit;
mod import;
mod lookup;
mod put_directory;
mod put_registry;
pub(crate) mod question;
mod source;
mod tree;

use oci::Platform;

pub(crate) use bring::Absent;
pub use carry::{Carried, Carry};
pub use error::ImportError;
pub use export::{CacheExportError, CacheTarget};
pub use import::RemoteCaches;
pub(crate) use lookup::at_hand;
pub use source::CacheSource;
pub use tree::LazyTree;

use crate::engine::Engine;

impl Engine {
    /// Begins to read caches of other machines for a build for `platform`.
    pub fn import_caches(&self, sources: Vec<CacheSource>, platform: &Platform) -> RemoteCaches {
        RemoteCaches::start(sources, &self.client, platform)
    }
}
