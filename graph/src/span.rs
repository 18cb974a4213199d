//! Where in a Dockerfile something stands.

use std::sync::Arc;

/// A range of bytes in one source file, end exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// A span of `start..end`.
    pub fn new(start: usize, end: usize) -> Self {
        let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { start: clamp(start), end: clamp(end) }
    }
}

/// A Dockerfile as it was read: the name to show and the text that spans point into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// As people know it, such as `Dockerfile`.
    pub name: String,
    /// The text.
    pub text: Arc<str>,
}

impl SourceFile {
    /// The line (from 1) of a byte offset.
    pub fn line_of(&self, offset: u32) -> usize {
        let end = (offset as usize).min(self.text.len());
        self.text.as_bytes()[..end].iter().filter(|b| **b == b'\n').count() + 1
    }
}

/// The source files of a definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceMap {
    /// The files; a vertex's span is in the first one unless it comes from ONBUILD.
    pub files: Vec<SourceFile>,
}
