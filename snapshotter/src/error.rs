//! What can go wrong with snapshots.

use std::path::PathBuf;

use oci::layer::{LayerItemError, ReadError, TreePath, TreePathError};
use sys::root::PathError;

use crate::SnapshotId;

/// Why an operation on snapshots failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such snapshot: never was, or it was removed.
    #[error("snapshot {0} does not exist")]
    NotFound(SnapshotId),
    /// Only a layer that was made on nothing means the same elsewhere.
    #[error("cannot put the layer of snapshot {0} onto another one: it was made on a parent")]
    NotAlone(SnapshotId),
    /// A system call failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A mount could not be made.
    #[error("cannot mount snapshot {id}: {reason}")]
    Mount {
        /// Of what.
        id: String,
        /// Why.
        reason: String,
    },
    /// Snapshots that fuse-overlayfs stacks, and no such program.
    #[error("cannot mount snapshots: the program fuse-overlayfs is not there")]
    NoProgram,
    /// A file that describes a snapshot does not say what it should.
    #[error("cannot read {}: {reason}", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A name in a root file system is longer than a layer can hold.
    #[error("cannot take a snapshot: {0}")]
    Name(#[from] TreePathError),
    /// An entry that a snapshot must not have.
    #[error("cannot take {path} into a snapshot: {reason}")]
    Refused {
        /// Where it is.
        path: TreePath,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// A device node that this process may not make.
    #[error(
        "cannot make the device node {path}: in a user namespace there are none to be made; an \
         image with device nodes takes root"
    )]
    Device {
        /// Where it would be.
        path: TreePath,
    },
    /// The stream of a layer can't be read, or is no tar.
    #[error("cannot unpack a layer: {0}")]
    Layer(#[from] ReadError),
    /// The stream of a layer has an entry that no layer may have.
    #[error("cannot unpack a layer: {0}")]
    Entry(#[from] LayerItemError),
    /// A hard link in a layer leads to nothing, or to a directory.
    #[error("cannot unpack the hard link {path} to {target}: {reason}")]
    Link {
        /// The link.
        path: TreePath,
        /// What it names.
        target: TreePath,
        /// Why that can't be.
        reason: &'static str,
    },
}

impl Error {
    /// Whether it says that a snapshot does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }
}

/// The result of an operation on snapshots.
pub type Result<T, E = Error> = std::result::Result<T, E>;
