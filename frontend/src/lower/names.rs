//! The names of vertices, in BuildKit's shape: `[build 2/5] RUN make`.

use crate::ast::Instruction;
use crate::syntax::Heredoc;
use crate::word::{Lexer, Variables};

/// Counts the steps of a stage.
#[derive(Clone, Debug, Default)]
pub(super) struct Counter {
    /// The stage's name; empty if it is not shown.
    pub(super) stage: String,
    /// How many steps there are.
    pub(super) total: usize,
    /// How many were named.
    pub(super) done: usize,
}

impl Counter {
    /// The next step's name.
    pub(super) fn next(&mut self, text: &str, trigger: bool) -> String {
        if self.total == 0 {
            return text.to_owned();
        }
        self.done += 1;
        let width = self.total.to_string().len();
        let stage = if self.stage.is_empty() { String::new() } else { format!("{} ", self.stage) };
        let onbuild = if trigger { "ONBUILD " } else { "" };
        format!("[{stage}{:>width$}/{}] {onbuild}{text}", self.done, self.total)
    }
}

/// The instruction as people see it: variables expanded where they are set, the keyword in upper
/// case.
pub(super) fn shown(instruction: &Instruction, lexer: &Lexer, env: &dyn Variables) -> String {
    let expanded = lexer.expand(&instruction.text, env);
    let text = expanded.map_or_else(|_| instruction.text.clone(), |e| e.text);
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    format!("{}{}", text[..end].to_uppercase(), &text[end..])
}

/// The name of the step that puts a linked copy in its place, from that of the copy.
pub(super) fn linked(copy: &str) -> String {
    match copy.split_once("] ") {
        Some((prefix, rest)) if prefix.starts_with('[') => format!("{prefix}] LINK {rest}"),
        _ => format!("LINK {copy}"),
    }
}

/// The first line of a here-document.
pub(super) fn summary(doc: &Heredoc) -> String {
    let text = doc.content.trim();
    match text.split_once('\n') {
        Some((first, _)) => format!("{}...", first.trim_end_matches('\r')),
        None => text.to_owned(),
    }
}
