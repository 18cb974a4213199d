//! How much something has written so far.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::space::disk_usage;

/// Walking may take this part of the time.
const WALKING: u32 = 20;

/// It may take this part where the file system holds less than before: then its growth says little.
const WALKING_MORE: u32 = 3;

/// What was seen of a growth.
pub(super) struct Measure {
    root: PathBuf,
    /// What was there at the last walk, in bytes.
    walked: u64,
    /// What the file system held then, in bytes.
    held: u64,
    /// What it held at the last look.
    seen: u64,
    at: Instant,
    /// How much processor time the last walk took: waiting for a processor is no reason to walk less.
    cost: Duration,
}

impl Measure {
    /// A first walk.
    pub(super) fn new(root: &Path, paths: &[PathBuf]) -> Self {
        let now = Instant::now();
        let (root, cost) = (root.to_owned(), Duration::ZERO);
        let mut measure = Self { root, walked: 0, held: 0, seen: 0, at: now, cost };
        measure.walk(paths);
        measure
    }

    /// An upper bound of what is there, unless somebody else frees much at the same time: what was
    /// there at the last walk, and all that the file system got since. It is walked where that is
    /// cheap, where the last walk is long ago, and where the bound is above `enough`; the second says
    /// whether it was.
    pub(super) fn look(&mut self, paths: &[PathBuf], enough: u64) -> (u64, bool) {
        let now = held(&self.root);
        let part = if now < self.seen { WALKING_MORE } else { WALKING };
        self.seen = now;
        let bound = self.walked.saturating_add(now.saturating_sub(self.held));
        if self.at.elapsed() >= self.cost * part || bound > enough {
            return (self.walk(paths), true);
        }
        (bound, false)
    }

    /// What is there, exactly, in bytes.
    pub(super) fn walk(&mut self, paths: &[PathBuf]) -> u64 {
        let began = processor_time();
        // Before the walk: what is written meanwhile counts twice rather than not at all.
        self.held = held(&self.root);
        self.walked = usage(paths);
        self.at = Instant::now();
        self.cost = processor_time().saturating_sub(began);
        self.walked
    }
}

/// What this thread has used so far.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
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

/// What the file system of `root` has left for this user, in bytes.
pub(super) fn free(root: &Path) -> u64 {
    rustix::fs::statvfs(root).map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// What the file system of `root` holds, in bytes.
fn held(root: &Path) -> u64 {
    rustix::fs::statvfs(root)
        .map_or(0, |stat| stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize))
}
