//! The word lexer.

use super::Variables;
use super::pattern::Pattern;

/// The deepest nesting of `${a:-${b:-…}}`.
pub const MAX_DEPTH: usize = 64;
/// How many bytes variables may add to a text.
pub const MAX_GROWTH: usize = 1 << 20;

/// How a text is read.
#[derive(Clone, Copy, Debug)]
pub struct Lexer {
    /// The character that takes the next one as it is.
    pub escape: char,
    /// Keep quotes in the result.
    pub raw_quotes: bool,
    /// Keep escape characters in the result.
    pub raw_escapes: bool,
    /// Quotes are ordinary characters (here-documents).
    pub ignore_quotes: bool,
    /// Leave what is not set as it was written, for display.
    pub skip_unset: bool,
}

/// What a text expands to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    /// The whole text.
    pub text: String,
    /// The words of it, split at blanks that are neither quoted nor escaped, after expansion.
    pub words: Vec<String>,
    /// The variables that were asked for and not set.
    pub unset: Vec<String>,
}

/// Why a text cannot be expanded.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ExpandError {
    /// A quote is not closed.
    #[error("the quote {0} is not closed")]
    Quote(char),
    /// A `${` has no `}`, or a pattern no `/`.
    #[error("syntax error: missing {0:?}")]
    Missing(char),
    /// Nothing, or no name, follows `${`.
    #[error("syntax error: bad substitution")]
    Substitution,
    /// `${name=…}` and the like.
    #[error("unsupported modifier ({0}) in substitution")]
    Modifier(String),
    /// The text of `${name?text}`.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What the Dockerfile says.
        message: String,
    },
    /// An escape that means nothing in a pattern.
    #[error("invalid pattern ({pattern}) in substitution: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// See [`MAX_DEPTH`].
    #[error("substitutions are nested more than {MAX_DEPTH} deep")]
    Depth,
    /// See [`MAX_GROWTH`].
    #[error("variables add more than {MAX_GROWTH} bytes to one text")]
    Growth,
}

impl Lexer {
    /// The rules for arguments of instructions.
    pub fn new(escape: char) -> Self {
        Self {
            escape,
            raw_quotes: false,
            raw_escapes: false,
            ignore_quotes: false,
            skip_unset: false,
        }
    }

    /// Expands `text`.
    ///
    /// # Errors
    /// If its syntax is wrong, a required variable is missing, or a bound is passed.
    pub fn expand(&self, text: &str, variables: &dyn Variables) -> Result<Expansion, ExpandError> {
        let mut reader = Reader {
            lexer: self,
            variables,
            rest: text,
            depth: 0,
            budget: MAX_GROWTH + text.len(),
            unset: Vec::new(),
        };
        let (text, words) = reader.read_until(None, self.raw_escapes)?;
        Ok(Expansion { text, words, unset: reader.unset })
    }
}

/// The words of a text while it is read.
#[derive(Default)]
struct Words {
    word: String,
    done: Vec<String>,
}

impl Words {
    /// A character that separates words if it is a blank.
    fn plain(&mut self, c: char) {
        if !c.is_whitespace() {
            self.word.push(c);
        } else if !self.word.is_empty() {
            self.done.push(std::mem::take(&mut self.word));
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.done.push(self.word);
        }
        self.done
    }
}

struct Reader<'a> {
    lexer: &'a Lexer,
    variables: &'a dyn Variables,
    rest: &'a str,
    depth: usize,
    budget: usize,
    unset: Vec<String>,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    /// Reads up to the character `stop`, which is taken too, or to the end.
    fn read_until(
        &mut self,
        stop: Option<char>,
        raw_escapes: bool,
    ) -> Result<(String, Vec<String>), ExpandError> {
        let mut text = String::new();
        let mut words = Words::default();
        while let Some(c) = self.peek() {
            if Some(c) == stop {
                self.next();
                return Ok((text, words.finish()));
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    self.spend(value.len())?;
                    text.push_str(&value);
                    value.chars().for_each(|c| words.plain(c));
                }
                '\'' | '"' if !self.lexer.ignore_quotes => {
                    let quoted = if c == '"' { self.double(raw_escapes)? } else { self.single()? };
                    text.push_str(&quoted);
                    words.word.push_str(&quoted);
                }
                _ if c == self.lexer.escape => {
                    self.next();
                    let escaped = self.next();
                    let kept = [Some(c).filter(|_| raw_escapes), escaped];
                    text.extend(kept.iter().flatten());
                    words.word.extend(kept.iter().flatten());
                }
                _ => {
                    self.next();
                    text.push(c);
                    words.plain(c);
                }
            }
        }
        match stop {
            Some(stop) => Err(ExpandError::Missing(stop)),
            None => Ok((text, words.finish())),
        }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), ExpandError> {
        self.budget = self.budget.checked_sub(bytes).ok_or(ExpandError::Growth)?;
        Ok(())
    }

    /// `'…'`: everything as it stands.
    fn single(&mut self) -> Result<String, ExpandError> {
        let end = self.rest[1..].find('\'').ok_or(ExpandError::Quote('\''))? + 1;
        let (quoted, rest) = self.rest.split_at(end + 1);
        self.rest = rest;
        let kept = if self.lexer.raw_quotes { quoted } else { &quoted[1..end] };
        Ok(kept.to_owned())
    }

    /// `"…"`: variables are expanded; only `"`, `$` and the escape character are escaped.
    fn double(&mut self, raw_escapes: bool) -> Result<String, ExpandError> {
        let mut text = String::new();
        let escape = self.lexer.escape;
        text.extend(self.next().filter(|_| self.lexer.raw_quotes));
        while let Some(c) = self.peek() {
            match c {
                '"' => {
                    text.extend(self.next().filter(|_| self.lexer.raw_quotes));
                    return Ok(text);
                }
                '$' => {
                    let value = self.dollar()?;
                    self.spend(value.len())?;
                    text.push_str(&value);
                }
                _ if c == escape => {
                    self.next();
                    if raw_escapes {
                        text.push(c);
                    }
                    match self.peek() {
                        None => {}
                        Some(e) if e == '"' || e == '$' || e == escape => text.extend(self.next()),
                        Some(_) => text.push(c),
                    }
                }
                _ => text.extend(self.next()),
            }
        }
        Err(ExpandError::Quote('"'))
    }

    /// Reads `$…`.
    fn dollar(&mut self) -> Result<String, ExpandError> {
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            let unset = || format!("${name}");
            return Ok(self.value(name).map_or_else(|| self.or_skip(unset), str::to_owned));
        }
        self.next();
        match self.peek() {
            None => return Err(ExpandError::Missing('}')),
            Some('{' | '}' | ':') => return Err(ExpandError::Substitution),
            Some(_) => {}
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ExpandError::Depth);
        }
        let value = self.braced();
        self.depth -= 1;
        value
    }

    /// What stands for a variable that is not set.
    fn or_skip(&self, written: impl FnOnce() -> String) -> String {
        if self.lexer.skip_unset { written() } else { String::new() }
    }

    /// Reads `name…}` after `${`.
    fn braced(&mut self) -> Result<String, ExpandError> {
        let name = self.name();
        let mut modifier = self.next().ok_or(ExpandError::Missing('}'))?;
        let mut written = modifier.to_string();
        match modifier {
            '}' => {
                let unset = || format!("${{{name}}}");
                return Ok(self.value(name).map_or_else(|| self.or_skip(unset), str::to_owned));
            }
            '/' => return self.replace(name),
            _ => {}
        }
        let empty_is_unset = modifier == ':';
        if empty_is_unset {
            modifier = self.next().ok_or(ExpandError::Missing('}'))?;
            written.push(modifier);
        }
        if !matches!(modifier, '+' | '-' | '?' | '#' | '%') {
            return Err(ExpandError::Modifier(written));
        }
        let (word, _) = self.read_until(Some('}'), matches!(modifier, '#' | '%'))?;
        let value = self.value(name);
        if value.is_none() && self.lexer.skip_unset {
            return Ok(format!("${{{name}{written}{word}}}"));
        }
        let usable = value.filter(|v| !(empty_is_unset && v.is_empty()));
        match modifier {
            '-' => Ok(usable.map_or(word, str::to_owned)),
            '+' => Ok(if usable.is_some() { word } else { String::new() }),
            '?' => usable.map(str::to_owned).ok_or_else(|| {
                let what = if value.is_none() { "unset" } else { "empty" };
                let message =
                    if word.is_empty() { format!("is not allowed to be {what}") } else { word };
                ExpandError::Required { name: name.to_owned(), message }
            }),
            _ => self.trim(value.unwrap_or_default(), &word, modifier),
        }
    }

    /// `${name#pattern}`, `##`, `%`, `%%`.
    fn trim(&self, value: &str, word: &str, modifier: char) -> Result<String, ExpandError> {
        let (greedy, text) = match word.strip_prefix(modifier) {
            Some(text) => (true, text),
            None => (false, word),
        };
        let pattern = self.pattern(text)?;
        Ok(if modifier == '#' {
            pattern.trim_prefix(value, greedy)
        } else {
            pattern.trim_suffix(value, greedy)
        })
    }

    /// `${name/pattern/text}` and `${name//pattern/text}` after the first slash.
    fn replace(&mut self, name: &str) -> Result<String, ExpandError> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let (pattern, _) = self.read_until(Some('/'), true)?;
        let (text, _) = self.read_until(Some('}'), true)?;
        let Some(value) = self.value(name) else {
            return Ok(self.or_skip(|| format!("${{{name}/{pattern}/{text}}}")));
        };
        let limit = self.budget;
        let replaced = self.pattern(&pattern)?.replace(value, &text, all, limit);
        replaced.ok_or(ExpandError::Growth)
    }

    fn pattern(&self, text: &str) -> Result<Pattern, ExpandError> {
        Pattern::new(text, self.lexer.escape)
            .map_err(|reason| ExpandError::Pattern { pattern: text.to_owned(), reason })
    }

    fn value(&mut self, name: &str) -> Option<&'a str> {
        let value = self.variables.get(name);
        if value.is_none() && !self.unset.iter().any(|u| u == name) {
            self.unset.push(name.to_owned());
        }
        value
    }

    /// A name, a number, or one of the shell's special parameters; empty if there is none.
    fn name(&mut self) -> &'a str {
        let text = self.rest;
        let first = self.peek();
        let end = match first {
            Some(c) if c.is_numeric() => text.find(|c: char| !c.is_numeric()),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => Some(1),
            _ => text.find(|c: char| !c.is_alphabetic() && !c.is_numeric() && c != '_'),
        };
        let (name, rest) = text.split_at(end.unwrap_or(text.len()));
        self.rest = rest;
        name
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn expand(text: &str) -> Result<String, ExpandError> {
        let pairs = [
            ("FOO", "xxyy"),
            ("EMPTY", ""),
            ("STARS", "a***yy*"),
            ("PATHS", "/tmp/tmp/bar.txt"),
            ("ODD", "()[]{}^$.*?|\\x"),
            ("X", "x"),
        ];
        let map: BTreeMap<String, String> =
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Lexer::new('\\').expand(text, &map).map(|e| e.text)
    }

    #[test]
    fn operators() {
        for (text, want) in [
            ("${FOO#*x*y}", "y"),
            ("${FOO#*}", "xxyy"),
            ("${FOO#$X}", "xyy"),
            ("${FOO##*x}", "yy"),
            ("${FOO%y}", "xxy"),
            ("${FOO%%y*}", "xx"),
            ("${FOO%}", "xxyy"),
            ("${STARS%%\\**\\*}", "a"),
            ("${ODD#()[]{\\}^$.\\*\\?|\\\\}", "x"),
            ("${PATHS/\\/tmp/}", "/tmp/bar.txt"),
            ("${PATHS//\\/tmp/}", "/bar.txt"),
            ("${PATHS//\\//\\/}", "\\/tmp\\/tmp\\/bar.txt"),
            ("${PATHS/t*p/$X}", "/x/bar.txt"),
            ("${FOO/$EMPTY/ww}", "wwxxyy"),
            ("${FOO///}", "xxyy"),
            ("${NONE///}", ""),
            ("${EMPTY:-a}${EMPTY-b}${EMPTY:+c}${EMPTY+d}", "ad"),
        ] {
            assert_eq!(expand(text).as_deref(), Ok(want), "{text}");
        }
        for text in ["${FOO//ww}", "${FOO//}", "${FOO=a}", "${FOO#\\x}", "${NONE:?}", "${EMPTY:?m}"]
        {
            assert!(expand(text).is_err(), "{text}");
        }
        assert_eq!(expand("${NONE?no $X}").unwrap_err().to_string(), "NONE: no x");
    }

    #[test]
    fn hostile_texts_are_bounded() {
        let deep = "${a:-".repeat(100_000);
        assert_eq!(expand(&deep), Err(ExpandError::Depth));
        let big: BTreeMap<String, String> = [("B".to_owned(), "b".repeat(1 << 19))].into();
        let result = Lexer::new('\\').expand(&"$B".repeat(8), &big);
        assert_eq!(result, Err(ExpandError::Growth));
    }

    #[test]
    fn displayed_texts_keep_what_is_not_set() {
        let lexer = Lexer { raw_quotes: true, skip_unset: true, ..Lexer::new('\\') };
        let map: BTreeMap<String, String> = [("A".to_owned(), "1".to_owned())].into();
        let shown = lexer.expand("x '$A' \"$A\" $B ${C} ${D:-e}", &map).unwrap();
        assert_eq!(shown.text, "x '$A' \"1\" $B ${C} ${D:-e}");
        assert_eq!(shown.unset, ["B", "C", "D"]);
    }
}
