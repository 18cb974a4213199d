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
}

impl Op {
    /// `source`, `exec` or `file`, for dumps and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Source(_) => "source",
            Self::Exec(_) => "exec",
            Self::File(_) => "file",
        }
    }
}
