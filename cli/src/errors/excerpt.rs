//! Lines of a source file with markers, in the shape that BuildKit gives them.

use std::fmt::Write;
use std::ops::RangeInclusive;

/// Lines shown before and after the marked ones.
const AROUND: usize = 2;
/// Marked lines that are shown at most: of a longer instruction, the first ones.
const MAX_MARKED: usize = 30;
/// The longest line that is shown whole, in characters.
const MAX_COLUMNS: usize = 500;

/// A part of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The line, from 1.
    pub line: usize,
    /// The first character of it, from 0.
    pub start: usize,
    /// How many characters.
    pub length: usize,
}

/// A name, a rule, the lines around `marked` (from 1) with `>>>` at those, a rule:
///
/// ```text
/// Dockerfile:3
/// --------------------
///    1 |     FROM x
///    2 |
///    3 | >>> RUN false
/// --------------------
/// ```
///
/// Where `mark` is given, the name is followed by its line and column, and carets stand below it.
pub fn excerpt(
    name: &str,
    text: &str,
    marked: RangeInclusive<usize>,
    mark: Option<Mark>,
) -> String {
    of_lines(name, &text.lines().collect::<Vec<_>>(), marked, mark)
}

/// The same of a text that is split already.
pub fn of_lines(
    name: &str,
    lines: &[&str],
    marked: RangeInclusive<usize>,
    mark: Option<Mark>,
) -> String {
    let first = (*marked.start()).clamp(1, lines.len().max(1));
    let last = (*marked.end()).clamp(first, lines.len().max(first)).min(first + MAX_MARKED - 1);
    let mut out = String::new();
    let mark = mark.filter(|mark| (first..=last).contains(&mark.line));
    match mark {
        Some(mark) => write!(out, "{name}:{}:{}", mark.line, mark.start + 1),
        None if last > first => write!(out, "{name}:{first}-{last}"),
        None => write!(out, "{name}:{first}"),
    }
    .unwrap_or_default();
    out.push_str("\n--------------------\n");
    let from = first.saturating_sub(AROUND).max(1);
    for number in from..=(last + AROUND).min(lines.len()) {
        let marker = if (first..=last).contains(&number) { ">>>" } else { "" };
        let line = crate::progress::text::clean(lines[number - 1], false);
        let line: String = line.chars().take(MAX_COLUMNS).collect();
        let shown = format!("{number:4} | {marker:3} {line}");
        let _ = writeln!(out, "{shown}");
        if let Some(mark) = mark.filter(|mark| mark.line == number) {
            let blank = |c| if c == '\t' { '\t' } else { ' ' };
            let indent: String = line.chars().take(mark.start).map(blank).collect();
            let room = line.chars().count().saturating_sub(mark.start);
            let _ = writeln!(
                out,
                "     |     {indent}{}",
                "^".repeat(mark.length.clamp(1, room.max(1)))
            );
        }
    }
    out.push_str("--------------------\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_buildkits_shape() {
        assert_eq!(
            excerpt("Dockerfile", "FROM x\n\nRUN false\n", 3..=3, None),
            "Dockerfile:3\n--------------------\n   1 |     FROM x\n   2 |     \n   3 | >>> RUN false\n--------------------\n"
        );
        let text = excerpt("D", "a\nb\nc\nd\ne\nf\ng\n", 4..=5, None);
        assert!(text.starts_with("D:4-5\n"));
        assert!(text.contains("   2 |     b\n   3 |     c\n   4 | >>> d\n   5 | >>> e\n   6 |     f\n   7 |     g\n---"));
    }

    #[test]
    fn marks_a_word() {
        let mark = Some(Mark { line: 2, start: 6, length: 3 });
        assert_eq!(
            excerpt("D", "FROM x\nCOPY\t\tabc /\n", 2..=2, mark),
            "D:2:7\n--------------------\n   1 |     FROM x\n   2 | >>> COPY\t\tabc /\n     |         \t\t^^^\n--------------------\n"
        );
    }

    #[test]
    fn any_position_is_good() {
        for range in [0..=0, 9..=12, RangeInclusive::new(3, 1), 1..=usize::MAX] {
            for text in ["", "a", "a\nb\n"] {
                let mark = Some(Mark { line: 2, start: 9, length: 0 });
                excerpt("D", text, range.clone(), mark);
            }
        }
    }
}
