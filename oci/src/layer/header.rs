//! The fields of a tar header block as archives in the wild write them.

use tar_core::{HEADER_SIZE, Header};

/// Where a GNU header keeps its first four sparse descriptors, the flag that more follow, and
/// the size of the whole file.
const GNU_SPARSE: usize = 386;
const GNU_EXTENDED: usize = 482;
const GNU_REAL_SIZE: std::ops::Range<usize> = 483..495;
/// Where a block of further sparse descriptors has that flag.
const CONTINUATION_EXTENDED: usize = 504;
/// The bytes of a sparse descriptor: offset and length, 12 each.
const DESCRIPTOR: usize = 24;
/// Where the checksum is.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// Whether `head` begins with a tar header: of any dialect, with a right checksum. An archive
/// without entries (zeros) does not count, as it cannot be told from other files.
pub fn is_tar(head: &[u8]) -> bool {
    head.first_chunk::<HEADER_SIZE>()
        .is_some_and(|block| checksum_holds(block) && block.iter().any(|b| *b != 0))
}

/// Whether the header's checksum is right. Old implementations summed signed bytes.
pub(super) fn checksum_holds(block: &[u8; HEADER_SIZE]) -> bool {
    let Some(want) = number(&block[CHECKSUM]) else { return false };
    let (mut unsigned, mut signed) = (0i64, 0i64);
    for (at, byte) in block.iter().enumerate() {
        let byte = if CHECKSUM.contains(&at) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte as i8);
    }
    want == unsigned || want == signed
}

/// A numeric field: octal digits between spaces and NULs, or big-endian two's complement with
/// the top bit set (GNU base-256). None if it is neither or out of range.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        let head = i128::from(first & 0x3f) - if first & 0x40 != 0 { 0x40 } else { 0 };
        let value = field[1..].iter().try_fold(head, |value, byte| {
            value.checked_mul(256).map(|value| value + i128::from(*byte))
        })?;
        return i64::try_from(value).ok();
    }
    let blank = |b: &u8| b.is_ascii_whitespace() || matches!(*b, 0 | 0x0b);
    let digits = field.iter().skip_while(|b| blank(b)).take_while(|b| !blank(b));
    digits.copied().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// A text field: up to the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.iter().position(|b| *b == 0).map_or(field, |at| &field[..at])
}

/// The name, with the prefix where the dialect has one.
pub(super) fn name(header: &Header) -> Vec<u8> {
    let fields = header.as_ustar();
    let name = text(&fields.name);
    // GNU tar keeps other things where POSIX has the prefix; star keeps two times at its end.
    let prefix = match &fields.magic {
        b"ustar\0" if header.as_bytes()[HEADER_SIZE - 4..] == *b"tar\0" => &fields.prefix[..131],
        b"ustar\0" => &fields.prefix[..],
        _ => b"",
    };
    match text(prefix) {
        b"" => name.to_vec(),
        prefix => [prefix, b"/", name].concat(),
    }
}

/// What a GNU header says about a sparse file.
pub(super) struct GnuSparse {
    /// Offsets and lengths.
    pub(super) map: Vec<(i64, i64)>,
    /// Of the whole file, in bytes.
    pub(super) size: i64,
    /// Whether blocks with more descriptors follow.
    pub(super) more: bool,
}

/// The sparse part of a GNU header; none if a number is malformed.
pub(super) fn gnu_sparse(block: &[u8; HEADER_SIZE]) -> Option<GnuSparse> {
    let map = descriptors(&block[GNU_SPARSE..GNU_EXTENDED])?;
    Some(GnuSparse { map, size: number(&block[GNU_REAL_SIZE])?, more: block[GNU_EXTENDED] != 0 })
}

/// A block with more descriptors, and whether it is not the last.
pub(super) fn gnu_sparse_more(block: &[u8; HEADER_SIZE]) -> Option<(Vec<(i64, i64)>, bool)> {
    let map = descriptors(&block[..CONTINUATION_EXTENDED])?;
    Some((map, block[CONTINUATION_EXTENDED] != 0))
}

/// Descriptors up to the first that is unused.
fn descriptors(raw: &[u8]) -> Option<Vec<(i64, i64)>> {
    raw.chunks_exact(DESCRIPTOR)
        .take_while(|raw| raw[0] != 0 && raw[DESCRIPTOR / 2] != 0)
        .map(|raw| Some((number(&raw[..DESCRIPTOR / 2])?, number(&raw[DESCRIPTOR / 2..])?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (field, want) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"77777777", Some(0o77_777_777)),
            (b"12345678", None),
            (b"-1\0\0\0\0\0\0", None),
            (b"\x80\0\0\0\0\0\x01\x02", Some(258)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
        ] {
            assert_eq!(number(field), want, "{field:?}");
        }
    }

    #[test]
    fn what_is_a_tar() {
        assert!(!is_tar(&[0; 1024]) && !is_tar(b"") && !is_tar(&[b'x'; 512]));
        let mut header = Header::new_old();
        header.as_mut_bytes()[..4].copy_from_slice(b"name");
        header.set_checksum();
        assert!(is_tar(header.as_bytes()));
        header.as_mut_bytes()[0] = b'N';
        assert!(!is_tar(header.as_bytes()));
    }
}
