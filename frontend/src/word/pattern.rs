//! The patterns of `${name#pattern}`, `${name%pattern}` and `${name/pattern/text}`: `*` and `?`
//! and nothing else (BuildKit: no bracket expressions).

use std::collections::VecDeque;

/// A compiled pattern.
pub(super) struct Pattern {
    tokens: VecDeque<Token>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Char(char),
    One,
    Star,
}

/// How far a pattern matches from the start of a text.
struct Reach {
    /// The length of the match, in characters.
    end: Option<usize>,
    /// Whether a `*` was reached.
    star: bool,
}

impl Pattern {
    /// Reads a pattern. `escape` takes `*`, `?` and itself as they are, and vanishes before `}`
    /// and `/`.
    pub(super) fn new(text: &str, escape: char) -> Result<Self, String> {
        let mut tokens = VecDeque::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            tokens.push_back(match c {
                '*' if tokens.back() == Some(&Token::Star) => continue,
                '*' => Token::Star,
                '?' => Token::One,
                c if c == escape => match chars.next() {
                    Some(e) if matches!(e, '}' | '/' | '*' | '?') || e == escape => Token::Char(e),
                    Some(e) => return Err(format!("invalid escape {c}{e}")),
                    None => return Err(format!("nothing follows {c}")),
                },
                c => Token::Char(c),
            });
        }
        Ok(Self { tokens })
    }

    /// Matches at the start of `text`; the longest match if `greedy`, else the shortest.
    fn reach(&self, text: impl Iterator<Item = char>, greedy: bool) -> Reach {
        let accept = self.tokens.len();
        let mut now = vec![false; accept + 1];
        let mut next = vec![false; accept + 1];
        now[0] = true;
        let mut reach = Reach { end: None, star: false };
        self.skip_stars(&mut now, &mut reach);
        if now[accept] {
            reach.end = Some(0);
        }
        for (read, c) in text.enumerate() {
            if (reach.end.is_some() && !greedy) || !now.contains(&true) {
                break;
            }
            next.fill(false);
            for (at, token) in self.tokens.iter().enumerate().filter(|(at, _)| now[*at]) {
                match token {
                    Token::Star => next[at] = true,
                    Token::One => next[at + 1] = true,
                    Token::Char(x) => next[at + 1] |= *x == c,
                }
            }
            self.skip_stars(&mut next, &mut reach);
            if next[accept] {
                reach.end = Some(read + 1);
            }
            std::mem::swap(&mut now, &mut next);
        }
        reach
    }

    fn skip_stars(&self, set: &mut [bool], reach: &mut Reach) {
        for (at, token) in self.tokens.iter().enumerate() {
            if set[at] && *token == Token::Star {
                set[at + 1] = true;
                reach.star = true;
            }
        }
    }

    pub(super) fn trim_prefix(&self, value: &str, greedy: bool) -> String {
        let end = self.reach(value.chars(), greedy).end.unwrap_or(0);
        value.chars().skip(end).collect()
    }

    pub(super) fn trim_suffix(&self, value: &str, greedy: bool) -> String {
        let reversed = Self { tokens: self.tokens.iter().rev().copied().collect() };
        let end = reversed.reach(value.chars().rev(), greedy).end.unwrap_or(0);
        let keep = value.chars().count() - end;
        value.chars().take(keep).collect()
    }

    /// Replaces the first match, or all of them; none if the result has more than `limit` bytes.
    pub(super) fn replace(
        &self,
        value: &str,
        text: &str,
        all: bool,
        limit: usize,
    ) -> Option<String> {
        let mut out = String::new();
        let mut rest = value;
        let mut after_match = false;
        let mut searching = true;
        loop {
            if out.len() > limit {
                return None;
            }
            if searching {
                let reach = self.reach(rest.chars(), true);
                // An empty match right after another match is none.
                let end = reach.end.filter(|end| *end > 0 || !after_match);
                // What follows the star is not in the rest of the text: not in a part of it either.
                searching = reach.end.is_some() || !reach.star;
                if let Some(end) = end {
                    out.push_str(text);
                    searching = all;
                    let bytes: usize = rest.chars().take(end).map(char::len_utf8).sum();
                    rest = &rest[bytes..];
                    after_match = true;
                    if end > 0 {
                        continue;
                    }
                }
            }
            let Some(c) = rest.chars().next() else { return Some(out) };
            out.push(c);
            rest = &rest[c.len_utf8()..];
            after_match = false;
        }
    }
}
