//! Writing one logical line: as one line if it can be.

use std::fmt::{self, Write};

use crate::syntax::{MAX_LINE, continuation};

/// What is put after a line that ends with the escape character, so that it does not continue: a
/// blank that is trimmed, but not before continuations are looked for.
const STOP: char = '\u{c}';

/// Writes a line; one that is longer than a line may be is continued.
pub(super) fn write(f: &mut impl Write, line: &str, escape: char) -> fmt::Result {
    let stopped;
    let line = if continuation(line, escape).1 {
        stopped = format!("{line}{STOP}");
        &stopped
    } else {
        line
    };
    let mut start = 0;
    if line.len() > MAX_LINE {
        let places = places(line, escape);
        while line.len() - start > MAX_LINE {
            let fitting = start + 1..start + MAX_LINE;
            let after_blank = |at: &usize| line.as_bytes()[at - 1] == b' ';
            let all = || fitting.clone().rev().filter(|at| places[*at]);
            let Some(end) = all().find(after_blank).or_else(|| all().next()) else { break };
            writeln!(f, "{}{escape}", &line[start..end])?;
            start = end;
        }
    }
    writeln!(f, "{}", &line[start..])
}

/// Where a line can be broken: not after an escape character, which would make the continuation's
/// an ordinary one; not before a `#`, which would begin a comment; not before nothing but blanks.
fn places(line: &str, escape: char) -> Vec<bool> {
    let mut places = vec![false; line.len()];
    let mut ahead = None;
    let mut chars = line.char_indices().rev().peekable();
    while let Some((at, c)) = chars.next() {
        if !c.is_whitespace() {
            ahead = Some(c);
        }
        let before = chars.peek().map(|(_, c)| *c);
        places[at] = before.is_some_and(|c| c != escape) && ahead.is_some_and(|c| c != '#');
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(line: &str) -> Vec<String> {
        let mut out = String::new();
        write(&mut out, line, '\\').unwrap();
        out.lines().map(str::to_owned).collect()
    }

    #[test]
    fn short_lines_stay() {
        assert_eq!(folded("RUN a \\\\"), ["RUN a \\\\"]);
        assert_eq!(folded("USER a\\"), ["USER a\\\u{c}"]);
        let longest = "x".repeat(MAX_LINE);
        assert_eq!(folded(&longest), [longest]);
    }

    #[test]
    fn long_lines_are_broken_where_they_may() {
        for unit in ["word ", "é", "\\", "# ", "#", " ", "a\\\\ # ", "\\#"] {
            let line = format!("RUN x{}x", unit.repeat(200_000 / unit.len()));
            let pieces = folded(&line);
            let last = pieces.len() - 1;
            let mut joined = String::new();
            for (at, piece) in pieces.iter().enumerate() {
                let (kept, continued) = continuation(piece, '\\');
                assert_eq!(continued, at != last, "{unit:?} {at}");
                assert!(at == 0 || !piece.trim_start().starts_with('#'), "{unit:?} {at}");
                joined.push_str(kept);
            }
            assert_eq!(joined, line, "{unit:?}");
            let breakable = !matches!(unit, "\\" | "#" | "# ");
            assert!(!breakable || pieces.iter().all(|p| p.len() <= MAX_LINE), "{unit:?}");
        }
    }
}
