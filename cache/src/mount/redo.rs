//! What a merge does, in order, as it stands in its log.
//!
//! A change is one rename between the base, which everybody sees, and a directory that only the
//! merge has. Whether it was made is told by the latter alone, so that all of them can be made
//! again from the beginning, wherever they were cut off.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::attributes::Meta;
use crate::codec::{Decoder, Encoder};
use crate::sealed::{self, Promise};

/// One change. Paths are relative to the base and to the upper directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Takes a directory out of the base that is to be elsewhere. These come first.
    Park { path: PathBuf, slot: u32 },
    /// Notes that all of them are taken: their slots are about to be empty again.
    Parked,
    /// Takes out of the base what is not there any more.
    Take { path: PathBuf, slot: u32 },
    /// Puts a parked directory into its place.
    Unpark { slot: u32, path: PathBuf },
    /// Puts what is in the upper directory into the same place of the base, over what is no
    /// directory there.
    Put { path: PathBuf },
    /// Makes a directory in the base.
    Make { path: PathBuf },
    /// Gives a directory of the base this metadata, and the attributes of that in the upper one.
    Dress { path: PathBuf, meta: Meta },
}

/// The log: sealed, so that a damaged one is not taken for another.
pub(super) fn encode(changes: &[Change]) -> Vec<u8> {
    let mut e = Encoder::default();
    e.u64(changes.len() as u64);
    for change in changes {
        let mut entry = |tag: u32, path: &Path, slot: u32| {
            e.u32(tag).bytes(path.as_os_str().as_bytes()).u32(slot);
        };
        match change {
            Change::Park { path, slot } => entry(0, path, *slot),
            Change::Take { path, slot } => entry(1, path, *slot),
            Change::Unpark { slot, path } => entry(2, path, *slot),
            Change::Put { path } => entry(3, path, 0),
            Change::Make { path } => entry(4, path, 0),
            Change::Parked => entry(6, Path::new(""), 0),
            Change::Dress { path, meta } => {
                entry(5, path, 0);
                e.u32(meta.mode).u32(meta.uid).u32(meta.gid);
                for (seconds, nanos) in [meta.accessed, meta.modified] {
                    e.u64(seconds as u64).u32(nanos);
                }
            }
        }
    }
    sealed::seal(Promise::Durable, &e.finish())
}

/// Reads a log; none if it is damaged.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<Change>> {
    let mut d = Decoder::new(sealed::open(bytes)?.1);
    let count = d.u64()?;
    let mut changes = Vec::new();
    for _ in 0..count {
        let tag = d.u32()?;
        let path = PathBuf::from(OsStr::from_bytes(d.bytes()?));
        let slot = d.u32()?;
        changes.push(match tag {
            0 => Change::Park { path, slot },
            1 => Change::Take { path, slot },
            2 => Change::Unpark { slot, path },
            3 => Change::Put { path },
            4 => Change::Make { path },
            5 => {
                let (mode, uid, gid) = (d.u32()?, d.u32()?, d.u32()?);
                let mut time = || Some((d.u64()? as i64, d.u32()?));
                let (accessed, modified) = (time()?, time()?);
                Change::Dress { path, meta: Meta { mode, uid, gid, accessed, modified } }
            }
            6 => Change::Parked,
            _ => return None,
        });
    }
    d.is_empty().then_some(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_read_as_they_were_written() {
        let path = || PathBuf::from(OsStr::from_bytes(b"d/\xff\n"));
        let (accessed, modified) = ((-5, 7), (1 << 40, 999_999_999));
        let meta = Meta { mode: 0o7755, uid: 3, gid: u32::MAX - 1, accessed, modified };
        let changes = vec![
            Change::Park { path: path(), slot: 1 },
            Change::Parked,
            Change::Take { path: path(), slot: 2 },
            Change::Unpark { slot: 1, path: path() },
            Change::Put { path: path() },
            Change::Make { path: PathBuf::new() },
            Change::Dress { path: path(), meta },
        ];
        let bytes = encode(&changes);
        assert_eq!(decode(&bytes), Some(changes));
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), None);
        }
    }
}
