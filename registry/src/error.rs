//! What can go wrong: one error type that says operation, object and cause.
//!
//! No error text contains a credential, an `Authorization` header or the query of a URL (which is
//! where presigned links carry their secret).

use std::fmt;
use std::io;
use std::time::Duration;

use oci::Digest;
use serde::Deserialize;

/// Messages of a registry that are kept of one answer.
const MAX_MESSAGES: usize = 8;
/// Characters that are kept of a registry's message.
const MAX_MESSAGE: usize = 300;

/// What the client was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Asking which manifest a name means.
    Resolve,
    /// Fetching a manifest by digest.
    FetchManifest,
    /// Fetching a blob.
    FetchBlob,
    /// Pushing a blob.
    PushBlob,
    /// Pushing a manifest or an index.
    PushManifest,
    /// Downloading a file that is no part of an image.
    Download,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolve",
            Self::FetchManifest => "fetch manifest",
            Self::FetchBlob => "fetch blob",
            Self::PushBlob => "push blob",
            Self::PushManifest => "push manifest",
            Self::Download => "download",
        })
    }
}

/// An operation of the client that failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {object}: {kind}")]
pub struct RegistryError {
    /// What was attempted.
    pub operation: Operation,
    /// The reference, the digest and its repository, or the URL without what it may hide.
    pub object: String,
    /// Why it failed.
    pub kind: ErrorKind,
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum ErrorKind {
    /// The registry has no such repository, tag or blob (404).
    #[error("not found: {0}")]
    NotFound(Answer),
    /// The registry wants to know who asks, or does not believe it (401).
    #[error("{}: {answer}", if *.credentials { "the credentials were refused" } else { "authentication required" })]
    Unauthorized {
        /// What the registry answered.
        answer: Answer,
        /// Whether there were credentials for this registry.
        credentials: bool,
    },
    /// The registry knows who asks, and says no (403, or 401 with `DENIED`).
    #[error("access denied: {0}")]
    Denied(Answer),
    /// Too many requests (429).
    #[error("rate limited: {0}")]
    RateLimited(Answer),
    /// Any other status that is no success.
    #[error("the server answered {0}")]
    Status(Answer),
    /// The content is not what its digest says.
    #[error("content does not match its digest: expected {expected}, got {actual}")]
    DigestMismatch {
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// The content does not have the size that its descriptor says.
    #[error("content does not match its size: expected {expected} bytes, got {}{actual}", if *.more { "at least " } else { "" })]
    SizeMismatch {
        /// The descriptor's size in bytes.
        expected: u64,
        /// How many bytes came or were announced.
        actual: u64,
        /// Whether there may be more than `actual`: the transfer was stopped there.
        more: bool,
    },
    /// A document is larger than what is read of its kind.
    #[error("{what} is larger than the {limit} bytes that are allowed")]
    TooLarge {
        /// The kind of document.
        what: &'static str,
        /// The bound in bytes.
        limit: u64,
    },
    /// The connection could not be made, broke or went silent.
    #[error("network error ({host}): {source}")]
    Network {
        /// The host that was talked to.
        host: String,
        /// The cause.
        source: io::Error,
    },
    /// No trusted, encrypted connection could be made.
    #[error("TLS error ({host}): {message}")]
    Tls {
        /// The host that was talked to.
        host: String,
        /// The cause.
        message: String,
    },
    /// The server's answer breaks the protocol.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// The credentials for the registry cannot be read.
    #[error("cannot get credentials: {0}")]
    Credentials(String),
    /// The client's configuration cannot be used: a certificate file or a proxy's address.
    #[error("configuration: {0}")]
    Config(String),
    /// The receiver of a blob failed.
    #[error("cannot write: {0}")]
    Sink(#[source] io::Error),
    /// The local source of a blob failed.
    #[error("cannot read the content to push: {0}")]
    Source(#[source] io::Error),
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl ErrorKind {
    /// Whether the same request may succeed a moment later: 5xx, 429, and connections that were
    /// reset, closed early or went silent. Everything else fails the same way again.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Status(answer) => (500..600).contains(&answer.status),
            Self::RateLimited(_) => true,
            Self::Network { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::WouldBlock
                    | io::ErrorKind::NotConnected
            ),
            _ => false,
        }
    }

    /// Whether it waited in vain: for a connection, or for bytes.
    pub fn is_silence(&self) -> bool {
        let late = [io::ErrorKind::TimedOut, io::ErrorKind::WouldBlock];
        matches!(self, Self::Network { source, .. } if late.contains(&source.kind()))
    }

    /// How long the server asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status(answer) | Self::RateLimited(answer) => answer.retry_after,
            _ => None,
        }
    }

    pub(crate) fn network(host: &str, kind: io::ErrorKind, message: &str) -> Self {
        Self::Network { host: host.to_owned(), source: io::Error::new(kind, message) }
    }

    /// Names the operation and the object.
    pub(crate) fn during(self, operation: Operation, object: impl fmt::Display) -> RegistryError {
        RegistryError { operation, object: object.to_string(), kind: self }
    }
}

/// What a registry answered that is no success.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The errors in the body, if it had any that could be read.
    pub errors: Vec<ApiError>,
    /// The `Retry-After` header, where it was a number of seconds.
    pub retry_after: Option<Duration>,
}

/// One error of a registry's answer. Source: OCI distribution-spec, "Error Codes".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiError {
    /// Such as `MANIFEST_UNKNOWN`.
    pub code: String,
    /// For people; control characters are removed and it is cut at 300 characters.
    pub message: String,
}

impl Answer {
    /// Whether one of the errors has `code`.
    pub fn has(&self, code: &str) -> bool {
        self.errors.iter().any(|e| e.code.eq_ignore_ascii_case(code))
    }

    pub(crate) fn new(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        Self { status, errors: parse_errors(body), retry_after }
    }

    /// The kind of error that this answer is; `credentials` tells whether some were sent.
    pub(crate) fn into_kind(self, credentials: bool) -> ErrorKind {
        match self.status {
            404 => ErrorKind::NotFound(self),
            401 if self.has("DENIED") => ErrorKind::Denied(self),
            401 => ErrorKind::Unauthorized { answer: self, credentials },
            403 => ErrorKind::Denied(self),
            429 => ErrorKind::RateLimited(self),
            _ => ErrorKind::Status(self),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name =
            ureq::http::StatusCode::from_u16(self.status).ok().and_then(|s| s.canonical_reason());
        write!(f, "{}", self.status)?;
        if let Some(name) = name {
            write!(f, " {name}")?;
        }
        for (i, error) in self.errors.iter().enumerate() {
            f.write_str(if i == 0 { " (" } else { "; " })?;
            match (error.code.is_empty(), error.message.is_empty()) {
                (false, false) => write!(f, "{}: {}", error.code, error.message)?,
                (false, true) => f.write_str(&error.code)?,
                _ => f.write_str(&error.message)?,
            }
        }
        if !self.errors.is_empty() {
            f.write_str(")")?;
        }
        if let Some(after) = self.retry_after {
            write!(f, ", retry after {} s", after.as_secs())?;
        }
        Ok(())
    }
}

/// Reads `{"errors":[{"code","message"}]}`, or the `{"details"|"message"|"error"}` that some token
/// servers answer. Anything else gives no message: a web page helps nobody in an error line.
fn parse_errors(body: &[u8]) -> Vec<ApiError> {
    #[derive(Deserialize)]
    struct Item {
        code: Option<serde_json::Value>,
        message: Option<serde_json::Value>,
    }
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        errors: Option<Vec<Item>>,
        details: Option<serde_json::Value>,
        message: Option<serde_json::Value>,
        error: Option<serde_json::Value>,
    }
    let Ok(body) = serde_json::from_slice::<Body>(body) else {
        return Vec::new();
    };
    let text = |value: Option<serde_json::Value>| match value {
        Some(serde_json::Value::String(s)) => clean(&s),
        Some(serde_json::Value::Number(n)) => n.to_string(),
        _ => String::new(),
    };
    let mut errors: Vec<ApiError> = body
        .errors
        .unwrap_or_default()
        .into_iter()
        .take(MAX_MESSAGES)
        .map(|item| ApiError { code: text(item.code), message: text(item.message) })
        .filter(|e| !e.code.is_empty() || !e.message.is_empty())
        .collect();
    if errors.is_empty() {
        let message =
            [body.details, body.message, body.error].into_iter().map(text).find(|t| !t.is_empty());
        errors.extend(message.map(|message| ApiError { code: String::new(), message }));
    }
    errors
}

/// A server's words, made safe for a terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_MESSAGE)
        .collect::<String>()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_registrys_errors() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest\u001b[31m unknown","detail":{"x":1}}]}"#;
        let answer = Answer::new(404, None, body);
        assert_eq!(answer.to_string(), "404 Not Found (MANIFEST_UNKNOWN: manifest [31m unknown)");
        assert!(matches!(answer.into_kind(false), ErrorKind::NotFound(_)));
        let answer = Answer::new(401, None, br#"{"details":"incorrect username or password"}"#);
        assert_eq!(answer.to_string(), "401 Unauthorized (incorrect username or password)");
        for body in [&b"<html>"[..], b"", b"{}", b"[]", br#"{"errors":null}"#] {
            assert_eq!(Answer::new(500, None, body).to_string(), "500 Internal Server Error");
        }
    }

    #[test]
    fn what_is_tried_again() {
        let status = |s| Answer::new(s, None, b"").into_kind(false).is_transient();
        for (code, again) in [
            (400, false),
            (401, false),
            (403, false),
            (404, false),
            (416, false),
            (429, true),
            (500, true),
            (502, true),
            (503, true),
            (504, true),
        ] {
            assert_eq!(status(code), again, "{code}");
        }
        let io = |kind| ErrorKind::network("h", kind, "x").is_transient();
        assert!(io(io::ErrorKind::ConnectionReset) && io(io::ErrorKind::TimedOut));
        assert!(!io(io::ErrorKind::ConnectionRefused) && !io(io::ErrorKind::NotFound));
    }
}
