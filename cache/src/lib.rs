//! The state directory: everything that outlives one build.
//!
//! [`State`] opens it. In it are the records of steps that were done (the
//! [`solver::RecordStore`]), small facts, blobs, images, the hashes of build contexts, leases and
//! locks. Any number of processes share one state directory without a daemon; what each bucket
//! holds, who writes it, the order of the locks and what survives a kill or a power loss stands
//! in `docs/state-dir.md`.
//!
//! It does not know what a snapshot looks like (the snapshotter does) nor where blobs come from
//! (the registry client does).

mod claim;
mod clock;
mod codec;
mod database;
mod durable;
mod error;
mod filesystem;
mod fold;
mod format;
mod guarded;
mod holder;
mod inflight;
mod journal;
mod lock;
mod record;
mod sealed;
mod space;
mod store;
mod summed;
mod sync;
mod trash;
mod warnings;
mod watermark;

pub mod blob;
pub mod build_log;
pub mod ceiling;
pub mod context;
pub mod gc;
pub mod history;
pub mod image;
pub mod lease;
pub mod mount;
pub mod remote;
pub mod repository;
pub mod shadow;
pub mod state;
pub mod tombstone;
pub mod used;

pub use blob::{BlobStore, BlobWriter, VerifiedBlob};
pub use context::{Context, ContextHashes, Everything, FileKind, Selection, Stat, Verdict};
pub use durable::{Durability, write_file};
pub use error::CacheError;
pub use format::Dialect;
pub use history::{History, StoredBuild};
pub use holder::on_long_wait;
pub use image::{ImageStore, StoredImage, StoredLayer};
pub use lease::{DeadLease, Held, Holding, Lease};
pub use repository::{Access, Repositories, Repository, StoredRepository};
pub use state::State;
pub use tombstone::{Tombstone, Tombstones};
