//! What a snapshot consists of: found once, and for the next one in the chain from there.

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use oci::layer::Tree;

use crate::snapshotter::MAX_CHAIN;
use crate::{Error, Result, Snapshot, SnapshotId, Snapshotter, meta};

/// How many lineages are kept: about one for each step that runs at the same time is asked for
/// again.
const KEPT: usize = 16;

/// A snapshot and all below it.
#[derive(Debug)]
pub(crate) struct Lineage {
    /// The lowest first, the snapshot itself last.
    ids: Vec<SnapshotId>,
    /// Which snapshots have their layers, in the same order.
    layers: Vec<SnapshotId>,
    /// Whether one layer is there twice, see [`Snapshotter::rebase`].
    repeats: bool,
    /// The merged view of the lowest of them, where it was known.
    begun: Tree,
    tree: OnceLock<Tree>,
}

impl Lineage {
    /// Of `below`, and the snapshots on top of that, the topmost first.
    fn new(below: Option<&Self>, above: &[Snapshot]) -> Self {
        let copied = |list: &Vec<SnapshotId>| {
            let mut all = Vec::with_capacity(list.len() + above.len());
            all.extend_from_slice(list);
            all
        };
        let mut new = Self {
            ids: below.map_or_else(Vec::new, |it| copied(&it.ids)),
            layers: below.map_or_else(Vec::new, |it| copied(&it.layers)),
            repeats: below.is_some_and(|it| it.repeats),
            begun: below.and_then(|it| it.tree.get()).cloned().unwrap_or_default(),
            tree: OnceLock::new(),
        };
        for snapshot in above.iter().rev() {
            new.repeats |= snapshot.layer.is_some_and(|layer| new.layers.contains(&layer));
            new.layers.push(snapshot.layer.unwrap_or(snapshot.id));
            new.ids.push(snapshot.id);
        }
        new
    }

    pub(crate) fn ids(&self) -> &[SnapshotId] {
        &self.ids
    }

    pub(crate) fn layers(&self) -> &[SnapshotId] {
        &self.layers
    }

    pub(crate) fn repeats(&self) -> bool {
        self.repeats
    }
}

/// The lineages that were asked for last.
#[derive(Debug, Default)]
pub(crate) struct Lineages(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    /// The oldest first.
    list: VecDeque<Arc<Lineage>>,
    /// How often all was forgotten.
    times: u64,
}

impl Lineages {
    fn lock(&self) -> MutexGuard<'_, Recent> {
        // Each change is one insertion or removal.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets all: a snapshot is not there any more.
    pub(crate) fn forget(&self) {
        let mut recent = self.lock();
        recent.list.clear();
        recent.times += 1;
    }

    fn of(&self, id: &SnapshotId) -> Option<Arc<Lineage>> {
        self.lock().list.iter().rev().find(|it| it.ids.last() == Some(id)).cloned()
    }

    /// Keeps `new`, unless something was forgotten since `times`.
    fn keep(&self, new: Arc<Lineage>, times: u64) {
        let mut recent = self.lock();
        if recent.times == times {
            recent.list.push_back(new);
            if recent.list.len() > KEPT {
                recent.list.pop_front();
            }
        }
    }
}

impl Snapshotter {
    /// The merged view of a snapshot's chain; without one an empty one.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Corrupt`].
    pub fn tree(&self, id: Option<&SnapshotId>) -> Result<Tree> {
        let Some(id) = id else { return Ok(Tree::default()) };
        let lineage = self.lineage(id)?;
        if let Some(tree) = lineage.tree.get() {
            return Ok(tree.clone());
        }
        let mut tree = lineage.begun.clone();
        for id in &lineage.ids[tree.layers().len()..] {
            tree.push(self.manifest(id)?);
        }
        Ok(lineage.tree.get_or_init(|| tree).clone())
    }

    /// The snapshots that `id` consists of, the lowest first, itself last.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the first one that is missing, or whose layer is;
    /// [`Error::Corrupt`].
    pub fn chain(&self, id: &SnapshotId) -> Result<Vec<SnapshotId>> {
        Ok(self.lineage(id)?.ids.clone())
    }

    /// That every snapshot is there that `id` consists of.
    ///
    /// # Errors
    /// As [`Self::chain`].
    pub fn find(&self, id: &SnapshotId) -> Result<()> {
        self.lineage(id).map(drop)
    }

    pub(crate) fn lineage(&self, id: &SnapshotId) -> Result<Arc<Lineage>> {
        let times = self.lineages.lock().times;
        // It is looked for each time: another process may have removed it.
        let leaf = self.get(id)?;
        if let Some(found) = self.lineages.of(id) {
            return Ok(found);
        }
        let mut below = None;
        let mut next = leaf.parent;
        let mut above = vec![leaf];
        while let Some(id) = next {
            below = self.lineages.of(&id);
            if below.is_some() {
                break;
            }
            if above.len() >= MAX_CHAIN {
                let path = self.path(above[0].id).join(meta::META);
                return Err(Error::Corrupt { path, reason: "its parents make a circle".into() });
            }
            let snapshot = match self.known_snapshot(&id) {
                Some(snapshot) => snapshot,
                None => self.get(&id)?,
            };
            next = snapshot.parent;
            above.push(snapshot);
        }
        for layer in above.iter().filter_map(|snapshot| snapshot.layer) {
            if self.known_snapshot(&layer).is_none() {
                self.get(&layer)?;
            }
        }
        let new = Arc::new(Lineage::new(below.as_deref(), &above));
        self.lineages.keep(new.clone(), times);
        Ok(new)
    }

    /// The layers' directories, topmost first, each of them once: an overlay that is given a
    /// directory twice is refused (`ELOOP`). What a layer does not show in its highest place it
    /// does not show further down either.
    pub(crate) fn lowers(&self, id: Option<&SnapshotId>) -> Result<Vec<PathBuf>> {
        let Some(id) = id else { return Ok(Vec::new()) };
        let lineage = self.lineage(id)?;
        let mut seen = HashSet::new();
        let once = lineage.layers.iter().rev().filter(|layer| seen.insert(**layer));
        once.map(|layer| self.present_fs(layer)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hints, Kind};

    fn step(snapshotter: &Snapshotter, below: Option<SnapshotId>) -> SnapshotId {
        let active = snapshotter.prepare(below.as_ref()).unwrap();
        snapshotter.commit(active, &Hints::default()).unwrap().id
    }

    #[test]
    fn of_more_than_are_kept_and_after_a_removal() {
        let dir = tempfile::tempdir().unwrap();
        let snapshotter = Snapshotter::open(dir.path(), Kind::Copy).unwrap();
        let mut ids = Vec::new();
        for _ in 0..2 * KEPT {
            ids.push(step(&snapshotter, ids.last().copied()));
            let leaf = ids.last().unwrap();
            assert_eq!(snapshotter.chain(leaf).unwrap(), ids);
            assert_eq!(snapshotter.tree(Some(leaf)).unwrap().layers().len(), ids.len());
        }
        for length in 1..=ids.len() {
            assert_eq!(snapshotter.chain(&ids[length - 1]).unwrap(), ids[..length]);
            assert_eq!(snapshotter.tree(Some(&ids[length - 1])).unwrap().layers().len(), length);
        }
        let branch = step(&snapshotter, Some(ids[3]));
        assert_eq!(snapshotter.chain(&branch).unwrap(), [&ids[..4], &[branch]].concat());
        snapshotter.remove(&ids[2]).unwrap();
        for gone in [&ids[2], &ids[3], &ids[2 * KEPT - 1], &branch] {
            assert!(snapshotter.chain(gone).unwrap_err().is_not_found());
        }
        assert_eq!(snapshotter.chain(&ids[1]).unwrap(), ids[..2]);
    }
}
