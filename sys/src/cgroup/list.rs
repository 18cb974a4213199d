//! Lists of processors or memory nodes, as cpuset(7) writes them: `0-2,5`.

use std::fmt;
use std::str::FromStr;

/// The highest number that is understood: far above what kernels are built for (8,192).
const MAX_NUMBER: u32 = 65_535;

/// A set of processors or memory nodes that is not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberList {
    /// First and last of each range; sorted, with gaps between them.
    ranges: Vec<(u32, u32)>,
}

/// Why a text is no list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{part:?} is neither a number nor a range (0-2,5 is a list; the highest number is {MAX_NUMBER})"
)]
pub struct ListError {
    part: String,
}

impl FromStr for NumberList {
    type Err = ListError;

    fn from_str(text: &str) -> Result<Self, ListError> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
            text.parse::<u32>().ok().filter(|it| digits && *it <= MAX_NUMBER)
        };
        let mut ranges = Vec::new();
        for part in text.trim().split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => ranges.push((first, last)),
                _ => return Err(ListError { part: part.to_owned() }),
            }
        }
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Ok(Self { ranges: merged })
    }
}

impl fmt::Display for NumberList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl NumberList {
    /// Whether each of these is among `others`.
    #[must_use]
    pub fn within(&self, others: &Self) -> bool {
        let inside = |(first, last): &(u32, u32)| {
            others.ranges.iter().any(|(low, high)| low <= first && last <= high)
        };
        self.ranges.iter().all(inside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        for (text, shown) in [
            ("0", "0"),
            ("0-3", "0-3"),
            ("5,0-1,2", "0-2,5"),
            ("3,1,3", "1,3"),
            ("1-4,2-3\n", "1-4"),
        ] {
            assert_eq!(text.parse::<NumberList>().unwrap().to_string(), shown);
        }
        for text in ["", "a", "1-", "-1", "3-1", "0,,1", "+1", "65536", "0 1", "1-2-3"] {
            assert!(text.parse::<NumberList>().is_err(), "{text}");
        }
    }

    #[test]
    fn subsets() {
        let list = |text: &str| text.parse::<NumberList>().unwrap();
        assert!(list("1,3").within(&list("0-3")));
        assert!(!list("3-4").within(&list("0-3")));
        assert!(list("0-3").within(&list("0-1,2-3")));
    }
}
