//! Why a command ends with status 1, and how that is told.

use std::error::Error;
use std::io;

use crate::console;
use crate::errors::{chain, hints};

/// The end of a command that did not do what it was asked for.
pub(crate) enum Failure {
    /// An error that is told as one line after `ERROR: `.
    Error(Box<dyn Error + Send + Sync>),
    /// A text that tells everything, ready to print, and the error that it tells of.
    Told(String, Option<Box<dyn Error + Send + Sync>>),
}

impl Failure {
    pub(crate) fn error(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Error(error.into())
    }

    /// Standard output cannot be written.
    pub(crate) fn output(error: io::Error) -> Self {
        Self::Error(format!("cannot write to standard output: {error}").into())
    }

    /// In one line, for a line of progress.
    pub(crate) fn summary(&self) -> String {
        match self {
            Self::Error(error) => chain::message(error.as_ref()),
            Self::Told(text, _) => text.lines().last().unwrap_or_default().to_owned(),
        }
    }

    /// Prints it, with advice where there is some; with `debug` every cause on a line of its own.
    pub(crate) fn print(&self, debug: bool) {
        let error = match self {
            Self::Error(error) => {
                console::err(&format!("ERROR: {}", chain::message(error.as_ref())));
                Some(error)
            }
            Self::Told(text, error) => {
                console::err(text.trim_end());
                error.as_ref()
            }
        };
        for cause in error.iter().filter(|_| debug).flat_map(|e| chain::causes(e.as_ref())) {
            console::err(&format!("caused by: {cause}"));
        }
        for hint in error.iter().flat_map(|e| hints::hints(e.as_ref())) {
            console::err(&format!("hint: {hint}"));
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(Box::new(error))
    }
}
