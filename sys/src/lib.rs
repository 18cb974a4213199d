//! Safe wrappers over Linux calls: mounts, namespaces, processes, control groups, files below a
//! root. Mechanism without policy; the only crate with `unsafe`.
#![allow(unsafe_code)]

pub mod capability;
pub mod cgroup;
pub mod copy;
pub mod detached;
mod errno;
pub mod forked;
pub mod fuse;
mod init;
pub mod launch;
pub mod mount;
pub mod namespace;
pub mod network;
mod overlay;
mod payload;
mod prepared;
pub mod program;
pub mod report;
pub mod root;
pub mod seccomp;
mod signal;
pub mod stop;
pub mod userns;
pub mod walk;
pub mod xattr;
