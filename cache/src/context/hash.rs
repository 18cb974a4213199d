//! Reading a file of a build context and judging whether its times can be trusted later.

use std::fs::File;
use std::io::Read;

use oci::Timestamp;
use oci::layer::{ContentHash, TreePath};
use rustix::fs::{OFlags, fstat};

use super::stat::{self, FileKind, Stat};
use crate::clock;
use crate::error::{At, CacheError};

/// What is read at once; files that fill it are hashed by several threads.
const BUFFER: usize = 1 << 20;

/// File systems that store whole seconds, or pairs of them (FAT), show no finer change.
const COARSE_SECONDS: i64 = 2;

/// A file that was read.
pub(super) struct Read1 {
    /// What it was when it was read.
    pub(super) stat: Stat,
    /// What it contained.
    pub(super) content: ContentHash,
    /// A later change is certain to show in its times.
    pub(super) settled: bool,
}

/// Reads `path` below `root`, which was seen as `seen`.
pub(super) fn hash_file(
    root: &File,
    path: &TreePath,
    seen: &Stat,
    shown: &std::path::Path,
) -> Result<Read1, CacheError> {
    let changed = || CacheError::Changed(shown.to_owned());
    // Before the file is opened: whatever changes it later gets this time, or a later one.
    let before = clock::coarse_now();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut file = File::from(stat::open_beneath(root, path, flags).at("read", shown)?);
    let first = stat_of(&file, shown)?.filter(|s| s.kind == FileKind::File).ok_or_else(changed)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; usize::try_from(first.size + 1).unwrap_or(BUFFER).min(BUFFER)];
    let mut size = 0;
    loop {
        let filled = fill(&mut file, &mut buffer).at("read", shown)?;
        if filled == BUFFER {
            hasher.update_rayon(&buffer);
        } else {
            hasher.update(&buffer[..filled]);
        }
        size += filled as u64;
        if filled < buffer.len() {
            break;
        }
        buffer.resize(BUFFER, 0);
    }
    let last = stat_of(&file, shown)?.ok_or_else(changed)?;
    let stable = first.same_content(&last) && size == first.size;
    if !stable || (first.kind, first.mode) != (seen.kind, seen.mode) {
        return Err(changed());
    }
    let content = ContentHash(*hasher.finalize().as_bytes());
    Ok(Read1 { stat: first, content, settled: is_settled(&first, before) })
}

/// Whether a change at or after `now` would give the file another ctime than it has.
fn is_settled(stat: &Stat, now: Timestamp) -> bool {
    if stat.ctime.nanos == 0 && stat.mtime.nanos == 0 {
        return stat.ctime.seconds.saturating_add(COARSE_SECONDS) < now.seconds;
    }
    stat.ctime < now
}

fn stat_of(file: &File, shown: &std::path::Path) -> Result<Option<Stat>, CacheError> {
    fstat(file).at("read", shown).map(|raw| Stat::of(&raw))
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn young_files_are_not_settled() {
        let stat = |seconds, nanos| Stat {
            kind: FileKind::File,
            mode: 0,
            size: 0,
            mtime: Timestamp { seconds, nanos },
            ctime: Timestamp { seconds, nanos },
            dev: 0,
            ino: 0,
            links: 1,
            rdev: (0, 0),
        };
        let now = Timestamp { seconds: 100, nanos: 500 };
        for (seconds, nanos, settled) in
            [(100, 499, true), (100, 500, false), (101, 1, false), (98, 0, false), (97, 0, true)]
        {
            assert_eq!(is_settled(&stat(seconds, nanos), now), settled, "{seconds}.{nanos}");
        }
    }
}
