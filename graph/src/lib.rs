//! The op graph: what a build has to do, as plain data.
//!
//! The frontend writes a [`Definition`], the solver walks it, the worker turns each [`Op`] into
//! work. Nothing here does IO. A [`VertexDigest`] merges equal work inside one build and is never
//! stored: a tag may move, a context may change. What is stored is the solver's action key, made
//! of the op and of what its inputs *are*.

pub mod definition;
pub mod dump;
pub mod exec;
pub mod file;
pub mod freshness;
pub mod git;
pub mod ignore;
pub mod near;
pub mod op;
pub mod pattern;
pub mod source;
pub mod span;

pub use definition::{Definition, Vertex, VertexDigest, VertexIndex, VertexMeta};
pub use exec::{
    Commit, ExecDevice, ExecFile, ExecMount, ExecOp, MountKind, NetworkMode, SecurityMode, Sharing,
};
pub use file::{
    CopyAction, CopySource, FileAction, FileOp, InlineFile, MkdirAction, ModeChange, Owner, Unpack,
};
pub use freshness::Freshness;
pub use git::{GitSource, GitUrlError, Mtime, Remote, Transport};
pub use near::nearest;
pub use op::{MergeOp, Op};
pub use source::{HttpSource, ImageSource, LocalSource, SourceOp};
pub use span::{SourceFile, SourceMap, Span};
