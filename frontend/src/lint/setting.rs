//! Which rules speak: `# check=`, `BUILDKIT_DOCKERFILE_CHECK`, and comments above instructions.

use std::borrow::Cow;

use graph::Span;

use super::{note, rule};
use crate::Diagnostic;
use crate::ast::{Check, Dockerfile, Instruction, Word};

/// The build argument that takes the place of `# check=`.
pub(crate) const VARIABLE: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// What is switched on and off in one file.
#[derive(Clone, Debug)]
pub(crate) struct Setting<'a> {
    check: Option<Cow<'a, Check>>,
}

impl<'a> Setting<'a> {
    /// That of the file.
    pub(crate) fn of_file(file: &'a Dockerfile) -> Self {
        Self { check: file.directives.check.as_ref().map(Cow::Borrowed) }
    }

    /// That of the build argument's `value` where it is given: it replaces the file's, also when
    /// it is empty (BuildKit: `dockerui.Config.LinterConfig`).
    ///
    /// # Errors
    /// What is wrong with the value.
    pub(crate) fn new(file: &'a Dockerfile, value: Option<&String>) -> Result<Self, String> {
        let Some(value) = value else { return Ok(Self::of_file(file)) };
        let text = Word { value: value.clone(), span: Span::default() };
        Ok(Self { check: Some(Cow::Owned(Check::parse(text)?)) })
    }

    /// Whether a problem is told. Errors always are.
    pub(crate) fn tells(&self, file: &Dockerfile, problem: &Diagnostic) -> bool {
        let Some(name) = problem.rule else { return true };
        let experimental = rule(name).is_some_and(|rule| rule.experimental);
        let own = instruction_at(file, problem.span).and_then(own_check);
        let mut checks = self.check.as_deref().into_iter().chain(own.as_ref());
        match experimental {
            true => checks.any(|check| check.enables(name)),
            false => !checks.any(|check| check.skips(name)),
        }
    }

    /// Whether a warning fails the build. Only the file's setting counts, not that of an
    /// instruction.
    pub(crate) fn strict(&self) -> bool {
        self.check.as_ref().is_some_and(|check| check.error)
    }
}

/// The instruction that a span stands in, or follows.
fn instruction_at(file: &Dockerfile, span: Span) -> Option<&Instruction> {
    let after = file.instructions.partition_point(|i| i.span.start <= span.start);
    after.checked_sub(1).map(|at| &file.instructions[at])
}

/// The first `# check=` directly above an instruction; one that makes no sense is a comment
/// (BuildKit: `WithMergedConfigFromComments`).
fn own_check(instruction: &Instruction) -> Option<Check> {
    let comments = note::block(&instruction.comments).iter();
    let text = comments.filter_map(|comment| {
        let (key, value) = comment.value.split_once('=')?;
        let named = key.trim().eq_ignore_ascii_case("check");
        named.then(|| Word { value: value.trim().to_owned(), span: comment.span })
    });
    Check::parse(text.into_iter().next()?).ok()
}
