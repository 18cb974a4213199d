//! Why something in the state directory could not be done.

use std::io;
use std::path::{Path, PathBuf};

use oci::Digest;

/// An operation on the state directory that failed.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A system call on a file or directory failed.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The state directory belongs to another version of the program.
    #[error("{} has the format {found:?}, which this version does not know", root.display())]
    Format {
        /// The state directory.
        root: PathBuf,
        /// What its `format` file says.
        found: String,
    },
    /// The state directory was made in another way than it would be used now.
    #[error(
        "{} was made with {found}, but would now be used with {wanted}: use another state directory",
        root.display()
    )]
    Dialect {
        /// The state directory.
        root: PathBuf,
        /// What its `format` file says.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// A lock is held by a process that does nothing.
    #[error(
        "{object} is locked by process {process}{title}, which is stopped: let it go on \
         (`kill -CONT {process}`), or end it"
    )]
    Blocked {
        /// What is locked.
        object: &'static str,
        /// Who has it.
        process: u32,
        /// What people know that by, in parentheses; empty where that is not known.
        title: String,
    },
    /// The database of records refused an operation.
    #[error("cannot {operation} the build records: {source}")]
    Database {
        /// What was being done, as a verb.
        operation: &'static str,
        /// Why it failed.
        source: rocksdb::Error,
    },
    /// Bytes are not the blob that they should be.
    #[error("blob {expected} is not what it should be: {found}")]
    BlobMismatch {
        /// The digest it should have.
        expected: Digest,
        /// What was found in its place.
        found: String,
    },
    /// A name that cannot be used as an identity here.
    #[error("{0:?} cannot be used as an identity in the state directory")]
    Identity(String),
    /// The beginning of an image's identity fits several images.
    #[error("{prefix:?} is the beginning of the identities of {count} images")]
    AmbiguousImage {
        /// What was asked for.
        prefix: String,
        /// How many it fits.
        count: usize,
    },
    /// A document cannot be encoded.
    #[error("cannot encode {object}: {source}")]
    Encode {
        /// What it is.
        object: &'static str,
        /// Why it failed.
        source: serde_json::Error,
    },
    /// A path of a build context that no layer could hold.
    #[error("the build context holds a path that no layer can: {0}")]
    Path(#[from] oci::layer::TreePathError),
    /// A file of a build context changed while it was read.
    #[error("{} changed while it was read", .0.display())]
    Changed(PathBuf),
    /// Symbolic links of a build context lead round in a circle.
    #[error("too many levels of symbolic links at {}", .0.display())]
    Loop(PathBuf),
    /// What a step changed in a cache mount cannot be kept. Nothing of it was.
    #[error("cannot commit what the step changed in cache mount {name:?}: {source}")]
    Commit {
        /// The cache mount.
        name: String,
        /// Why.
        source: Box<Self>,
    },
    /// What a step changed in a cache mount is kept, but not all of it is in its place yet.
    #[error(
        "cannot complete the commit of cache mount {name:?}: {source}; nothing of it is lost: the \
         next build that uses the mount goes on with it, when that is mended"
    )]
    Unfinished {
        /// The cache mount.
        name: String,
        /// Why.
        source: Box<Self>,
    },
    /// The changes of a cache mount are not what an overlay leaves.
    #[error("cannot merge {}: {reason}", path.display())]
    Upper {
        /// What of them.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// What was decided on a cache mount cannot be completed any more.
    #[error(
        "cannot merge {}: the log of its changes is damaged; `drydock prune --filter id={id}` \
         removes the cache mount, and the next build begins with an empty one", path.display()
    )]
    DamagedLog {
        /// The log.
        path: PathBuf,
        /// The id of the copy of the mount.
        id: String,
    },
    /// There is no room below the ceiling.
    #[error(transparent)]
    Full(Box<crate::ceiling::Full>),
    /// The build was stopped while it waited for room below the ceiling.
    #[error("cancelled")]
    Cancelled,
    /// A caller's part of garbage collection failed.
    #[error("cannot {operation}: {source}")]
    Collect {
        /// What was being done, as a verb with its object.
        operation: String,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl CacheError {
    /// Whether it says that a file or directory is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether it says that the disk has no room left.
    pub fn is_full_disk(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }
}

/// Adds the operation and its object to the error of a system call.
pub(crate) trait At<T> {
    fn at(self, operation: &'static str, path: &Path) -> Result<T, CacheError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, operation: &'static str, path: &Path) -> Result<T, CacheError> {
        self.map_err(|e| CacheError::Io { operation, path: path.to_owned(), source: e.into() })
    }
}
