//! File capabilities as layers carry them.

/// The extended attribute that holds them.
pub const CAPABILITY_XATTR: &[u8] = b"security.capability";

/// `struct vfs_cap_data` (include/uapi/linux/capability.h): the revision is the top byte of the
/// first little-endian word, the lowest bit of which says "effective".
const REVISION_MASK: u32 = 0xff00_0000;
const REVISION_1: u32 = 0x0100_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;

const WORD: usize = 4;
const SIZE_1: usize = 3 * WORD;
const SIZE_2: usize = 5 * WORD;
const SIZE_3: usize = 6 * WORD;

/// Bytes that are no `vfs_cap_data`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("security.capability: {size} bytes that are no capability data of revision 1, 2 or 3")]
pub struct CapabilityError {
    /// How many there were.
    pub size: usize,
}

/// Brings the value of `security.capability` into its version 2 form, which has no root id: the
/// user namespace that a file was written in is not part of an image.
///
/// # Errors
/// If `raw` is not in one of the three forms that the kernel knows.
pub fn normalise_capability(raw: &[u8]) -> Result<Box<[u8]>, CapabilityError> {
    let fail = CapabilityError { size: raw.len() };
    let Some((magic, rest)) = raw.split_first_chunk::<WORD>() else { return Err(fail) };
    let magic = u32::from_le_bytes(*magic);
    let known = match magic & REVISION_MASK {
        REVISION_1 => raw.len() == SIZE_1,
        REVISION_2 => raw.len() == SIZE_2,
        REVISION_3 => raw.len() == SIZE_3,
        _ => false,
    };
    if !known {
        return Err(fail);
    }
    let mut out = Vec::with_capacity(SIZE_2);
    out.extend(((magic & !REVISION_MASK) | REVISION_2).to_le_bytes());
    out.extend(&rest[..rest.len().min(SIZE_2 - WORD)]);
    out.resize(SIZE_2, 0);
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_revisions() {
        let v1 = [1, 0, 0, 1, 0, 4, 0, 0, 0, 8, 0, 0];
        let v2 = [1, 0, 0, 2, 0, 4, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut v3 = v2.to_vec();
        v3[3] = 3;
        v3.extend(100_000u32.to_le_bytes());
        for raw in [&v1[..], &v2, &v3] {
            assert_eq!(&*normalise_capability(raw).unwrap(), v2);
        }
        for raw in [&b""[..], b"abc", &v3[..20], &v2[..19], &[0; 20]] {
            assert!(normalise_capability(raw).is_err(), "{raw:?}");
        }
    }
}
