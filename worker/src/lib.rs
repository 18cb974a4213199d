//! The worker: composition.
//!
//! It turns [`graph::Op`]s into work with the crates below it: images are resolved, pulled and
//! unpacked ([`image`]), files are selected and copied ([`copy`]), processes run on snapshots,
//! and what comes out is committed, identified and agreed on. [`Engine`] is an open state directory;
//! [`Engine::build`] solves a definition on it; [`Engine::assemble`] makes an image of the result.
//!
//! It parses no Dockerfile and prints nothing.

mod backend;
mod build;
mod ceiling;
mod circumstances;
mod context;
pub mod copy;
mod devices;
mod engine;
mod error;
mod exec;
pub mod explain;
pub mod facts;
mod file;
mod ids;
pub mod image;
mod key;
mod merge;
mod mounts;
mod output;
pub mod plan;
mod policy;
mod read;
pub mod remote_cache;
mod result;
pub mod source;
#[cfg(test)]
mod testing;
mod usage;
mod verify;

pub use backend::{Backend, SnapshotChoice};
pub use build::{BuildInput, ContextInput, Wants};
/// How far the times of files in a context are trusted.
pub use cache::context::Trust as ContextTrust;
pub use context::{ContextModes, ContextOptions, ContextTree};
pub use devices::DeviceAccess;
pub use engine::{Engine, EngineConfig};
pub use error::WorkerError;
pub use executor::cdi::{CdiError, DIRECTORIES as DEVICE_DIRECTORIES, Grant, Grants};
pub use executor::{
    CpuQuota, Dns, GroupLimits, Limits, ListError, NumberList, Parent, ResourceLimit, Swap, rlimit,
};
pub use output::{Output, Payload, Rewrite, TreeOutput, Used};
pub use policy::{Kept, NamedRule};
pub use source::{FileTree, GitEnvironment, GitError, NoSecrets, Secrets};
/// Work in a copy of this process.
pub use sys::forked;
/// Entering a user namespace, before there are threads.
pub use sys::userns;
pub use verify::Verified;
