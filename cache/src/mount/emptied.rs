//! The cache mounts that one build has emptied.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The copies that a build has emptied, for all its steps: what one of them leaves in a cache mount
/// is for the next one (BuildKit: `solver/llbsolver/bridge.go`, which empties those of all steps
/// without cache once, before the first of them runs).
#[derive(Debug, Default)]
pub struct Emptied(Mutex<BTreeSet<PathBuf>>);

impl Emptied {
    pub(super) fn has(&self, copy: &Path) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(copy)
    }

    pub(super) fn add(&self, copy: &Path) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(copy.to_owned());
    }
}
