//! Rules by which a cache is kept small without being asked: BuildKit's (`[worker.oci.gcpolicy]`
//! of buildkitd.toml; cache/manager.go: `calculateKeepBytes`). Pure.

use std::time::Duration;

use super::filter::Filter;

/// Bytes, or a part of the file system that the state directory is on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Space {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of the file system's size.
    Percent(f64),
    /// The smaller of both: a part of the file system, and bytes.
    Least(f64, u64),
}

/// One rule. What is zero or empty says nothing.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// Only what was not used for that long.
    pub keep_duration: Option<Duration>,
    /// So much stays in any case.
    pub reserved_space: Option<Space>,
    /// More than this does not stay.
    pub max_used_space: Option<Space>,
    /// So much of the file system should be free.
    pub min_free_space: Option<Space>,
    /// Only what one of these wants; everything, if there are none.
    pub filters: Vec<Filter>,
    /// Also what came with images that no name needs.
    pub all: bool,
}

/// The file system of a state directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// In bytes.
    pub size: u64,
    /// Free for whoever builds, in bytes.
    pub free: u64,
}

impl Space {
    /// In bytes.
    pub fn bytes(self, disk: Disk) -> u64 {
        let part = |percent: f64| (disk.size as f64 * percent.clamp(0.0, 100.0) / 100.0) as u64;
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => part(percent),
            Self::Least(percent, bytes) => part(percent).min(bytes),
        }
    }
}

impl Rule {
    /// How much may stay: this rule removes what it is about, the least recently used first, until
    /// no more than that is left. None if size is no reason for it to remove anything, which is
    /// `Some(0)` where it sets no limit of size: then age and filters alone decide.
    ///
    /// `used` is what the cache takes now, in bytes.
    pub fn keep(&self, used: u64, disk: Disk) -> Option<u64> {
        let bytes = |space: Option<Space>| space.map(|space| space.bytes(disk));
        let (max, free) = (bytes(self.max_used_space), bytes(self.min_free_space));
        let reserved = bytes(self.reserved_space).unwrap_or(0);
        if max.is_none() && free.is_none() {
            return (used > reserved || self.reserved_space.is_none()).then_some(reserved);
        }
        let lacking =
            free.map(|free| free.saturating_sub(disk.free)).filter(|lacking| *lacking > 0);
        let by_free = lacking.map(|lacking| used.saturating_sub(lacking));
        let limit = max.into_iter().chain(by_free).min()?;
        let keep = limit.max(reserved);
        (used > keep).then_some(keep)
    }
}

/// What counts where nothing is configured.
///
/// 1. What was not used for 60 days goes, as long as the cache is larger than 10 GB or a tenth of
///    the file system, whichever is less.
/// 2. A cache of more than 100 GB or four fifths of the file system, whichever is less, shrinks to
///    that; and if less than 10 GB or a fifth of the file system is free, it shrinks by what
///    lacks, but not below the size of the first rule.
///
/// BuildKit's numbers, with two differences: cache mounts and checkouts do not go after 48 hours
/// (a build on Monday would begin cold), and a large disk need not keep a fifth free.
pub fn defaults() -> Vec<Rule> {
    const GIGABYTE: u64 = 1 << 30;
    let reserved = Some(Space::Least(10.0, 10 * GIGABYTE));
    vec![
        Rule {
            keep_duration: Some(Duration::from_secs(60 * 24 * 3600)),
            reserved_space: reserved,
            all: true,
            ..Rule::default()
        },
        Rule {
            reserved_space: reserved,
            max_used_space: Some(Space::Least(80.0, 100 * GIGABYTE)),
            min_free_space: Some(Space::Least(20.0, 10 * GIGABYTE)),
            all: true,
            ..Rule::default()
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: Disk = Disk { size: 1000, free: 100 };

    fn rule(reserved: u64, max: u64, free: u64) -> Rule {
        let some = |bytes: u64| (bytes > 0).then_some(Space::Bytes(bytes));
        Rule {
            reserved_space: some(reserved),
            max_used_space: some(max),
            min_free_space: some(free),
            ..Rule::default()
        }
    }

    #[test]
    fn how_much_stays() {
        for (used, reserved, max, free, keep) in [
            (500, 0, 0, 0, Some(0)),
            (500, 200, 0, 0, Some(200)),
            (150, 200, 0, 0, None),
            (500, 0, 300, 0, Some(300)),
            (200, 0, 300, 0, None),
            (500, 0, 0, 250, Some(350)),
            (500, 0, 0, 90, None),
            (500, 400, 0, 250, Some(400)),
            (500, 0, 300, 250, Some(300)),
            (500, 0, 400, 250, Some(350)),
            (100, 0, 0, 900, Some(0)),
            (100, 200, 50, 900, None),
        ] {
            let got = rule(reserved, max, free).keep(used, DISK);
            assert_eq!(got, keep, "used {used}, reserved {reserved}, max {max}, free {free}");
        }
    }

    #[test]
    fn parts_of_the_file_system() {
        assert_eq!(Space::Percent(20.0).bytes(DISK), 200);
        assert_eq!(Space::Percent(900.0).bytes(DISK), 1000);
        assert_eq!(Space::Least(20.0, 150).bytes(DISK), 150);
        assert_eq!(Space::Least(10.0, 150).bytes(DISK), 100);
    }

    #[test]
    fn nothing_happens_to_a_small_cache() {
        let gigabyte = 1 << 30;
        let disk = Disk { size: 250 * gigabyte, free: 1 };
        for rule in defaults() {
            assert_eq!(rule.keep(10 * gigabyte, disk), None);
        }
        let small = Disk { size: 20 * gigabyte, free: 0 };
        for rule in defaults() {
            assert_eq!(rule.keep(gigabyte, small), None);
            assert!(rule.keep(3 * gigabyte, small).is_some());
        }
    }
}
