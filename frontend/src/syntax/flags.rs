//! The flags between a keyword and its arguments.

use super::Word;
use super::lines::Slice;

/// Takes `--name=value` words off the front; returns them and what follows.
///
/// Quotes and the escape character work inside them; a lone `--` ends them.
pub(super) fn extract<'a>(rest: &Slice<'a>, escape: char) -> (Vec<Word>, Slice<'a>) {
    let mut flags = Vec::new();
    let mut at = 0;
    loop {
        let text = &rest.text[at..];
        at += text.len() - text.trim_start().len();
        if !rest.text[at..].starts_with("--") {
            return (flags, rest.from(at));
        }
        let (value, length) = flag(&rest.text[at..], escape);
        let end = at + length;
        if value == "--" {
            return (flags, rest.from(end));
        }
        flags.push(Word { value, span: rest.span_of(at, end) });
        at = end;
    }
}

/// One flag with its quotes removed, and its length in the text.
fn flag(text: &str, escape: char) -> (String, usize) {
    let mut value = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => return (value, at),
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(q) if c == q => quote = None,
            _ if c == escape => value.extend(chars.next().map(|(_, c)| c)),
            _ => value.push(c),
        }
    }
    (value, text.len())
}
