//! Places in a Dockerfile, in the JSON that BuildKit writes.

use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use graph::{SourceFile, Span};
use serde::Serialize;

/// A place in a source file (BuildKit: `pb.Location`).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Location {
    source_index: usize,
    ranges: Vec<Range>,
}

#[derive(Debug, Serialize)]
struct Range {
    start: Position,
    end: Position,
}

/// A line, from 1, and a character in it, from 0. (BuildKit knows whole lines only.)
#[derive(Debug, Serialize)]
struct Position {
    line: usize,
    character: usize,
}

/// Where things are in the one source file that there is.
pub(super) struct Places<'a> {
    text: &'a str,
    /// Where each line begins.
    starts: Vec<usize>,
}

impl<'a> Places<'a> {
    /// Those in `file`.
    pub(super) fn new(file: &'a SourceFile) -> Self {
        let newlines = file.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect();
        Self { text: &file.text, starts }
    }

    /// The lines that a span covers, from 1.
    pub(super) fn lines(&self, span: Span) -> RangeInclusive<usize> {
        let last = span.end.saturating_sub(1).max(span.start);
        self.line(span.start as usize)..=self.line(last as usize)
    }

    /// Where a span is.
    pub(super) fn of(&self, span: Span) -> Location {
        let range = Range { start: self.position(span.start), end: self.position(span.end) };
        Location { source_index: 0, ranges: vec![range] }
    }

    fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    fn position(&self, offset: u32) -> Position {
        let mut end = (offset as usize).min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let line = self.line(end);
        Position { line, character: self.text[self.starts[line - 1]..end].chars().count() }
    }
}

/// The text of a file as JSON has it: base64.
pub(super) fn data(file: &SourceFile) -> String {
    STANDARD.encode(file.text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_characters() {
        let file = SourceFile { name: "D".to_owned(), text: "FROM é\nRUN x\n".into() };
        for (span, want) in [
            (Span::new(0, 7), (1, 0, 1, 6)),
            (Span::new(5, 13), (1, 5, 2, 5)),
            (Span::new(8, 8), (2, 0, 2, 0)),
            (Span::new(6, 99), (1, 5, 3, 0)),
        ] {
            let Location { ranges, .. } = Places::new(&file).of(span);
            let Range { start, end } = &ranges[0];
            assert_eq!((start.line, start.character, end.line, end.character), want, "{span:?}");
        }
        let places = Places::new(&file);
        assert_eq!(places.lines(Span::new(0, 8)), 1..=1);
        assert_eq!(places.lines(Span::new(0, 9)), 1..=2);
        assert_eq!(places.lines(Span::new(8, 8)), 2..=2);
        let empty = SourceFile { name: "D".to_owned(), text: "".into() };
        assert_eq!(Places::new(&empty).lines(Span::new(0, 9)), 1..=1);
        assert_eq!(data(&file), "RlJPTSDDqQpSVU4geAo=");
    }
}
