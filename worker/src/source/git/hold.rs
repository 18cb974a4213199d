//! Holding git below the ceiling of the cache: its process group is stopped while room is made, and
//! killed where there is none.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cache::ceiling::Brake;
use solver::StepContext;

use super::command::Group;
use super::error::GitError;
use crate::ceiling::{Growing, teller};
use crate::engine::Engine;

/// What holds the calls of one step.
pub(super) struct Hold<'a> {
    engine: &'a Engine,
    brake: Arc<GitBrake>,
    /// What counts all that the step writes; none where only fetching is counted, when it begins.
    growing: Option<&'a Growing>,
}

impl<'a> Hold<'a> {
    /// For calls that mostly only ask.
    pub(super) fn of_questions(engine: &'a Engine) -> Self {
        Self { engine, brake: Arc::default(), growing: None }
    }

    /// For the calls of a step that is counted by `growing`.
    pub(super) fn of_step(engine: &'a Engine, growing: &'a Growing) -> Self {
        let brake = Arc::<GitBrake>::default();
        growing.held_by(brake.clone());
        // From here on it has repositories locked that others may wait for.
        growing.waits_for_nobody();
        Self { engine, brake, growing: Some(growing) }
    }

    /// What the calls themselves ask.
    pub(super) fn brake(&self) -> &GitBrake {
        &self.brake
    }

    /// Fetches into the repository at `path`, counted.
    pub(super) fn fetching<T>(
        &self,
        path: &Path,
        context: &StepContext<'_>,
        fetch: impl FnOnce() -> Result<T, GitError>,
    ) -> Result<T, GitError> {
        if let Some(growing) = self.growing {
            growing.also_at(vec![path.to_owned()])?;
            return fetch();
        }
        let growing = self.engine.grow_at(path)?;
        growing.held_by(self.brake.clone());
        growing.watched(&teller(context), fetch)
    }
}

/// A brake for one call of git after the other.
#[derive(Default)]
pub(super) struct GitBrake(Mutex<State>);

#[derive(Default)]
struct State {
    held: bool,
    stopped: bool,
    /// The call that runs.
    group: Option<Group>,
    /// Processes of it that had to be stopped one by one.
    others: Option<sys::stop::Stopped>,
}

impl GitBrake {
    /// A call runs, until what this returns is dropped.
    pub(super) fn engage(&self, group: Option<Group>) -> Engaged<'_> {
        let mut state = self.state();
        state.group = group;
        if state.stopped {
            state.group.iter().for_each(Group::kill);
        } else if state.held {
            state.stop();
        }
        Engaged(self)
    }

    /// Whether there was no room: what runs was killed, and nothing is to run any more.
    pub(super) fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn stop(&mut self) {
        self.others = self.group.as_ref().and_then(Group::stop);
    }
}

impl Brake for GitBrake {
    fn hold(&self) {
        let mut state = self.state();
        if !state.held {
            state.held = true;
            state.stop();
        }
    }

    fn release(&self) {
        let mut state = self.state();
        state.held = false;
        if let Some(others) = state.others.take() {
            others.release();
        }
        state.group.iter().for_each(Group::go_on);
    }

    fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        state.group.iter().for_each(Group::kill);
    }
}

/// As long as it lives, the call can be held.
pub(super) struct Engaged<'a>(&'a GitBrake);

impl Drop for Engaged<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        (state.group, state.others) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Child, Command};
    use std::time::{Duration, Instant};

    use super::*;

    /// Processes that write one after the other, until they are killed.
    fn writer(file: &Path) -> Child {
        let loops = "while :; do echo x | cat >> \"$0\"; done";
        let script = format!("({loops}) & {loops}");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).arg(file).process_group(0).spawn().unwrap()
    }

    fn size(file: &Path) -> u64 {
        fs::metadata(file).map_or(0, |meta| meta.len())
    }

    fn grows(file: &Path) -> bool {
        let (before, end) = (size(file), Instant::now() + Duration::from_secs(60));
        while size(file) == before && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        size(file) > before
    }

    #[test]
    fn what_is_held_writes_nothing_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("written");
        let brake = GitBrake::default();
        let mut child = writer(&file);
        let engaged = brake.engage(Group::of(&child));
        for _ in 0..3 {
            assert!(grows(&file));
            brake.hold();
            let held = size(&file);
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(size(&file), held);
            brake.release();
        }
        assert!(!brake.is_stopped());
        brake.hold();
        brake.stop();
        assert!(brake.is_stopped());
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        drop(engaged);
        // Nor does anything begin any more.
        let mut child = writer(&file);
        let _engaged = brake.engage(Group::of(&child));
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn what_begins_while_it_is_held_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("written");
        let brake = GitBrake::default();
        brake.hold();
        let mut child = writer(&file);
        let _engaged = brake.engage(Group::of(&child));
        let held = size(&file);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(size(&file), held);
        brake.release();
        assert!(grows(&file));
        brake.stop();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }
}
