//! The kinds of work.

use serde::{Deserialize, Serialize};

use crate::{ExecOp, FileOp, SourceOp};

/// One piece of work. Its inputs stand in its vertex and are named here by position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Op {
    /// Brings something in from outside: an image, a directory. Has no inputs.
    Source(SourceOp),
    /// Runs a process on a root file system.
    Exec(ExecOp),
    /// Copies and creates files on a root file system.
    File(FileOp),
    /// Puts the topmost layer of one result onto another result, without running anything
    /// (`COPY --link`).
    Merge(MergeOp),
}

/// Puts the topmost layer of one result onto another result. A directory of the layer that is a
/// directory below stays one and takes the layer's metadata; everything else of the layer
/// replaces what is below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeOp {
    /// Position in the vertex's inputs of what is below.
    pub base: usize,
    /// Position in the vertex's inputs of the result whose only layer is put on top: it was made
    /// on an empty root file system.
    pub layer: usize,
}

impl Op {
    /// `source`, `exec`, `file` or `merge`, for dumps and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Source(_) => "source",
            Self::Exec(_) => "exec",
            Self::File(_) => "file",
            Self::Merge(_) => "merge",
        }
    }
}
