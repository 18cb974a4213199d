//! Rules on the whole file: what may stand before the first FROM, and style.

use std::collections::HashSet;

use crate::Diagnostic;
use crate::ast::{Dockerfile, Instruction, Kind};
use crate::diagnostic::Severity;
use crate::lint::{note, warning};

/// Only ARG may stand before the first FROM.
pub(super) fn order(file: &Dockerfile, diagnostics: &mut Vec<Diagnostic>) {
    let globals = file.globals();
    // A malformed FROM was meant to begin a stage.
    let mut before = globals.iter().take_while(|i| !i.keyword.value.eq_ignore_ascii_case("from"));
    let strange = before.find(|i| !matches!(i.kind, Kind::Arg(_) | Kind::Invalid));
    if let Some(first) = strange {
        let message = format!(
            "no build stage in current context: {} stands before FROM",
            first.keyword.value
        );
        diagnostics.push(Diagnostic::error(first.line_span, message));
    } else if globals.len() == file.instructions.len()
        && !diagnostics.iter().any(|d| d.severity == Severity::Error)
        && let Some(last) = globals.last()
    {
        diagnostics.push(Diagnostic::error(last.line_span, "the Dockerfile has no FROM"));
    }
}

/// The warnings that need no values.
pub(super) fn style(file: &Dockerfile, diagnostics: &mut Vec<Diagnostic>) {
    casing(file, diagnostics);
    let mut names: HashSet<String> = HashSet::new();
    for stage in file.stages() {
        if let Some(name) = &stage.from.name {
            let lower = name.value.to_lowercase();
            if matches!(lower.as_str(), "scratch" | "context") {
                diagnostics.push(warning::reserved_stage_name(name.span, &lower));
            }
            if names.contains(&lower) {
                diagnostics.push(warning::duplicate_stage_name(name.span, &lower));
            }
            names.insert(lower);
        }
    }
    diagnostics.extend(file.instructions.iter().filter_map(note::check));
}

/// Keywords should all be written as most of them are. The arguments before the first FROM do
/// not count (BuildKit: `validateCommandCasing`).
fn casing(file: &Dockerfile, diagnostics: &mut Vec<Diagnostic>) {
    let known = |i: &&Instruction| !matches!(i.kind, Kind::Invalid);
    let is = |i: &Instruction, test: fn(&u8) -> bool| i.keyword.value.as_bytes().iter().all(test);
    let lower = |i: &Instruction| is(i, u8::is_ascii_lowercase);
    let upper = |i: &Instruction| is(i, u8::is_ascii_uppercase);
    let counted = &file.instructions[file.globals().len()..];
    let count = |test: &dyn Fn(&Instruction) -> bool| {
        counted.iter().filter(known).filter(|i| test(i)).count()
    };
    let majority_lower = count(&lower) > count(&upper);
    for instruction in counted.iter().filter(known) {
        let (fits, wanted) = if majority_lower {
            (lower(instruction), "lowercase")
        } else {
            (upper(instruction), "uppercase")
        };
        if !fits {
            let keyword = &instruction.keyword;
            diagnostics.push(warning::instruction_casing(keyword.span, &keyword.value, wanted));
        }
    }
}
