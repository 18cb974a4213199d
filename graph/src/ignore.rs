//! Lists of what is left out: `.dockerignore` and its kin, `--exclude`.

use serde::{Deserialize, Serialize};

use crate::pattern::{Glob, PatternError, bad, clean};

/// The rules of one ignore file, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoreList {
    /// The rules; the last one that matches decides.
    pub rules: Vec<IgnoreRule>,
    /// What people know the list by, such as `.dockerignore`; may be empty. It decides nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// One line of an ignore file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoreRule {
    /// The cleaned pattern, without `!` and leading slash.
    pub pattern: String,
    /// Whether it brings back instead of leaving out.
    pub negated: bool,
    /// The line it stands on, from 1.
    pub line: u32,
}

impl IgnoreList {
    /// The rules of a list of patterns, as `--exclude` gives them: trimmed, cleaned, `!` in front
    /// of an exception; rule `n` gets line `n`.
    ///
    /// # Errors
    /// If a pattern is malformed, or a lone `!`.
    pub fn from_patterns<S: AsRef<str>>(patterns: &[S]) -> Result<Self, PatternError> {
        let mut list = Self::default();
        for (at, text) in patterns.iter().enumerate() {
            list.push(text.as_ref(), u32::try_from(at + 1).unwrap_or(u32::MAX))?;
        }
        Ok(list)
    }

    /// Adds the pattern `text` that stands on `line`; a blank one is left out.
    ///
    /// # Errors
    /// If it is malformed, or a lone `!`.
    pub fn push(&mut self, text: &str, line: u32) -> Result<(), PatternError> {
        let text = text.trim();
        let (negated, pattern) = match text.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, text),
        };
        if pattern.is_empty() {
            return if negated { Err(bad(text, "nothing follows the \"!\"")) } else { Ok(()) };
        }
        let cleaned = clean(pattern);
        let pattern = match cleaned.strip_prefix('/') {
            Some(relative) if !relative.is_empty() => relative.to_owned(),
            _ => cleaned,
        };
        Glob::with_double_star(&pattern)?;
        self.rules.push(IgnoreRule { pattern, negated, line });
        Ok(())
    }

    /// The rules, ready to decide on paths. A rule whose pattern is malformed (which
    /// [`IgnoreList::push`] refuses) matches nothing.
    pub fn matcher(&self) -> IgnoreMatcher {
        let rules: Vec<Rule> = self
            .rules
            .iter()
            .map(|rule| Rule {
                glob: Glob::with_double_star(&rule.pattern).ok(),
                negated: rule.negated,
                parts: parts_of(&rule.pattern),
            })
            .collect();
        IgnoreMatcher { rules }
    }
}

/// An [`IgnoreList`] ready to decide on paths.
#[derive(Clone, Debug)]
pub struct IgnoreMatcher {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    glob: Option<Glob>,
    negated: bool,
    /// The parts of the pattern; none from where a part may match a slash.
    parts: Vec<Option<Glob>>,
}

/// Which rules matched a directory or one of its parents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IgnoreState {
    first: u64,
    further: Vec<u64>,
}

/// What a list says of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the path is left out.
    pub excluded: bool,
    /// The rule that decided, by position; none where no rule matched.
    pub rule: Option<usize>,
}

impl IgnoreState {
    fn empty(rules: usize) -> Self {
        Self { first: 0, further: vec![0; rules.saturating_sub(1) / 64] }
    }

    fn get(&self, rule: usize) -> bool {
        let word = if rule < 64 { self.first } else { self.further[rule / 64 - 1] };
        word >> (rule % 64) & 1 == 1
    }

    fn set(&mut self, rule: usize) {
        let word = if rule < 64 { &mut self.first } else { &mut self.further[rule / 64 - 1] };
        *word |= 1 << (rule % 64);
    }
}

fn parts_of(pattern: &str) -> Vec<Option<Glob>> {
    let mut parts = Vec::new();
    for part in pattern.split('/') {
        let within = |glob: &Glob| {
            !part.contains("**") && !part.contains('\\') && !glob.takes_slashes_in_classes()
        };
        let glob = Glob::new(part).ok().filter(within);
        let open = glob.is_none();
        parts.push(glob);
        if open {
            break;
        }
    }
    parts
}

impl IgnoreMatcher {
    /// The state above the top-level entries.
    pub fn root(&self) -> IgnoreState {
        IgnoreState::empty(self.rules.len())
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Decides on the relative `path`, whose parent directory gave `parent`; also returns the
    /// state for the entries below it.
    ///
    /// A rule that matched a parent matches everything below; the last matching rule decides.
    /// As in moby/patternmatcher (`MatchesUsingParentResults`), a rule that cannot change the
    /// verdict so far is not tried, and so not remembered for what is below.
    pub fn decide(&self, path: &[u8], parent: &IgnoreState) -> (Verdict, IgnoreState) {
        let mut state = IgnoreState::empty(self.rules.len());
        let mut verdict = Verdict { excluded: false, rule: None };
        for (at, rule) in self.rules.iter().enumerate() {
            let matched = parent.get(at)
                || (rule.negated == verdict.excluded
                    && rule.glob.as_ref().is_some_and(|g| g.matches(path)));
            if matched {
                state.set(at);
                verdict = Verdict { excluded: !rule.negated, rule: Some(at) };
            }
        }
        (verdict, state)
    }

    /// Decides on a path by itself, asking for each of its parents first.
    pub fn decide_alone(&self, path: &[u8]) -> Verdict {
        let mut state = self.root();
        for (at, _) in path.iter().enumerate().filter(|(_, b)| **b == b'/') {
            state = self.decide(&path[..at], &state).1;
        }
        self.decide(path, &state).0
    }

    /// Whether an exception (`!`) can match something below the directory `dir`, so that an
    /// excluded directory must be walked all the same.
    pub fn may_reinclude_below(&self, dir: &[u8]) -> bool {
        self.rules.iter().any(|rule| rule.negated && rule.may_match_below(dir))
    }

    /// Whether any rule can match something below the directory `dir`.
    pub fn may_match_below(&self, dir: &[u8]) -> bool {
        self.rules.iter().any(|rule| rule.may_match_below(dir))
    }
}

impl Rule {
    fn may_match_below(&self, dir: &[u8]) -> bool {
        if self.glob.is_none() {
            return false;
        }
        let mut parts = self.parts.iter();
        for name in dir.split(|b| *b == b'/').filter(|n| !n.is_empty()) {
            match parts.next() {
                None => return false,
                Some(None) => return true,
                Some(Some(glob)) if glob.matches(name) => {}
                Some(Some(_)) => return false,
            }
        }
        parts.next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(rules: &[&str], path: &str) -> bool {
        let matcher = IgnoreList::from_patterns(rules).unwrap().matcher();
        matcher.decide_alone(path.as_bytes()).excluded
    }

    #[test]
    fn double_stars() {
        for (pattern, path, want) in [
            ("**", "file", true),
            ("**", "dir/file", true),
            ("**/", "file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir", false),
            ("dir/**", "dir/dir2/file", true),
            ("**/dir", "dir", true),
            ("**/dir", "dir/file", true),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/**", "dir/dir2/dir2/file", true),
            ("**file", "dir/file", true),
            ("**file", "dir/afile", true),
            ("**/file", "dir/afile", false),
            ("**/file*txt", "dir/dir/file.txt", true),
            ("**/**/*.txt", "dir/dir/file.txt", true),
            ("a**/*.txt", "a/file.txt", true),
            ("a**/*.txt", "a/dir/file.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a/**/*.txt", "a/file.txt", true),
            ("a[b-d]e", "ace", true),
            ("*.md", "a/b.md", false),
            ("dir/", "dir/x", true),
            ("/dir", "dir", true),
            ("./dir", "dir/y", true),
            ("a/../b", "b", true),
            (".*", ".foo", true),
            ("**/a**b", "ax/ab", true),
        ] {
            assert_eq!(excluded(&[pattern], path), want, "{pattern} {path}");
        }
    }

    #[test]
    fn the_last_match_wins_and_parents_count() {
        assert!(!excluded(&["dir", "!dir/sub/f"], "dir/sub/f"));
        assert!(excluded(&["dir", "!dir/sub/f"], "dir/sub/g"));
        assert!(excluded(&["dir", "!dir/sub/f"], "dir/sub"));
        assert!(excluded(&["*", "!a", "a/b"], "a/b/c"));
        assert!(!excluded(&["*", "!a"], "a/b/c"));
        assert!(excluded(&["!a", "*"], "a/b"));
        assert!(IgnoreList::from_patterns(&["!"]).is_err());
        assert!(IgnoreList::from_patterns(&["a["]).is_err());
        let many: Vec<String> = (0..200).map(|n| format!("f{n}")).collect();
        let matcher = IgnoreList::from_patterns(&many).unwrap().matcher();
        assert_eq!(matcher.decide_alone(b"f190/x").rule, Some(190));
        assert!(!matcher.decide_alone(b"g").excluded);
    }

    #[test]
    fn pruning_respects_exceptions() {
        let below = |rules: &[&str], dir: &str| {
            let list = IgnoreList::from_patterns(rules).unwrap();
            list.matcher().may_reinclude_below(dir.as_bytes())
        };
        assert!(!below(&["node_modules"], "node_modules"));
        assert!(!below(&["node_modules", "!src/keep"], "node_modules"));
        assert!(below(&["a", "!a/b/c"], "a"));
        assert!(below(&["a", "!a/b/c"], "a/b"));
        assert!(!below(&["a", "!a/b/c"], "a/x"));
        assert!(!below(&["a", "!a/b/c"], "a/b/c"));
        assert!(below(&["a", "!**/c"], "a/x"));
        assert!(below(&["a", "!*/c"], "a"));
        assert!(!below(&["a", "!b/**"], "a"));
    }
}
