//! Physical lines, and logical lines that remember where each piece of them stood.

use graph::Span;

use super::{MAX_LINE, Word};
use crate::Diagnostic;

/// The physical lines of a text.
pub(super) struct Lines<'a> {
    text: &'a str,
    at: usize,
}

/// One physical line.
pub(super) struct Line<'a> {
    /// Where it begins.
    pub(super) start: usize,
    /// Without its newline.
    pub(super) text: &'a str,
}

impl<'a> Lines<'a> {
    /// Starts after a byte order mark.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: if text.starts_with('\u{feff}') { 3 } else { 0 } }
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// Where the next line begins.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn next_line(&mut self, diagnostics: &mut Vec<Diagnostic>) -> Option<Line<'a>> {
        let start = self.at;
        let rest = &self.text[start..];
        if rest.is_empty() {
            return None;
        }
        let length = rest.find('\n').map_or(rest.len(), |n| n + 1);
        self.at = start + length;
        let text = rest[..length].trim_end_matches(['\r', '\n']);
        if text.len() > MAX_LINE {
            let message = format!(
                "this line has {} bytes, more than the largest allowed size of {MAX_LINE}",
                text.len()
            );
            diagnostics.push(Diagnostic::error(Span::new(start, start + 1), message));
        }
        Some(Line { start, text })
    }
}

/// Takes the continuation character off the end of a line; says whether there was one.
///
/// Blanks may follow it; a second escape character before it makes it an ordinary character.
pub(crate) fn continuation(line: &str, escape: char) -> (&str, bool) {
    let trimmed = line.trim_end_matches([' ', '\t']);
    match trimmed.strip_suffix(escape) {
        Some(kept) if !kept.ends_with(escape) => (kept, true),
        _ => (line, false),
    }
}

/// Several physical lines joined, with the source position of each.
#[derive(Default)]
pub(super) struct Logical {
    pub(super) text: String,
    /// Offsets in `text` and in the source, ascending.
    pieces: Vec<(usize, usize)>,
}

impl Logical {
    pub(super) fn push(&mut self, piece: &str, source: usize) {
        self.pieces.push((self.text.len(), source));
        self.text.push_str(piece);
    }

    fn source(&self, at: usize) -> usize {
        let piece = self.pieces.partition_point(|(start, _)| *start <= at).saturating_sub(1);
        self.pieces.get(piece).map_or(0, |(start, source)| source + (at - start))
    }

    /// The whole text.
    pub(super) fn whole(&self) -> Slice<'_> {
        Slice { text: &self.text, at: 0, line: self }
    }
}

/// A part of a logical line.
#[derive(Clone, Copy)]
pub(super) struct Slice<'a> {
    pub(super) text: &'a str,
    at: usize,
    line: &'a Logical,
}

/// The blanks that separate words (not newlines).
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

impl<'a> Slice<'a> {
    /// The part `start..end` of it.
    pub(super) fn part(&self, start: usize, end: usize) -> Self {
        Self { text: &self.text[start..end], at: self.at + start, line: self.line }
    }

    pub(super) fn from(&self, start: usize) -> Self {
        self.part(start, self.text.len())
    }

    pub(super) fn trim(&self) -> Self {
        let start = self.text.len() - self.text.trim_start().len();
        self.part(start, start + self.text[start..].trim_end().len())
    }

    pub(super) fn span(&self) -> Span {
        self.span_of(0, self.text.len())
    }

    /// Where the part `start..end` of it stands.
    pub(super) fn span_of(&self, start: usize, end: usize) -> Span {
        let first = self.line.source(self.at + start);
        if end <= start {
            return Span::new(first, first);
        }
        Span::new(first, self.line.source(self.at + end - 1) + 1)
    }

    /// It as a word.
    pub(super) fn word(&self) -> Word {
        Word { value: self.text.to_owned(), span: self.span() }
    }

    /// What stands before the first run of blanks, and what after it.
    pub(super) fn split_blank(&self) -> (Self, Self) {
        let end = self.text.find(is_blank).unwrap_or(self.text.len());
        let next = self.text[end..].find(|c| !is_blank(c)).map_or(self.text.len(), |n| end + n);
        (self.part(0, end), self.from(next))
    }
}
