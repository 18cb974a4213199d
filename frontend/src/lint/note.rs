//! Comments that describe a stage or an argument.

use super::warning;
use crate::Diagnostic;
use crate::ast::{Instruction, Kind, Word};
use crate::syntax::is_directive;

/// The comments that belong to an instruction: those directly above it, from the last empty one
/// on.
pub(crate) fn block(comments: &[Word]) -> &[Word] {
    let empty = comments.iter().rposition(|comment| comment.value.is_empty());
    &comments[empty.map_or(0, |at| at + 1)..]
}

/// What the comments above an instruction say about `name`: the rest of the first line that
/// begins with it and a blank (BuildKit: `instructions.getComment`).
pub(crate) fn description<'a>(instruction: &'a Instruction, name: &str) -> Option<&'a str> {
    let comments = block(&instruction.comments).iter();
    comments.filter(|_| !name.is_empty()).find_map(|comment| {
        let rest = comment.value.strip_prefix(name)?;
        rest.strip_prefix(' ').map(str::trim)
    })
}

/// A comment directly above a named stage or an ARG that is not about it.
pub(crate) fn check(instruction: &Instruction) -> Option<Diagnostic> {
    let lower;
    let names: Vec<&str> = match &instruction.kind {
        Kind::From(from) => {
            let name = from.name.as_ref()?;
            lower = name.value.to_lowercase();
            vec![lower.as_str()]
        }
        Kind::Arg(items) => items.iter().map(|item| item.name.value.as_str()).collect(),
        _ => return None,
    };
    // A parser directive, or a `check=` for the instruction, is no description.
    let mut lines = block(&instruction.comments).iter().rev();
    let last = lines.find(|comment| !is_directive(&comment.value))?;
    let first_word = last.value.split(' ').next().unwrap_or_default();
    if names.contains(&first_word) {
        return None;
    }
    let (keyword, name) = match (&instruction.kind, &names[..]) {
        (Kind::From(_), _) => ("FROM", names[0]),
        (_, [one]) => ("ARG", *one),
        _ => ("ARG", "<arg_key>"),
    };
    Some(warning::definition_description(instruction.line_span, keyword, name))
}
