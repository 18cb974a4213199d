//! Patterns of paths: Go's `filepath.Match` (COPY's wildcards) and ignore lists
//! (`.dockerignore`, `--exclude`).

use serde::{Deserialize, Serialize};

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

/// Why a text is not a pattern.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid pattern {pattern:?}: {reason}")]
pub struct PatternError {
    /// What was given.
    pub pattern: String,
    /// The rule it breaks.
    pub reason: &'static str,
}

/// A compiled pattern, matched against whole paths with `/` between their parts.
///
/// `?` and `*` stay inside one part, `[a-z]` and `[^a-z]` are classes, `\` takes the next
/// character as it is (Go: `path/filepath.Match`). Paths are bytes; a byte that is not UTF-8
/// counts as one character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
    prefix: String,
    suffix: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`
    One,
    /// `*`
    Star,
    /// `**/`: nothing, or anything that ends with a slash. Always followed by [`Token::Inside`].
    Dirs,
    /// The state inside the "anything" of [`Token::Dirs`].
    Inside,
    /// `**` at the end: anything.
    All,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Token {
    fn class_matches(negated: bool, ranges: &[(char, char)], c: char) -> bool {
        ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != negated
    }
}

/// Whether `text` has a wildcard or a class that is not escaped.
pub fn is_wildcard(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' | '?' | '[' => return true,
            '\\' => drop(chars.next()),
            _ => {}
        }
    }
    false
}

impl Glob {
    /// A pattern in which `**` means no more than `*` (COPY and ADD).
    ///
    /// # Errors
    /// If a class is not closed or empty, or a `\` ends the pattern.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        Self::compile(pattern, false)
    }

    /// A pattern in which `**` means any number of directories, even none (`--parents`,
    /// `--exclude`, ignore files).
    ///
    /// # Errors
    /// As for [`Glob::new`].
    pub fn with_double_star(pattern: &str) -> Result<Self, PatternError> {
        Self::compile(pattern, true)
    }

    fn compile(pattern: &str, double_star: bool) -> Result<Self, PatternError> {
        let mut tokens = Vec::new();
        let mut rest = pattern;
        // moby/patternmatcher: `**` before a plain text matches by suffix, not by directory.
        if double_star
            && let Some(plain) = pattern.strip_prefix("**")
            && !plain.starts_with('/')
            && !plain.contains(['*', '?', '[', ']', '\\'])
        {
            tokens.push(Token::All);
            rest = plain;
        }
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '*' if double_star && rest.starts_with('*') => {
                    rest = &rest[1..];
                    rest = rest.strip_prefix('/').unwrap_or(rest);
                    if rest.is_empty() {
                        tokens.push(Token::All);
                    } else {
                        tokens.extend([Token::Dirs, Token::Inside]);
                    }
                }
                '*' => tokens.push(Token::Star),
                '?' => tokens.push(Token::One),
                '[' => {
                    let (token, after) = class(rest).map_err(|r| bad(pattern, r))?;
                    tokens.push(token);
                    rest = after;
                }
                '\\' => {
                    let escaped = rest.chars().next();
                    let c = escaped.ok_or_else(|| bad(pattern, "it ends with a backslash"))?;
                    rest = &rest[c.len_utf8()..];
                    tokens.push(Token::Char(c));
                }
                c => tokens.push(Token::Char(c)),
            }
        }
        let plain = |t: &Token| if let Token::Char(c) = t { Some(*c) } else { None };
        let prefix = tokens.iter().map_while(plain).collect();
        let backwards: Vec<char> = tokens.iter().rev().map_while(plain).collect();
        Ok(Self { prefix, suffix: backwards.into_iter().rev().collect(), tokens })
    }

    /// Whether the pattern matches the whole of `path`.
    pub fn matches(&self, path: &[u8]) -> bool {
        if !path.starts_with(self.prefix.as_bytes()) || !path.ends_with(self.suffix.as_bytes()) {
            return false;
        }
        if self.tokens.iter().all(|t| matches!(t, Token::Char(_))) {
            return path.len() == self.prefix.len();
        }
        let words = self.tokens.len() / 64 + 1;
        if words <= SMALL {
            let (mut now, mut next) = ([0u64; SMALL], [0u64; SMALL]);
            self.run(path, &mut now[..words], &mut next[..words])
        } else {
            let (mut now, mut next) = (vec![0u64; words], vec![0u64; words]);
            self.run(path, &mut now, &mut next)
        }
    }

    /// All positions in the pattern that the text so far can have reached, one bit each: the
    /// time is linear in the path whatever the pattern is.
    fn run<'a>(&self, path: &[u8], mut now: &'a mut [u64], mut next: &'a mut [u64]) -> bool {
        now[0] = 1;
        self.skip_empty(now);
        let mut rest = path;
        while !rest.is_empty() {
            let (c, width) = decode(rest);
            rest = &rest[width..];
            next.fill(0);
            for at in bits(now) {
                self.step(at, c, next);
            }
            self.skip_empty(next);
            if next.iter().all(|w| *w == 0) {
                return false;
            }
            std::mem::swap(&mut now, &mut next);
        }
        let end = self.tokens.len();
        now[end / 64] >> (end % 64) & 1 == 1
    }

    fn step(&self, at: usize, c: char, next: &mut [u64]) {
        let Some(token) = self.tokens.get(at) else { return };
        let (stay, go) = match token {
            Token::Char(x) => (false, *x == c),
            Token::One => (false, c != '/'),
            Token::Star => (c != '/', false),
            Token::All => (true, false),
            Token::Inside => (true, c == '/'),
            Token::Dirs => (false, false),
            Token::Class { negated, ranges } => (false, Token::class_matches(*negated, ranges, c)),
        };
        if stay {
            next[at / 64] |= 1 << (at % 64);
        }
        if go {
            next[(at + 1) / 64] |= 1 << ((at + 1) % 64);
        }
    }

    /// Adds the positions that are reached without a character.
    fn skip_empty(&self, set: &mut [u64]) {
        for (at, token) in self.tokens.iter().enumerate() {
            if set[at / 64] >> (at % 64) & 1 == 0 {
                continue;
            }
            let further: &[usize] = match token {
                Token::Star | Token::All => &[1],
                Token::Dirs => &[1, 2],
                _ => &[],
            };
            for n in further {
                set[(at + n) / 64] |= 1 << ((at + n) % 64);
            }
        }
    }
}

/// Patterns of fewer than `64 * SMALL` tokens are matched without allocating.
const SMALL: usize = 4;

fn bits(set: &[u64]) -> impl Iterator<Item = usize> + '_ {
    set.iter().enumerate().flat_map(|(word, bits)| {
        let mut left = *bits;
        std::iter::from_fn(move || {
            (left != 0).then(|| {
                let bit = left.trailing_zeros() as usize;
                left &= left - 1;
                word * 64 + bit
            })
        })
    })
}

fn bad(pattern: &str, reason: &'static str) -> PatternError {
    PatternError { pattern: pattern.to_owned(), reason }
}

/// The first character and its length in bytes.
fn decode(bytes: &[u8]) -> (char, usize) {
    if bytes[0] < 0x80 {
        return (char::from(bytes[0]), 1);
    }
    let head = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(e) => std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some(c) => (c, c.len_utf8()),
        None => (char::REPLACEMENT_CHARACTER, 1),
    }
}

/// Reads a class whose `[` is behind; returns it and what follows.
fn class(text: &str) -> Result<(Token, &str), &'static str> {
    let (negated, mut rest) = match text.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty()
            && let Some(after) = rest.strip_prefix(']')
        {
            return Ok((Token::Class { negated, ranges }, after));
        }
        let (low, after) = class_char(rest)?;
        rest = after;
        let mut high = low;
        if let Some(after) = rest.strip_prefix('-') {
            (high, rest) = class_char(after)?;
        }
        ranges.push((low, high));
    }
}

fn class_char(text: &str) -> Result<(char, &str), &'static str> {
    let mut chars = text.chars();
    match chars.next() {
        None => Err("a \"[\" has no \"]\""),
        Some('-' | ']') => Err("a class is empty or has a range without an end"),
        Some('\\') => match chars.next() {
            Some(c) => Ok((c, chars.as_str())),
            None => Err("it ends with a backslash"),
        },
        Some(c) => Ok((c, chars.as_str())),
    }
}

/// A path without empty and `.` parts, and without `..` parts as far as there is something
/// before them; `.` for an empty one (Go: `path.Clean`).
pub fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => drop(parts.pop()),
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
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
        let crosses = |t: &Token| match t {
            Token::Class { negated, ranges } => Token::class_matches(*negated, ranges, '/'),
            _ => false,
        };
        let glob = Glob::new(part).ok().filter(|g| {
            !part.contains("**") && !part.contains('\\') && !g.tokens.iter().any(crosses)
        });
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

    #[test]
    fn globs_match_as_go_does() {
        for (pattern, path, want) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[x\\-]", "-", true),
            ("*x", "xxx", true),
            ("[[]x", "[x", true),
            ("**", "a/b", false),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(
                Glob::new(pattern).unwrap().matches(path.as_bytes()),
                want,
                "{pattern} {path}"
            );
        }
        for pattern in ["[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", "a\\"] {
            assert!(Glob::new(pattern).is_err(), "{pattern}");
        }
        assert!(Glob::new("a?").unwrap().matches(b"a\xff"));
    }

    #[test]
    fn wildcards_are_found() {
        assert!(is_wildcard("a*") && is_wildcard("[a]") && is_wildcard("a?"));
        assert!(!is_wildcard("a\\*") && !is_wildcard("a]"));
    }

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
