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

/// A line of the file: `users` or `groups`, and an extent.
type Line = (String, Extent);

/// Checks the maps that were written down, and writes those of this process where there are
/// more. `used` tells whether there are snapshots already.
///
/// # Errors
/// [`WorkerError::OtherIds`] where some of the ids are not there any more.
pub(crate) fn check(root: &Path, used: bool) -> Result<(), WorkerError> {
    let ids = Ids::of_process();
    let path = root.join(FILE);
    let found = match std::fs::read_to_string(&path) {
        Ok(text) => decode(&text),
        // Who did not write it down had a range.
        Err(_) if used && ids.is_one() => return Err(refusal(root, "of a range of ids")),
        Err(_) => Vec::new(),
    };
    if let Some((kind, extent)) = found.iter().find(|line| !covers(&ids, line)) {
        let last = extent.outside.saturating_add(extent.count - 1);
        return Err(refusal(root, &format!("of the {kind} {} to {last}", extent.outside)));
    }
    let now = encode(&ids);
    if found != decode(&now) {
        cache::write_file(&path, now.as_bytes(), Durability::Now)?;
    }
    Ok(())
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
    text
}

/// Lines that say nothing are passed over: an older map is then written again.
fn decode(text: &str) -> Vec<Line> {
    let line = |line: &str| {
        let mut fields = line.split(' ');
        let kind = fields.next().filter(|it| ["users", "groups"].contains(it))?;
        let mut number = || fields.next()?.parse().ok();
        let extent = Extent { inside: number()?, outside: number()?, count: number()? };
        (extent.count > 0).then(|| (kind.to_owned(), extent))
    };
    text.lines().take(MAX_LINES).filter_map(line).collect()
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
        let usable = |by: &Ids, of: &Ids| decode(&encode(of)).iter().all(|line| covers(by, line));
        for (by, of) in [(&one, &one), (&range, &one), (&more, &range), (&more, &one)] {
            assert!(usable(by, of), "{by:?} {of:?}");
        }
        for (by, of) in [(&one, &range), (&range, &more), (&other, &range), (&range, &other)] {
            assert!(!usable(by, of), "{by:?} {of:?}");
        }
        assert_eq!(decode(&encode(&more)).len(), 4);
        assert!(decode("users 1 2\nothers 1 2 3\nusers 1 2 0\n\nusers a 2 3\n").is_empty());
    }
}
