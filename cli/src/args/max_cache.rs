//! `--max-cache`: how much the state directory may take.

use std::fmt;
use std::str::FromStr;

use frontend::parse_size;

/// Below this not even the programs of a base image would have room, in bytes.
const LEAST: u64 = 10 << 20;

/// How much the state directory may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaxCache {
    /// In bytes; 0 is no limit.
    pub bytes: u64,
    /// As it was written.
    text: String,
}

impl FromStr for MaxCache {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match parse_size(text) {
            Some(bytes) if bytes == 0 || bytes >= LEAST => {
                Ok(Self { bytes, text: text.trim().to_owned() })
            }
            Some(_) => Err("is less than 10m, the smallest ceiling (0 is none)".to_owned()),
            None => Err("is not a size (such as 10GB, or 0 for no ceiling)".to_owned()),
        }
    }
}

impl fmt::Display for MaxCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let bytes = |text: &str| text.parse::<MaxCache>().map(|max| max.bytes);
        assert_eq!(bytes("10GB"), Ok(10 << 30));
        assert_eq!(bytes("0"), Ok(0));
        assert!(bytes("1m").unwrap_err().contains("10m"));
        assert!(bytes("x").is_err());
        assert_eq!("1.5g".parse::<MaxCache>().unwrap().to_string(), "1.5g");
    }
}
