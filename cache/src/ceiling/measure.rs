//! How much something has written so far.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::space::disk_usage;

/// Walking may take this part of the time.
const WALKING: u32 = 20;

/// What was seen of a growth.
pub(super) struct Measure {
    root: PathBuf,
    /// What was there at the last walk, in bytes.
    walked: u64,
    /// What the file system held then, in bytes.
    held: u64,
    at: Instant,
    cost: Duration,
}

impl Measure {
    /// A first walk.
    pub(super) fn new(root: &Path, paths: &[PathBuf]) -> Self {
        let now = Instant::now();
        let (root, cost) = (root.to_owned(), Duration::ZERO);
        let mut measure = Self { root, walked: 0, held: 0, at: now, cost };
        measure.walk(paths);
        measure
    }

    /// An upper bound of what is there, unless somebody else frees much at the same time: what was
    /// there at the last walk, and all that the file system got since. It is walked where that is
    /// cheap, where the last walk is long ago, and where the bound is above `enough`.
    pub(super) fn look(&mut self, paths: &[PathBuf], enough: u64) -> u64 {
        let bound = self.walked.saturating_add(held(&self.root).saturating_sub(self.held));
        if self.at.elapsed() >= self.cost * WALKING || bound > enough {
            return self.walk(paths);
        }
        bound
    }

    /// What is there, exactly, in bytes.
    pub(super) fn walk(&mut self, paths: &[PathBuf]) -> u64 {
        let began = Instant::now();
        // Before the walk: what is written meanwhile counts twice rather than not at all.
        self.held = held(&self.root);
        self.walked = usage(paths);
        self.at = Instant::now();
        self.cost = began.elapsed();
        self.walked
    }

    /// How long ago the last exact look was.
    pub(super) fn age(&self) -> Duration {
        self.at.elapsed()
    }
}

/// What is at `paths`, in bytes. Nothing there is fine.
pub(super) fn usage(paths: &[PathBuf]) -> u64 {
    let mut seen = HashSet::new();
    paths.iter().filter(|path| seen.insert(path.as_path())).map(|path| of(path)).sum()
}

fn of(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => disk_usage(path),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    }
}

/// What the file system of `root` holds, in bytes.
fn held(root: &Path) -> u64 {
    rustix::fs::statvfs(root)
        .map_or(0, |stat| stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize))
}
