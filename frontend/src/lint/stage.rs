//! What is doubtful in the instructions of one stage.

use graph::Span;

use super::{name, warning};
use crate::Diagnostic;
use crate::ast::{Instruction, Kind};

/// All but the last CMD, ENTRYPOINT and HEALTHCHECK of a stage, with where they are shown.
pub(crate) fn repeated<'a>(
    instructions: impl Iterator<Item = (&'a Instruction, Span)>,
) -> Vec<Diagnostic> {
    let mut last: [Option<Span>; 3] = [None; 3];
    let mut found = Vec::new();
    for (instruction, span) in instructions {
        let slot = match instruction.kind {
            Kind::Cmd(_) => 0,
            Kind::Entrypoint(_) => 1,
            Kind::Healthcheck(_) => 2,
            _ => continue,
        };
        if let Some(ignored) = last[slot].replace(span) {
            found.push(warning::repeated(ignored, &instruction.keyword.value));
        }
    }
    found
}

/// An ARG or ENV of this name.
pub(crate) fn secret(span: Span, keyword: &str, key: &str) -> Option<Diagnostic> {
    name::is_secret(key).then(|| warning::secret(span, keyword, key))
}

/// One word of EXPOSE, its variables expanded.
pub(crate) fn port(span: Span, written: &str) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut parts = written.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let protocol = container.split_once('/').map_or("", |(_, protocol)| protocol);
    if protocol.bytes().any(|b| b.is_ascii_uppercase()) {
        found.push(warning::protocol_casing(span, written));
    }
    if parts.any(|part| !part.is_empty()) {
        found.push(warning::expose_format(span, written));
    }
    found
}
