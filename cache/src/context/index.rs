//! The index of a build context: which content its files had when they were last read.
//!
//! A file is known by device and inode, its version by size, ctime and mtime. Every write, and
//! every call that sets times, changes the ctime, which no call can set: an edit that restores
//! the mtime is seen. Paths are not in the index: a file that is not changed is the same file
//! under any name.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::path::Path;

use oci::layer::ContentHash;

use super::stat::Stat;
use crate::codec::{Decoder, Encoder};
use crate::durable::{self, Durability};
use crate::error::CacheError;

const MAGIC: &[u8; 8] = b"DDCTX001";
const CHECKSUM: usize = 32;
const ROW: usize = 8 + 8 + 8 + 12 + 12 + 32;

/// A larger index is not read: some 12 million files.
const MAX_INDEX: u64 = 1 << 30;

/// Files that were not looked at this time are remembered up to this number, or as many as were
/// looked at.
const MAX_UNSEEN: usize = 20_000;

/// A version of a file and its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    size: u64,
    ctime: oci::Timestamp,
    mtime: oci::Timestamp,
    content: ContentHash,
    /// It may be written to the index: its times are certain to change with its content.
    settled: bool,
    /// It was asked for, or learned, since the index was loaded.
    seen: bool,
}

/// The index, in memory.
#[derive(Debug, Default)]
pub(super) struct Index {
    rows: HashMap<(u64, u64), Row, BuildHasherDefault<Mix>>,
    changed: bool,
}

impl Index {
    /// The index in `path`; an empty one if there is none, or it is damaged, which `damaged` is told.
    pub(super) fn load(path: &Path, damaged: impl FnOnce()) -> Self {
        let size = match std::fs::metadata(path) {
            Ok(meta) => meta.len(),
            Err(_) => return Self::default(),
        };
        let bytes = if size <= MAX_INDEX { std::fs::read(path).ok() } else { None };
        let Some(rows) = bytes.and_then(|bytes| decode(&bytes)) else {
            damaged();
            // It goes also if nothing is learned.
            return Self { changed: true, ..Self::default() };
        };
        Self { rows, changed: false }
    }

    /// The content of a file, if just this version of it was read before.
    pub(super) fn get(&mut self, stat: &Stat) -> Option<ContentHash> {
        let row = self.rows.get_mut(&stat.identity())?;
        if (row.size, row.ctime, row.mtime) != stat.version() {
            return None;
        }
        row.seen = true;
        Some(row.content)
    }

    /// Notes what a file contained. `settled`: later changes are certain to show in its times;
    /// what is not settled counts only as long as this index is in memory.
    pub(super) fn put(&mut self, stat: &Stat, content: ContentHash, settled: bool) {
        let (size, ctime, mtime) = stat.version();
        let row = Row { size, ctime, mtime, content, settled, seen: true };
        self.rows.insert(stat.identity(), row);
        self.changed |= settled;
    }

    /// Writes the index if something was learned. Of two processes that do this, the last wins,
    /// and the other's files are read once more some day.
    pub(super) fn save(&mut self, path: &Path) -> Result<(), CacheError> {
        if !self.changed {
            return Ok(());
        }
        let seen = self.rows.values().filter(|r| r.seen).count();
        if self.rows.len() - seen > MAX_UNSEEN.max(seen) {
            self.rows.retain(|_, row| row.seen);
        }
        durable::write_file(path, &self.encode(), Durability::Grouped)?;
        self.changed = false;
        Ok(())
    }

    fn encode(&self) -> Vec<u8> {
        let mut rows: Vec<_> = self.rows.iter().filter(|(_, r)| r.settled).collect();
        rows.sort_by_key(|(identity, _)| **identity);
        let mut e = Encoder::default();
        e.raw(MAGIC);
        for ((dev, ino), row) in rows {
            e.u64(*dev).u64(*ino).u64(row.size).time(row.ctime).time(row.mtime).raw(&row.content.0);
        }
        let mut bytes = e.finish();
        let sum = blake3::hash(&bytes);
        bytes.extend_from_slice(sum.as_bytes());
        bytes
    }
}

fn decode(bytes: &[u8]) -> Option<HashMap<(u64, u64), Row, BuildHasherDefault<Mix>>> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM)?)?;
    if blake3::hash(body).as_bytes() != sum {
        return None;
    }
    let mut d = Decoder::new(body);
    if d.raw(MAGIC.len())? != MAGIC {
        return None;
    }
    let mut rows = HashMap::with_capacity_and_hasher(body.len() / ROW, BuildHasherDefault::new());
    while !d.is_empty() {
        let identity = (d.u64()?, d.u64()?);
        let (size, ctime, mtime) = (d.u64()?, d.time()?, d.time()?);
        let content = ContentHash(d.array()?);
        rows.insert(identity, Row { size, ctime, mtime, content, settled: true, seen: false });
    }
    Some(rows)
}

/// Mixes device and inode numbers: they come from the kernel, not from an attacker who would
/// gain by collisions.
#[derive(Default)]
pub(super) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.write_u64((*b).into()));
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::FileKind;
    use oci::Timestamp;
    use proptest::prelude::*;

    fn stat(ino: u64, size: u64, changed: i64) -> Stat {
        Stat {
            kind: FileKind::File,
            mode: 0o644,
            size,
            mtime: Timestamp::from_seconds(1),
            ctime: Timestamp::from_seconds(changed),
            dev: 7,
            ino,
            links: 1,
            rdev: (0, 0),
        }
    }

    fn load(path: &Path) -> Index {
        Index::load(path, || panic!("it is not damaged"))
    }

    proptest! {
        #[test]
        fn round_trip(files in proptest::collection::btree_map(any::<u64>(), (any::<u64>(), any::<i64>(), any::<[u8; 32]>()), 0..50)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("index");
            let mut index = Index::default();
            for (ino, (size, changed, hash)) in &files {
                index.put(&stat(*ino, *size, *changed), ContentHash(*hash), true);
            }
            index.save(&path).unwrap();
            let mut again = load(&path);
            for (ino, (size, changed, hash)) in &files {
                prop_assert_eq!(again.get(&stat(*ino, *size, *changed)), Some(ContentHash(*hash)));
                prop_assert_eq!(again.get(&stat(*ino, *size, changed.wrapping_add(1))), None);
            }
        }

        #[test]
        fn noise_is_empty(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(decode(&bytes).is_none());
        }
    }

    #[test]
    fn what_is_not_settled_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let mut index = Index::default();
        index.put(&stat(1, 1, 1), ContentHash([1; 32]), false);
        index.save(&path).unwrap();
        assert!(!path.exists());
        index.put(&stat(2, 1, 1), ContentHash([2; 32]), true);
        index.save(&path).unwrap();
        let mut again = load(&path);
        assert!(again.get(&stat(1, 1, 1)).is_none() && again.get(&stat(2, 1, 1)).is_some());
        assert!(index.get(&stat(1, 1, 1)).is_some());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_makes_it_empty_and_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let mut index = Index::default();
        for ino in [2, 3] {
            index.put(&stat(ino, 1, 1), ContentHash([2; 32]), true);
        }
        index.save(&path).unwrap();
        let good = std::fs::read(&path).unwrap();
        let check = |bytes: &[u8], what: &str| {
            std::fs::write(&path, bytes).unwrap();
            let mut told = false;
            let found = Index::load(&path, || told = true);
            assert!(told && found.rows.is_empty(), "{what}");
        };
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            check(&bad, &format!("bit {bit}"));
        }
        for length in 0..good.len() {
            check(&good[..length], &format!("cut to {length}"));
        }
        let mut index = Index::load(&path, || ());
        index.save(&path).unwrap();
        assert!(load(&path).rows.is_empty(), "it is told once");
    }

    #[test]
    fn the_forgotten_do_not_pile_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let mut index = Index::default();
        for ino in 0..=MAX_UNSEEN as u64 {
            index.put(&stat(ino, 1, 1), ContentHash([0; 32]), true);
        }
        index.save(&path).unwrap();
        let mut again = load(&path);
        again.put(&stat(1 << 40, 1, 1), ContentHash([0; 32]), true);
        again.save(&path).unwrap();
        assert_eq!(load(&path).rows.len(), 1);
    }
}
