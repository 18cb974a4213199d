//! Carrying a plan out.

use std::collections::BTreeSet;

use oci::{Digest, Timestamp};

use super::plan::{self, Request};
use super::usage::{self, Usage};
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
    /// Every committed snapshot, with [`ItemId::Snapshot`] identities.
    ///
    /// # Errors
    /// If they cannot be listed.
    fn snapshots(&mut self) -> Result<Vec<Item>, Cause>;

    /// Takes one snapshot out of use, by one rename into the trash ([`State::discard`]): it is
    /// called while nobody can take a lease. What needs it went before.
    ///
    /// # Errors
    /// If it cannot be renamed; the collection ends there.
    fn remove(&mut self, id: &str) -> Result<(), Cause>;

    /// Whether the result that a record's payload tells of is still there; records of others are
    /// removed.
    fn is_usable(&self, payload: &str) -> bool;
}

/// What a collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What went, in order.
    pub removed: Vec<Item>,
    /// Images without a name that went.
    pub images: Vec<Digest>,
    /// Bytes that were freed.
    pub freed: u64,
    /// Records that led nowhere.
    pub records: usize,
}

impl State {
    /// What takes how much space.
    ///
    /// # Errors
    /// If the state directory, or the caller's part of it, cannot be read.
    pub fn usage(&self, collector: &mut dyn Collector) -> Result<Usage, CacheError> {
        let _no_collection = FileLock::acquire(&self.lock_path("gc"), Mode::Shared)?;
        let items = self.items(collector)?;
        let leases = self.leased()?;
        let garbage = self.nameless(&Request::default())?;
        Ok(usage::usage(&items, &Pins { images: self.named(&garbage)?, leases }))
    }

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
        let mut report = Report::default();
        let failure = {
            let _nobody_leases = FileLock::acquire(&self.lock_path("gc"), Mode::Exclusive)?;
            let items = self.items(collector)?;
            // Leases before images: who stores an image lets go of its parts afterwards.
            let leases = self.leased()?;
            for image in self.nameless(request)? {
                if self.images().forget(&image)? {
                    report.images.push(image);
                }
            }
            let pins = Pins { images: self.named(&[])?, leases };
            let mut failure = None;
            for item in plan::plan(&items, &pins, request).victims {
                match self.remove_item(&item, collector) {
                    Ok(true) => {
                        report.freed += item.size;
                        report.removed.push(item);
                    }
                    Ok(false) => {}
                    Err(e) => {
                        failure = Some(e);
                        break;
                    }
                }
            }
            failure
        };
        report.records = self.clean_up(request, collector)?;
        failure.map_or(Ok(report), Err)
    }

    /// After a collection: trash, records that lead nowhere, and what killed processes left.
    fn clean_up(&self, request: &Request, collector: &dyn Collector) -> Result<usize, CacheError> {
        // First of all: on a full disk nothing else works before.
        self.empty_trash();
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
        if !fold::fold(self.store())? {
            return Ok(0);
        }
        let (count, steps) = fold::sweep(self.store(), &|p| collector.is_usable(p))?;
        let stone = Tombstone { at: Timestamp::now(), rule: tombstone::rule_of(request) };
        if let Err(e) = self.history().tombstones().add(&steps, &stone) {
            self.store().warnings.add(format!("nobody will know why steps run again: {e}"));
        }
        Ok(count)
    }

    /// Takes one item out of use; false if somebody began to use it.
    fn remove_item(&self, item: &Item, collector: &mut dyn Collector) -> Result<bool, CacheError> {
        match &item.id {
            ItemId::Blob(digest) => self.blobs().remove(digest).map(|()| true),
            ItemId::Repository(id) => self.repositories().remove(id),
            ItemId::Mount(id) => self.mounts().remove(id),
            ItemId::Snapshot(id) => {
                let operation = || format!("remove snapshot {id}");
                collector.remove(id).map_err(|source| failed(operation(), source))?;
                self.last_used().forget(id);
                Ok(true)
            }
        }
    }

    fn items(&self, collector: &mut dyn Collector) -> Result<Vec<Item>, CacheError> {
        let listed = collector.snapshots();
        let mut items = listed.map_err(|source| failed("list the snapshots".to_owned(), source))?;
        for blob in self.blobs().list()? {
            let stored = Timestamp::from(blob.stored);
            items.push(Item {
                id: ItemId::Blob(blob.digest),
                parent: None,
                uses: None,
                size: blob.size,
                created: stored,
                last_used: stored,
                kind: Kind::Blob,
                description: "blob".to_owned(),
            });
        }
        for repository in self.repositories().list()? {
            items.push(Item {
                id: ItemId::Repository(repository.id),
                parent: None,
                uses: None,
                size: repository.size,
                created: Timestamp::from(repository.created),
                last_used: Timestamp::from(repository.last_used),
                kind: Kind::Git,
                description: format!("git repository {}", repository.name),
            });
        }
        for mount in self.mounts().list()? {
            items.push(Item {
                id: ItemId::Mount(mount.id),
                parent: None,
                uses: None,
                size: mount.size,
                created: mount.created.into(),
                last_used: mount.last_used.into(),
                kind: Kind::CacheMount,
                description: format!("cache mount {}", mount.name),
            });
        }
        Ok(items)
    }

    /// The images that may go: those that lost their name, and what was remembered of images that
    /// have none.
    fn nameless(&self, request: &Request) -> Result<Vec<Digest>, CacheError> {
        let images = self.images().list()?;
        let remembered = self.images().remembered()?;
        let has_name = |id| images.iter().any(|i| i.id() == id && i.reference.is_some());
        let of_kind = request.kinds.is_empty() || request.kinds.contains(&Kind::Image);
        let mut nameless = Vec::new();
        for image in images.iter().chain(&remembered) {
            let old = request.unused_since.is_none_or(|since| image.stored < since);
            // A base that was pulled by its digest has no name, and is not garbage for that.
            let pulled = remembered.iter().any(|r| r.id() == image.id());
            let may_go = old && of_kind && (request.all || !pulled);
            if may_go && !has_name(image.id()) && !nameless.contains(&image.id()) {
                nameless.push(image.id());
            }
        }
        Ok(nameless)
    }

    /// What the images need, but for those in `except`.
    fn named(&self, except: &[Digest]) -> Result<BTreeSet<ItemId>, CacheError> {
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
    fn leased(&self) -> Result<BTreeSet<ItemId>, CacheError> {
        let mut pins = BTreeSet::new();
        for (kind, id) in lease::live(&self.root().join("leases"))? {
            match kind {
                Holding::Snapshot | Holding::InProgress => {
                    pins.insert(ItemId::Snapshot(id));
                }
                Holding::Blob => pins.extend(id.parse().map(ItemId::Blob)),
                Holding::Cgroup => {}
            }
        }
        // Of these, the locks are the leases.
        let mounts = self.mounts().ids()?.into_iter();
        pins.extend(mounts.filter(|id| self.mounts().in_use(id)).map(ItemId::Mount));
        pins.extend(self.repositories().used()?.into_iter().map(ItemId::Repository));
        Ok(pins)
    }
}

fn failed(operation: String, source: Cause) -> CacheError {
    CacheError::Collect { operation, source }
}
