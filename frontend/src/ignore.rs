//! `.dockerignore` files.

use graph::ignore::IgnoreList;
use graph::pattern::PatternError;

/// Why an ignore file is refused.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: {source}")]
pub struct IgnoreError {
    /// The line, from 1.
    pub line: u32,
    /// What is wrong with it.
    pub source: PatternError,
}

/// Reads an ignore file: one pattern a line, `#` in the first column starts a comment, `!` an
/// exception (moby/patternmatcher: `ignorefile.ReadAll`).
///
/// # Errors
/// If a pattern is malformed, or a lone `!`.
pub fn parse_ignore(text: &str) -> Result<IgnoreList, IgnoreError> {
    let mut list = IgnoreList::default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, number) in text.lines().zip(1u32..) {
        if !line.starts_with('#') {
            list.push(line, number).map_err(|source| IgnoreError { line: number, source })?;
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let text = "\u{feff}# comment\n\n  # pattern \n/a/\n! /b \nc/../d\r\n.\n";
        let list = parse_ignore(text).unwrap();
        let seen: Vec<(&str, bool, u32)> =
            list.rules.iter().map(|r| (r.pattern.as_str(), r.negated, r.line)).collect();
        assert_eq!(
            seen,
            [
                ("# pattern", false, 3),
                ("a", false, 4),
                ("b", true, 5),
                ("d", false, 6),
                (".", false, 7)
            ]
        );
        assert_eq!(parse_ignore("a\n!\n").unwrap_err().line, 2);
        assert_eq!(parse_ignore("a\nb[\n").unwrap_err().line, 2);
    }
}
