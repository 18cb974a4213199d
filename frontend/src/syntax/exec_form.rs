//! The exec form: a JSON array of strings.

use super::Word;
use super::lines::Slice;

/// What a text is that may be in exec form.
pub(super) enum ExecForm {
    /// An array of strings.
    Array(Vec<Word>),
    /// Not JSON: shell form.
    Shell,
    /// A JSON array with something that is not a string.
    NotStrings,
}

/// Reads a text that may be in exec form.
pub(super) fn read(rest: &Slice<'_>) -> ExecForm {
    if !rest.text.starts_with('[') {
        return ExecForm::Shell;
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(rest.text) else {
        return ExecForm::Shell;
    };
    let spans = string_spans(rest.text);
    let words = values.into_iter().zip(spans.into_iter().map(Some).chain(std::iter::repeat(None)));
    let words: Option<Vec<Word>> = words
        .map(|(value, span)| match value {
            serde_json::Value::String(value) => {
                let span = span.map_or(rest.span(), |(start, end)| rest.span_of(start, end));
                Some(Word { value, span })
            }
            _ => None,
        })
        .collect();
    words.map_or(ExecForm::NotStrings, ExecForm::Array)
}

/// Where the strings of a valid JSON text stand.
fn string_spans(json: &str) -> Vec<(usize, usize)> {
    let mut spans = Vec::new();
    let mut start = None;
    let mut bytes = json.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match (byte, start) {
            (b'"', None) => start = Some(at),
            (b'"', Some(from)) => {
                spans.push((from, at + 1));
                start = None;
            }
            (b'\\', Some(_)) => drop(bytes.next()),
            _ => {}
        }
    }
    spans
}
