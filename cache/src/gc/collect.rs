//! Carrying a plan out.

use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant};

use oci::{Digest, Timestamp};

use super::plan::{self, Request};
use super::{Item, ItemId, Kind, Pins};
use crate::error::CacheError;
use crate::fold;
use crate::lease::{self, Holding};
use crate::lock::{FileLock, Mode};
use crate::state::State;
use crate::tombstone::{self, Tombstone};

/// Why the caller's part failed.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The caller's part of collection: it knows the snapshots. None of its methods may take a lease:
/// collection would wait for itself.
pub trait Collector {
    /// Every committed snapshot, with [`ItemId::Snapshot`] identities and measured.
    ///
    /// # Errors
    /// If they cannot be listed.
    fn snapshots(&mut self) -> Result<Vec<Item>, Cause>;

    /// The snapshots that are there now, of which `known` were listed before. It is called while
    /// nobody can take a lease, so nothing is measured: sizes of others may be zero.
    ///
    /// # Errors
    /// If they cannot be listed.
    fn look_again(&mut self, known: &[Item]) -> Result<Vec<Item>, Cause> {
        let _ = known;
        self.snapshots()
    }

    /// Takes one snapshot out of use, by one rename into the trash ([`State::discard`]): it is
    /// called while nobody can take a lease. What needs it went before.
    ///
    /// # Errors
    /// If it cannot be renamed; the collection ends there.
    fn remove(&mut self, id: &str) -> Result<(), Cause>;

    /// Whether the result that a record's payload tells of is still there; records of others are
    /// removed.
    fn is_usable(&self, payload: &str) -> bool;

    /// The snapshot that a record's payload tells of, if it is one.
    fn snapshot_of(&self, payload: &str) -> Option<String> {
        let _ = payload;
        None
    }
}

/// How long the GC lock is held before others get a turn. One removal is always made.
const HOLD: Duration = Duration::from_millis(10);

/// A collection under way.
pub(super) struct Sweep {
    /// What was there when it began.
    pub(super) known: HashSet<ItemId>,
    /// What is there now.
    pub(super) items: Vec<Item>,
    /// What somebody used when it should have gone.
    pub(super) refused: BTreeSet<ItemId>,
    /// What was used when it should have gone, and not any more.
    used: BTreeSet<ItemId>,
    /// What was renamed away and is not told yet.
    pub(super) removed: Vec<Item>,
    /// All that was renamed away.
    gone: HashSet<ItemId>,
}

impl Sweep {
    pub(super) fn new(items: Vec<Item>) -> Self {
        let known = items.iter().map(|item| item.id.clone()).collect();
        Self {
            known,
            items,
            refused: BTreeSet::new(),
            used: BTreeSet::new(),
            removed: Vec::new(),
            gone: HashSet::new(),
        }
    }

    /// What was renamed away, to be told; it is not there any more.
    pub(super) fn take_removed(&mut self) -> Vec<Item> {
        let removed = std::mem::take(&mut self.removed);
        self.gone.extend(removed.iter().map(|item| item.id.clone()));
        self.items.retain(|item| !self.gone.contains(&item.id));
        removed
    }

    /// Looks which snapshots are there by now.
    pub(super) fn look_again(&mut self, collector: &mut dyn Collector) -> Result<(), CacheError> {
        let now = collector.look_again(&self.items);
        let now = now.map_err(|source| failed("list the snapshots".to_owned(), source))?;
        self.items.retain(|item| !matches!(item.id, ItemId::Snapshot(_)));
        self.items.extend(now);
        Ok(())
    }
}

/// What a collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What went, in order. What went with them beside is not in it.
    pub removed: Vec<Item>,
    /// Images without a name that went.
    pub images: Vec<Digest>,
    /// Bytes that the state directory is smaller now: what went, and records of it.
    pub freed: u64,
    /// Records that led nowhere.
    pub records: usize,
}

impl State {
    /// Removes what `request` asks for and nobody needs.
    ///
    /// # Errors
    /// If the state directory, or the caller's part of it, cannot be read or changed. What went
    /// before the error stays gone; no chain is broken.
    pub fn collect(
        &self,
        request: &Request,
        collector: &mut dyn Collector,
    ) -> Result<Report, CacheError> {
        self.collect_telling(request, collector, &mut |_| ())
    }

    /// As [`collect`](Self::collect), and tells of each item when it is deleted.
    ///
    /// Everything is walked and measured first, and deleted at last, without any lock. In between, under the GC
    /// lock, it is only looked again who needs what, and renamed; for moments, so that
    /// builds go on. What came after the walk stays. This is done until nothing more goes: what was
    /// let go of meanwhile goes too.
    ///
    /// # Errors
    /// As [`collect`](Self::collect).
    pub fn collect_telling(
        &self,
        request: &Request,
        collector: &mut dyn Collector,
        tell: &mut dyn FnMut(&Item),
    ) -> Result<Report, CacheError> {
        let mut report = Report::default();
        let _ours = self.trash().attend();
        let items = self.items(collector)?;
        let before = self.kept_bytes();
        let mut sweep = Sweep::new(items);
        let failure = loop {
            let more = self.pass(request, collector, &mut sweep, &mut report.images);
            // Before anything else: on a full disk nothing else works before.
            self.empty_trash();
            for item in sweep.take_removed() {
                tell(&item);
                report.freed += item.size;
                report.removed.push(item);
            }
            match more {
                Ok(true) => {}
                Ok(false) => break None,
                Err(e) => break Some(e),
            }
        };
        report.records = self.clean_up(request, collector)?;
        // Records that went make the database smaller; writing that down, larger.
        report.freed = (report.freed + before).saturating_sub(self.kept_bytes());
        failure.map_or(Ok(report), Err)
    }

    /// Renames away some of what may go. Whether there may be more.
    fn pass(
        &self,
        request: &Request,
        collector: &mut dyn Collector,
        sweep: &mut Sweep,
        images: &mut Vec<Digest>,
    ) -> Result<bool, CacheError> {
        let _nobody_leases = FileLock::acquire(&self.lock_path("gc"), Mode::Exclusive)?;
        let begun = Instant::now();
        sweep.look_again(collector)?;
        // Leases before images: who stores an image lets go of its parts afterwards.
        let mut leases = self.leased()?;
        let total: u64 = sweep.items.iter().map(|item| item.size).sum();
        if request.keep_bytes.is_none_or(|keep| total > keep) {
            for image in self.nameless(request)? {
                if self.images().forget(&image)? {
                    images.push(image);
                }
            }
        }
        leases.extend(sweep.refused.iter().cloned());
        let new = sweep.items.iter().filter(|item| !sweep.known.contains(&item.id));
        leases.extend(new.map(|item| item.id.clone()));
        let pins = Pins { images: self.named(&[])?, leases };
        let victims = plan::plan(&sweep.items, &pins, request).victims;
        self.take_away(victims, begun, collector, sweep)
    }

    /// Renames victims away, for [`HOLD`] since `begun` at the most. Whether there may be more.
    pub(super) fn take_away(
        &self,
        victims: Vec<Item>,
        begun: Instant,
        collector: &mut dyn Collector,
        sweep: &mut Sweep,
    ) -> Result<bool, CacheError> {
        for item in victims {
            if !sweep.removed.is_empty() && begun.elapsed() > HOLD {
                break;
            }
            if self.was_used(&item, sweep) {
                return Ok(true);
            }
            if self.remove_item(&item, collector)? {
                sweep.removed.push(item);
            } else {
                sweep.refused.insert(item.id);
            }
        }
        Ok(!sweep.removed.is_empty())
    }

    /// Whether a snapshot was of use since it was listed: then what goes is another one, maybe.
    fn was_used(&self, item: &Item, sweep: &mut Sweep) -> bool {
        let ItemId::Snapshot(id) = &item.id else { return false };
        let used = self.last_used().get(id).filter(|used| *used > item.last_used);
        let listed = sweep.items.iter_mut().find(|there| there.id == item.id);
        if let (Some(used), Some(listed)) = (used, listed) {
            listed.last_used = used;
            // Once: who is used all the time is leased soon.
            return sweep.used.insert(item.id.clone());
        }
        false
    }

    /// After a collection: records that lead nowhere, and what killed processes left.
    fn clean_up(&self, request: &Request, collector: &dyn Collector) -> Result<usize, CacheError> {
        let records = self.sweep_records(request, collector).unwrap_or_else(|e| {
            self.store().warnings.add(format!("the build records stay unsorted: {e}"));
            0
        });
        self.sweep()?;
        Ok(records)
    }

    fn sweep_records(
        &self,
        request: &Request,
        collector: &dyn Collector,
    ) -> Result<usize, CacheError> {
        self.forget_records(&tombstone::rule_of(request), &|p| collector.is_usable(p))
    }

    /// Removes the records of steps whose payload is not to be kept, and writes down that they went
    /// by `rule`. Returns how many.
    pub(super) fn forget_records(
        &self,
        rule: &str,
        keep: &dyn Fn(&str) -> bool,
    ) -> Result<usize, CacheError> {
        if !fold::fold(self.store())? {
            return Ok(0);
        }
        let (count, steps) = fold::sweep(self.store(), keep)?;
        let stone = Tombstone { at: Timestamp::now(), rule: rule.to_owned() };
        if let Err(e) = self.history().tombstones().add(&steps, &stone) {
            self.store().warnings.add(format!("nobody will know why steps run again: {e}"));
        }
        Ok(count)
    }

    /// Takes one item out of use; false if somebody began to use it, or removed it.
    pub(super) fn remove_item(
        &self,
        item: &Item,
        collector: &mut dyn Collector,
    ) -> Result<bool, CacheError> {
        if !self.is_there(&item.id) {
            return Ok(false);
        }
        match &item.id {
            ItemId::Blob(digest) => self.blobs().remove(digest).map(|()| true),
            ItemId::Repository(id) => self.repositories().remove(id),
            ItemId::Mount(id) => self.mounts().remove(id),
            ItemId::Place(place) => self.remove_place(place),
            ItemId::Snapshot(id) => {
                let operation = || format!("remove snapshot {id}");
                collector.remove(id).map_err(|source| failed(operation(), source))?;
                self.last_used().forget(id);
                Ok(true)
            }
        }
    }

    /// The images that may go: those that lost their name, and what was remembered of images that
    /// have none.
    pub(super) fn nameless(&self, request: &Request) -> Result<Vec<Digest>, CacheError> {
        let images = self.images().list()?;
        let remembered = self.images().remembered()?;
        let has_name = |id| images.iter().any(|i| i.id() == id && i.reference.is_some());
        let mut nameless = Vec::new();
        for image in images.iter().chain(&remembered) {
            // A base that was pulled by its digest has no name, and is not garbage for that.
            let pulled = remembered.iter().any(|r| r.id() == image.id());
            let item = Item {
                id: ItemId::Blob(image.id()),
                parent: None,
                uses: None,
                size: 0,
                created: image.created.unwrap_or(image.stored),
                last_used: image.stored,
                kind: if pulled { Kind::Image } else { Kind::Regular },
                description: "image without a name".to_owned(),
            };
            let may_go = plan::wanted(&item, request);
            if may_go && !has_name(image.id()) && !nameless.contains(&image.id()) {
                nameless.push(image.id());
            }
        }
        Ok(nameless)
    }

    /// What the images need, but for those in `except`.
    pub(super) fn named(&self, except: &[Digest]) -> Result<BTreeSet<ItemId>, CacheError> {
        let mut pins = BTreeSet::new();
        for image in self.images().list()?.into_iter().chain(self.images().remembered()?) {
            if !except.contains(&image.id()) {
                pins.extend(image.blobs().map(ItemId::Blob));
                pins.extend(image.snapshots().map(|s| ItemId::Snapshot(s.to_owned())));
            }
        }
        Ok(pins)
    }

    /// What running processes hold.
    pub(super) fn leased(&self) -> Result<BTreeSet<ItemId>, CacheError> {
        let mut pins = BTreeSet::new();
        let mut unfinished = BTreeSet::new();
        for (kind, id) in lease::live(&self.root().join("leases"))? {
            match kind {
                Holding::Snapshot => {
                    pins.insert(ItemId::Snapshot(id));
                }
                Holding::InProgress => {
                    pins.insert(ItemId::Snapshot(id.clone()));
                    unfinished.insert(id);
                }
                Holding::Blob => pins.extend(id.parse().map(ItemId::Blob)),
                Holding::Cgroup => {}
            }
        }
        // Of these, the locks are the leases.
        let mounts = self.mounts().ids()?.into_iter();
        pins.extend(mounts.filter(|id| self.mounts().in_use(id)).map(ItemId::Mount));
        pins.extend(self.repositories().used()?.into_iter().map(ItemId::Repository));
        pins.extend(self.places_in_use(&unfinished)?);
        Ok(pins)
    }
}

pub(super) fn failed(operation: String, source: Cause) -> CacheError {
    CacheError::Collect { operation, source }
}
