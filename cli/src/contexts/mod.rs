//! Where the files of a build come from: the main context, the Dockerfile, named contexts.
//! Nothing is read here but whether a directory is there.

mod named;
mod source;

pub use named::{LayoutSource, NamedContexts};
pub use source::{ContextSource, DockerfileSource};

use graph::GitUrlError;

/// Why contexts cannot be asked for like this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// Both the context and the Dockerfile are standard input.
    #[error("the context and the Dockerfile cannot both come from standard input")]
    TwoStdins,
    /// The context has no name.
    #[error(
        "the context is empty: give a directory, a URL, or - for an archive or a Dockerfile on \
         standard input"
    )]
    Empty,
    /// A URL of a kind that no context has.
    #[error(
        "the context {context}: unknown kind {scheme:?} (a directory, a git repository, http:// \
         or https://, or - for standard input)"
    )]
    Scheme {
        /// What was given.
        context: String,
        /// What stands before `://`.
        scheme: String,
    },
    /// The URL of a repository makes no sense.
    #[error(transparent)]
    Git(#[from] GitUrlError),
    /// A named context makes no sense.
    #[error("--build-context {name}={value}: {reason}")]
    Named {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
        /// What is wrong.
        reason: String,
    },
}

/// Whether a text is a URL of a web server.
fn is_http(text: &str) -> bool {
    ["http://", "https://"].iter().any(|p| text.starts_with(p) && text.len() > p.len())
}
