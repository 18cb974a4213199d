//! Questions about trees whose answers keys are made of: what does a COPY select of it?
//!
//! Who knows the answer needs no byte of the tree to know the key of the step.

use graph::CopyAction;
use solver::{ContentId, KeyBuilder};

/// Changes when an answer to the same question would.
const DOMAIN: &str = "question/v1";

/// What the paths of a copy select.
pub(crate) fn of_copy(tree: &ContentId, paths: &[String], copy: &CopyAction) -> ContentId {
    let mut key = KeyBuilder::new(DOMAIN);
    key.part(b"copy").part(tree.as_bytes()).part(if copy.parents { b"parents" } else { b"" });
    for (kind, list) in [("path", paths), ("exclude", &copy.exclude[..])] {
        for text in list {
            key.part(kind.as_bytes()).part(text.as_bytes());
        }
    }
    key.content_id()
}

/// What a read-only bind mount of `source` shows.
pub(crate) fn of_bind(tree: &ContentId, source: &str) -> ContentId {
    let mut key = KeyBuilder::new(DOMAIN);
    key.part(b"bind").part(tree.as_bytes()).part(source.as_bytes());
    key.content_id()
}
