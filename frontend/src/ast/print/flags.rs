//! Writing flags: their quotes, and `--mount`'s fields.

use crate::ast::{Mount, Switch, Word};

/// How the value of a flag is quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quoting {
    /// As little as it needs.
    Least,
    /// Escape characters, no quotes.
    Escapes,
    /// In `'`.
    Single,
    /// In `"`.
    Double,
}

impl Quoting {
    /// All of them.
    pub(super) const ALL: [Self; 4] = [Self::Least, Self::Escapes, Self::Single, Self::Double];
}

/// The flags of one instruction, a blank before each.
pub(super) struct Flags {
    pub(super) text: String,
    escape: char,
    quoting: Quoting,
}

impl Flags {
    pub(super) fn new(escape: char, quoting: Quoting) -> Self {
        Self { text: String::new(), escape, quoting }
    }

    pub(super) fn value(&mut self, name: &str, value: &str) {
        self.text.push_str(&format!(" --{name}="));
        quote(&mut self.text, value, self.escape, self.quoting);
    }

    pub(super) fn word(&mut self, name: &str, word: Option<&Word>) {
        if let Some(word) = word {
            self.value(name, &word.value);
        }
    }

    pub(super) fn words(&mut self, name: &str, words: &[Word]) {
        words.iter().for_each(|word| self.value(name, &word.value));
    }

    pub(super) fn switch(&mut self, name: &str, switch: Option<Switch>) {
        if let Some(switch) = switch {
            self.text.push_str(&format!(" --{name}{}", if switch.on { "" } else { "=false" }));
        }
    }

    pub(super) fn mount(&mut self, mount: &Mount) {
        let fields = mount.fields.iter().map(|field| {
            let text = match &field.value {
                Some(value) => format!("{}={value}", field.key),
                None => field.key.clone(),
            };
            csv_field(text)
        });
        let fields: Vec<String> = fields.collect();
        self.value("mount", &fields.join(","));
    }
}

/// A field of comma-separated values (RFC 4180, 2.5 to 2.7).
fn csv_field(text: String) -> String {
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

fn quote(out: &mut String, value: &str, escape: char, quoting: Quoting) {
    let special = |c: char| c.is_whitespace() || matches!(c, '\'' | '"') || c == escape;
    match quoting {
        Quoting::Least if !value.contains(special) => out.push_str(value),
        Quoting::Escapes => escaped(out, value, escape, special),
        Quoting::Least if value.contains('"') && !value.contains(['\'', escape]) => {
            quote(out, value, escape, Quoting::Single);
        }
        Quoting::Single => {
            out.push('\'');
            escaped(out, value, escape, |c| c == '\'' || c == escape);
            out.push('\'');
        }
        Quoting::Least | Quoting::Double => {
            out.push('"');
            escaped(out, value, escape, |c| c == '"' || c == escape);
            out.push('"');
        }
    }
}

fn escaped(out: &mut String, value: &str, escape: char, special: impl Fn(char) -> bool) {
    for c in value.chars() {
        out.extend(Some(escape).filter(|_| special(c)));
        out.push(c);
    }
}
