//! What a state directory takes.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::space::disk_usage;

/// The unit of a file's `st_blocks`, in bytes (stat(2)).
const BLOCK: u64 = 512;

/// The directory of snapshots.
const SNAPSHOTS: &str = "snapshots-v1";

/// In a snapshot, a symbolic link whose text is what the snapshot takes on disk, in bytes: a
/// snapshot never changes, and a short link takes no block.
const SIZE: &str = "disk";

/// What `root` takes, in bytes, as du(1) counts it; without what is at `except`.
///
/// Snapshots are not walked again whose size is known. What vanishes meanwhile is not counted.
pub(crate) fn survey(root: &Path, except: &HashSet<PathBuf>) -> u64 {
    let snapshots = root.join(SNAPSHOTS);
    let mut total = fs::symlink_metadata(root).map_or(0, |meta| meta.blocks() * BLOCK);
    let mut linked = HashSet::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        let in_snapshots = dir == snapshots;
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if except.contains(&path) {
                continue;
            }
            if in_snapshots && is_snapshot(&path) {
                total += snapshot_usage(&path);
                continue;
            }
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                open.push(path);
            } else if meta.nlink() > 1 && !linked.insert((meta.dev(), meta.ino())) {
                continue;
            }
            total += meta.blocks() * BLOCK;
        }
    }
    total
}

/// What `root` takes, in bytes, as du(1) counts it.
pub(crate) fn total(root: &Path) -> u64 {
    survey(root, &HashSet::new())
}

/// Whether it is the directory of a complete snapshot: its names have no suffix.
fn is_snapshot(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_hexdigit());
    plain && path.join("meta").exists()
}

/// What a complete snapshot takes on disk, in bytes, as du(1) counts it. It is looked for once
/// and then remembered beside the snapshot. What cannot be true is looked for again.
pub fn snapshot_usage(dir: &Path) -> u64 {
    let link = dir.join(SIZE);
    let known = fs::read_link(&link).ok();
    let number = known.as_deref().and_then(Path::to_str).and_then(|text| text.parse().ok());
    if let Some(size) = number.filter(|size| is_plausible(dir, *size)) {
        return size;
    }
    let size = disk_usage(dir);
    if known.is_some() {
        let _ = fs::remove_file(&link);
    }
    // Another process may have been faster, and the disk may be full: both do no harm.
    let _ = std::os::unix::fs::symlink(size.to_string(), &link);
    size
}

/// Whether a snapshot can take so much: not less than its own directory, nor more than there is.
fn is_plausible(dir: &Path, size: u64) -> bool {
    let least = fs::symlink_metadata(dir).map_or(0, |meta| meta.blocks() * BLOCK);
    let most = rustix::fs::statvfs(dir)
        .map_or(u64::MAX, |stat| stat.f_blocks.saturating_mul(stat.f_frsize));
    size.is_multiple_of(BLOCK) && (least..=most).contains(&size)
}
