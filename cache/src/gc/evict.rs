//! Making room: taking out of use what is worth least.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Instant;

use oci::Timestamp;

use super::collect::{Collector, Report, Sweep};
use super::plan::{Plan, Request, with_needs};
use super::room::{Worth, Worths, plan_room};
use super::{Item, ItemId, Pins};
use crate::ceiling::Shares;
use crate::error::CacheError;
use crate::lease::{self, Holding};
use crate::lock::{FileLock, Mode};
use crate::state::State;

/// What is to be evicted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Eviction {
    /// At least so many bytes, if that much can go.
    pub bytes: u64,
    /// Nothing, if that much cannot.
    pub all_or_nothing: bool,
    /// By what, for people: `--max-cache 10GB`.
    pub rule: String,
}

impl State {
    /// Takes what is worth least out of use and deletes it, until enough came free: never what an
    /// image with a name or a running process needs. Images without a name go with what they
    /// consist of.
    ///
    /// # Errors
    /// If the state directory, or the caller's part of it, cannot be read or changed.
    pub fn evict(
        &self,
        eviction: &Eviction,
        collector: &mut dyn Collector,
    ) -> Result<Report, CacheError> {
        let mut report = Report::default();
        let _ours = self.trash().attend();
        // What was begun before may be all that is needed.
        self.empty_trash();
        let mut sweep = Sweep::new(self.items(collector)?);
        let worths = self.worths(collector);
        if eviction.all_or_nothing {
            let pins = self.pins(&BTreeSet::new())?;
            let plan = plan_room(&sweep.items, &pins, &worths, Timestamp::now(), eviction.bytes);
            if plan.freed < eviction.bytes {
                return Ok(report);
            }
        }
        let failure = loop {
            let left = eviction.bytes.saturating_sub(report.freed);
            if left == 0 {
                break None;
            }
            let more = self.evict_some(left, &worths, collector, &mut sweep, &mut report);
            self.empty_trash();
            for item in sweep.take_removed() {
                report.freed += item.size;
                report.removed.push(item);
            }
            match more {
                Ok(true) => {}
                Ok(false) => break None,
                Err(e) => break Some(e),
            }
        };
        self.bury(&mut report, &eviction.rule, collector);
        failure.map_or(Ok(report), Err)
    }

    /// Renames away some of what is to go. Whether there may be more.
    fn evict_some(
        &self,
        bytes: u64,
        worths: &Worths,
        collector: &mut dyn Collector,
        sweep: &mut Sweep,
        report: &mut Report,
    ) -> Result<bool, CacheError> {
        let _nobody_leases = FileLock::acquire(&self.lock_path("gc"), Mode::Exclusive)?;
        let begun = Instant::now();
        sweep.look_again(collector)?;
        let now = Timestamp::now();
        // Leases before images: who stores an image lets go of its parts afterwards.
        let mut leases = self.leased()?;
        leases.extend(sweep.refused.iter().cloned());
        let new = sweep.items.iter().filter(|item| !sweep.known.contains(&item.id));
        leases.extend(new.map(|item| item.id.clone()));
        let plan = |pins: &Pins| plan_room(&sweep.items, pins, worths, now, bytes);
        let wanted = plan(&self.pins(&leases)?);
        report.images.extend(self.forget_images_of(&wanted)?);
        // Those that got a name just now stay, and with them what they consist of.
        let victims = plan(&Pins { images: self.named(&[])?, leases }).victims;
        self.take_away(victims, begun, collector, sweep)
    }

    /// What must stay, if images without a name need not.
    fn pins(&self, leases: &BTreeSet<ItemId>) -> Result<Pins, CacheError> {
        let nameless = self.nameless(&anything())?;
        Ok(Pins { images: self.named(&nameless)?, leases: leases.clone() })
    }

    /// Forgets the images without a name that lose a part.
    fn forget_images_of(&self, plan: &Plan) -> Result<Vec<oci::Digest>, CacheError> {
        let nameless: HashSet<oci::Digest> = self.nameless(&anything())?.into_iter().collect();
        let going: HashSet<&ItemId> = plan.victims.iter().map(|item| &item.id).collect();
        let loses = |id: &ItemId| going.contains(id);
        let mut forgotten = Vec::new();
        for image in self.images().list()?.into_iter().chain(self.images().remembered()?) {
            let id = image.id();
            let lost = image.blobs().map(ItemId::Blob).any(|id| loses(&id))
                || image.snapshots().any(|s| loses(&ItemId::Snapshot(s.to_owned())));
            if lost && nameless.contains(&id) && self.images().forget(&id)? {
                forgotten.push(id);
            }
        }
        Ok(forgotten)
    }

    /// What snapshots cost, and how often they were of use.
    fn worths(&self, collector: &dyn Collector) -> Worths {
        let mut seconds: HashMap<String, f64> = HashMap::new();
        self.for_each_record(&mut |record| {
            if let Some(id) = collector.snapshot_of(&record.payload) {
                // Several steps may have made the same: the dearest is the one that is missed.
                let cost = seconds.entry(id).or_default();
                *cost = cost.max(record.duration.as_secs_f64());
            }
        });
        let worth = |(id, seconds): (String, f64)| {
            let uses = self.last_used().count(&id);
            (ItemId::Snapshot(id), Worth { seconds: Some(seconds), uses })
        };
        seconds.into_iter().map(worth).collect()
    }

    /// Removes the records of what was evicted, and writes down what it was evicted by. That this
    /// fails makes nothing wrong: a record without its result is a miss.
    fn bury(&self, report: &mut Report, rule: &str, collector: &dyn Collector) {
        let snapshot = |item: &Item| match &item.id {
            ItemId::Snapshot(id) => Some(id.clone()),
            _ => None,
        };
        let gone: HashSet<String> = report.removed.iter().filter_map(snapshot).collect();
        if gone.is_empty() {
            return;
        }
        let stays = |payload: &str| {
            collector.snapshot_of(payload).is_none_or(|snapshot| !gone.contains(&snapshot))
        };
        match self.forget_records(rule, &stays) {
            Ok(count) => report.records = count,
            Err(e) => self.store().warnings.add(format!("the build records stay unsorted: {e}")),
        }
    }

    /// Who needs what, for a message.
    ///
    /// # Errors
    /// If the state directory, or the caller's part of it, cannot be read.
    pub fn shares(&self, collector: &mut dyn Collector) -> Result<Shares, CacheError> {
        let items = self.items(collector)?;
        let size_of = |ids: BTreeSet<ItemId>| -> u64 {
            let all = with_needs(&items, &ids);
            items.iter().filter(|item| all.contains(&item.id)).map(|item| item.size).sum()
        };
        let nameless = self.nameless(&anything())?;
        let mut leases = Vec::new();
        for (name, holds) in lease::by_name(&self.root().join("leases"))? {
            let id = |(kind, id): (Holding, String)| match kind {
                Holding::Snapshot => Some(ItemId::Snapshot(id)),
                Holding::Blob => id.parse().ok().map(ItemId::Blob),
                Holding::InProgress | Holding::Cgroup => None,
            };
            leases.push((name, size_of(holds.into_iter().filter_map(id).collect())));
        }
        Ok(Shares { images: size_of(self.named(&nameless)?), leases })
    }
}

/// A request for all that nobody needs.
fn anything() -> Request {
    Request { all: true, now: Timestamp::now(), ..Request::default() }
}
