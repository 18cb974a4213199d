//! Results at hand, and how records find them again.

use std::sync::Arc;

use cache::Held;
use oci::Timestamp;
use serde::{Deserialize, Serialize};
use snapshotter::SnapshotId;
use solver::ContentId;

use crate::context::ContextTree;
use crate::source::FileTree;

/// The result of a vertex.
#[derive(Clone)]
pub enum Output {
    /// A root file system.
    Tree(TreeOutput),
    /// A directory of this machine, in place.
    Context(Arc<ContextTree>),
    /// A single file of the blob store.
    File(Arc<FileTree>),
}

/// A root file system: a chain of snapshots, by its leaf.
#[derive(Clone)]
pub struct TreeOutput {
    /// The leaf; none for an empty root file system.
    pub snapshot: Option<SnapshotId>,
    /// What it is.
    pub content: ContentId,
    /// When its topmost layer was first made.
    pub created: Timestamp,
    /// How times of its topmost layer are rewritten.
    pub rewrite: Rewrite,
    /// Keeps the leaf, and with it the chain, from being collected.
    pub lease: Option<Held>,
}

/// What `rewrite-timestamp` does to the times of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rewrite {
    /// Nothing: the layer came with its image.
    Never,
    /// Times after SOURCE_DATE_EPOCH become it.
    #[default]
    Clamp,
    /// Every time becomes SOURCE_DATE_EPOCH: the files' times are those of a checkout, and
    /// clamping would leave older ones to depend on when that was made.
    Set,
}

/// A record's payload: where the result is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// The leaf snapshot; none for an image without layers.
    pub snapshot: Option<String>,
    /// When it was first made.
    pub created: Timestamp,
    /// How its times are rewritten.
    #[serde(default)]
    pub rewrite: Rewrite,
}

impl Rewrite {
    /// As it stands in keys.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Clamp => "clamp",
            Self::Set => "set",
        }
    }
}

impl Payload {
    /// As a record keeps it.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("a payload has only plain fields")
    }

    /// From a record; `None` if it is damaged or from another version.
    pub fn decode(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The leaf snapshot's id.
    pub fn snapshot_id(&self) -> Option<SnapshotId> {
        self.snapshot.as_ref()?.parse().ok()
    }
}

impl Output {
    /// The root file system; `None` for anything else.
    pub fn tree(&self) -> Option<&TreeOutput> {
        match self {
            Self::Tree(tree) => Some(tree),
            Self::Context(_) | Self::File(_) => None,
        }
    }
}
