//! What is wrong with a Dockerfile, and where.

pub(crate) use graph::nearest;

use graph::Span;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The build goes on.
    Warning,
    /// The build cannot start.
    Error,
}

/// One remark on a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// The position of the file in the source map; 0 is the Dockerfile itself.
    pub file: usize,
    /// Where.
    pub span: Span,
    /// What to write beside the marked text.
    pub label: Option<String>,
    /// What to do about it, such as `did you mean "--chown"?`.
    pub help: Option<String>,
    /// The name of the lint rule; none for errors of the language.
    pub rule: Option<&'static str>,
}

impl Diagnostic {
    /// An error in the Dockerfile.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            file: 0,
            span,
            label: None,
            help: None,
            rule: None,
        }
    }

    /// A warning of the lint rule `rule`.
    pub fn warning(rule: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, rule: Some(rule), ..Self::error(span, message) }
    }

    /// The same with a remark beside the marked text.
    #[must_use]
    pub fn label(self, label: impl Into<String>) -> Self {
        Self { label: Some(label.into()), ..self }
    }

    /// The same with advice.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// The same with "did you mean", if one of `options` is close to what was written.
    #[must_use]
    pub fn suggest<'a>(self, written: &str, options: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(written, options) {
            Some(near) => self.help(format!("did you mean {near:?}?")),
            None => self,
        }
    }

    /// Whether the build cannot start.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}
