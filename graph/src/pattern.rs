//! Patterns of paths: Go's `filepath.Match`, as COPY's wildcards and the lines of ignore files are.

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

    /// Whether a class of it is fulfilled by a slash.
    pub(crate) fn takes_slashes_in_classes(&self) -> bool {
        self.tokens.iter().any(|token| match token {
            Token::Class { negated, ranges } => Token::class_matches(*negated, ranges, '/'),
            _ => false,
        })
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

pub(crate) fn bad(pattern: &str, reason: &'static str) -> PatternError {
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
}
