//! Why a step or a build failed in the worker.

use std::path::PathBuf;

use oci::{Digest, Reference};

use crate::copy::{CopyError, SourceError};
use crate::image::LayoutError;

/// Why the worker could not do something. Each says what was being done to what; the step that
/// it happened in is known to the solver.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The process of a RUN step ended with another status than 0.
    #[error("process {command:?} did not complete successfully: {status}")]
    Exit {
        /// The command line, joined by spaces.
        command: String,
        /// `exit code: 7`, with 128 and the signal's number for a signal.
        status: String,
    },
    /// The process of a RUN step could not be started or followed.
    #[error(transparent)]
    Exec(#[from] executor::ExecError),
    /// USER names somebody whom the image does not know.
    #[error(transparent)]
    User(#[from] executor::user::UserError),
    /// A copy found its sources or destination unusable.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A source tree cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A snapshot cannot be made or read.
    #[error(transparent)]
    Snapshot(#[from] snapshotter::Error),
    /// A root file system cannot be mounted.
    #[error("cannot mount the root file system of the step: {0}")]
    Mount(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The state directory cannot be used.
    #[error(transparent)]
    Cache(#[from] cache::CacheError),
    /// The record store cannot be used.
    #[error(transparent)]
    Store(#[from] solver::StoreError),
    /// A registry refused or failed.
    #[error(transparent)]
    Registry(#[from] registry::RegistryError),
    /// An OCI layout or archive cannot be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A manifest or index cannot be understood.
    #[error("cannot use {image}: {source}")]
    Manifest {
        /// Which image.
        image: String,
        /// Why.
        #[source]
        source: oci::manifest::ManifestError,
    },
    /// An image config cannot be understood.
    #[error("cannot use {image}: {source}")]
    Config {
        /// Which image.
        image: String,
        /// Why.
        #[source]
        source: oci::config::ConfigError,
    },
    /// A manifest and its config disagree about the number of layers.
    #[error("cannot use {image}: its manifest has {manifest} layers, its config {config}")]
    LayerCount {
        /// Which image.
        image: String,
        /// Layers of the manifest.
        manifest: usize,
        /// Diff ids of the config.
        config: usize,
    },
    /// A layer's content is not what its config says.
    #[error("layer {blob} of {image} unpacks to {actual}, but its config says {expected}")]
    DiffId {
        /// Which image.
        image: String,
        /// The blob.
        blob: Digest,
        /// The config's diff id.
        expected: Digest,
        /// What was unpacked.
        actual: Digest,
    },
    /// A layer's blob cannot be read or decompressed.
    #[error("cannot unpack layer {blob} of {image}: {source}")]
    Unpack {
        /// Which image.
        image: String,
        /// The blob.
        blob: Digest,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A layer's blob is gone, and there is nowhere to fetch it from.
    #[error(
        "layer {diff_id} is no longer in the cache and came from no registry; build the image again"
    )]
    LayerGone {
        /// Which.
        diff_id: Digest,
    },
    /// A blob of an image in the local store is gone.
    #[error(
        "blob {blob} is no longer in the cache and came from no registry; build the image again"
    )]
    BlobGone {
        /// Which.
        blob: Digest,
    },
    /// A layer's tar or blob cannot be made.
    #[error("cannot write layer {snapshot}: {source}")]
    LayerWrite {
        /// Its snapshot.
        snapshot: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A context that the build does not have.
    #[error("no build context is called {0:?}")]
    NoContext(String),
    /// A build context cannot be used.
    #[error("cannot use the build context {path:?}: {source}")]
    Context {
        /// Its directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What came from a URL is not what its checksum says.
    #[error("{url}: digest mismatch: expected {expected}, got {actual}")]
    Checksum {
        /// The URL, without what it may hide.
        url: String,
        /// The checksum.
        expected: Digest,
        /// The digest of what the server has.
        actual: Digest,
    },
    /// A stream, or a file that was one, cannot be read.
    #[error("cannot read {name}: {source}")]
    ReadFile {
        /// What it is called.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A stream cannot be kept.
    #[error("cannot store {name}: {source}")]
    StoreFile {
        /// What it is called.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is larger than what is read of its kind.
    #[error("{name} is larger than the {limit} bytes that are allowed: it has {size}")]
    FileTooLarge {
        /// What it is called.
        name: String,
        /// Its size in bytes.
        size: u64,
        /// The bound in bytes.
        limit: u64,
    },
    /// A file that came as a stream was removed from the cache.
    #[error("{name} is no longer in the cache; run the build again")]
    FileGone {
        /// What it is called.
        name: String,
    },
    /// A tree of a git repository cannot be had.
    #[error(transparent)]
    Git(Box<crate::source::GitError>),
    /// A name that no image has.
    #[error("no such image: {0}")]
    NoImage(Reference),
    /// The files of the state directory belong to ids that this process does not have.
    #[error(
        "{} holds files {what}, which this user does not have now; without them its files would \
         seem to belong to somebody else. Give the range back (/etc/subuid, /etc/subgid), or use \
         another state directory (--root)",
        root.display()
    )]
    OtherIds {
        /// The state directory.
        root: PathBuf,
        /// Whose: `of the users 100000 to 165535`.
        what: String,
    },
    /// The host cannot run steps.
    #[error("RUN is not possible here: {0}")]
    Unsupported(String),
    /// A secret that a step or a source needs.
    #[error("secret {id:?}: {reason}")]
    Secret {
        /// Its id.
        id: String,
        /// What is wrong; never its value.
        reason: String,
    },
    /// An ssh agent that a step mounts.
    #[error("ssh agent {id:?}: {reason}")]
    SshAgent {
        /// Its id.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// A directory of a cache mount that cannot be shown.
    #[error("cannot mount {source_path:?} of cache mount {name:?}: {reason}")]
    CacheSource {
        /// The cache mount.
        name: String,
        /// The path in it.
        source_path: String,
        /// Why.
        reason: &'static str,
    },
    /// A step does not get a device that it asks for.
    #[error("RUN --device: {0}")]
    Device(#[from] executor::cdi::CdiError),
    /// There is no room below the ceiling of the cache.
    #[error(transparent)]
    Full(Box<cache::ceiling::Full>),
    /// The user or a failure elsewhere stopped it.
    #[error("cancelled")]
    Cancelled,
    /// A mistake in this program.
    #[error("internal error: {0} (please report this)")]
    Internal(String),
}
