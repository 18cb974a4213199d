//! Holding whoever writes.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Something that can hold what writes. It is called by one thread at a time.
pub trait Brake: Send + Sync {
    /// From the end of this call on nothing is written, until it is released.
    fn hold(&self);

    /// Lets it go on.
    fn release(&self);

    /// Makes it end: it gets no more room. It need not be released before.
    fn stop(&self);
}

/// A brake for threads of this process, who ask now and then whether they may go on.
#[derive(Default)]
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
struct State {
    held: bool,
    stopped: bool,
}

impl Gate {
    /// Waits while it is held. True if the caller should end.
    pub fn pass(&self) -> bool {
        let mut state = self.state();
        while state.held && !state.stopped {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.stopped
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }
}

impl Brake for Gate {
    fn hold(&self) {
        self.set(|state| state.held = true);
    }

    fn release(&self) {
        self.set(|state| state.held = false);
    }

    fn stop(&self) {
        self.set(|state| state.stopped = true);
    }
}
