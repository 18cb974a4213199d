//! The frame around every stored value: what it promises, and a checksum.

use crate::clock::BootId;
use crate::codec::{Decoder, Encoder};

const MAGIC: &[u8; 4] = b"DDV1";
const CHECKSUM: usize = 16;
const TAG_DURABLE: u32 = 0;
const TAG_PROVISIONAL: u32 = 1;

/// Whether what a value tells of is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// It was synced before the value was written.
    Durable,
    /// It was written, but maybe only into memory: worth nothing after a reboot, unless a group
    /// commit of that boot started later.
    Provisional {
        /// The boot it was written in.
        boot: BootId,
        /// When: nanoseconds since that boot.
        at: u64,
    },
}

/// `body` in its frame.
pub(crate) fn seal(promise: Promise, body: &[u8]) -> Vec<u8> {
    let mut e = Encoder::default();
    e.raw(MAGIC);
    match promise {
        Promise::Durable => e.u32(TAG_DURABLE).raw(&[0; 24]),
        Promise::Provisional { boot, at } => e.u32(TAG_PROVISIONAL).raw(&boot.0).u64(at),
    };
    let mut bytes = e.raw(body).finish();
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

/// The promise and the body of a frame; none if it is damaged.
pub(crate) fn open(bytes: &[u8]) -> Option<(Promise, &[u8])> {
    let (framed, sum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM)?)?;
    if checksum(framed) != sum {
        return None;
    }
    let mut d = Decoder::new(framed);
    if d.raw(4)? != MAGIC {
        return None;
    }
    let tag = d.u32()?;
    let (boot, at) = (BootId(d.array()?), d.u64()?);
    let promise = match tag {
        TAG_DURABLE => Promise::Durable,
        TAG_PROVISIONAL => Promise::Provisional { boot, at },
        _ => return None,
    };
    Some((promise, &framed[32..]))
}

/// Whether `bytes` are what a loss of power leaves of a value that was renamed into place and not
/// synced yet: nothing, or zeros (ext4 has no size for it, other file systems no data).
pub(crate) fn is_unwritten(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let mut sum = [0; CHECKSUM];
    sum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..CHECKSUM]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(body in proptest::collection::vec(any::<u8>(), 0..200), boot: [u8; 16], at: u64) {
            for promise in [Promise::Durable, Promise::Provisional { boot: BootId(boot), at }] {
                let sealed = seal(promise, &body);
                prop_assert_eq!(open(&sealed), Some((promise, &body[..])));
            }
        }

        #[test]
        fn one_flipped_bit_shows(body in proptest::collection::vec(any::<u8>(), 0..99), at: prop::sample::Index, bit in 0u32..8) {
            let mut sealed = seal(Promise::Durable, &body);
            let at = at.index(sealed.len());
            sealed[at] ^= 1u8 << bit;
            prop_assert_eq!(open(&sealed), None);
        }

        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..99)) {
            prop_assert_eq!(open(&bytes), None);
        }
    }
}
