//! A state directory to look at: it shows what another one holds, and takes all that is written.
//!
//! What is large is shared by symbolic links and only ever read; what somebody who only looks may write
//! (leases, uses, names and manifests of images) is copied or begins empty. The other directory
//! stays as it is, to the last time of change. Collection there knows nothing of this process: what
//! it removes meanwhile is missing here, which is a miss.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;

use crate::durable::TEMPORARY;
use crate::error::{At, CacheError};

/// Shared, and only read.
const SHARED: [&str; 4] = ["records-v1", "snapshots-v1", "context-v1", "history-v1"];

/// Copied: files of a few bytes each, or directories of such.
const COPIED: [&str; 6] = ["format", "ids", "generation", "watermark", "done", "images-v1"];

/// Where each file is shared, so that others can be put beside it.
const BLOBS: &str = "blobs-v1/sha256";

/// What shows that snapshots were stored in a state directory: before that there is nothing to
/// look at.
const USED: &str = "snapshots-v1/kind";

/// Makes the empty directory `shadow` show what the state directory `root` holds; one that is not there
/// or was never used holds nothing.
///
/// # Errors
/// If something cannot be read or made.
pub fn cast(root: &Path, shadow: &Path) -> Result<(), CacheError> {
    let root = match root.canonicalize() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.at("open", root)?,
    };
    if !root.join(USED).exists() {
        return Ok(());
    }
    for name in SHARED {
        let there = root.join(name);
        if there.exists() {
            let here = shadow.join(name);
            symlink(&there, &here).at("create", &here)?;
        }
    }
    for name in COPIED {
        copy(&root.join(name), &shadow.join(name))?;
    }
    let (there, here) = (root.join(BLOBS), shadow.join(BLOBS));
    DirBuilder::new().recursive(true).mode(0o700).create(&here).at("create", &here)?;
    for name in names(&there)? {
        let link = here.join(&name);
        symlink(there.join(&name), &link).at("create", &link)?;
    }
    Ok(())
}

/// Copies a file, or the files of a directory. What goes away meanwhile is not there.
fn copy(from: &Path, to: &Path) -> Result<(), CacheError> {
    if !from.is_dir() {
        return match fs::copy(from, to) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map(drop).at("copy", from),
        };
    }
    DirBuilder::new().mode(0o700).create(to).at("create", to)?;
    for name in names(from)? {
        copy(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

fn names(dir: &Path) -> Result<Vec<std::ffi::OsString>, CacheError> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at("list", dir)?,
    };
    let whole = |name: &std::ffi::OsString| !name.to_string_lossy().starts_with(TEMPORARY);
    Ok(entries.flatten().map(|entry| entry.file_name()).filter(whole).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_and_does_not_touch() {
        let dir = tempfile::tempdir().unwrap();
        let (root, shadow) = (dir.path().join("root"), dir.path().join("shadow"));
        fs::create_dir(&shadow).unwrap();
        cast(&root, &shadow).unwrap();
        assert_eq!(fs::read_dir(&shadow).unwrap().count(), 0);
        for name in ["snapshots-v1", "blobs-v1/sha256", "images-v1", "leases"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        for name in [USED, "blobs-v1/sha256/aa", "images-v1/name", "leases/x", "generation"] {
            fs::write(root.join(name), name).unwrap();
        }
        cast(&root, &shadow).unwrap();
        for name in [USED, "blobs-v1/sha256/aa", "images-v1/name", "generation"] {
            assert_eq!(fs::read_to_string(shadow.join(name)).unwrap(), name);
        }
        assert!(!shadow.join("leases").exists());
        fs::write(shadow.join("images-v1/name"), "other").unwrap();
        fs::remove_file(shadow.join("blobs-v1/sha256/aa")).unwrap();
        assert_eq!(fs::read_to_string(root.join("images-v1/name")).unwrap(), "images-v1/name");
        assert!(root.join("blobs-v1/sha256/aa").exists());
    }
}
