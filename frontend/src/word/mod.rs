//! Words: quotes, escapes and variables, by the rules of BuildKit's word lexer.

mod lexer;
mod pattern;

pub use lexer::{ExpandError, Expansion, Lexer, MAX_DEPTH, MAX_GROWTH};

/// Where variables get their values from.
pub trait Variables {
    /// The value of a variable; none where it is not set.
    fn get(&self, name: &str) -> Option<&str>;
}

/// No variable is set.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoVariables;

impl Variables for NoVariables {
    fn get(&self, _: &str) -> Option<&str> {
        None
    }
}

impl Variables for std::collections::BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}
