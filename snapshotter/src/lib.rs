//! Snapshots of root file systems.
//!
//! A snapshot is one layer on disk, its manifest, and the id of its parent; a chain of them is a
//! root file system. [`Snapshotter::prepare`] gives a writable one, [`Snapshotter::commit`] makes
//! a snapshot of what changed in it; pulled layers come in through [`Snapshotter::unpack`] (in
//! parallel) and [`Snapshotter::attach`] (in order). [`Snapshotter::rebase`] puts a layer that was
//! made on nothing onto another root file system: both snapshots have that one layer, and the new
//! one neither `manifest` nor, in an overlay, `fs`. Mounts are handed out as plans
//! ([`sys::mount::Mount`]), or opened ([`Snapshotter::open_on_foundation`]); what stays open is attached
//! nowhere, and ends with the process.
//!
//! On disk, below the directory given to [`Snapshotter::open`]:
//!
//! | path | what |
//! |---|---|
//! | `<id>/fs/` | the layer (overlay) or the whole root file system (copy) |
//! | `<id>/manifest` | its [`oci::layer::LayerManifest`] |
//! | `<id>/meta` | its parent, sizes, digest of the diff; whose layer it has if not its own |
//! | `<id>/damaged` | its `meta`, once it was found damaged: it does not exist any more |
//! | `<id>.active/` | being written; renamed to `<id>/` when complete |
//! | `<id>.trash/` | being deleted |
//! | `empty/` | what is below nothing |
//!
//! So whatever a crash leaves behind is recognisable by its name: see
//! [`Snapshotter::sweep_garbage`].
//!
//! **Nothing here is synced.** A snapshot that was committed survives the death of the process,
//! not a loss of power, until whoever records it has synced the file system (`syncfs` on a
//! descriptor of the state directory, one for many snapshots).
//!
//! All [`Kind`]s give equal manifests for equal changes.

mod apply;
mod attach;
mod commit;
mod damage;
mod diff;
mod error;
mod foundation;
mod hash;
mod id;
mod lineage;
mod meta;
mod probe;
mod rebase;
mod remains;
mod replica;
mod scan;
mod seed;
mod settle;
mod snapshotter;
mod staging;
mod unpack;

pub use damage::VerifiedFile;
pub use error::{Error, Result};
pub use id::{SnapshotId, SnapshotIdError};
pub use probe::Probe;
pub use remains::Remains;
pub use snapshotter::{ACTIVE_SUFFIX, Active, Hints, Kind, Snapshot, Snapshotter, TRASH_SUFFIX};
pub use unpack::Unpacked;

pub(crate) use snapshotter::active_name;
