//! COPY and ADD: what is selected, and how it lands in a root file system.
//!
//! [`select()`] turns paths and wildcards into the exact entries of a [`SourceTree`]; their digest
//! is the cache key. [`Target`] writes them below a [`sys::root::Root`], by BuildKit's rules for
//! destinations, links, owners and modes.

mod archive;
mod destination;
mod error;
mod mode;
mod owner;
mod select;
#[cfg(test)]
mod select_tests;
mod source;
mod target;
#[cfg(test)]
mod target_tests;
mod tree;

pub(crate) use archive::detect as detect_archive;
pub use destination::Landing;
pub use error::CopyError;
pub(crate) use mode::kept_by_git;
pub use mode::{Chmod, ModeError};
pub use owner::{Accounts, Ids};
pub use select::{Kind, Request, Selected, digest, select, select_path};
pub use source::{Keep, SourceError, SourceTree, link_groups, resolve};
pub use target::{Contents, Target};
pub use tree::ResultTree;
