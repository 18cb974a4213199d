//! Places in a Dockerfile, in the JSON that BuildKit writes.

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

impl Location {
    /// Where `span` is in `file`, the only one.
    pub(super) fn new(file: &SourceFile, span: Span) -> Self {
        let range = Range { start: position(file, span.start), end: position(file, span.end) };
        Self { source_index: 0, ranges: vec![range] }
    }
}

fn position(file: &SourceFile, offset: u32) -> Position {
    let mut end = (offset as usize).min(file.text.len());
    while !file.text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &file.text[..end];
    let line = before.rfind('\n').map_or(before, |newline| &before[newline + 1..]);
    Position { line: file.line_of(offset), character: line.chars().count() }
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
            let Location { ranges, .. } = Location::new(&file, span);
            let Range { start, end } = &ranges[0];
            assert_eq!((start.line, start.character, end.line, end.character), want, "{span:?}");
        }
        assert_eq!(data(&file), "RlJPTSDDqQpSVU4geAo=");
    }
}
