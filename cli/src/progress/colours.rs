//! The colours of the terminal view.
//!
//! `BUILDKIT_COLORS="run=green:error=255,0,0"`: names or red, green and blue, for `run`, `error`,
//! `warning` and `cancel`.

/// Escape sequences; empty for no colour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Colours {
    /// Steps that ended well.
    pub run: String,
    /// Steps that failed.
    pub error: String,
    /// Warnings.
    pub warning: String,
    /// Steps that were stopped.
    pub cancel: String,
}

const NAMES: [(&str, u8); 16] = [
    ("black", 30),
    ("red", 31),
    ("green", 32),
    ("yellow", 33),
    ("blue", 34),
    ("magenta", 35),
    ("cyan", 36),
    ("lightgray", 37),
    ("darkgray", 90),
    ("lightred", 91),
    ("lightgreen", 92),
    ("lightyellow", 93),
    ("lightblue", 94),
    ("lightmagenta", 95),
    ("lightcyan", 96),
    ("white", 97),
];

impl Colours {
    /// No colours at all.
    pub fn none() -> Self {
        let none = String::new;
        Self { run: none(), error: none(), warning: none(), cancel: none() }
    }

    /// Those of `BUILDKIT_COLORS`, with the defaults for what it does not name; and what is wrong
    /// with it.
    pub fn parse(text: &str) -> (Self, Vec<String>) {
        let mut colours = Self::default();
        let mut wrong = Vec::new();
        for field in text.split(':').filter(|f| !f.trim().is_empty()) {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            let slot = match name.trim().to_lowercase().as_str() {
                "run" => &mut colours.run,
                "error" => &mut colours.error,
                "warning" => &mut colours.warning,
                "cancel" => &mut colours.cancel,
                _ => {
                    wrong.push(format!(
                        "BUILDKIT_COLORS: {name:?} is none of run, error, warning, cancel"
                    ));
                    continue;
                }
            };
            match sequence(value.trim()) {
                Some(sequence) => *slot = sequence,
                None => wrong.push(format!("BUILDKIT_COLORS: {value:?} is not a colour")),
            }
        }
        (colours, wrong)
    }

    /// `text` in a colour.
    pub fn paint(colour: &str, text: &str) -> String {
        if colour.is_empty() { text.to_owned() } else { format!("{colour}{text}\u{1b}[0m") }
    }
}

impl Default for Colours {
    fn default() -> Self {
        let named = |code: u8| format!("\u{1b}[{code}m");
        Self { run: named(34), error: named(31), warning: named(33), cancel: named(33) }
    }
}

fn sequence(value: &str) -> Option<String> {
    let name = value.to_lowercase();
    if let Some((_, code)) = NAMES.iter().find(|(n, _)| *n == name) {
        return Some(format!("\u{1b}[{code}m"));
    }
    let parts: Vec<u8> = value.split(',').map(|p| p.trim().parse().ok()).collect::<Option<_>>()?;
    match parts[..] {
        [r, g, b] => Some(format!("\u{1b}[38;2;{r};{g};{b}m")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let (colours, wrong) = Colours::parse("run=123,20,245:error=LightRed:cancel=x:walk=red");
        assert_eq!(colours.run, "\u{1b}[38;2;123;20;245m");
        assert_eq!(colours.error, "\u{1b}[91m");
        assert_eq!(colours.cancel, Colours::default().cancel);
        assert_eq!(wrong.len(), 2);
        assert!(sequence("1,2").is_none() && sequence("256,0,0").is_none());
        assert_eq!(Colours::paint("", "a"), "a");
    }
}
