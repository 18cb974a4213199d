//! Hashing the files of a snapshot.

use std::os::fd::OwnedFd;

use oci::layer::{ContentHash, TreePath};
use rayon::prelude::*;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use sys::root::Context;

use crate::Result;
use crate::scan::Scanned;

/// With fewer files than this they are hashed on this thread alone.
const PARALLEL_FROM: usize = 8;

/// Size in bytes and hash of each of the entries `wanted` of `scanned`, regular files all.
///
/// # Errors
/// If one can't be read.
pub(crate) fn hash_all(
    root: &OwnedFd,
    scanned: &[Scanned],
    wanted: &[usize],
) -> Result<Vec<(u64, ContentHash)>> {
    let hash = |index: &usize| hash_file(root, &scanned[*index].path);
    if wanted.len() < PARALLEL_FROM {
        return wanted.iter().map(hash).collect();
    }
    wanted.par_iter().map(hash).collect()
}

fn hash_file(root: &OwnedFd, path: &TreePath) -> Result<(u64, ContentHash)> {
    let what = "cannot read";
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let open = |flags| rustix::fs::openat2(root, path.as_path(), flags, Mode::empty(), resolve);
    // Reading must not make each inode dirty; only the owner may ask for that.
    let file = match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags),
        other => other,
    };
    let file = file.context(what, path.as_path())?;
    let mut hasher = blake3::Hasher::new();
    let size = sys::copy::read_all(&file, &mut |chunk| {
        hasher.update(chunk);
    });
    Ok((size.context(what, path.as_path())?, ContentHash(*hasher.finalize().as_bytes())))
}
