//! Up to when, in which boot, everything that was written is on the disk.
//!
//! A published value says in which boot and when it was written. A group commit that *started*
//! later has synced what it tells of; the commit then raises the mark of its boot. So a single
//! small synced write makes any number of published values durable.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::clock::BootId;
use crate::codec::{Decoder, Encoder};
use crate::error::{At, CacheError};
use crate::lock::{self, FileLock, Mode};

/// One slot: boot, nanoseconds, checksum. Slots lie inside one disk sector, so none is torn.
const SLOT: usize = 32;

/// Boots that are remembered; values of earlier ones were folded long ago.
const SLOTS: usize = 8;

/// The file of marks.
pub(crate) struct Watermark {
    path: PathBuf,
    lock: PathBuf,
}

impl Watermark {
    pub(crate) fn new(path: PathBuf, lock: PathBuf) -> Self {
        Self { path, lock }
    }

    /// Whether what was written `at`, in `boot`, is on the disk.
    pub(crate) fn covers(&self, boot: BootId, at: u64) -> bool {
        let Ok(file) = File::open(&self.path) else { return false };
        read_slots(&file).iter().flatten().any(|(b, mark)| *b == boot && *mark > at)
    }

    /// Notes that everything written before `at`, in `boot`, is on the disk, and syncs the note.
    pub(crate) fn raise(&self, boot: BootId, at: u64) -> Result<(), CacheError> {
        let _held = FileLock::acquire(&self.lock, Mode::Exclusive)?;
        let file = lock::open(&self.path)?;
        let slots = read_slots(&file);
        let own = slots.iter().position(|s| s.is_some_and(|(b, _)| b == boot));
        let slot = match own {
            Some(slot) if slots[slot].is_some_and(|(_, mark)| mark >= at) => return Ok(()),
            Some(slot) => slot,
            // Marks of other boots cannot be compared by time: slots are used in turn.
            None => slots
                .iter()
                .position(Option::is_none)
                .unwrap_or_else(|| usize::from(boot.0[0]) % SLOTS),
        };
        let bytes = encode(boot, at);
        file.write_all_at(&bytes, (slot * SLOT) as u64).at("write", &self.path)?;
        file.sync_data().at("sync", &self.path)
    }
}

fn encode(boot: BootId, at: u64) -> Vec<u8> {
    let mut bytes = Encoder::default().raw(&boot.0).u64(at).finish();
    let sum = blake3::hash(&bytes);
    bytes.extend_from_slice(&sum.as_bytes()[..8]);
    bytes
}

fn read_slots(file: &File) -> [Option<(BootId, u64)>; SLOTS] {
    let mut bytes = [0; SLOT * SLOTS];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64) {
            Ok(0) | Err(_) => break,
            Ok(n) => filled += n,
        }
    }
    std::array::from_fn(|slot| {
        let slot = &bytes[slot * SLOT..][..SLOT];
        let mut d = Decoder::new(slot);
        let (boot, at) = (BootId(d.array()?), d.u64()?);
        (encode(boot, at) == slot).then_some((boot, at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_only_rise_and_each_boot_has_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let mark = Watermark::new(dir.path().join("w"), dir.path().join("l"));
        let (a, b) = (BootId([1; 16]), BootId([2; 16]));
        assert!(!mark.covers(a, 0));
        mark.raise(a, 10).unwrap();
        mark.raise(a, 5).unwrap();
        assert!(mark.covers(a, 9) && !mark.covers(a, 10) && !mark.covers(b, 1));
        mark.raise(b, 3).unwrap();
        assert!(mark.covers(a, 9) && mark.covers(b, 2));
        for other in 3..20 {
            mark.raise(BootId([other; 16]), 7).unwrap();
            assert!(mark.covers(BootId([other; 16]), 6));
        }
    }

    #[test]
    fn a_damaged_mark_is_no_mark() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w");
        let mark = Watermark::new(path.clone(), dir.path().join("l"));
        mark.raise(BootId([1; 16]), 10).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(!mark.covers(BootId([1; 16]), 1));
        mark.raise(BootId([1; 16]), 10).unwrap();
        assert!(mark.covers(BootId([1; 16]), 1));
    }
}
