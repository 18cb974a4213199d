//! The history of an image, and the texts that BuildKit writes into it.

use graph::VertexIndex;
use oci::History;

use super::HistorySource;
use super::stage::StageState;

/// BuildKit's remark on each entry.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// One entry that a stage adds.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) created_by: String,
    /// The vertex that makes the layer; none for metadata.
    pub(super) vertex: Option<VertexIndex>,
}

/// The whole history of a stage: that of the base image, then that of each stage it rests on.
pub(super) fn flatten(
    states: &[Option<StageState>],
    target: usize,
) -> (Vec<History>, Vec<HistorySource>) {
    let mut chain = Vec::new();
    let mut at = Some(target);
    while let Some(state) = at.and_then(|at| states[at].as_ref()) {
        chain.push(state);
        at = state.parent;
    }
    let (mut entries, mut sources) = (Vec::new(), Vec::new());
    if let Some(base) = chain.last().and_then(|s| s.base.as_ref()) {
        let mut history = base.config.history.clone();
        if history.is_empty() {
            // A history is optional, but one that is there must tell of every layer.
            let comment = format!("layer of {}", base.name);
            let layer = History { comment, ..History::default() };
            history = vec![layer; base.config.rootfs.diff_ids.len()];
        }
        sources.extend((0..history.len()).map(HistorySource::Base));
        entries.append(&mut history);
    }
    for entry in chain.iter().rev().flat_map(|state| &state.history) {
        entries.push(History {
            created_by: entry.created_by.clone(),
            comment: COMMENT.to_owned(),
            empty_layer: entry.vertex.is_none(),
            ..History::default()
        });
        sources.push(entry.vertex.map_or(HistorySource::Metadata, HistorySource::Step));
    }
    (entries, sources)
}

/// A list of strings as Go's `%q` prints it: `["a" "b"]`.
pub(super) fn quoted(list: &[String]) -> String {
    let items: Vec<String> = list.iter().map(|item| quote(item)).collect();
    format!("[{}]", items.join(" "))
}

/// A list of strings as Go's `%v` prints it: `[a b]`.
pub(super) fn plain(list: &[String]) -> String {
    format!("[{}]", list.join(" "))
}

fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if is_print(c) => out.push(c),
            c if u32::from(c) <= 0xffff => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

/// Whether Go's `strconv.IsPrint` holds: a letter, mark, number, symbol, or the plain space.
fn is_print(c: char) -> bool {
    // Rust has the same notion, only that it escapes a mark at the beginning of a string.
    !format!("a{c}").escape_debug().skip(1).eq(c.escape_unicode())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go_does() {
        let list = ["sh".to_owned(), "a\"b\\\n\u{1}é".to_owned()];
        assert_eq!(quoted(&list), r#"["sh" "a\"b\\\n\x01é"]"#);
        assert_eq!(plain(&list[..1]), "[sh]");
        for (text, shown) in [
            ("\u{7f}\u{85}", r"\x7f\u0085"),
            ("한 글", "한 글"),
            ("e\u{301}", "e\u{301}"),
            ("\u{301}", "\u{301}"),
            ("\u{a0}\u{200b}\u{2028}\u{3000}", r"\u00a0\u200b\u2028\u3000"),
            ("😀\u{e000}\u{f0000}", r"😀\ue000\U000f0000"),
        ] {
            assert_eq!(quote(text), format!("\"{shown}\""), "{text:?}");
        }
    }
}
