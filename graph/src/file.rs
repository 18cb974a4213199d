//! Copying and creating files.

use serde::{Deserialize, Serialize};

/// A list of file actions on one root file system, applied in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOp {
    /// Position in the vertex's inputs of the root file system; none for an empty one.
    pub root: Option<usize>,
    /// What is done to it.
    pub actions: Vec<FileAction>,
}

impl FileOp {
    /// Puts `path` of input 0 into the root directory of an empty root file system; `context` says
    /// whether the input is a directory of this machine.
    pub fn import(path: &str, context: bool, unpack: Unpack) -> Self {
        let paths = vec![path.to_owned()];
        let copy = CopyAction {
            source: CopySource::Input { input: Some(0), paths, context },
            dest: "/".to_owned(),
            owner: None,
            mode: None,
            unpack,
            exclude: Vec::new(),
            parents: false,
            replace: false,
        };
        Self { root: None, actions: vec![FileAction::Copy(copy)] }
    }

    /// The same with modes that `change` makes of what is copied.
    pub fn with_modes(mut self, change: Option<ModeChange>) -> Self {
        for action in &mut self.actions {
            if let FileAction::Copy(copy) = action {
                copy.mode.clone_from(&change);
            }
        }
        self
    }
}

/// One file action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum FileAction {
    /// COPY and ADD.
    Copy(CopyAction),
    /// WORKDIR.
    Mkdir(MkdirAction),
}

/// Creates a directory and its missing parents; one that is there stays untouched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MkdirAction {
    /// Absolute path; symbolic links in it are followed inside the root.
    pub path: String,
    /// Permission bits of what is created.
    pub mode: u32,
    /// The owner of what is created: USER's value (`user[:group]`), looked up inside the root
    /// by the rules of RUN. Empty for root.
    pub user: String,
}

/// Copies files into a root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyAction {
    /// Where the files are.
    pub source: CopySource,
    /// The destination, absolute. A trailing slash says that it is a directory.
    pub dest: String,
    /// The owner of everything copied or created; none keeps owners (0:0 from a context).
    pub owner: Option<Owner>,
    /// The permissions of everything copied or created; none keeps them.
    pub mode: Option<ModeChange>,
    /// Whether archives are extracted.
    pub unpack: Unpack,
    /// Paths relative to each source directory that are left out, with `!` exceptions.
    pub exclude: Vec<String>,
    /// Whether source paths are recreated below the destination (`--parents`).
    pub parents: bool,
    /// Whether a source replaces what an earlier one of another kind left at its path (`--link`);
    /// without it a directory onto a file, or a file onto a directory, is an error.
    pub replace: bool,
}

/// Where a copy takes its files from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CopySource {
    /// Paths or wildcards inside an input.
    Input {
        /// Position in the vertex's inputs; none for an empty root (scratch).
        input: Option<usize>,
        /// In the order of the instruction, as written after expansion.
        paths: Vec<String>,
        /// Whether the input is a context: its owners are not those of the image.
        context: bool,
    },
    /// Files whose content stands in the Dockerfile (here-documents).
    Inline(Vec<InlineFile>),
}

/// A file whose content stands in the Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InlineFile {
    /// Its name, without a directory.
    pub name: String,
    /// Its content.
    pub data: String,
}

/// `--chown`: each part a name or a number, names looked up inside the root being written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Before the colon; may be empty.
    pub user: String,
    /// After the colon, where there is one.
    pub group: Option<String>,
}

/// `--chmod`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModeChange {
    /// Permission bits, `0o7777`.
    Octal(u32),
    /// As for chmod(1), such as `u=rwX,go=rX`; syntax checked by the frontend.
    Symbolic(String),
    /// What git keeps of a mode: 0755 for directories and what its owner may execute, else 0644.
    /// Not for `--chmod`: other than that, it reaches into archives.
    Git,
}

/// Whether a source file that is an archive is extracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unpack {
    /// Never (COPY, ADD of a URL, `--unpack=false`).
    Never,
    /// Where the content is a tar, plain or compressed (ADD of a local file, `--unpack`).
    Auto,
}
