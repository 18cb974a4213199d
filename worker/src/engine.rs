//! The engine: the state directory and everything that works on it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cache::{Dialect, Holding, State};
use executor::{Executor, ExecutorConfig};
use registry::{Client, ClientConfig};
use snapshotter::{ACTIVE_SUFFIX, Snapshotter, TRASH_SUFFIX};
use solver::{CancelToken, StepContext};

use crate::backend::{self, SnapshotChoice};
use crate::error::WorkerError;
use crate::source::{GitEnvironment, GitState};

/// The file below the snapshots that tells how they are stored.
pub(crate) const KIND_FILE: &str = "kind";

/// What an engine is opened with.
pub struct EngineConfig {
    /// The state directory.
    pub root: PathBuf,
    /// How registries are reached.
    pub registry: ClientConfig,
    /// What git needs of the caller's environment.
    pub git: GitEnvironment,
    /// The user id that this process was started with: a state directory belongs to one.
    pub uid: u32,
    /// How snapshots are to be stored.
    pub snapshots: SnapshotChoice,
    /// The program pasta, for networks of steps' own; none where it is not installed.
    pub pasta: Option<PathBuf>,
    /// Stops what is not a step: compressing layers.
    pub cancel: CancelToken,
}

/// An open state directory with all that a build needs. Shared by all threads of a process.
pub struct Engine {
    pub(crate) state: Arc<State>,
    pub(crate) snapshotter: Arc<Snapshotter>,
    pub(crate) client: Arc<Client>,
    pub(crate) git: GitState,
    pub(crate) cancel: CancelToken,
    pasta: Option<PathBuf>,
    executor: OnceLock<Result<Executor, String>>,
    /// Leases of killed processes: their control groups are still there.
    dead: Vec<String>,
    notes: Mutex<Vec<String>>,
}

impl Engine {
    /// Opens the state directory, and finds out how snapshots work there.
    ///
    /// # Errors
    /// If the directory cannot be used: no permission, another dialect, a file system that
    /// cannot keep the promises.
    pub fn open(config: EngineConfig) -> Result<Self, WorkerError> {
        let whiteouts = if config.uid != 0 || sys::userns::inside() { "user" } else { "trusted" };
        let dialect = Dialect { whiteouts: whiteouts.to_owned(), owner_uid: config.uid };
        let state = State::open(&config.root, &dialect)?;
        let mut notes = state.warnings().to_vec();
        // A container's maps are not the user's, and its volumes may follow them.
        if config.uid != 0 && sys::userns::inside() {
            let used = state.snapshots_dir().join(KIND_FILE).exists();
            notes.extend(crate::ids::check(state.root(), used)?);
        }
        let kind = backend::decide(&state, &config.snapshots, &mut notes)?;
        let snapshotter = Snapshotter::open(&state.snapshots_dir(), kind)?;
        let snapshotter = Arc::new(snapshotter.with_program(config.snapshots.program));
        let dead = sweep(&state, &snapshotter, &mut notes);
        Ok(Self {
            state: Arc::new(state),
            snapshotter,
            client: Arc::new(Client::new(config.registry)),
            git: GitState::new(config.git),
            cancel: config.cancel,
            pasta: config.pasta,
            executor: OnceLock::new(),
            dead,
            notes: Mutex::new(notes),
        })
    }

    /// The state directory.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The registry client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Remarks that came up since the last call, each once.
    pub fn take_notes(&self) -> Vec<String> {
        let mut notes =
            std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner));
        notes.extend(self.snapshotter.take_damage());
        notes
    }

    /// How much damage was found so far: snapshots and blobs that are no longer used. What failed
    /// while this grew is worth another try, which makes again what was damaged.
    pub fn damage_count(&self) -> u64 {
        self.snapshotter.damage_count() + self.state.damage_count()
    }

    /// Reads every snapshot that this process used, after one of them was found damaged: others may
    /// have been copied from it, or lie beside it on the disk.
    pub fn look_for_damage(&self) {
        if let Err(error) = self.snapshotter.verify_known() {
            self.warn(&format!("the cache cannot be read: {error}"));
        }
    }

    /// Adds a remark for people.
    pub fn note(&self, message: &str) {
        self.warn(message);
    }

    pub(crate) fn warn(&self, message: &str) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if !notes.iter().any(|n| n == message) {
            notes.push(message.to_owned());
        }
    }

    /// What runs processes; found out at the first step that needs it.
    pub(crate) fn executor(&self) -> Result<&Executor, WorkerError> {
        let open = || {
            Executor::probe().map_err(|e| e.to_string())?;
            let config = ExecutorConfig {
                state: self.state.run_dir(),
                lease: self.state.lease().name().to_owned(),
                pasta: self.pasta.clone(),
            };
            let executor = Executor::new(config).map_err(|e| e.to_string())?;
            for lease in &self.dead {
                executor.sweep(lease);
                self.sweep_sockets(lease);
            }
            Ok(executor)
        };
        self.executor.get_or_init(open).as_ref().map_err(|e| WorkerError::Unsupported(e.clone()))
    }

    /// The solver's cancellation as the executor understands it.
    pub(crate) fn cancel_of(&self, context: &StepContext<'_>) -> CancelLink {
        let token = executor::CancelToken::new();
        let hooked = token.clone();
        let guard = context.cancel.on_cancel(move || hooked.cancel());
        CancelLink { token, _guard: guard }
    }
}

/// Removes what killed processes were making, and tells their names. What cannot be removed now
/// is tried again.
fn sweep(state: &State, snapshotter: &Snapshotter, notes: &mut Vec<String>) -> Vec<String> {
    let mut names = Vec::new();
    for dead in state.take_dead_leases() {
        names.push(dead.name().to_owned());
        // Who gives one up deletes it before the lease of it ends: so what is half deleted is no
        // other process's either.
        let left = |id| [ACTIVE_SUFFIX, TRASH_SUFFIX].map(|suffix| format!("{id}{suffix}"));
        let unfinished = dead.held(Holding::InProgress).flat_map(left);
        let removed = unfinished.map(|name| state.discard(&snapshotter.dir().join(name)));
        let removed: Result<(), _> = removed.collect();
        if let Err(error) = removed.and_then(|()| dead.clear()) {
            notes.push(format!("a killed build left something behind: {error}"));
        }
    }
    names
}

/// Keeps a step's executor token set by the solver's.
pub(crate) struct CancelLink {
    pub(crate) token: executor::CancelToken,
    _guard: solver::cancel::HookGuard,
}
