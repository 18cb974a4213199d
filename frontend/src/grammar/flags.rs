//! Which flags an instruction takes, and their values.

use std::collections::BTreeMap;

use graph::Span;

use crate::Diagnostic;
use crate::ast::{Switch, Word};
use crate::syntax::Raw;

/// What a flag takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flag {
    /// One value.
    Text,
    /// Values, one each time it is given.
    List,
    /// Nothing, `true` or `false`.
    Switch,
}

/// The flags of one instruction.
pub(super) struct Flags {
    values: BTreeMap<&'static str, Vec<Word>>,
}

impl Flags {
    /// Reads the flags; none after an error.
    pub(super) fn read(
        raw: &Raw,
        allowed: &'static [(&'static str, Flag)],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        let mut values: BTreeMap<&'static str, Vec<Word>> = BTreeMap::new();
        let mut valid = true;
        for flag in &raw.flags {
            match one(flag, allowed, &values) {
                Ok((name, word)) => values.entry(name).or_default().push(word),
                Err(error) => {
                    diagnostics.push(error);
                    valid = false;
                }
            }
        }
        valid.then_some(Self { values })
    }

    /// The value of a [`Flag::Text`].
    pub(super) fn text(&mut self, name: &str) -> Option<Word> {
        self.values.get_mut(name)?.pop()
    }

    /// The values of a [`Flag::List`].
    pub(super) fn list(&mut self, name: &str) -> Vec<Word> {
        self.values.remove(name).unwrap_or_default()
    }

    /// The state of a [`Flag::Switch`].
    pub(super) fn switch(&mut self, name: &str) -> Option<Switch> {
        self.text(name).map(|word| Switch { on: word.value == "true", span: word.span })
    }
}

fn one(
    flag: &Word,
    allowed: &'static [(&'static str, Flag)],
    seen: &BTreeMap<&'static str, Vec<Word>>,
) -> Result<(&'static str, Word), Diagnostic> {
    let error = |message: String| Diagnostic::error(flag.span, message);
    let text = flag.value.strip_prefix("--").unwrap_or(&flag.value);
    let (written, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let Some((name, kind)) = allowed.iter().find(|(name, _)| *name == written) else {
        let options: Vec<String> = allowed.iter().map(|(name, _)| format!("--{name}")).collect();
        let written = format!("--{written}");
        let unknown = error(format!("unknown flag: {written}"));
        return Err(unknown.suggest(&written, options.iter().map(String::as_str)));
    };
    if *kind != Flag::List && seen.contains_key(name) {
        return Err(error(format!("duplicate flag: --{name}")));
    }
    let value = match (kind, value) {
        (Flag::Switch, None) => "true",
        (Flag::Switch, Some(value @ ("true" | "false"))) => value,
        (Flag::Switch, Some(value)) => {
            return Err(error(format!("--{name} is either true or false, not {value:?}")));
        }
        (_, Some(value)) => value,
        (_, None) => return Err(error(format!("missing a value on flag: --{name}"))),
    };
    let start = flag.span.start.saturating_add(Span::new(0, name.len() + 3).end);
    let span = match kind {
        Flag::Switch => flag.span,
        _ => Span { start: start.min(flag.span.end), end: flag.span.end },
    };
    Ok((name, Word { value: value.to_owned(), span }))
}
