//! The name of a snapshot.

use std::fmt;
use std::str::FromStr;

/// How many characters an id has.
const LENGTH: usize = 16;

/// A random name: 64 bits as 16 hexadecimal digits. It says nothing about the content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(u64);

/// A string is not a snapshot's id.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a snapshot id ({LENGTH} lowercase hexadecimal digits)")]
pub struct SnapshotIdError(pub String);

impl SnapshotId {
    /// A new one, from the kernel's random numbers.
    pub fn random() -> Self {
        let mut bytes = [0u8; 8];
        let mut filled = 0;
        while filled < bytes.len() {
            let flags = rustix::rand::GetRandomFlags::empty();
            // For so few bytes getrandom(2) fails only if interrupted before the pool is ready.
            if let Ok(n) = rustix::rand::getrandom(&mut bytes[filled..], flags) {
                filled += n;
            }
        }
        Self(u64::from_le_bytes(bytes))
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0width$x}", self.0, width = LENGTH)
    }
}

impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SnapshotId {
    type Err = SnapshotIdError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let plain = s.len() == LENGTH
            && s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let value = plain.then(|| u64::from_str_radix(s, 16).ok()).flatten();
        value.map(Self).ok_or_else(|| SnapshotIdError(s.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let id = SnapshotId::random();
        assert_eq!(id.to_string().parse::<SnapshotId>().unwrap(), id);
        assert_eq!(SnapshotId(10).to_string(), "000000000000000a");
        for bad in ["", "a", "000000000000000A", "+00000000000000a", "00000000000000000"] {
            assert!(bad.parse::<SnapshotId>().is_err(), "{bad}");
        }
    }
}
