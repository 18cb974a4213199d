//! What went wrong without stopping anything, collected for whoever can tell people.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// More warnings than this say nothing new.
const MAX_WARNINGS: usize = 64;

/// A list of remarks, each text once.
#[derive(Default)]
pub(crate) struct Warnings {
    list: Mutex<Vec<String>>,
    damage: AtomicU64,
}

impl Warnings {
    /// Adds one.
    pub(crate) fn add(&self, text: impl Into<String>) {
        let text = text.into();
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if list.len() < MAX_WARNINGS && !list.contains(&text) {
            list.push(text);
        }
    }

    /// Adds one about something damaged that is not used any more.
    pub(crate) fn add_damage(&self, text: impl Into<String>) {
        self.damage.fetch_add(1, Ordering::SeqCst);
        self.add(text);
    }

    /// How often something was damaged.
    pub(crate) fn damage_count(&self) -> u64 {
        self.damage.load(Ordering::SeqCst)
    }

    /// Takes all of them.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.list.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
