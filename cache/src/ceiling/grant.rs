//! Giving room: from what is free, from what can be evicted, or when others have ended.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use oci::Timestamp;

use super::ledger::{Locked, Survey};
use super::measure::{free, usage};
use super::survey::survey;
use super::{Full, Holder, Inner, Refused};
use crate::error::CacheError;

/// The least that is given at once, as a part of what is wanted: with less, a step would be held
/// more than it runs.
const LEAST_PART: u64 = 16;

/// How often somebody who waits for others looks, at first and at last.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LAST_WAIT: Duration = Duration::from_secs(1);

/// How long builds are waited for of which nothing runs at the moment: what they hold comes free
/// when they end, but they may be waiting themselves, for a step of whoever waits here.
const PATIENCE: Duration = Duration::from_secs(10);

/// For how long nothing is tried to have more left on the disk, after that was not enough.
const VAIN: Duration = Duration::from_secs(10);

/// What somebody wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    /// The number of the growth.
    pub(super) number: u64,
    /// What it has written, in bytes.
    pub(super) written: u64,
    /// What it wants besides, in bytes.
    pub(super) more: u64,
    /// Less than this does not help, in bytes.
    pub(super) least: u64,
    /// Whether it waits for nobody.
    pub(super) hasty: bool,
}

impl Want {
    /// To have `more` bytes ahead of what is written, or somewhat less.
    pub(super) fn ahead(number: u64, written: u64, more: u64) -> Self {
        Self { number, written, more, least: (more / LEAST_PART).max(1), hasty: false }
    }

    /// Whether nothing less is of use.
    fn all(&self) -> bool {
        self.least >= self.more
    }
}

/// What somebody got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// So much altogether, in bytes.
    Granted(u64),
    /// There may be room, but nobody knows without looking.
    Unknown,
    /// There is no room, and nothing can go. So much lacks, in bytes.
    Lacking(u64),
}

/// What came of waiting for room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Got {
    /// What was granted altogether, in bytes.
    pub(super) granted: u64,
    /// What was evicted for it, in bytes.
    pub(super) evicted: u64,
    /// How long that took.
    pub(super) took: Duration,
}

impl Inner {
    /// Gives what can be given without looking.
    pub(super) fn give_known(&self, locked: &mut Locked, want: &Want) -> Given {
        let ledger = &mut locked.ledger;
        let others = ledger.others(want.number, self.limit.rest());
        let target = want.written.saturating_add(want.more);
        match ledger.settled(Timestamp::now()) {
            Some(settled)
                if sum(&[settled, others, target]) <= self.limit.bytes
                    // Of what others have reserved, some may be written.
                    && self.disk_lacks(others, want) == 0 =>
            {
                if let Some(entry) = ledger.entry(want.number) {
                    entry.granted = target;
                    entry.waiting = false;
                }
                Given::Granted(target)
            }
            _ => Given::Unknown,
        }
    }

    /// Gives what can be given after looking, and after evicting. The second is what was evicted,
    /// in bytes.
    fn give(&self, locked: &mut Locked, want: &Want) -> Result<(Given, u64), CacheError> {
        if let given @ Given::Granted(_) = self.give_known(locked, want) {
            return Ok((given, 0));
        }
        let others = locked.ledger.others(want.number, self.limit.rest());
        let target = want.written.saturating_add(want.more);
        let failed =
            |source| CacheError::Collect { operation: "make room in the cache".to_owned(), source };
        let mut evicted = 0;
        let mut needed = sum(&[self.survey(locked), others, target]);
        if needed > self.limit.bytes {
            let lacking = needed - self.limit.bytes;
            // Also of what just grew beside the ledger.
            let bytes = if want.all() { lacking } else { lacking + self.limit.spare() };
            evicted = self.janitor.evict(bytes, want.all()).map_err(failed)?;
            needed = sum(&[self.survey(locked), others, target]);
        }
        let lacking = needed.saturating_sub(self.limit.bytes);
        if lacking > 0 && lacking.saturating_add(want.least) > want.more {
            return Ok((Given::Lacking(lacking.min(want.more)), evicted));
        }
        let granted = target - lacking;
        evicted += self.relieve_disk(locked, want, others).map_err(failed)?;
        if let Some(entry) = locked.ledger.entry(want.number) {
            entry.granted = granted;
            entry.waiting = false;
        }
        Ok((Given::Granted(granted), evicted))
    }

    /// How much less the file system has than what is reserved by others and wanted; nothing while
    /// that cannot be changed.
    fn disk_lacks(&self, others: u64, want: &Want) -> u64 {
        let vain = self.vain.lock().unwrap_or_else(PoisonError::into_inner);
        if vain.is_some_and(|at| at.elapsed() < VAIN) {
            return 0;
        }
        sum(&[others, want.more]).saturating_sub(free(&self.root))
    }

    /// A disk that has less left than the ceiling would allow fails those who write, while there may
    /// be much on it that could go: that goes. But nobody is refused for a disk that is nearly
    /// full, for hardly anybody writes all that is reserved. What was evicted, in bytes.
    fn relieve_disk(
        &self,
        locked: &mut Locked,
        want: &Want,
        others: u64,
    ) -> Result<u64, super::Cause> {
        if self.disk_lacks(others, want) == 0 {
            return Ok(0);
        }
        let growths = locked.ledger.builds.iter().flat_map(|build| &build.growths);
        let paths = growths.filter(|growth| growth.number != want.number).flat_map(|g| &g.paths);
        let paths: Vec<_> = paths.map(|path| self.root.join(path)).collect();
        let lacking = self.disk_lacks(others.saturating_sub(usage(&paths)), want);
        if lacking == 0 {
            return Ok(0);
        }
        let evicted = self.janitor.evict(lacking + self.limit.spare(), false)?;
        if evicted < lacking {
            let mut vain = self.vain.lock().unwrap_or_else(PoisonError::into_inner);
            *vain = Some(Instant::now());
        }
        self.survey(locked);
        Ok(evicted)
    }

    /// Looks what is there without a reservation, in bytes.
    pub(super) fn survey(&self, locked: &mut Locked) -> u64 {
        let bytes = survey(&self.root, &locked.ledger.paths(&self.root));
        locked.ledger.surveyed = Some(Survey { at: Timestamp::now(), bytes, since: 0 });
        bytes
    }

    /// Gets room, whatever it takes: evicts, and waits as long as others run who may leave some.
    /// `ended` stops the wait; `tell` hears about it.
    pub(super) fn obtain(
        &self,
        name: &str,
        want: &Want,
        ended: &dyn Fn(Duration) -> bool,
        tell: &dyn Fn(&str),
    ) -> Result<Got, Refused> {
        let began = Instant::now();
        let (mut evicted, mut pause) = (0, FIRST_WAIT);
        loop {
            {
                let mut locked = self.locked()?;
                let (given, freed) = self.give(&mut locked, want)?;
                evicted += freed;
                match given {
                    Given::Granted(granted) => {
                        locked.write()?;
                        return Ok(Got { granted, evicted, took: began.elapsed() });
                    }
                    Given::Unknown => {}
                    Given::Lacking(_) => {
                        let ledger = &mut locked.ledger;
                        let idle = ledger.others_idle(&self.lease) && began.elapsed() < PATIENCE;
                        let hope = ledger.others_run(want.number) || idle;
                        // Of those who all wait for each other, the last one gives way.
                        let last = want.all() || ledger.is_youngest(want.number);
                        if want.hasty || (!hope && last) {
                            return Err(Refused::Full(Box::new(self.full(name, want, &locked))));
                        }
                        if let Some(entry) = ledger.entry(want.number) {
                            entry.granted = want.written;
                            entry.waiting = true;
                        }
                        locked.write()?;
                    }
                }
            }
            if pause == FIRST_WAIT {
                let limit = &self.limit.rule;
                tell(&format!("the cache is full ({limit}): waiting for steps of other builds"));
            }
            if ended(pause) {
                return Err(Refused::Cancelled);
            }
            pause = (pause * 2).min(LAST_WAIT);
        }
    }

    /// Why there is no room.
    fn full(&self, name: &str, want: &Want, locked: &Locked) -> Full {
        // Without them the message is poorer, not wrong.
        let shares = self.janitor.shares().unwrap_or_default();
        let reserved = |lease: &str| {
            let build = locked.ledger.builds.iter().find(|b| b.lease == lease);
            build.map(|b| (b, b.growths.iter().map(|g| g.granted).sum::<u64>()))
        };
        let mut holders: Vec<Holder> = Vec::new();
        let leases = shares.leases.iter().map(|(lease, bytes)| (lease.as_str(), *bytes));
        let idle = locked.ledger.builds.iter().map(|b| (b.lease.as_str(), 0));
        let mut seen = std::collections::HashSet::new();
        for (lease, bytes) in leases.chain(idle).filter(|(lease, _)| seen.insert(*lease)) {
            let build = reserved(lease);
            let bytes = bytes.saturating_add(build.map_or(0, |(_, bytes)| bytes));
            if bytes > 0 {
                holders.push(Holder {
                    title: build.map(|(b, _)| b.title.clone()),
                    process: build.map_or(0, |(b, _)| b.process),
                    own: lease == self.lease,
                    bytes,
                });
            }
        }
        holders.sort_by_key(|holder| std::cmp::Reverse(holder.bytes));
        Full {
            name: name.to_owned(),
            written: want.written,
            needs: want.least,
            limit: self.limit.clone(),
            images: shares.images,
            holders,
        }
    }

    /// Takes a reservation out.
    pub(super) fn end(&self, number: u64, written: u64, seen: super::Worst) {
        let _ = self.logs_of.compare_exchange(number, 0, Ordering::SeqCst, Ordering::SeqCst);
        let done = self.locked().and_then(|mut locked| {
            locked.ledger.end(number, written);
            locked.ledger.exceeded(seen);
            locked.write()
        });
        match done {
            // It stays reserved until this process has ended.
            Ok(()) | Err(CacheError::Cancelled) => {}
            Err(error) => self.note(error.to_string()),
        }
    }

    /// Takes this process out: it will reserve nothing more.
    pub(super) fn leave(&self) {
        // What cannot be written now is void as soon as the lease is gone.
        if let Ok(mut locked) = self.locked() {
            locked.ledger.builds.retain(|build| build.lease != self.lease);
            let _ = locked.write();
        }
    }

    /// See [`super::Ceiling::settle`].
    pub(super) fn settle(&self) -> Result<u64, CacheError> {
        let mut locked = self.locked()?;
        let others = locked.ledger.others(0, 0);
        let needed = sum(&[self.survey(&mut locked), others]);
        let mut freed = 0;
        if needed > self.limit.bytes {
            let failed = |source| CacheError::Collect {
                operation: "bring the cache below its ceiling".to_owned(),
                source,
            };
            let bytes = needed - self.limit.bytes;
            freed = self.janitor.evict(bytes, false).map_err(failed)?;
            self.survey(&mut locked);
        }
        locked.write()?;
        Ok(freed)
    }
}

fn sum(all: &[u64]) -> u64 {
    all.iter().fold(0, |sum, one| sum.saturating_add(*one))
}
