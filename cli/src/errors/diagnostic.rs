//! Remarks on a Dockerfile, with the source lines that they are about.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use frontend::{Diagnostic, Severity};
use graph::SourceFile;

/// The longest line that a remark is drawn under, in bytes; of longer ones only the position is
/// told.
const MAX_LINE: usize = 4096;

/// `diagnostics` as text that ends in a newline, each with file, line, source and marker.
/// `files` are those of the source map.
pub fn render(diagnostics: &[Diagnostic], files: &[SourceFile], colours: bool) -> String {
    let mut out = String::new();
    for diagnostic in diagnostics {
        out.push_str(&one(diagnostic, files.get(diagnostic.file), colours));
        out.push('\n');
    }
    out
}

/// One line per diagnostic, for the list of warnings at the end of a build:
/// `FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)`.
pub fn summary(diagnostic: &Diagnostic, files: &[SourceFile]) -> String {
    let rule = diagnostic.rule.map(|r| format!("{r}: ")).unwrap_or_default();
    let line = files
        .get(diagnostic.file)
        .map(|f| format!(" (line {})", f.line_of(diagnostic.span.start)))
        .unwrap_or_default();
    format!("{rule}{}{line}", diagnostic.message)
}

/// The first error in one line, and how many there are: `dockerfile parse error on line 3: unknown
/// instruction: RUNN (and 1 more error)`.
pub fn message(diagnostics: &[Diagnostic], files: &[SourceFile]) -> String {
    let mut errors = diagnostics.iter().filter(|d| d.is_error());
    let Some(first) = errors.next() else { return "the Dockerfile has errors".to_owned() };
    let place = match files.get(first.file) {
        // In the words that scripts look for.
        Some(file) if !file.text.is_empty() => {
            format!("dockerfile parse error on line {}: ", file.line_of(first.span.start))
        }
        _ => String::new(),
    };
    let message = crate::progress::text::clean(&first.message.replace('\n', " "), false);
    let more = match errors.count() {
        0 => String::new(),
        1 => " (and 1 more error)".to_owned(),
        n => format!(" (and {n} more errors)"),
    };
    format!("{place}{message}{more}")
}

fn one(diagnostic: &Diagnostic, file: Option<&SourceFile>, colours: bool) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let message = crate::progress::text::clean(&diagnostic.message, false);
    let title = level.clone().primary_title(message);
    let title = match diagnostic.rule {
        Some(rule) => title.id(rule),
        None => title,
    };
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut group = match file {
        Some(file) if !file.text.is_empty() => {
            let span = bounded(&file.text, diagnostic.span.start, diagnostic.span.end);
            let (start, text) = window(&file.text, &span);
            let line = file.line_of(start as u32);
            let mut mark = AnnotationKind::Primary.span(span.start - start..span.end - start);
            if let Some(label) = &diagnostic.label {
                mark = mark.label(label.as_str());
            }
            title.element(
                Snippet::source(text).line_start(line).path(file.name.as_str()).annotation(mark),
            )
        }
        _ => Group::with_title(title),
    };
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    groups.push(group);
    let renderer = if colours { Renderer::styled() } else { Renderer::plain() };
    renderer.render(&groups)
}

/// The span, at least one character wide where there is one, on character boundaries, and
/// ended with its first line if it is long.
fn bounded(text: &str, start: u32, end: u32) -> Range<usize> {
    let mut start = (start as usize).min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let mut end = (end as usize).clamp(start, text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let end = match text[start..end].trim_end_matches(['\n', '\r']) {
        "" => start + text[start..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8),
        marked => start + marked.len(),
    };
    start..end
}

/// The whole lines that `span` touches, and where they start. Very long ones are cut off.
fn window<'a>(text: &'a str, span: &Range<usize>) -> (usize, &'a str) {
    let mut start = text[..span.start].rfind('\n').map_or(0, |n| n + 1);
    let mut end = text[span.end..].find('\n').map_or(text.len(), |n| span.end + n);
    let cut = |mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    if span.start - start > MAX_LINE {
        start = cut(span.start - MAX_LINE);
    }
    if end - span.end > MAX_LINE {
        end = cut(span.end + MAX_LINE);
    }
    (start, &text[start..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use graph::Span;

    fn file(text: &str) -> SourceFile {
        SourceFile { name: "app/Dockerfile".to_owned(), text: text.into() }
    }

    #[test]
    fn shows_file_line_source_and_marker() {
        let files = [file("FROM busybox\nCOPY --chwon=1 a b\n")];
        let diagnostic = Diagnostic::error(Span::new(18, 25), "unknown flag: --chwon")
            .label("no flag of COPY")
            .help("did you mean \"--chown\"?");
        let text = render(&[diagnostic], &files, false);
        for part in [
            "error: unknown flag: --chwon",
            "--> app/Dockerfile:2:6",
            "2 | COPY --chwon=1 a b",
            "^^^^^^^ no flag of COPY",
            "help: did you mean \"--chown\"?",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn warnings_name_their_rule() {
        let files = [file("FROM busybox as x\n")];
        let warning = Diagnostic::warning("FromAsCasing", Span::new(13, 15), "casing differs");
        let text = render(std::slice::from_ref(&warning), &files, false);
        assert!(text.starts_with("warning[FromAsCasing]: casing differs"), "{text}");
        assert_eq!(summary(&warning, &files), "FromAsCasing: casing differs (line 1)");
    }

    #[test]
    fn the_message_tells_the_first_error() {
        let files = [file("FROM busybox\nRUNN a\nFRM\n")];
        let all = [
            Diagnostic::warning("X", Span::new(0, 4), "w"),
            Diagnostic::error(Span::new(13, 17), "unknown instruction: RUNN"),
            Diagnostic::error(Span::new(20, 23), "unknown instruction: FRM"),
        ];
        let first = "dockerfile parse error on line 2: unknown instruction: RUNN";
        assert_eq!(message(&all[..2], &files), first);
        assert_eq!(message(&all, &files), format!("{first} (and 1 more error)"));
        assert_eq!(message(&all[1..2], &[file("")]), "unknown instruction: RUNN");
    }

    #[test]
    fn any_span_is_good() {
        for text in ["", "é", "a\n", "\n\n", "a\r\nb", &"x".repeat(20_000)] {
            for (start, end) in [(0, 0), (1, 1), (1, 2), (5, 3), (0, 9999), (9999, 99_999)] {
                let diagnostic = Diagnostic::error(Span::new(start, end), "m").label("l");
                let out = render(std::slice::from_ref(&diagnostic), &[file(text)], true);
                assert!(out.contains('m') && out.len() < 40_000);
                render(std::slice::from_ref(&diagnostic), &[], false);
            }
        }
    }
}
