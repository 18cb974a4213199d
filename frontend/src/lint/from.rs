//! What is doubtful in a FROM: its platform, and what its arguments default to.

use std::cell::RefCell;

use graph::Span;
use oci::{ImageConfig, Platform, Reference};

use super::warning;
use crate::Diagnostic;
use crate::ast::{Stage, Word};
use crate::word::{Lexer, Variables};

const TARGET_PLATFORM: &str = "TARGETPLATFORM";

/// Variables that know which of them were used.
pub(crate) struct Recorder<'a> {
    inner: &'a dyn Variables,
    used: RefCell<Vec<String>>,
}

impl<'a> Recorder<'a> {
    /// Records for `inner`.
    pub(crate) fn new(inner: &'a dyn Variables) -> Self {
        Self { inner, used: RefCell::default() }
    }

    /// The variables that were asked for and are set, each once.
    pub(crate) fn used(self) -> Vec<String> {
        self.used.into_inner()
    }
}

impl Variables for Recorder<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let value = self.inner.get(name)?;
        let mut used = self.used.borrow_mut();
        if !used.iter().any(|known| known == name) {
            used.push(name.to_owned());
        }
        Some(value)
    }
}

/// A `--platform` that says nothing, or the same on every machine. A stage whose name tells the
/// system or the architecture means it.
pub(crate) fn platform(
    word: &Word,
    stage: Option<&str>,
    lexer: &Lexer,
    globals: &dyn Variables,
) -> Option<Diagnostic> {
    let recorder = Recorder::new(globals);
    let expansion = lexer.expand(&word.value, &recorder).ok()?;
    if !expansion.unset.is_empty() {
        return None;
    }
    match &recorder.used()[..] {
        [] => {
            let platform: Platform = expansion.text.parse().ok()?;
            let names = [&platform.os, &platform.architecture];
            let meant = stage.is_some_and(|stage| names.iter().any(|n| stage.contains(n.as_str())));
            (!meant).then(|| warning::constant_platform(word.span, &expansion.text))
        }
        [only] if only == TARGET_PLATFORM => {
            let same = globals.get(TARGET_PLATFORM) == Some(&expansion.text);
            same.then(|| warning::redundant_platform(word.span, &word.value))
        }
        _ => None,
    }
}

/// The stages whose FROM names no image as long as no argument is given. `defaults` are the
/// arguments then.
pub(crate) fn defaults(
    stages: &[Stage<'_>],
    lexer: &Lexer,
    defaults: &dyn Variables,
) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for stage in stages {
        let base = &stage.from.base;
        // What fails here is an error anyhow, or an argument that must be given.
        let Ok(expansion) = lexer.expand(&base.value, defaults) else { return found };
        // Names of stages need not be names of images.
        let constant = expansion.text == base.value;
        if !constant && expansion.text.parse::<Reference>().is_err() {
            found.push(warning::default_arg(base.span, &base.value));
        }
    }
    found
}

/// An image of another platform than the one that was asked for: its registry has no other.
pub(crate) fn base_platform(
    span: Span,
    name: &str,
    wanted: &Platform,
    config: &ImageConfig,
) -> Option<Diagnostic> {
    let found = &config.platform;
    let same = found.os == wanted.os && found.architecture == wanted.architecture;
    let empty =
        config.rootfs.diff_ids.is_empty() && config.history.iter().all(|entry| entry.empty_layer);
    (!same && !empty).then(|| warning::base_platform(span, name, wanted, found))
}
