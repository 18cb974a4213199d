//! What a build starts from.

use oci::{Digest, Platform};
use serde::{Deserialize, Serialize};

use crate::pattern::IgnoreList;

/// Something from outside the build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "lowercase")]
pub enum SourceOp {
    /// The root file system of an image.
    Image(ImageSource),
    /// A directory of this machine.
    Local(LocalSource),
}

/// An image that was resolved before the graph was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSource {
    /// As it is shown: the reference with its digest.
    pub name: String,
    /// The digest of the manifest of one platform, which pins the content.
    pub manifest: Digest,
    /// The platform that was asked for.
    pub platform: Platform,
}

/// A directory that files are copied from. It is hashed and read in place, never copied whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalSource {
    /// The context's name: `context` for the main one, else that of `--build-context`.
    pub name: String,
    /// What is not part of it (`.dockerignore`).
    pub ignore: IgnoreList,
}
