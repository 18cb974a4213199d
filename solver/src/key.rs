//! Identities: of a result and of the work that makes it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// From its 32 raw bytes.
            pub fn from_bytes(raw: [u8; 32]) -> Self {
                Self(raw)
            }

            /// The 32 raw bytes.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        /// 64 lowercase hex digits.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), &self.to_string()[..12])
            }
        }

        impl FromStr for $name {
            type Err = IdentityError;

            fn from_str(s: &str) -> Result<Self, Self::Err> {
                parse_hex(s).map(Self).ok_or_else(|| IdentityError(s.to_owned()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

identity! {
    /// What a result *is*, however it was asked for: equal for equal trees on equal parents.
    ContentId
}

identity! {
    /// What has to be done on what: the op and the [`ContentId`]s of what it reads.
    ActionKey
}

/// Why a string is not an identity.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an identity of 64 hex digits")]
pub struct IdentityError(String);

fn parse_hex(s: &str) -> Option<[u8; 32]> {
    if s.len() != 64 || !s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return None;
    }
    let mut raw = [0; 32];
    for (at, byte) in raw.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&s[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(raw)
}

/// Builds an identity from parts. Each part is written with its length before it, so that no
/// two different lists of parts give the same bytes; the domain keeps kinds of keys apart.
pub struct KeyBuilder {
    hasher: blake3::Hasher,
}

impl KeyBuilder {
    /// Starts a key of one kind, such as `action/v1`.
    pub fn new(domain: &str) -> Self {
        let mut builder = Self { hasher: blake3::Hasher::new() };
        builder.part(domain.as_bytes());
        builder
    }

    /// Adds one part.
    pub fn part(&mut self, bytes: &[u8]) -> &mut Self {
        self.hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        self
    }

    /// The key of all parts.
    pub fn action_key(&self) -> ActionKey {
        ActionKey(*self.hasher.finalize().as_bytes())
    }

    /// The content identity of all parts.
    pub fn content_id(&self) -> ContentId {
        ContentId(*self.hasher.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        let key = |parts: &[&str]| {
            let mut b = KeyBuilder::new("t");
            parts.iter().for_each(|p| {
                b.part(p.as_bytes());
            });
            b.action_key()
        };
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["a"]), key(&["a", ""]));
        assert_eq!(key(&["a", "b"]), key(&["a", "b"]));
    }

    #[test]
    fn text_round_trip() {
        let id = KeyBuilder::new("x").content_id();
        assert_eq!(id.to_string().parse::<ContentId>().unwrap(), id);
        for bad in [
            "",
            "zz",
            &id.to_string().to_uppercase(),
            &id.to_string()[..62],
            "é".repeat(32).as_str(),
        ] {
            assert!(bad.parse::<ContentId>().is_err(), "{bad}");
        }
    }
}
