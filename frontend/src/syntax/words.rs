//! Words between blanks that know quotes and escapes, and keep them.

use super::Word;
use super::lines::Slice;

/// Splits ENV's, LABEL's and ARG's text. Quotes and escape characters stay in the words; an
/// escape character at the very end is dropped.
pub(super) fn split(rest: &Slice<'_>, escape: char) -> Vec<Word> {
    let mut words = Vec::new();
    let mut chars = rest.text.char_indices().peekable();
    while let Some((start, _)) = chars.peek().copied() {
        if chars.next_if(|(_, c)| c.is_whitespace()).is_some() {
            continue;
        }
        let mut value = String::new();
        let mut quote = None;
        let mut end = rest.text.len();
        while let Some((at, c)) = chars.peek().copied() {
            if quote.is_none() && c.is_whitespace() {
                end = at;
                break;
            }
            chars.next();
            if c == escape && quote != Some('\'') {
                if let Some((_, escaped)) = chars.next() {
                    value.extend([c, escaped]);
                }
                continue;
            }
            match quote {
                None if c == '\'' || c == '"' => quote = Some(c),
                Some(q) if c == q => quote = None,
                _ => {}
            }
            value.push(c);
        }
        if !value.is_empty() {
            words.push(Word { value, span: rest.span_of(start, end) });
        }
    }
    words
}

/// Splits at runs of blanks alone.
pub(super) fn split_plain(rest: &Slice<'_>) -> Vec<Word> {
    let mut words = Vec::new();
    let mut left = rest.trim();
    while !left.text.is_empty() {
        let (word, after) = left.split_blank();
        words.push(word.word());
        left = after;
    }
    words
}
