//! Reading a file of a build context and judging whether its times can be trusted later.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

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

/// How often a file that changes while it is read is read again.
const TRIES: usize = 3;

/// A file that was read.
pub(super) struct HashedFile {
    /// What it was while it was read.
    pub(super) stat: Stat,
    /// What it contained.
    pub(super) content: ContentHash,
    /// A later change is certain to show in its times.
    pub(super) settled: bool,
}

/// Reads `path` below `root`. One that does not hold still is an error: whatever is copied later
/// would not be what was hashed.
pub(super) fn hash_file(
    root: &File,
    path: &TreePath,
    shown: &Path,
) -> Result<HashedFile, CacheError> {
    for _ in 0..TRIES {
        // Before the file is opened: whatever changes it later gets this time, or a later one.
        let before = clock::coarse_now();
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mut file = File::from(stat::open_beneath(root, path, flags).at("read", shown)?);
        let Some(stat) = stat_of(&file, shown)?.filter(|s| s.kind == FileKind::File) else {
            break;
        };
        let (content, size) = hash_all(&mut file, stat.size).at("read", shown)?;
        let still = stat_of(&file, shown)?.is_some_and(|now| now.same_content(&stat));
        if still && size == stat.size {
            return Ok(HashedFile { stat, content, settled: is_settled(&stat, before) });
        }
    }
    Err(CacheError::Changed(shown.to_owned()))
}

/// The digest and the size of the whole file, which is said to have `expected` bytes.
fn hash_all(file: &mut File, expected: u64) -> io::Result<(ContentHash, u64)> {
    let mut hasher = blake3::Hasher::new();
    // One byte more than there is, so that the first read finds the end.
    let small = usize::try_from(expected.saturating_add(1)).unwrap_or(BUFFER);
    let mut buffer = vec![0; small.min(BUFFER)];
    loop {
        let filled = fill(file, &mut buffer)?;
        if filled == BUFFER {
            hasher.update_rayon(&buffer);
        } else {
            hasher.update(&buffer[..filled]);
        }
        if filled < buffer.len() {
            return Ok((ContentHash(*hasher.finalize().as_bytes()), hasher.count()));
        }
        buffer.resize(BUFFER, 0);
    }
}

/// Whether a change at or after `now` would give the file another ctime than it has.
fn is_settled(stat: &Stat, now: Timestamp) -> bool {
    if stat.ctime.nanos == 0 && stat.mtime.nanos == 0 {
        return stat.ctime.seconds.saturating_add(COARSE_SECONDS) < now.seconds;
    }
    stat.ctime < now
}

fn stat_of(file: &File, shown: &Path) -> Result<Option<Stat>, CacheError> {
    fstat(file).at("read", shown).map(|raw| Stat::of(&raw))
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
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
