//! Rules on the whole file: what may stand before the first FROM, and style.

use std::collections::HashMap;

use crate::Diagnostic;
use crate::ast::{Dockerfile, Instruction, Kind};
use crate::diagnostic::Severity;

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
    let mut names: HashMap<String, ()> = HashMap::new();
    for stage in file.stages() {
        if let Some(name) = &stage.from.name {
            let lower = name.value.to_lowercase();
            if matches!(lower.as_str(), "scratch" | "context") {
                let message = format!("{lower:?} is a reserved name");
                diagnostics.push(Diagnostic::warning("ReservedStageName", name.span, message));
            }
            let shown = format!("there are several stages named {lower:?}");
            if names.insert(lower, ()).is_some() {
                diagnostics.push(Diagnostic::warning("DuplicateStageName", name.span, shown));
            }
        }
        repeated(stage.body, diagnostics);
    }
}

/// Keywords should all be written as most of them are.
fn casing(file: &Dockerfile, diagnostics: &mut Vec<Diagnostic>) {
    let known = |i: &&Instruction| !matches!(i.kind, Kind::Invalid);
    let is = |i: &Instruction, test: fn(&u8) -> bool| i.keyword.value.as_bytes().iter().all(test);
    let lower = |i: &Instruction| is(i, u8::is_ascii_lowercase);
    let upper = |i: &Instruction| is(i, u8::is_ascii_uppercase);
    let count = |test: &dyn Fn(&Instruction) -> bool| {
        file.instructions.iter().filter(known).filter(|i| test(i)).count()
    };
    let majority_lower = count(&lower) > count(&upper);
    for instruction in file.instructions.iter().filter(known) {
        let (fits, wanted) = if majority_lower {
            (lower(instruction), "lower")
        } else {
            (upper(instruction), "upper")
        };
        if !fits {
            let message = format!(
                "{:?} should be in {wanted} case like most instructions",
                instruction.keyword.value
            );
            let span = instruction.keyword.span;
            diagnostics.push(Diagnostic::warning("ConsistentInstructionCasing", span, message));
        }
    }
}

/// Of several CMD, ENTRYPOINT or HEALTHCHECK in a stage only the last one counts.
fn repeated(body: &[Instruction], diagnostics: &mut Vec<Diagnostic>) {
    let mut last: [Option<&Instruction>; 3] = [None; 3];
    for instruction in body {
        let (slot, keyword) = match instruction.kind {
            Kind::Cmd(_) => (0, "CMD"),
            Kind::Entrypoint(_) => (1, "ENTRYPOINT"),
            Kind::Healthcheck(_) => (2, "HEALTHCHECK"),
            _ => continue,
        };
        if let Some(ignored) = last[slot].replace(instruction) {
            let message = format!("only the last {keyword} of a stage counts");
            let rule = "MultipleInstructionsDisallowed";
            diagnostics.push(Diagnostic::warning(rule, ignored.line_span, message));
        }
    }
}
