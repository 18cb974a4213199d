//! Temporary directories on the disk that holds the target directory: a tmpfs would hide what
//! only a real file system does (overlay uppers, syncs, extended attributes).

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::binary;

/// A new directory that goes when it is dropped.
///
/// # Panics
/// If it cannot be made.
pub fn directory() -> TempDir {
    tempfile::Builder::new().prefix("e2e-").tempdir_in(root()).expect("a temporary directory")
}

/// Where temporary directories and fixtures that are made once are.
///
/// # Panics
/// If it cannot be made.
pub fn root() -> PathBuf {
    let profile = binary::profile_directory();
    let root = profile.parent().unwrap_or(&profile).join("tmp");
    fs::create_dir_all(&root).expect("the target directory can be written to");
    root
}
