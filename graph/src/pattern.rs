//! Patterns of paths: Go's `filepath.Match` (COPY's wildcards) and ignore lists
//! (`.dockerignore`).

use serde::{Deserialize, Serialize};

/// The rules of one ignore file, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoreList {
    /// The rules; the last one that matches decides.
    pub rules: Vec<IgnoreRule>,
}

/// One line of an ignore file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoreRule {
    /// The cleaned pattern, without `!` and leading slash.
    pub pattern: String,
    /// Whether it brings back instead of leaving out.
    pub negated: bool,
    /// The line it stands on, from 1.
    pub line: u32,
}
