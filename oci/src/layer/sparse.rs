//! Files with holes.

/// The most pieces of data that a sparse file may have.
pub const MAX_SEGMENTS: usize = 1 << 20;
/// The longest sparse file, in bytes: a few header bytes can claim any length, and somebody
/// hashes all of it.
pub const MAX_SPARSE_SIZE: u64 = 1 << 43;

/// A piece of data in a sparse file; the rest of the file is zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it is in the file, in bytes.
    pub offset: u64,
    /// In bytes.
    pub length: u64,
}

/// Checks a map: in order, without overlap, inside the file, and as long as the stored data.
pub(super) fn segments(
    map: impl IntoIterator<Item = (u64, u64)>,
    size: u64,
    stored: u64,
) -> Result<Vec<Segment>, &'static str> {
    if size > MAX_SPARSE_SIZE {
        return Err("sparse file too long");
    }
    let mut out = Vec::new();
    let (mut end, mut sum) = (0u64, 0u64);
    for (offset, length) in map {
        if out.len() >= MAX_SEGMENTS {
            return Err("too many pieces in a sparse file");
        }
        let next = offset.checked_add(length).filter(|next| *next <= size && offset >= end);
        end = next.ok_or("malformed sparse map")?;
        sum += length;
        if length > 0 {
            out.push(Segment { offset, length });
        }
    }
    if sum != stored {
        return Err("sparse map and stored data differ in length");
    }
    Ok(out)
}

/// Reads the map at the start of the data (format 1.0): decimal numbers, each on a line, the
/// count of pieces first; it fills whole blocks.
#[derive(Default)]
pub(super) struct MapReader {
    number: Option<u64>,
    numbers: Vec<u64>,
}

impl MapReader {
    /// Takes one block; true when the map is complete.
    pub(super) fn block(&mut self, block: &[u8]) -> Result<bool, &'static str> {
        for byte in block {
            match (*byte, self.number) {
                (digit @ b'0'..=b'9', number) => {
                    let number = number.unwrap_or(0).checked_mul(10);
                    let number = number.and_then(|n| n.checked_add(u64::from(digit - b'0')));
                    self.number = Some(number.ok_or("malformed sparse map")?);
                }
                (b'\n', Some(number)) => {
                    if self.numbers.is_empty() && number > MAX_SEGMENTS as u64 {
                        return Err("too many pieces in a sparse file");
                    }
                    self.numbers.push(number);
                    self.number = None;
                    if self.complete() {
                        return Ok(true);
                    }
                }
                _ => return Err("malformed sparse map"),
            }
        }
        Ok(false)
    }

    fn complete(&self) -> bool {
        self.numbers.first().is_some_and(|n| (self.numbers.len() - 1) as u64 == 2 * n)
    }

    /// The pairs of offset and length.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.numbers.get(1..).unwrap_or_default().chunks_exact(2).map(|pair| (pair[0], pair[1]))
    }
}
