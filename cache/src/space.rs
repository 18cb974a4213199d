//! What a directory takes on the disk.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The unit of a file's `st_blocks`, in bytes (stat(2)).
const BLOCK: u64 = 512;

/// What `dir` and everything in it takes, in bytes, as du(1) counts: a file of several names
/// once. What vanishes meanwhile, or cannot be read, is not counted.
pub fn disk_usage(dir: &Path) -> u64 {
    disk_usage_beside(dir, &HashSet::new())
}

/// The same without what is in `others`.
pub(crate) fn disk_usage_beside(dir: &Path, others: &HashSet<PathBuf>) -> u64 {
    let mut total = fs::symlink_metadata(dir).map_or(0, |meta| meta.blocks() * BLOCK);
    let mut linked = HashSet::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = if others.is_empty() { None } else { Some(entry.path()) };
            if path.is_some_and(|path| others.contains(&path)) {
                continue;
            }
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                open.push(entry.path());
            } else if meta.nlink() > 1 && !linked.insert((meta.dev(), meta.ino())) {
                continue;
            }
            total += meta.blocks() * BLOCK;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_count_once() {
        let dir = tempfile::tempdir().unwrap();
        let empty = disk_usage(dir.path());
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/f"), vec![1; 100_000]).unwrap();
        fs::hard_link(dir.path().join("d/f"), dir.path().join("g")).unwrap();
        let full = disk_usage(dir.path()) - empty;
        assert!((100_000..150_000).contains(&full), "{full}");
        assert_eq!(disk_usage(&dir.path().join("none")), 0);
    }
}
