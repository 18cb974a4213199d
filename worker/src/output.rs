//! Results at hand, and how records find them again.

use std::sync::Arc;

use cache::Held;
use oci::Timestamp;
use serde::{Deserialize, Serialize};
use snapshotter::SnapshotId;
use solver::ContentId;

use crate::context::ContextTree;
use crate::remote_cache::LazyTree;
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
    /// How it is brought here, where its layers are elsewhere: it has no leaf then.
    pub lazy: Option<Arc<LazyTree>>,
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
    /// What the process used that made it; none for what no process made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
}

/// What the processes of a step used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// User and system time in microseconds.
    pub cpu_micros: u64,
    /// Largest use of memory in bytes: of all processes together where memory was limited, else
    /// of the largest one; none where it was too small to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_may_be_missing_from_a_record() {
        let old = r#"{"snapshot":"s","created":"1970-01-01T00:00:05Z"}"#;
        let Some(mut payload) = Payload::decode(old) else { panic!("{old}") };
        assert_eq!(payload.used, None);
        assert!(!payload.encode().contains("used"));
        payload.used = Some(Used { cpu_micros: 1500, peak_memory: None });
        assert!(payload.encode().ends_with(r#""used":{"cpu_micros":1500}}"#));
        assert_eq!(Payload::decode(&payload.encode()), Some(payload));
    }
}
