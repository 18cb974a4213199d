//! Any text as an ignore file, and paths that it decides on: compared with a matcher that does no
//! more than the rules say, and with itself on what may be passed over.
//!
//! The input is the ignore file, a line `---`, and a path on each further line.
#![no_main]

mod reference;

use frontend::parse_ignore;
use graph::ignore::{IgnoreList, IgnoreMatcher};
use libfuzzer_sys::fuzz_target;

/// The reference takes time exponential in the wildcards of a pattern.
const MAX_WILDCARDS: usize = 6;
/// And it is slow on long paths.
const MAX_PATH: usize = 64;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (ignore, paths) = text.split_once("\n---\n").unwrap_or((text, "a/b/c.txt"));
    let Ok(list) = parse_ignore(ignore) else { return };
    let matcher = list.matcher();
    assert_eq!(matcher.is_empty(), list.rules.is_empty());
    let comparable =
        list.rules.iter().all(|rule| rule.pattern.matches(['*', '[']).count() <= MAX_WILDCARDS);
    for path in paths.lines().take(16) {
        let verdict = matcher.decide_alone(path.as_bytes());
        assert!(verdict.rule.is_some() || !verdict.excluded, "{path:?}");
        if comparable && path.len() <= MAX_PATH && is_clean(path) {
            let want = reference::decide(&list, path).0;
            assert_eq!(verdict.excluded, want, "{path:?} {list:?}");
            check_pruning(&list, &matcher, path);
        }
    }
});

/// A walk gives paths of named parts.
fn is_clean(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// What the matcher says of everything below a directory holds for `path`.
fn check_pruning(list: &IgnoreList, matcher: &IgnoreMatcher, path: &str) {
    let verdict = matcher.decide_alone(path.as_bytes());
    for (at, _) in path.match_indices('/') {
        let dir = path[..at].as_bytes();
        let above = matcher.decide_alone(dir);
        if above.excluded && !matcher.may_reinclude_below(dir) {
            assert!(verdict.excluded, "{path:?} below {at} {list:?}");
        }
        if !matcher.may_match_below(dir) {
            assert_eq!(verdict.excluded, above.excluded, "{path:?} below {at} {list:?}");
        }
    }
}
