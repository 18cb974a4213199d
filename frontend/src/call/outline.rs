//! What a target takes.

use graph::Span;

/// The parameters of a target (BuildKit: `subrequests/outline`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// The stage's name in lower case; empty if it has none.
    pub name: String,
    /// What its comment says; empty if there is none.
    pub description: String,
    /// The arguments that it uses, by position.
    pub args: Vec<OutlineArg>,
    /// The secrets that its steps mount, each once, by position.
    pub secrets: Vec<OutlineMount>,
    /// The ssh agents that its steps mount.
    pub ssh: Vec<OutlineMount>,
    /// The cache mounts of its steps.
    pub caches: Vec<OutlineMount>,
}

/// An argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// What its comment says; empty if there is none.
    pub description: String,
    /// The value that is given or that it defaults to; empty if there is none.
    pub value: String,
    /// Where it is declared.
    pub span: Span,
}

/// A mount that something outside the Dockerfile stands behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineMount {
    /// Its id.
    pub id: String,
    /// Whether the build fails without it.
    pub required: bool,
    /// The first RUN that has it.
    pub span: Span,
}
