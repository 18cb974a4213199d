//! Which ids the files of a state directory have outside.
//!
//! In a user namespace of an ordinary user, an owner is a number of that user's range. With another
//! range, or none, the same files would belong to somebody else, and images made of them would be
//! wrong: so the maps are written down, and what is written may only be added to.

use std::fmt::Write as _;
use std::path::Path;

use cache::Durability;
use sys::userns::{Extent, Ids};

use crate::error::WorkerError;

/// The file in the state directory.
const FILE: &str = "ids";
/// The most that is read of it, in lines: two full maps (user_namespaces(7)).
const MAX_LINES: usize = 2 * 340;
/// What its last line begins with, the checksum of those before.
const SUM: &str = "sum ";
/// How many hex digits of a BLAKE3 that has.
const DIGITS: usize = 16;

/// A line of the file: `users` or `groups`, and an extent.
type Line = (String, Extent);

/// Checks the maps that were written down, and writes those of this process where there are
/// more. `used` tells whether there are snapshots already. Returns what there is to tell: a damaged
/// file is written again, since a number in it that nobody has would keep everybody out.
///
/// # Errors
/// [`WorkerError::OtherIds`] where some of the ids are not there any more.
pub(crate) fn check(root: &Path, used: bool) -> Result<Option<String>, WorkerError> {
    let ids = Ids::of_process();
    let path = root.join(FILE);
    let mut told = None;
    let text = std::fs::read(&path);
    let found = match &text {
        Ok(text) => decode(text).unwrap_or_else(|| {
            told = Some(format!("{} was damaged and is written again", path.display()));
            Vec::new()
        }),
        // Who did not write it down had a range.
        Err(_) if used && ids.is_one() => return Err(refusal(root, "of a range of ids")),
        Err(_) => Vec::new(),
    };
    if let Some((kind, extent)) = found.iter().find(|line| !covers(&ids, line)) {
        let last = extent.outside.saturating_add(extent.count - 1);
        return Err(refusal(root, &format!("of the {kind} {} to {last}", extent.outside)));
    }
    let now = encode(&ids);
    if text.is_ok_and(|text| text == now.as_bytes()) {
        return Ok(None);
    }
    cache::write_file(&path, now.as_bytes(), Durability::Now)?;
    Ok(told)
}

fn refusal(root: &Path, what: &str) -> WorkerError {
    WorkerError::OtherIds { root: root.to_owned(), what: what.to_owned() }
}

/// Whether all ids of the line still mean the same.
fn covers(ids: &Ids, (kind, old): &Line) -> bool {
    let map = if kind == "users" { &ids.users } else { &ids.groups };
    map.iter().any(|new| {
        let at = old.inside.checked_sub(new.inside);
        at.is_some_and(|at| {
            Some(old.outside) == new.outside.checked_add(at)
                && at.checked_add(old.count).is_some_and(|end| end <= new.count)
        })
    })
}

fn encode(ids: &Ids) -> String {
    let mut text = String::new();
    for (kind, map) in [("users", &ids.users), ("groups", &ids.groups)] {
        for Extent { inside, outside, count } in map {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{kind} {inside} {outside} {count}");
        }
    }
    let sum = checksum(&text);
    let _ = writeln!(text, "{SUM}{sum}");
    text
}

fn checksum(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..DIGITS].to_owned()
}

/// The lines; none if they are damaged. Earlier versions wrote no checksum: then there is nothing but
/// lines that say something. (An empty file is what a loss of power left.)
fn decode(bytes: &[u8]) -> Option<Vec<Line>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let line = |line: &str| {
        let mut fields = line.split(' ');
        let kind = fields.next().filter(|it| ["users", "groups"].contains(it))?;
        let mut number = || fields.next()?.parse().ok();
        let extent = Extent { inside: number()?, outside: number()?, count: number()? };
        (extent.count > 0).then(|| (kind.to_owned(), extent))
    };
    let body = match text.rfind(SUM) {
        Some(at) => {
            let sum = text[at..].strip_suffix('\n')?.strip_prefix(SUM)?;
            (sum == checksum(&text[..at])).then_some(&text[..at])?
        }
        None => text,
    };
    body.lines().take(MAX_LINES).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_may_grow() {
        let extent = |inside, outside, count| Extent { inside, outside, count };
        let ids = |maps: &[Extent]| Ids {
            users: maps.to_vec(),
            groups: maps.to_vec(),
            may_set_groups: true,
        };
        let one = ids(&[extent(0, 1000, 1)]);
        let range = ids(&[extent(0, 1000, 1), extent(1, 100_000, 65536)]);
        let more = ids(&[extent(0, 1000, 1), extent(1, 100_000, 70_000)]);
        let other = ids(&[extent(0, 1000, 1), extent(1, 200_000, 65536)]);
        let lines = |of: &Ids| decode(encode(of).as_bytes()).unwrap();
        let usable = |by: &Ids, of: &Ids| lines(of).iter().all(|line| covers(by, line));
        for (by, of) in [(&one, &one), (&range, &one), (&more, &range), (&more, &one)] {
            assert!(usable(by, of), "{by:?} {of:?}");
        }
        for (by, of) in [(&one, &range), (&range, &more), (&other, &range), (&range, &other)] {
            assert!(!usable(by, of), "{by:?} {of:?}");
        }
        assert_eq!(lines(&more).len(), 4);
        for text in ["users 1 2\n", "others 1 2 3\n", "users 1 2 0\n", "\n", "users a 2 3\n"] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_damaged_file_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        assert_eq!(check(dir.path(), false).unwrap(), None);
        let good = std::fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bad).unwrap();
            assert!(check(dir.path(), true).unwrap().is_some(), "bit {bit}");
            assert_eq!(std::fs::read(&path).unwrap(), good);
        }
        for length in 0..good.len() {
            std::fs::write(&path, &good[..length]).unwrap();
            check(dir.path(), true).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), good, "cut to {length}");
        }
        // As earlier versions wrote it: with ids that are there, and with others.
        let text = String::from_utf8(good.clone()).unwrap();
        let old = &text[..text.rfind(SUM).unwrap()];
        std::fs::write(&path, old).unwrap();
        assert_eq!(check(dir.path(), true).unwrap(), None);
        std::fs::write(&path, "users 0 4294967294 1\n").unwrap();
        assert!(check(dir.path(), true).is_err());
    }
}
