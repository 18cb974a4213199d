//! From a Dockerfile to a graph and an image plan.
//!
//! [`parse`] gives the syntax tree and every problem in it; it is total and takes time linear in
//! the text. [`lower()`] expands variables, picks the stages that the target needs, resolves
//! their base images through an [`ImageResolver`] and writes a `graph::Definition` and the
//! image's config. Nothing here does IO.

pub mod ast;
mod call;
mod diagnostic;
mod grammar;
mod ignore;
pub mod lint;
mod lower;
pub mod syntax;
mod value;
pub mod word;

use std::sync::Arc;

use graph::SourceFile;

pub use call::{Outline, OutlineArg, OutlineMount, Target};
pub use diagnostic::{Diagnostic, Severity};
pub use ignore::{IgnoreError, parse_ignore};
pub use lower::{
    Entitlement, HistorySource, ImageLocation, ImageRequest, ImageResolver, LowerError,
    LowerOptions, Lowered, MAIN_CONTEXT, NamedContext, ResolvedBase, ResolvedImage, StepAge, lower,
    lower_with_warnings, outline, targets,
};
pub use value::{parse_age, parse_size};

/// A Dockerfile as it was read.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The syntax tree. Malformed instructions are in it as `Kind::Invalid`.
    pub dockerfile: ast::Dockerfile,
    /// All problems, by position; of the warnings those that the file does not switch off.
    pub diagnostics: Vec<Diagnostic>,
    /// All warnings, also those that the file switches off: a build may switch them on again.
    pub(crate) remarks: Vec<Diagnostic>,
    /// The name and the text that spans point into.
    pub source: SourceFile,
}

impl Parsed {
    /// Whether the build cannot start.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// Reads a Dockerfile; `name` is what people know it by.
pub fn parse(name: &str, text: &str) -> Parsed {
    let (dockerfile, mut diagnostics) = grammar::parse(text);
    let remarks = diagnostics.iter().filter(|d| !d.is_error()).cloned().collect();
    let setting = lint::Setting::of_file(&dockerfile);
    diagnostics.retain(|d| setting.tells(&dockerfile, d));
    let source = SourceFile { name: name.to_owned(), text: Arc::from(text) };
    Parsed { dockerfile, diagnostics, remarks, source }
}
