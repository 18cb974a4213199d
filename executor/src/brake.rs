//! Holding the processes of a run, from any thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sys::cgroup::Freezer;
use sys::stop::{Stopped, stop_below};

/// Holds the processes of one run and lets them go on. Clones are the same.
///
/// Where the run has a control group of version 2, it is frozen: its processes do not notice.
/// Elsewhere each of them is stopped by a signal, which a parent may see (`WUNTRACED` of wait(2)).
/// Processes that are held still end with their builder.
#[derive(Clone, Default)]
pub struct Brake {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Whether it is to be held, also before it runs.
    held: bool,
    target: Option<Target>,
    stopped: Option<Stopped>,
}

/// What is held.
pub(crate) struct Target {
    /// The group of the run.
    pub(crate) freezer: Option<Freezer>,
    /// The init of the run, in our pid namespace.
    pub(crate) init: i32,
}

impl Brake {
    /// Holds the processes. When this returns they write nothing more, but for what they are
    /// in the middle of.
    pub fn hold(&self) {
        let mut state = self.state();
        if !state.held {
            state.held = true;
            state.stop();
        }
    }

    /// Lets them go on.
    pub fn release(&self) {
        let mut state = self.state();
        state.held = false;
        if let Some(stopped) = state.stopped.take() {
            stopped.release();
        }
        if let Some(freezer) = state.target.as_ref().and_then(|target| target.freezer.as_ref()) {
            // It is gone with the run.
            let _ = freezer.thaw();
        }
    }

    /// The run has begun.
    pub(crate) fn engage(&self, target: Target) -> Engaged<'_> {
        let mut state = self.state();
        state.target = Some(target);
        if state.held {
            state.stop();
        }
        Engaged(self)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn stop(&mut self) {
        let Some(target) = &self.target else { return };
        let frozen = target.freezer.as_ref().is_some_and(|freezer| freezer.freeze().is_ok());
        if !frozen {
            self.stopped = Some(stop_below(target.init));
        }
    }
}

/// As long as it lives, the run can be held.
pub(crate) struct Engaged<'a>(&'a Brake);

impl Drop for Engaged<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.target = None;
        // They have ended.
        state.stopped = None;
    }
}
