//! Which records `du`, `prune` and policies are about: `type==regular,until=24h`. Pure.
//!
//! The keys and operators are BuildKit's (cache/manager.go: adaptUsageInfo; containerd:
//! pkg/filters), with the spellings of buildx besides (util/cobrautil, commands/prune.go). A
//! filter is a list of conditions which must all hold; a list of filters is for what any of them
//! wants.

use std::fmt;
use std::time::Duration;

use oci::Timestamp;
use regex_lite::{Regex, RegexBuilder};

use super::{Item, before};

/// A filter is never longer, in bytes.
const MAX_FILTER: usize = 4096;

/// A regular expression never takes more when it is compiled, in bytes.
const MAX_REGEX: usize = 1 << 20;

/// Words further away than this many edits are no suggestion.
const FAR: usize = 3;

/// What a filter can ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Id,
    Parents,
    Description,
    Type,
    InUse,
    Mutable,
    Immutable,
    Shared,
    Private,
    /// `until`, and its older name `unused-for`.
    Until,
}

/// Every key, as people write it.
const KEYS: [(&str, Key); 11] = [
    ("id", Key::Id),
    ("parents", Key::Parents),
    ("description", Key::Description),
    ("type", Key::Type),
    ("inuse", Key::InUse),
    ("mutable", Key::Mutable),
    ("immutable", Key::Immutable),
    ("shared", Key::Shared),
    ("private", Key::Private),
    ("until", Key::Until),
    ("unused-for", Key::Until),
];

/// Every type of record, as BuildKit names them (client/diskusage.go). Nothing here is of the type
/// `frontend`: there are no frontends that would have to be fetched.
pub const TYPES: [&str; 6] =
    ["internal", "frontend", "source.local", "source.git.checkout", "exec.cachemount", "regular"];

/// How a key is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    /// The key alone.
    Present,
    /// `==` or `=`.
    Equal,
    /// `!=`.
    Unequal,
    /// `~=`.
    Matches,
}

impl Operator {
    fn text(self) -> &'static str {
        match self {
            Self::Present => "",
            Self::Equal => "==",
            Self::Unequal => "!=",
            Self::Matches => "~=",
        }
    }
}

/// Why a text is no filter.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// It is too long.
    #[error("a filter has at most {MAX_FILTER} bytes")]
    TooLong,
    /// There is no key where one should be.
    #[error("expected KEY, KEY=VALUE, KEY!=VALUE or KEY~=REGEX at {0:?}")]
    NoKey(String),
    /// No such key.
    #[error("unknown filter key {key:?}{}; the keys are {}", did_you_mean(suggestion), key_list())]
    UnknownKey {
        /// What was written.
        key: String,
        /// What was probably meant.
        suggestion: Option<&'static str>,
    },
    /// What follows a comma is no condition; maybe it is the rest of a value.
    #[error("{0}; a value with a comma stands in double quotes")]
    AfterComma(Box<Self>),
    /// The key takes a value.
    #[error("filter key {key:?} needs a value, such as {example}")]
    NoValue {
        /// The key.
        key: &'static str,
        /// How it could look.
        example: &'static str,
    },
    /// The key is not compared in this way.
    #[error("filter key {key:?} cannot be compared with {operator:?}: write {example}")]
    Operator {
        /// The key.
        key: &'static str,
        /// What was written.
        operator: &'static str,
        /// What would be right.
        example: &'static str,
    },
    /// A key that is yes or no was compared with something else.
    #[error("filter key {key:?} is true or false, not {value:?}")]
    NotBool {
        /// The key.
        key: &'static str,
        /// What was written.
        value: String,
    },
    /// No record has such a type.
    #[error("unknown type {word:?}{}; the types are {}", did_you_mean(suggestion), TYPES.join(", "))]
    UnknownType {
        /// What was written.
        word: String,
        /// What was probably meant.
        suggestion: Option<&'static str>,
    },
    /// A pattern cannot be compiled.
    #[error("{pattern:?} is not a regular expression: {source}")]
    Regex {
        /// What was written.
        pattern: String,
        /// Why.
        source: regex_lite::Error,
    },
    /// A length of time cannot be read.
    #[error("filter key {key:?} expects a length of time such as 24h or 7d, not {value:?}")]
    Duration {
        /// The key.
        key: &'static str,
        /// What was written.
        value: String,
    },
    /// A quoted value does not end, or something comes after it.
    #[error("the quotes of {0:?} do not end where the value does")]
    Quotes(String),
    /// The same key with the same operator was given twice.
    #[error("filter key {0:?} was given twice; filters are joined by AND, so each is given once")]
    Repeated(&'static str),
}

fn did_you_mean(suggestion: &Option<&'static str>) -> String {
    suggestion.map(|word| format!(", did you mean {word:?}?")).unwrap_or_default()
}

fn key_list() -> String {
    KEYS.map(|(word, _)| word).join(", ")
}

/// What a condition compares with.
#[derive(Clone, Debug)]
enum Value {
    Nothing,
    Text(String),
    Pattern(Regex),
    Bool(bool),
    Age(Duration),
}

#[derive(Clone, Debug)]
struct Condition {
    word: &'static str,
    key: Key,
    operator: Operator,
    value: Value,
    /// What was compared with, as it was written.
    written: String,
}

/// A filter. Without conditions it wants everything.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    conditions: Vec<Condition>,
}

/// A record, as filters see it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// What it is.
    pub item: &'a Item,
    /// A running process holds it.
    pub in_use: bool,
    /// An image needs it.
    pub shared: bool,
    /// The time that ages are measured from.
    pub now: Timestamp,
}

impl Filter {
    /// The filter that `text` is: conditions with commas between them. A value with a comma
    /// stands in double quotes, in which a backslash makes the next character ordinary.
    ///
    /// # Errors
    /// If it is none, see [`FilterError`].
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        Self::all([text])
    }

    /// One filter of all these: each record must be wanted by all of them.
    ///
    /// # Errors
    /// If one is none, or a key is in several.
    pub fn all<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, FilterError> {
        let mut conditions: Vec<Condition> = Vec::new();
        for text in texts {
            if text.len() > MAX_FILTER {
                return Err(FilterError::TooLong);
            }
            let mut rest = text;
            loop {
                let condition;
                (condition, rest) = Condition::read(rest).map_err(|error| match error {
                    FilterError::NoKey(_) | FilterError::UnknownKey { .. } if rest != text => {
                        FilterError::AfterComma(Box::new(error))
                    }
                    other => other,
                })?;
                let same =
                    |c: &Condition| c.key == condition.key && c.operator == condition.operator;
                if conditions.iter().any(same) {
                    return Err(FilterError::Repeated(condition.word));
                }
                conditions.push(condition);
                match rest.strip_prefix(',') {
                    Some(more) => rest = more,
                    None => break,
                }
            }
        }
        Ok(Self { conditions })
    }

    /// Whether everything is wanted.
    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// Whether a record is wanted.
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        self.conditions.iter().all(|condition| condition.holds(subject))
    }

    /// The filter without what it says about age, and that: what was used within it is not wanted.
    #[must_use]
    pub fn split_age(&self) -> (Self, Option<Duration>) {
        let age = self.conditions.iter().find_map(|c| match c.value {
            Value::Age(age) => Some(age),
            _ => None,
        });
        let rest = self.conditions.iter().filter(|c| c.key != Key::Until).cloned().collect();
        (Self { conditions: rest }, age)
    }
}

/// Whether any of `filters` wants a record, as BuildKit joins the filters of a policy; without
/// any, each is wanted.
pub fn any(filters: &[Filter], subject: &Subject<'_>) -> bool {
    filters.is_empty() || filters.iter().any(|filter| filter.matches(subject))
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for Filter {}

impl std::str::FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        Self::parse(text)
    }
}

/// As it could have been written.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, condition) in self.conditions.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{}{}", condition.word, condition.operator.text())?;
            let written = &condition.written;
            if written.contains([',', '"']) || written.trim() != written {
                write!(f, "\"{}\"", written.replace('\\', "\\\\").replace('"', "\\\""))?;
            } else {
                f.write_str(written)?;
            }
        }
        Ok(())
    }
}

impl Condition {
    /// The condition that `text` begins with, and what comes after it: nothing, or a comma.
    fn read(text: &str) -> Result<(Self, &str), FilterError> {
        let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let text = text.trim_start();
        let end = text.find(|c| !is_key(c)).unwrap_or(text.len());
        let (written, rest) = text.split_at(end);
        if written.is_empty() {
            return Err(FilterError::NoKey(text.to_owned()));
        }
        let known = KEYS.iter().find(|(word, _)| *word == written);
        let (word, key) = *known.ok_or_else(|| FilterError::UnknownKey {
            key: written.to_owned(),
            suggestion: nearest(written, &KEYS.map(|(word, _)| word)),
        })?;
        let rest = rest.trim_start();
        let operators = [
            ("==", Operator::Equal),
            ("!=", Operator::Unequal),
            ("~=", Operator::Matches),
            ("=", Operator::Equal),
        ];
        let found = operators.iter().find_map(|(text, o)| Some((*o, rest.strip_prefix(text)?)));
        let (operator, written, rest) = match found {
            Some((operator, value)) => {
                let (value, rest) = read_value(value)?;
                (operator, value, rest)
            }
            None if rest.is_empty() || rest.starts_with(',') => {
                (Operator::Present, String::new(), rest)
            }
            None => return Err(FilterError::NoKey(text.to_owned())),
        };
        let short = found.is_some_and(|(o, value)| o == Operator::Equal && is_single(text, value));
        // As in buildx, where an id is mostly given by its first characters.
        let operator = if key == Key::Id && short { Operator::Matches } else { operator };
        let value = value_of(word, key, operator, &written)?;
        Ok((Self { word, key, operator, value, written }, rest))
    }

    fn holds(&self, subject: &Subject<'_>) -> bool {
        let item = subject.item;
        let text = |found: &str| self.accepts(found);
        match self.key {
            Key::Id => text(&item.id.to_string()),
            Key::Description => text(&item.description),
            Key::Type => text(item.kind.word()),
            Key::Parents => match self.operator {
                Operator::Present => item.needs().next().is_some(),
                Operator::Unequal => item.needs().all(text),
                _ => item.needs().any(text),
            },
            Key::InUse => self.is(subject.in_use),
            Key::Mutable => self.is(item.kind.is_mutable()),
            Key::Immutable => self.is(!item.kind.is_mutable()),
            Key::Shared => self.is(subject.shared),
            Key::Private => self.is(!subject.shared),
            Key::Until => match self.value {
                Value::Age(age) => item.last_used < before(subject.now, age),
                _ => false,
            },
        }
    }

    fn accepts(&self, found: &str) -> bool {
        match (&self.value, self.operator) {
            (Value::Text(text), Operator::Unequal) => found != text,
            (Value::Text(text), _) => found == text,
            (Value::Pattern(pattern), _) => pattern.is_match(found),
            _ => !found.is_empty(),
        }
    }

    fn is(&self, found: bool) -> bool {
        match self.value {
            Value::Bool(wanted) => (found == wanted) == (self.operator != Operator::Unequal),
            _ => found,
        }
    }
}

/// Whether the operator between the beginning of `text` and `value` is a single `=`.
fn is_single(text: &str, value: &str) -> bool {
    let before = &text[..text.len() - value.len()];
    before.ends_with('=') && !before.ends_with("==")
}

/// The value that `text` begins with, and the rest: nothing, or a comma.
fn read_value(text: &str) -> Result<(String, &str), FilterError> {
    let text = text.trim_start();
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(',').unwrap_or(text.len());
        return Ok((text[..end].trim_end().to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => {
                let rest = quoted[at + 1..].trim_start();
                if rest.is_empty() || rest.starts_with(',') {
                    return Ok((value, rest));
                }
                break;
            }
            '\\' => match characters.next() {
                Some((_, c @ ('"' | '\\'))) => value.push(c),
                // What a regular expression means by it.
                Some((_, c)) => value.extend(['\\', c]),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err(FilterError::Quotes(text.to_owned()))
}

fn value_of(
    word: &'static str,
    key: Key,
    operator: Operator,
    written: &str,
) -> Result<Value, FilterError> {
    let example = match key {
        Key::Until => "until=24h",
        Key::Type => "type==exec.cachemount",
        Key::Id => "id~=^3f2a",
        Key::Description => "description~=RUN",
        Key::Parents => "parents==ID",
        _ => "inuse or inuse=false",
    };
    let mismatch = || FilterError::Operator { key: word, operator: operator.text(), example };
    match (key, operator) {
        (Key::Until, Operator::Present) => Err(FilterError::NoValue { key: word, example }),
        (Key::Until, Operator::Equal) => {
            let wrong = || FilterError::Duration { key: word, value: written.to_owned() };
            duration(written).map(Value::Age).ok_or_else(wrong)
        }
        (Key::Until, _) => Err(mismatch()),
        (_, Operator::Present) => Ok(Value::Nothing),
        (_, _) if written.is_empty() => Err(FilterError::NoValue { key: word, example }),
        (Key::Type, Operator::Equal | Operator::Unequal) => {
            if TYPES.contains(&written) {
                return Ok(Value::Text(written.to_owned()));
            }
            let suggestion = nearest(written, &TYPES);
            Err(FilterError::UnknownType { word: written.to_owned(), suggestion })
        }
        (Key::Id | Key::Parents | Key::Description | Key::Type, Operator::Matches) => {
            let compiled = RegexBuilder::new(written).size_limit(MAX_REGEX).build();
            let wrong = |source| FilterError::Regex { pattern: written.to_owned(), source };
            compiled.map(Value::Pattern).map_err(wrong)
        }
        (Key::Id | Key::Parents | Key::Description, _) => Ok(Value::Text(written.to_owned())),
        (_, Operator::Matches) => Err(mismatch()),
        _ => match written {
            "true" | "1" => Ok(Value::Bool(true)),
            "false" | "0" => Ok(Value::Bool(false)),
            other => Err(FilterError::NotBool { key: word, value: other.to_owned() }),
        },
    }
}

/// A length of time: `24h`, `1h30m`, `7d`, `2weeks`; a number alone is seconds, as in BuildKit's
/// configuration.
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text).ok()
}

fn nearest(written: &str, words: &[&'static str]) -> Option<&'static str> {
    if written.len() > MAX_FILTER / 64 {
        return None;
    }
    let far = (written.chars().count() / 2).clamp(1, FAR);
    let distance = |word: &str| strsim::damerau_levenshtein(&written.to_lowercase(), word);
    let near = words.iter().map(|word| (distance(word), *word)).filter(|(d, _)| *d <= far).min();
    // The beginning of a word is meant to be that word; so is a part of one that nothing is near.
    let part = |fits: &dyn Fn(&str) -> bool| words.iter().find(|w| written.len() > 2 && fits(w));
    let beginning = part(&|word| word.starts_with(written)).copied();
    let near = beginning.or(near.map(|(_, word)| word));
    near.or_else(|| part(&|word| word.contains(written)).copied())
}

#[cfg(test)]
mod tests;
