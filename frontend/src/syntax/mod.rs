//! The outer structure of a Dockerfile: lines, continuations, comments, directives,
//! here-documents, flags and the way each instruction splits its arguments.
//!
//! Nothing here knows what an instruction means. The scan is total: every text gives a
//! [`File`] and a list of diagnostics, in time linear in the text.

mod args;
mod directive;
mod exec_form;
mod flags;
pub(crate) mod heredoc;
mod lines;
mod words;

use graph::Span;

pub use directive::{Check, Directives};
pub use heredoc::Heredoc;

pub(crate) use directive::is_directive;
pub(crate) use lines::{continuation, is_blank};

use crate::Diagnostic;
use crate::lint::warning;
use lines::{Lines, Logical, Slice};

/// The longest line, in bytes (BuildKit: `bufio.MaxScanTokenSize` less one).
pub const MAX_LINE: usize = 65_535;

/// A piece of text and where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// The text, as the syntax delivers it.
    pub value: String,
    /// Where it stands.
    pub span: Span,
}

/// The scanned file.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// The parser directives at its top.
    pub directives: Directives,
    /// The instructions, in order.
    pub instructions: Vec<Raw>,
}

/// One instruction, split but not understood.
#[derive(Clone, Debug, Default)]
pub struct Raw {
    /// The keyword as written.
    pub keyword: Word,
    /// `--name=value`, quotes removed, in order.
    pub flags: Vec<Word>,
    /// What follows the flags.
    pub args: Args,
    /// The whole instruction as one line: continuations joined, comments left out.
    pub text: String,
    /// From the keyword to the end of the last line, here-documents included.
    pub span: Span,
    /// From the keyword to the end of the arguments.
    pub line_span: Span,
    /// The comment lines directly above, without `#`.
    pub comments: Vec<Word>,
    /// The here-documents, in order.
    pub heredocs: Vec<Heredoc>,
}

/// The arguments of an instruction.
#[derive(Clone, Debug, Default)]
pub enum Args {
    /// There are none.
    #[default]
    None,
    /// One text, taken as it stands.
    Text(Word),
    /// Words between blanks.
    Words(Vec<Word>),
    /// A JSON array of strings.
    Json(Vec<Word>),
    /// Names and values.
    Pairs(Vec<Pair>),
    /// HEALTHCHECK's kind and what follows it.
    Health(Word, Box<Args>),
    /// ONBUILD's instruction.
    Sub(Box<Raw>),
    /// Malformed; there is a diagnostic.
    Invalid,
}

/// A name and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The name.
    pub key: Word,
    /// The value, quotes kept.
    pub value: Word,
    /// Whether it was written as `name value`, without `=`.
    pub legacy: bool,
}

/// Scans a Dockerfile.
pub fn scan(text: &str) -> (File, Vec<Diagnostic>) {
    let mut instructions = Vec::new();
    let (directives, diagnostics) = each(text, |raw| instructions.push(raw));
    (File { directives, instructions }, diagnostics)
}

/// Scans a Dockerfile and hands its instructions over one by one, so that a large file does not
/// stand in memory twice.
pub(crate) fn each(text: &str, mut take: impl FnMut(Raw)) -> (Directives, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let directives = directive::read(text, &mut diagnostics);
    let mut scanner = Scanner {
        lines: Lines::new(text),
        escape: directives.escape,
        diagnostics,
        comments: Vec::new(),
    };
    let mut empty = true;
    while let Some(raw) = scanner.next_instruction() {
        take(raw);
        empty = false;
    }
    if empty {
        let problem = if text.trim().is_empty() {
            "the Dockerfile is empty"
        } else {
            "the Dockerfile has no instructions"
        };
        scanner.diagnostics.push(Diagnostic::error(Span::new(0, text.len()), problem));
    }
    (directives, scanner.diagnostics)
}

struct Scanner<'a> {
    lines: Lines<'a>,
    escape: char,
    diagnostics: Vec<Diagnostic>,
    comments: Vec<Word>,
}

impl Scanner<'_> {
    fn next_instruction(&mut self) -> Option<Raw> {
        let logical = loop {
            let line = self.lines.next_line(&mut self.diagnostics)?;
            let indent = line.text.len() - line.text.trim_start().len();
            let text = &line.text[indent..];
            if let Some(comment) = text.strip_prefix('#') {
                let value = comment.trim().to_owned();
                let span = Span::new(line.start + indent, line.start + line.text.len());
                self.comments.push(Word { value, span });
                continue;
            }
            let (piece, continued) = lines::continuation(text, self.escape);
            if piece.is_empty() && !continued {
                self.comments.clear();
                continue;
            }
            let mut logical = Logical::default();
            logical.push(piece, line.start + indent);
            if continued {
                self.continue_line(&mut logical);
            }
            break logical;
        };
        Some(self.instruction(logical))
    }

    /// Adds the lines that continue a line. Comments vanish; blank lines do too, with a warning.
    fn continue_line(&mut self, logical: &mut Logical) {
        let mut empty = None;
        while let Some(line) = self.lines.next_line(&mut self.diagnostics) {
            let trimmed = line.text.trim_start();
            if trimmed.starts_with('#') {
                continue;
            }
            if trimmed.is_empty() {
                let span = Span::new(line.start, line.start + line.text.len());
                empty.get_or_insert(span);
                continue;
            }
            let (piece, continued) = lines::continuation(line.text, self.escape);
            logical.push(piece, line.start);
            if !continued {
                break;
            }
        }
        if let Some(span) = empty {
            self.diagnostics.push(warning::empty_continuation(span));
        }
    }

    fn instruction(&mut self, logical: Logical) -> Raw {
        let whole = logical.whole();
        let mut raw = self.raw(whole.trim());
        raw.comments = std::mem::take(&mut self.comments);
        if logical.text.contains("<<") && takes_heredocs(&raw) {
            self.heredocs(&mut raw, &whole);
        }
        raw
    }

    /// Splits one line. ONBUILD holds another instruction, and no more than one level is read.
    fn raw(&mut self, line: Slice<'_>) -> Raw {
        let (keyword, rest) = line.split_blank();
        let (flags, rest) = flags::extract(&rest, self.escape);
        let rest = rest.trim();
        let mut raw = Raw {
            keyword: keyword.word(),
            flags,
            args: Args::None,
            text: line.text.to_owned(),
            span: line.span(),
            line_span: line.span(),
            ..Raw::default()
        };
        raw.args = if keyword.text.eq_ignore_ascii_case("onbuild") && !rest.text.is_empty() {
            let (inner, _) = rest.split_blank();
            if inner.text.eq_ignore_ascii_case("onbuild") {
                let word = inner.word();
                let sub = Raw { span: rest.span(), keyword: word, ..Raw::default() };
                Args::Sub(Box::new(sub))
            } else {
                Args::Sub(Box::new(self.raw(rest)))
            }
        } else {
            args::split(keyword.text, &rest, self.escape, &mut self.diagnostics)
        };
        raw
    }

    /// Reads the bodies of the here-documents that the line announces.
    fn heredocs(&mut self, raw: &mut Raw, line: &Slice<'_>) {
        for mut doc in heredoc::announced(line.text) {
            let start = self.lines.position();
            let mut end = None;
            let mut content_end = start;
            while let Some(body) = self.lines.next_line(&mut self.diagnostics) {
                let text = if doc.chomp { body.text.trim_start_matches('\t') } else { body.text };
                if text == doc.name {
                    end = Some(body.start + body.text.len());
                    break;
                }
                content_end = self.lines.position();
            }
            doc.content = self.lines.text()[start..content_end].to_owned();
            doc.span = Span::new(start, end.unwrap_or(content_end));
            raw.span.end = doc.span.end.max(raw.span.end);
            if end.is_none() {
                self.diagnostics.push(
                    Diagnostic::error(raw.line_span, "unterminated here-document")
                        .help(format!("no line consists of {:?} alone", doc.name)),
                );
            }
            raw.heredocs.push(doc);
        }
    }
}

/// RUN, COPY and ADD take here-documents, unless they are in exec form; ONBUILD takes those of
/// its instruction.
fn takes_heredocs(raw: &Raw) -> bool {
    if let Args::Sub(sub) = &raw.args {
        return takes_heredocs(sub);
    }
    let taker =
        ["run", "copy", "add"].into_iter().any(|k| raw.keyword.value.eq_ignore_ascii_case(k));
    taker && !matches!(raw.args, Args::Json(_) | Args::Invalid)
}
