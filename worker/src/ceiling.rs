//! What the engine writes below a ceiling: reservations of steps and unpacked layers, what holds
//! them, and making room.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use cache::ceiling::{Brake, Ceiling, Gate, Growth, Janitor, Limit, Refused, Shares, What};
use cache::gc::Eviction;
use snapshotter::{ACTIVE_SUFFIX, Kind, SnapshotId};
use solver::{StepContext, Stream};

use crate::engine::Engine;
use crate::error::WorkerError;
use crate::usage::Snapshots;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What messages call what grows: they come after the name of a step.
const STEP: &str = "this step";

/// The unit of a file's `st_blocks`, in bytes (stat(2)).
const BLOCK: u64 = 512;

impl Engine {
    /// Holds the state directory below `limit` from now on, on behalf of what people know as
    /// `title`.
    pub fn hold_below(self: &Arc<Self>, limit: Limit, title: &str) {
        let sweeper = Sweeper { engine: Arc::downgrade(self), rule: limit.rule.clone() };
        let lease = self.state.lease().name();
        let ceiling = Ceiling::new(self.state.root(), limit, lease, title, Box::new(sweeper));
        self.state.set_ceiling(ceiling);
    }

    /// What a plain copy of a snapshot takes, in bytes: nothing where snapshots are layers, or where
    /// there is no ceiling that it would matter for. Files of several names are copied for each.
    pub(crate) fn copy_size(&self, id: Option<&SnapshotId>) -> u64 {
        let Some(id) = id else { return 0 };
        if self.snapshotter.kind() != Kind::Copy || self.state.ceiling().is_none() {
            return 0;
        }
        let (mut total, mut open) = (0, vec![self.snapshotter.dir().join(id.to_string())]);
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                let Ok(meta) = entry.metadata() else { continue };
                total += meta.blocks() * BLOCK;
                if meta.is_dir() {
                    open.push(entry.path());
                }
            }
        }
        total
    }

    /// Reserves for a snapshot that is going to be made, if there is a ceiling. `expected` bytes
    /// are written at once.
    pub(crate) fn grow_snapshot(
        &self,
        id: &SnapshotId,
        expected: Option<u64>,
    ) -> Result<Growing, WorkerError> {
        let Some(ceiling) = self.state.ceiling() else { return Ok(Growing::default()) };
        let path = self.snapshotter.dir().join(format!("{id}{ACTIVE_SUFFIX}"));
        let what = What { name: STEP, paths: vec![path], expected, hasty: false };
        let growth = ceiling.grow(what, &|| false)?;
        let gate = Arc::new(Gate::default());
        growth.hold_by(gate.clone());
        Ok(Growing { growth: Some(growth), gate })
    }

    /// Reserves for what a program is going to fetch to `path`, if there is a ceiling. As others may
    /// wait for what it locked, it waits for nobody.
    pub(crate) fn grow_at(&self, path: &Path) -> Result<Growing, WorkerError> {
        let Some(ceiling) = self.state.ceiling() else { return Ok(Growing::default()) };
        let paths = vec![path.to_owned()];
        let what = What { name: STEP, paths, expected: None, hasty: true };
        let growth = Some(ceiling.grow(what, &|| false)?);
        Ok(Growing { growth, gate: Arc::default() })
    }
}

/// What was reserved for something that is being made; nothing, if there is no ceiling.
#[derive(Default)]
pub(crate) struct Growing {
    growth: Option<Growth>,
    gate: Arc<Gate>,
}

impl Growing {
    /// Does `work` while somebody looks at how much it writes. Why there was no room counts more
    /// than what came of that.
    pub(crate) fn watched<T, E: From<WorkerError>>(
        &self,
        tell: &(dyn Fn(&str) + Sync),
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let Some(growth) = &self.growth else { return work() };
        let result = std::thread::scope(|scope| {
            let watcher = std::thread::Builder::new().name("ceiling".to_owned());
            let watcher = watcher.spawn_scoped(scope, || growth.watch(tell));
            let _ends = Ends(growth);
            match watcher {
                Ok(_) => work(),
                Err(error) => {
                    let what = format!("nobody can look at what this step writes: {error}");
                    Err(WorkerError::Internal(what).into())
                }
            }
        });
        match growth.failure() {
            Some(full) => Err(WorkerError::Full(full).into()),
            None => result,
        }
    }

    /// Waits while it is held. True if the work is to end.
    pub(crate) fn pass(&self) -> bool {
        self.growth.is_some() && self.gate.pass()
    }

    /// So many bytes are about to be written: gets room for them.
    pub(crate) fn will_write(&self, bytes: u64) -> Result<(), WorkerError> {
        match &self.growth {
            Some(growth) => Ok(growth.take(bytes)?),
            None => Ok(()),
        }
    }

    /// What it wrote is a complete snapshot now.
    pub(crate) fn is_now(&self, engine: &Engine, id: &SnapshotId) {
        if let Some(growth) = &self.growth {
            growth.is_now_at(engine.snapshotter.dir().join(id.to_string()));
        }
    }

    /// It will write elsewhere, too.
    pub(crate) fn also_at(&self, paths: Vec<PathBuf>) -> Result<(), WorkerError> {
        match &self.growth {
            Some(growth) => Ok(growth.also_at(paths)?),
            None => Ok(()),
        }
    }

    /// It is held by `brake`, too.
    pub(crate) fn held_by(&self, brake: Arc<dyn Brake>) {
        if let Some(growth) = &self.growth {
            growth.hold_by(brake);
        }
    }

    /// From now on it fails where it would have to wait for others: they may wait for it.
    pub(crate) fn waits_for_nobody(&self) {
        if let Some(growth) = &self.growth {
            growth.hurry();
        }
    }

    /// What holds the process of a step, if somebody looks at what it writes. `cancel` ends it.
    pub(crate) fn brake(&self, cancel: &executor::CancelToken) -> Option<executor::Brake> {
        let growth = self.growth.as_ref()?;
        let brake = executor::Brake::default();
        growth.hold_by(Arc::new(StepBrake { brake: brake.clone(), cancel: cancel.clone() }));
        Some(brake)
    }
}

/// Ends the watch, also when the work panics.
struct Ends<'a>(&'a Growth);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Tells people what happens to a step.
pub(crate) fn teller<'a>(context: &'a StepContext<'_>) -> impl Fn(&str) + Sync + 'a {
    move |text| context.log(Stream::Stderr, format!("{text}\n").as_bytes())
}

/// Holds the processes of a step.
struct StepBrake {
    brake: executor::Brake,
    cancel: executor::CancelToken,
}

impl Brake for StepBrake {
    fn hold(&self) {
        self.brake.hold();
    }

    fn release(&self) {
        self.brake.release();
    }

    fn stop(&self) {
        self.cancel.cancel();
    }
}

/// A reader of what is unpacked: its user is held here, and gets room for what it has read.
pub(crate) struct Gated<'a, R> {
    reader: R,
    growing: &'a Growing,
}

impl<'a, R> Gated<'a, R> {
    pub(crate) fn new(reader: R, growing: &'a Growing) -> Self {
        Self { reader, growing }
    }
}

impl<R: Read> Read for Gated<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.growing.pass() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let count = self.reader.read(buffer)?;
        if let Some(growth) = &self.growing.growth {
            growth.take(count as u64).map_err(io::Error::other)?;
        }
        Ok(count)
    }
}

/// Evicts what is in the engine's state directory.
struct Sweeper {
    engine: Weak<Engine>,
    rule: String,
}

impl Janitor for Sweeper {
    fn evict(&self, bytes: u64, all_or_nothing: bool) -> Result<u64, Cause> {
        let Some(engine) = self.engine.upgrade() else { return Ok(0) };
        let eviction = Eviction { bytes, all_or_nothing, rule: self.rule.clone() };
        Ok(engine.state.evict(&eviction, &mut Snapshots::of(&engine))?.freed)
    }

    fn shares(&self) -> Result<Shares, Cause> {
        let Some(engine) = self.engine.upgrade() else { return Ok(Shares::default()) };
        Ok(engine.state.shares(&mut Snapshots::of(&engine))?)
    }

    fn cancelled(&self) -> bool {
        self.engine.upgrade().is_none_or(|engine| engine.cancel.is_cancelled())
    }
}

impl From<Refused> for WorkerError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full(full) => Self::Full(full),
            Refused::Ledger(error) => Self::Cache(error),
            Refused::Cancelled => Self::Cancelled,
        }
    }
}
