//! Here-documents: which ones a line announces.

use graph::Span;

use crate::word::{Lexer, NoVariables};

/// A here-document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it.
    pub name: String,
    /// Whether variables in it are expanded: no part of the word is quoted.
    pub expand: bool,
    /// Whether leading tabs are taken off (`<<-`).
    pub chomp: bool,
    /// The file descriptor before `<<`; 0 where there is none.
    pub fd: u32,
    /// The lines of it, with their newlines.
    pub content: String,
    /// From the first line of it to the end of the closing word.
    pub span: Span,
}

impl Heredoc {
    /// The content, without leading tabs where it is chomped.
    pub fn data(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        let lines = self.content.split_inclusive('\n');
        lines.map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// The here-documents that a line announces, without content. A line that the shell's quoting
/// rules cannot split announces none.
pub(super) fn announced(line: &str) -> Vec<Heredoc> {
    let lexer = Lexer { raw_quotes: true, raw_escapes: true, skip_unset: true, ..Lexer::new('\\') };
    match lexer.expand(line, &NoVariables) {
        Ok(expansion) => expansion.words.iter().filter_map(|word| parse(word)).collect(),
        Err(_) => Vec::new(),
    }
}

/// Reads a word of the form `[fd]<<[-]NAME`.
pub(crate) fn parse(word: &str) -> Option<Heredoc> {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let rest = word[digits..].strip_prefix("<<")?;
    let fd = if digits == 0 { 0 } else { word[..digits].parse().ok()? };
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let plain = Lexer { skip_unset: true, ..Lexer::new('\\') };
    let raw = Lexer { raw_quotes: true, raw_escapes: true, ..plain };
    let unquoted = plain.expand(rest, &NoVariables).ok()?.words;
    let quoted = raw.expand(rest, &NoVariables).ok()?.words;
    let [name] = unquoted.as_slice() else { return None };
    Some(Heredoc {
        expand: quoted.first() == Some(name),
        name: name.clone(),
        chomp,
        fd,
        ..Heredoc::default()
    })
}
