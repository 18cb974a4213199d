//! The exec form: a JSON array of strings.

use std::borrow::Cow;

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
    let json = without_lone_surrogates(rest.text);
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(&json) else {
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

/// Half a character (`\\ud800` without its other half) stands for U+FFFD, as Go reads it.
fn without_lone_surrogates(json: &str) -> Cow<'_, str> {
    const REPLACEMENT: &str = "\\ufffd";
    // The code unit of an escape that begins at a place in the text.
    let unit = |at: usize| {
        let digits = json.get(at..)?.strip_prefix("\\u")?.get(..4)?;
        digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16))?.ok()
    };
    let mut text = Cow::Borrowed(json);
    let mut at = 0;
    while let Some(next) = json[at..].find('\\') {
        at += next;
        let length = match (unit(at), unit(at + REPLACEMENT.len())) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 2 * REPLACEMENT.len(),
            (Some(0xd800..=0xdfff), _) => {
                // Both are of one length: places stay what they were.
                text.to_mut().replace_range(at..at + REPLACEMENT.len(), REPLACEMENT);
                REPLACEMENT.len()
            }
            // A backslash may stand before another one.
            _ => 1 + json[at + 1..].chars().next().map_or(0, char::len_utf8),
        };
        at += length;
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_characters_are_replaced() {
        for (json, want) in [
            (r#"["a\ud800"]"#, r#"["a\ufffd"]"#),
            (r#"["\\\ud800"]"#, r#"["\\\ufffd"]"#),
            (r#"["\\ud800"]"#, r#"["\\ud800"]"#),
            (r#"["\ud83d\ude00\udc00x"]"#, r#"["\ud83d\ude00\ufffdx"]"#),
            (r#"["\ud800\ud83d\ude00"]"#, r#"["\ufffd\ud83d\ude00"]"#),
            (r#"["\ud800\n\uD8"]"#, r#"["\ufffd\n\uD8"]"#),
            ("[\"\\é\\", "[\"\\é\\"),
        ] {
            assert_eq!(without_lone_surrogates(json), want, "{json}");
        }
    }
}
