//! From a Dockerfile to a graph and an image plan.
//!
//! [`parse`] gives the syntax tree and every problem in it; it is total and takes time linear in
//! the text. [`lower()`] expands variables, picks the stages that the target needs, resolves
//! their base images through an [`ImageResolver`] and writes a `graph::Definition` and the
//! image's config. Nothing here does IO.

pub mod ast;
mod diagnostic;
mod grammar;
mod ignore;
mod lower;
pub mod syntax;
mod value;
pub mod word;

use std::sync::Arc;

use graph::SourceFile;

pub use diagnostic::{Diagnostic, Severity};
pub use ignore::{IgnoreError, parse_ignore};
pub use lower::{
    Entitlement, HistorySource, ImageLocation, ImageRequest, ImageResolver, LowerError,
    LowerOptions, Lowered, MAIN_CONTEXT, NamedContext, ResolvedBase, ResolvedImage, lower,
};

/// A Dockerfile as it was read.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The syntax tree. Malformed instructions are in it as `Kind::Invalid`.
    pub dockerfile: ast::Dockerfile,
    /// All problems, by position.
    pub diagnostics: Vec<Diagnostic>,
    /// The name and the text that spans point into.
    pub source: SourceFile,
}

impl Parsed {
    /// Whether the build cannot start.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// Reads a Dockerfile; `name` is what people know it by. Warnings that the file's
/// `# check=skip=` leaves out are left out here already.
pub fn parse(name: &str, text: &str) -> Parsed {
    let (dockerfile, mut diagnostics) = grammar::parse(text);
    diagnostics.retain(|d| !is_skipped(&dockerfile, d));
    let source = SourceFile { name: name.to_owned(), text: Arc::from(text) };
    Parsed { dockerfile, diagnostics, source }
}

/// Whether a warning is switched off, for the file by its `# check=` directive or for one
/// instruction by a `# check=skip=…` comment directly above it.
fn is_skipped(dockerfile: &ast::Dockerfile, diagnostic: &Diagnostic) -> bool {
    let Some(rule) = diagnostic.rule else { return false };
    if dockerfile.directives.check.as_ref().is_some_and(|check| check.skips(rule)) {
        return true;
    }
    let instructions = &dockerfile.instructions;
    let after = instructions.partition_point(|i| i.span.start <= diagnostic.span.start);
    let Some(instruction) = after.checked_sub(1).map(|at| &instructions[at]) else { return false };
    instruction.comments.iter().any(|comment| {
        let text = comment.value.strip_prefix("check=");
        let check = text.and_then(|text| {
            let word = ast::Word { value: text.to_owned(), span: comment.span };
            ast::Check::parse(word).ok()
        });
        check.is_some_and(|check| check.skips(rule))
    })
}
