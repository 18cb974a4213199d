//! How each instruction splits its arguments.

use super::exec_form::{self, ExecForm};
use super::lines::Slice;
use super::{Args, Pair, Word, words};
use crate::Diagnostic;

/// Splits `rest`, which is trimmed, by the rule of the instruction `keyword`.
pub(super) fn split(
    keyword: &str,
    rest: &Slice<'_>,
    escape: char,
    diagnostics: &mut Vec<Diagnostic>,
) -> Args {
    match keyword.to_ascii_lowercase().as_str() {
        "add" | "copy" | "volume" => exec_or(rest, diagnostics, plain),
        "cmd" | "entrypoint" | "run" | "shell" => exec_or(rest, diagnostics, text),
        "arg" => items(words::split(rest, escape)),
        "env" | "label" => pairs(keyword, rest, escape, diagnostics),
        "expose" | "from" => plain(rest),
        "healthcheck" => {
            let end = rest.text.find(char::is_whitespace).unwrap_or(rest.text.len());
            if end == 0 {
                return Args::None;
            }
            let after = rest.from(end).trim();
            let args = exec_or(&after, diagnostics, text);
            Args::Health(rest.part(0, end).word(), Box::new(args))
        }
        "maintainer" | "stopsignal" | "user" | "workdir" => text(rest),
        // Unknown; the grammar says so.
        _ => Args::None,
    }
}

fn text(rest: &Slice<'_>) -> Args {
    if rest.text.is_empty() { Args::None } else { Args::Text(rest.word()) }
}

fn plain(rest: &Slice<'_>) -> Args {
    items(words::split_plain(rest))
}

fn items(words: Vec<Word>) -> Args {
    if words.is_empty() { Args::None } else { Args::Words(words) }
}

fn exec_or(
    rest: &Slice<'_>,
    diagnostics: &mut Vec<Diagnostic>,
    shell: fn(&Slice<'_>) -> Args,
) -> Args {
    match exec_form::read(rest) {
        ExecForm::Array(words) => Args::Json(words),
        ExecForm::Shell => shell(rest),
        ExecForm::NotStrings => {
            let message = "only strings may stand in an array of arguments";
            diagnostics.push(Diagnostic::error(rest.span(), message));
            Args::Invalid
        }
    }
}

fn pairs(keyword: &str, rest: &Slice<'_>, escape: char, diagnostics: &mut Vec<Diagnostic>) -> Args {
    let words = words::split(rest, escape);
    let Some(first) = words.first() else { return Args::None };
    if !first.value.contains('=') {
        let (key, value) = rest.split_blank();
        if value.text.is_empty() {
            let message = format!("{} must have two arguments", keyword.to_uppercase());
            diagnostics.push(
                Diagnostic::error(rest.span(), message).help(format!("write {}=VALUE", key.text)),
            );
            return Args::Invalid;
        }
        return Args::Pairs(vec![Pair { key: key.word(), value: value.word(), legacy: true }]);
    }
    let mut pairs = Vec::with_capacity(words.len());
    let mut valid = true;
    for word in words {
        let Some((key, value)) = word.value.split_once('=') else {
            let message = format!("can't find \"=\" in {:?}", word.value);
            diagnostics.push(
                Diagnostic::error(word.span, message)
                    .help("write name=value, with quotes around a value that has blanks"),
            );
            valid = false;
            continue;
        };
        pairs.push(pair(&word, key, value));
    }
    if valid { Args::Pairs(pairs) } else { Args::Invalid }
}

fn pair(word: &Word, key: &str, value: &str) -> Pair {
    // The word is what stands in the source but for a dropped escape character at its end, and
    // for continuations, where the split is only nearly right.
    let mut key_span = word.span;
    key_span.end =
        (key_span.start + u32::try_from(key.len()).unwrap_or(u32::MAX)).min(word.span.end);
    let mut value_span = word.span;
    value_span.start = (key_span.end + 1).min(word.span.end);
    Pair {
        key: Word { value: key.to_owned(), span: key_span },
        value: Word { value: value.to_owned(), span: value_span },
        legacy: false,
    }
}
