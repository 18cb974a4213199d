//! Why a command ends with status 1, and how that is told.

use std::error::Error;
use std::io;

use crate::console;
use crate::errors::{chain, hints};

/// An error as it may cross threads.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// The end of a command that did not do what it was asked for.
pub(crate) struct Failure {
    /// What is shown before the message: output, source lines. Lines, or empty.
    shown: String,
    /// One line, told after `ERROR: `.
    message: String,
    /// The error that it is about, for advice and for `--debug`.
    cause: Option<BoxError>,
    /// Advice that the error alone does not give.
    advice: Vec<String>,
}

impl Failure {
    /// What `error` and its causes say.
    pub(crate) fn error(error: impl Into<BoxError>) -> Self {
        let error = error.into();
        let message = chain::message(error.as_ref());
        Self { shown: String::new(), message, cause: Some(error), advice: Vec::new() }
    }

    /// A message of its own, after what is to be shown with it.
    pub(crate) fn told(shown: String, message: impl Into<String>, cause: Option<BoxError>) -> Self {
        Self { shown, message: message.into(), cause, advice: Vec::new() }
    }

    /// Nothing to tell but a status of 1: what there is to say is on standard output.
    pub(crate) fn silent() -> Self {
        Self::told(String::new(), String::new(), None)
    }

    /// Standard output cannot be written.
    pub(crate) fn output(error: io::Error) -> Self {
        Self::error(format!("cannot write to standard output: {error}"))
    }

    /// The same, after what it happened to.
    pub(crate) fn after(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// The same with advice.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.advice.push(hint.into());
        self
    }

    /// In one line, for a line of progress.
    pub(crate) fn summary(&self) -> &str {
        &self.message
    }

    /// Prints it, with advice where there is some; with `debug` every cause on a line of its own.
    pub(crate) fn print(&self, debug: bool) {
        if !self.shown.is_empty() {
            console::err(self.shown.trim_end());
        }
        if self.message.is_empty() {
            return;
        }
        console::err(&format!("ERROR: {}", self.message));
        let cause = self.cause.as_ref();
        for cause in cause.iter().filter(|_| debug).flat_map(|c| chain::causes(c.as_ref())) {
            console::err(&format!("caused by: {cause}"));
        }
        let hints = cause.iter().flat_map(|c| hints::hints(c.as_ref()));
        for hint in self.advice.iter().cloned().chain(hints) {
            console::err(&format!("hint: {hint}"));
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::error(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_with_what_it_happened_to() {
        let failure = Failure::error("no\nsuch thing").after("failed to solve");
        assert_eq!(failure.summary(), "failed to solve: no such thing");
        let failure = Failure::from(io::Error::other("disk")).after("a").after("b");
        assert_eq!(failure.summary(), "b: a: disk");
    }
}
