//! What the cache takes on disk, and making room: the engine's part of garbage collection.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::PathBuf;

use cache::Holding;
use cache::gc::{Collector, Item, ItemId, Kind, Report, Request, Usage};
use oci::Timestamp;
use rayon::prelude::*;
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
        Ok(self.state.usage(&mut Snapshots::of(self))?)
    }

    /// Removes what `request` asks for and nobody needs.
    ///
    /// # Errors
    /// If the state directory cannot be read or changed.
    pub fn prune(&self, request: &Request) -> Result<Report, WorkerError> {
        self.prune_telling(request, &mut |_| ())
    }

    /// As [`prune`](Self::prune), and tells of each record when it is deleted.
    ///
    /// # Errors
    /// As [`prune`](Self::prune).
    pub fn prune_telling(
        &self,
        request: &Request,
        tell: &mut dyn FnMut(&Item),
    ) -> Result<Report, WorkerError> {
        let report = self.state.collect_telling(request, &mut Snapshots::of(self), tell)?;
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
pub(crate) struct Snapshots<'a> {
    engine: &'a Engine,
    steps: HashMap<String, (Timestamp, String)>,
}

impl<'a> Snapshots<'a> {
    pub(crate) fn of(engine: &'a Engine) -> Self {
        Self { engine, steps: steps(engine) }
    }
}

impl Snapshots<'_> {
    fn path(&self, id: &SnapshotId) -> PathBuf {
        self.engine.snapshotter.dir().join(id.to_string())
    }

    /// A snapshot without its size; none if it is not there any more.
    fn item(&self, id: &SnapshotId) -> Result<Option<Item>, Cause> {
        let engine = self.engine;
        let (parent, layer, damaged) = match engine.snapshotter.get(id) {
            Ok(snapshot) => (snapshot.parent, snapshot.layer, false),
            // Nobody can begin to use it; what runs on it runs on what it was made on.
            Err(snapshotter::Error::NotFound(_) | snapshotter::Error::Corrupt { .. }) => {
                let Some(remains) = engine.snapshotter.remains(id) else { return Ok(None) };
                (remains.parent, remains.layer, true)
            }
            Err(error) => return Err(error.into()),
        };
        let text = id.to_string();
        let Ok(meta) = std::fs::metadata(self.path(id)) else { return Ok(None) };
        let created = meta.modified()?.into();
        let pulled = engine.state.get_fact(PULLED_FACT, text.as_bytes());
        let kind = if pulled.is_some() && !damaged { Kind::Image } else { Kind::Regular };
        let description = match (pulled, self.steps.get(&text)) {
            _ if damaged => "damaged, and not used any more".to_owned(),
            (Some(image), _) if image.is_empty() => "layer of a base image".to_owned(),
            (Some(image), _) => format!("pulled from {}", String::from_utf8_lossy(&image)),
            (None, Some((_, step))) => step.clone(),
            (None, None) => "part of a step".to_owned(),
        };
        Ok(Some(Item {
            parent: parent.map(|id| id.to_string()),
            uses: layer.map(|id| id.to_string()),
            size: 0,
            created,
            last_used: engine.state.last_used().get(&text).unwrap_or(created),
            kind,
            description,
            id: ItemId::Snapshot(text),
        }))
    }

    /// What `list` is, but for what is half there: garbage of a killed process.
    fn items(&self, list: &[SnapshotId], measured: bool) -> Vec<Item> {
        let item = |id: &SnapshotId| match self.item(id) {
            Ok(item) => item.map(|item| match measured {
                true => Item { size: cache::ceiling::snapshot_usage(&self.path(id)), ..item },
                false => item,
            }),
            Err(error) => {
                self.engine.warn(&format!("snapshot {id} is left out: {error}"));
                None
            }
        };
        list.par_iter().filter_map(item).collect()
    }
}

/// Which step a snapshot is the result of, by the snapshot: of several that had the same, the
/// latest, with the time of its end.
fn steps(engine: &Engine) -> HashMap<String, (Timestamp, String)> {
    let mut steps: HashMap<String, (Timestamp, String)> = HashMap::new();
    engine.state.for_each_record(&mut |record| {
        let payload = Payload::decode(&record.payload);
        let Some(snapshot) = payload.and_then(|payload| payload.snapshot) else { return };
        let known = steps.entry(snapshot).or_default();
        if known.0 <= record.ended {
            *known = (record.ended, record.name.clone());
        }
    });
    steps
}

/// The domain of facts that tell which snapshots are layers of pulled images.
const PULLED_FACT: &str = "pulled";

impl Engine {
    /// Remembers for `du` and `prune` that a snapshot came with `image`.
    pub(crate) fn mark_pulled(&self, payload: &Payload, image: &str) -> Result<(), WorkerError> {
        if let (Some(id), Rewrite::Never) = (&payload.snapshot, payload.rewrite) {
            self.state.put_fact(PULLED_FACT, id.as_bytes(), image.as_bytes())?;
        }
        Ok(())
    }
}

impl Collector for Snapshots<'_> {
    fn snapshots(&mut self) -> Result<Vec<Item>, Cause> {
        let list = self.engine.snapshotter.list()?;
        Ok(self.items(&list, true))
    }

    fn look_again(&mut self, known: &[Item]) -> Result<Vec<Item>, Cause> {
        let list = self.engine.snapshotter.list()?;
        let mut there: HashMap<String, SnapshotId> =
            list.into_iter().map(|id| (id.to_string(), id)).collect();
        let mut items = Vec::with_capacity(there.len());
        for item in known {
            if let ItemId::Snapshot(id) = &item.id
                && there.remove(id).is_some()
            {
                items.push(item.clone());
            }
        }
        let new: Vec<SnapshotId> = there.into_values().collect();
        items.extend(self.items(&new, false));
        Ok(items)
    }

    fn remove(&mut self, id: &str) -> Result<(), Cause> {
        let id: SnapshotId = id.parse()?;
        Ok(self.engine.state.discard(&self.path(&id))?)
    }

    fn snapshot_of(&self, payload: &str) -> Option<String> {
        Payload::decode(payload)?.snapshot
    }

    fn is_usable(&self, payload: &str) -> bool {
        match Payload::decode(payload) {
            None => false,
            Some(payload) => match payload.snapshot_id() {
                Some(id) => self.engine.snapshotter.find(&id).is_ok(),
                None => payload.snapshot.is_none(),
            },
        }
    }
}
