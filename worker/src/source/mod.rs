//! Sources other than images and directories: files behind URLs, git repositories, streams.

mod file;
mod git;
mod http;
#[cfg(test)]
mod http_tests;
mod intake;
mod secret;

pub use file::FileTree;
pub(crate) use git::GitState;
pub use git::{GitEnvironment, GitError};
pub use secret::{NoSecrets, Secrets};
