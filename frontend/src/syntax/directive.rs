//! Parser directives: `# syntax=`, `# escape=`, `# check=` at the top of a Dockerfile.

use graph::Span;

use super::Word;
use crate::Diagnostic;

/// The keys of all directives.
const KEYS: [&str; 3] = ["syntax", "escape", "check"];

/// The directives of a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// `# syntax=`: the frontend's image.
    pub syntax: Option<Word>,
    /// `# escape=`: the character that escapes and continues lines, `\` or a backquote.
    pub escape: char,
    /// `# check=`.
    pub check: Option<Check>,
}

impl Default for Directives {
    fn default() -> Self {
        Self { syntax: None, escape: '\\', check: None }
    }
}

/// `# check=skip=A,B;error=true;experimental=C`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// The text after `check=`.
    pub text: Word,
    /// Rules that are not reported; `all` stands for every one.
    pub skip: Vec<String>,
    /// Rules that are reported though they are experimental.
    pub experimental: Vec<String>,
    /// Whether a warning fails the build.
    pub error: bool,
}

impl Check {
    /// Whether the rule is left out.
    pub fn skips(&self, rule: &str) -> bool {
        self.skip.iter().any(|s| s == rule || s == "all")
    }

    /// Whether the experimental rule is switched on.
    pub fn enables(&self, rule: &str) -> bool {
        self.experimental.iter().any(|s| s == rule || s == "all")
    }

    /// Reads the text after `check=`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: Word) -> Result<Self, String> {
        let mut check = Self::default();
        for part in text.value.split(';').map(str::trim).filter(|p| !p.is_empty()) {
            let Some((key, value)) = part.split_once('=') else {
                return Err(format!("the check option {part:?} must be a key=value pair"));
            };
            let list = || value.split(',').map(|v| v.trim().to_owned()).collect();
            match key.trim() {
                "skip" => check.skip = list(),
                "experimental" => check.experimental = list(),
                "error" => {
                    check.error = crate::value::parse_bool(value.trim())
                        .ok_or_else(|| format!("{value:?} is neither true nor false"))?;
                }
                other => return Err(format!("unknown check option {other:?}")),
            }
        }
        check.text = text;
        Ok(check)
    }
}

/// Reads the directives. The first line that is none ends them; a `#!` line at the very top is
/// passed over.
pub(super) fn read(text: &str, diagnostics: &mut Vec<Diagnostic>) -> Directives {
    let mut found = Directives::default();
    let mut seen: Vec<String> = Vec::new();
    for (start, line) in lines(text) {
        let indent = line.len() - line.trim_start().len();
        let Some(comment) = line[indent..].strip_prefix('#') else { break };
        let Some((key, value)) = split(comment) else { break };
        let span = Span::new(start + indent, start + line.len());
        if !KEYS.contains(&key.as_str()) {
            break;
        }
        if seen.contains(&key) {
            let message = format!("only one {key} parser directive can be used");
            diagnostics.push(Diagnostic::error(span, message));
            continue;
        }
        let word = Word { value: value.to_owned(), span };
        match key.as_str() {
            "syntax" => found.syntax = Some(first_word(word)),
            "escape" => match value {
                "\\" | "`" => found.escape = if value == "`" { '`' } else { '\\' },
                _ => diagnostics.push(
                    Diagnostic::error(span, format!("invalid escape character {value:?}"))
                        .help("only \\ and ` are possible"),
                ),
            },
            _ => match Check::parse(word) {
                Ok(check) => found.check = Some(check),
                Err(message) => diagnostics.push(Diagnostic::error(span, message)),
            },
        }
        seen.push(key);
    }
    if found.syntax.is_none() {
        found.syntax = foreign_syntax(text);
    }
    found
}

fn first_word(word: Word) -> Word {
    let value = word.value.split(' ').next().unwrap_or_default().to_owned();
    Word { value, ..word }
}

/// `key = value`, the key in lower case.
fn split(comment: &str) -> Option<(String, &str)> {
    let (key, value) = comment.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let named = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.bytes().all(|b| b.is_ascii_alphanumeric());
    (named && !value.is_empty()).then(|| (key.to_ascii_lowercase(), value))
}

/// Whether a comment would be a directive if it stood in the first lines.
pub(crate) fn is_directive(comment: &str) -> bool {
    split(comment).is_some_and(|(key, _)| KEYS.contains(&key.as_str()))
}

/// The lines after a byte order mark and a `#!` line.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = if text.starts_with('\u{feff}') { 3 } else { 0 };
    if text[at..].starts_with("#!") {
        at = text[at..].find('\n').map_or(text.len(), |n| at + n + 1);
    }
    std::iter::from_fn(move || {
        let rest = &text[at..];
        if rest.is_empty() {
            return None;
        }
        let start = at;
        let length = rest.find('\n').map_or(rest.len(), |n| n + 1);
        at += length;
        Some((start, rest[..length].trim_end_matches(['\r', '\n'])))
    })
}

/// `// syntax=` and `{"syntax": …}`: other frontends' files name their frontend so.
fn foreign_syntax(text: &str) -> Option<Word> {
    const MAX_JSON: usize = 1 << 20;
    for (start, line) in lines(text) {
        let Some((key, value)) = line.strip_prefix("//").and_then(split) else { break };
        if key == "syntax" {
            let span = Span::new(start, start + line.len());
            return Some(first_word(Word { value: value.to_owned(), span }));
        }
    }
    let (start, first) = lines(text).next()?;
    if first.trim_start().starts_with('{') && text.len() <= MAX_JSON {
        let json: serde_json::Value = serde_json::from_str(&text[start..]).ok()?;
        let value = json.get("syntax")?.as_str()?.to_owned();
        return Some(Word { value, span: Span::new(start, start + first.len()) });
    }
    None
}
