//! Why a Dockerfile cannot be lowered, as people read it.

use frontend::{LowerError, Parsed};
use graph::{SourceFile, Span};

use super::failure::Failure;
use crate::args::ProgressMode;
use crate::errors::excerpt::Mark;
use crate::errors::{Place, chain, diagnostic, recap};

/// The failure that `error` is, with the source that it is about.
pub(crate) fn failure(
    parsed: &Parsed,
    error: LowerError,
    mode: ProgressMode,
    colours: bool,
) -> Failure {
    match error {
        LowerError::Diagnostics(all) => {
            let files = [parsed.source.clone()];
            let text = diagnostic::render(&all, &files, colours);
            Failure::told(text, diagnostic::message(&all, &files), None)
        }
        LowerError::Resolve { span, reference, suggestion, source } => {
            let place = place_of(&parsed.source, span);
            let mut message = chain::message(source.as_ref());
            if !message.contains(&reference) {
                message = format!("{reference}: {message}");
            }
            if let Some(near) = suggestion {
                message.push_str(&format!(" (did you mean {near:?}?)"));
            }
            let text = recap::failure(&[], Some(&place), mode);
            Failure::told(text, message, Some(source))
        }
        other => Failure::error(other),
    }
}

/// The lines that a span covers; it is marked itself where it is a part of one.
pub(crate) fn place_of(file: &SourceFile, span: Span) -> Place {
    let first = file.line_of(span.start);
    let last = file.line_of(span.end.saturating_sub(1).max(span.start));
    let mark = mark_of(file, span);
    Place { file: file.name.clone(), text: file.text.to_string(), lines: first..=last, mark }
}

/// The part of a line that a span is; none for whole lines, and for several.
pub(crate) fn mark_of(file: &SourceFile, span: Span) -> Option<Mark> {
    let (start, end) = (span.start as usize, span.end as usize);
    let marked = file.text.get(start..end)?;
    let line_start = file.text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line = file.text[line_start..].lines().next()?;
    let part = !marked.is_empty() && !marked.contains('\n') && marked != line.trim();
    part.then(|| Mark {
        line: file.line_of(span.start),
        start: file.text[line_start..start].chars().count(),
        length: marked.chars().count(),
    })
}
