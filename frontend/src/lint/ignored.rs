//! Files that COPY and ADD name and that an ignore file excludes.

use graph::Span;
use graph::ignore::{IgnoreList, IgnoreMatcher};
use graph::pattern::{clean, is_wildcard};

use super::warning;
use crate::Diagnostic;

/// The ignore file of the main context, ready to be asked.
pub(crate) struct Ignored {
    /// What it is called.
    name: String,
    /// The lines of the rules.
    lines: Vec<u32>,
    matcher: IgnoreMatcher,
}

impl Ignored {
    /// None for an empty list, and for one with exceptions: below an excluded directory there may
    /// be a file that is none (BuildKit: `validateCopySourcePath`).
    pub(crate) fn new(list: &IgnoreList) -> Option<Self> {
        if list.rules.is_empty() || list.rules.iter().any(|rule| rule.negated) {
            return None;
        }
        let lines = list.rules.iter().map(|rule| rule.line).collect();
        let name = if list.name.is_empty() { "the ignore file" } else { &list.name };
        Some(Self { name: name.to_owned(), lines, matcher: list.matcher() })
    }

    /// A source in the main context that is excluded. A wildcard may match others too.
    pub(crate) fn check(&self, span: Span, add: bool, path: &str) -> Option<Diagnostic> {
        if is_wildcard(path) {
            return None;
        }
        let cleaned = clean(path);
        let inside = cleaned.trim_start_matches('/');
        if matches!(inside, "" | ".") || inside.starts_with("..") {
            return None;
        }
        let verdict = self.matcher.decide_alone(inside.as_bytes());
        let line = self.lines.get(verdict.rule?)?;
        let reason = format!("line {line} of {} excludes it", self.name);
        Some(warning::ignored_file(span, add, inside).help(reason))
    }
}
