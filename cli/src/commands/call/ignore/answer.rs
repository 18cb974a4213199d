//! What `--call=ignore` prints.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::rules::{Decision, Line};
use crate::commands::failure::Failure;
use crate::progress::text;

/// All decisions about the paths of a context.
pub(super) struct Answers<'a> {
    /// The name of the ignore file, where there is one.
    pub(super) file: Option<&'a str>,
    /// The context.
    pub(super) context: &'a Path,
    /// In the order in which they are told.
    pub(super) decisions: Vec<Decision>,
}

/// The JSON document.
#[derive(Serialize)]
struct Document<'a> {
    context: String,
    file: Option<&'a str>,
    paths: Vec<Item<'a>>,
}

#[derive(Serialize)]
struct Item<'a> {
    path: String,
    excluded: bool,
    exists: bool,
    directory: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<Rule<'a>>,
    /// The parent that the rule matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    #[serde(rename = "broughtBack", skip_serializing_if = "Option::is_none")]
    brought_back: Option<BroughtBack<'a>>,
}

#[derive(Serialize)]
struct Rule<'a> {
    file: &'a str,
    line: u32,
    text: &'a str,
}

#[derive(Serialize)]
struct BroughtBack<'a> {
    path: String,
    rule: Rule<'a>,
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

impl Answers<'_> {
    /// One line for each path.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        for decision in &self.decisions {
            let state = if decision.excluded { "excluded" } else { "included" };
            let word = if decision.exists { state } else { "missing" };
            let mut reason = self.reason(decision);
            if !decision.exists {
                let there = self.context.display();
                reason = format!("it is not in {there}; it would be {state}: {reason}");
            }
            let line = format!("{word:<8}  {}   {reason}", shown(&decision.path));
            let _ = writeln!(out, "{}", text::clean(&line, false));
        }
        out
    }

    fn reason(&self, decision: &Decision) -> String {
        let mut reason = match (&decision.line, self.file) {
            (Some(line), _) => self.line(line),
            (None, _) if decision.path == b"." => "it is the context".to_owned(),
            (None, Some(_)) => "no rule matches".to_owned(),
            (None, None) => "there is no ignore file".to_owned(),
        };
        if let Some(parent) = &decision.parent {
            let _ = write!(reason, " (matches {})", shown(parent));
        }
        if let Some((path, line)) = &decision.brought_back {
            let _ = write!(reason, "; {} is brought back by {}", shown(path), self.line(line));
        }
        reason
    }

    fn line(&self, line: &Line) -> String {
        format!("{}:{}: {}", self.file.unwrap_or_default(), line.number, line.text)
    }

    /// The same for programs.
    pub(super) fn json(&self) -> Result<String, Failure> {
        let paths = self.decisions.iter().map(|decision| Item {
            path: shown(&decision.path),
            excluded: decision.excluded,
            exists: decision.exists,
            directory: decision.directory,
            rule: decision.line.as_ref().map(|line| self.rule(line)),
            parent: decision.parent.as_deref().map(shown),
            brought_back: decision
                .brought_back
                .as_ref()
                .map(|(path, line)| BroughtBack { path: shown(path), rule: self.rule(line) }),
        });
        let document = Document {
            context: self.context.display().to_string(),
            file: self.file,
            paths: paths.collect(),
        };
        Ok(serde_json::to_string_pretty(&document)? + "\n")
    }

    fn rule<'a>(&'a self, line: &'a Line) -> Rule<'a> {
        Rule { file: self.file.unwrap_or_default(), line: line.number, text: &line.text }
    }
}
