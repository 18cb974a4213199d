//! Why a copy failed.

use std::io;

use oci::layer::TreePathError;
use sys::root::PathError;

use super::{ModeError, SourceError};

/// Why a copy failed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A directory is copied to where something else is.
    #[error("cannot copy to non-directory: {path}")]
    NotADirectory {
        /// The destination.
        path: String,
    },
    /// A file is copied to where a directory is.
    #[error("cannot replace to directory {path} with file")]
    IsADirectory {
        /// The destination.
        path: String,
    },
    /// Several arguments would become one file.
    #[error(
        "several sources match, and {path} is no directory: end the destination with a / \
         (each file would replace the one before)"
    )]
    SeveralSources {
        /// The destination.
        path: String,
    },
    /// A name that would be a deletion in the layer (OCI image-spec, layer.md, whiteouts).
    #[error("cannot copy {path}: names that begin with .wh. mean a deletion in an image")]
    Whiteout {
        /// The path that it would get.
        path: String,
    },
    /// The device that overlayfs marks deletions with.
    #[error("cannot create {path}: the character device 0:0 means a deletion in an image")]
    WhiteoutDevice {
        /// The path that it would get.
        path: String,
    },
    /// `--chown` names somebody whom the image does not know.
    #[error(
        "unable to convert user {name:?} of --chown to an id: no such user in the image's {file}{}",
        did_you_mean(.near.as_deref())
    )]
    UnknownUser {
        /// The name.
        name: String,
        /// Where it was looked for.
        file: &'static str,
        /// A name that is there and close to it.
        near: Option<String>,
    },
    /// `--chown` of a linked copy names somebody: the copy is made without the image.
    #[error(
        "unable to convert user {name:?} of --chown to an id: with --link the files are copied \
         apart from the image, and its {file} is not looked at; write numbers, such as \
         --chown=1000:1000, or leave out --link"
    )]
    LinkedUser {
        /// The name.
        name: String,
        /// Where it would be looked for.
        file: &'static str,
    },
    /// The image's `/etc/passwd` or `/etc/group` cannot be read.
    #[error(transparent)]
    Accounts(#[from] executor::passwd::PasswdError),
    /// `--chmod`.
    #[error(transparent)]
    Mode(#[from] ModeError),
    /// A name that a layer cannot have.
    #[error(transparent)]
    Path(#[from] TreePathError),
    /// An operation on the destination.
    #[error(transparent)]
    Root(#[from] PathError),
    /// Writing a file.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file in an archive that cannot be read.
    #[error("cannot read {path:?} in it: {source}")]
    ArchiveContent {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An archive that cannot be extracted.
    #[error("cannot extract {archive}: {source}")]
    Archive {
        /// Which.
        archive: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn did_you_mean(near: Option<&str>) -> String {
    near.map(|near| format!(" (did you mean {near:?}?)")).unwrap_or_default()
}
