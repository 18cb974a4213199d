//! What the cache takes on disk, and making room: the engine's part of garbage collection.

use std::cell::OnceCell;
use std::path::PathBuf;

use cache::Holding;
use cache::gc::{Collector, Item, ItemId, Kind, Report, Request, Usage};
use snapshotter::{ACTIVE_SUFFIX, SnapshotId};

use crate::engine::Engine;
use crate::error::WorkerError;
use crate::output::{Payload, Rewrite};

type Cause = Box<dyn std::error::Error + Send + Sync>;

impl Engine {
    /// What takes how much space.
    ///
    /// # Errors
    /// If the state directory cannot be read.
    pub fn usage(&self) -> Result<Usage, WorkerError> {
        Ok(self.state.usage(&mut Snapshots(self))?)
    }

    /// Removes what `request` asks for and nobody needs.
    ///
    /// # Errors
    /// If the state directory cannot be read or changed.
    pub fn prune(&self, request: &Request) -> Result<Report, WorkerError> {
        let report = self.state.collect(request, &mut Snapshots(self))?;
        self.state.empty_trash();
        self.sweep_unfinished()?;
        crate::explain::sweep(&self.state);
        Ok(report)
    }
}

impl Engine {
    /// Removes what killed processes left of snapshots: unfinished ones and half deletions.
    fn sweep_unfinished(&self) -> Result<(), WorkerError> {
        // Read after the directory was listed: what is in progress is leased before it is there.
        let held = OnceCell::new();
        let is_live = |name: &str| {
            let held = held.get_or_init(|| self.state.held(Holding::InProgress));
            let id = name.strip_suffix(ACTIVE_SUFFIX).unwrap_or(name);
            held.as_ref().map_or(true, |ids| ids.contains(id))
        };
        self.snapshotter.sweep_garbage(&is_live)?;
        Ok(())
    }
}

/// The snapshots of an engine, as the collection sees them.
struct Snapshots<'a>(&'a Engine);

impl Snapshots<'_> {
    fn path(&self, id: &SnapshotId) -> PathBuf {
        self.0.snapshotter.dir().join(id.to_string())
    }

    fn item(&self, id: &SnapshotId) -> Result<Item, Cause> {
        let engine = self.0;
        let snapshot = engine.snapshotter.get(id)?;
        let text = id.to_string();
        let created = std::fs::metadata(self.path(id))?.modified()?.into();
        let pulled = engine.state.get_fact(PULLED_FACT, text.as_bytes()).is_some();
        Ok(Item {
            parent: snapshot.parent.as_ref().map(ToString::to_string),
            uses: snapshot.layer.as_ref().map(ToString::to_string),
            size: engine.snapshotter.disk_usage(id)?,
            created,
            last_used: engine.state.last_used().get(&text).unwrap_or(created),
            kind: if pulled { Kind::Image } else { Kind::Regular },
            description: if pulled { "layer of a base image" } else { "result of a step" }
                .to_owned(),
            id: ItemId::Snapshot(text),
        })
    }
}

/// The domain of facts that tell which snapshots are layers of pulled images.
const PULLED_FACT: &str = "pulled";

impl Engine {
    /// Remembers for `du` and `prune` that a snapshot came with an image.
    pub(crate) fn mark_pulled(&self, payload: &Payload) -> Result<(), WorkerError> {
        if let (Some(id), Rewrite::Never) = (&payload.snapshot, payload.rewrite) {
            self.state.put_fact(PULLED_FACT, id.as_bytes(), b"")?;
        }
        Ok(())
    }
}

impl Collector for Snapshots<'_> {
    fn snapshots(&mut self) -> Result<Vec<Item>, Cause> {
        let ids = self.0.snapshotter.list()?;
        let mut items = Vec::with_capacity(ids.len());
        for id in ids {
            match self.item(&id) {
                Ok(item) => items.push(item),
                // Half of a snapshot is garbage of a killed process, not an item.
                Err(error) => self.0.warn(&format!("snapshot {id} is left out: {error}")),
            }
        }
        Ok(items)
    }

    fn remove(&mut self, id: &str) -> Result<(), Cause> {
        let id: SnapshotId = id.parse()?;
        Ok(self.0.state.discard(&self.path(&id))?)
    }

    fn is_usable(&self, payload: &str) -> bool {
        match Payload::decode(payload) {
            None => false,
            Some(payload) => match payload.snapshot_id() {
                Some(id) => self.0.snapshotter.chain(&id).is_ok(),
                None => payload.snapshot.is_none(),
            },
        }
    }
}
