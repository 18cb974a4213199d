//! Overlays of the lower part of a chain, kept open for all that is made on top of it.
//!
//! The kernel takes some 15 µs for each layer of each overlay that it makes and unmakes. With all
//! layers named for each step, a chain of steps costs the square of its length. So what this
//! process changes by itself stands on an overlay of the lowest layers, which is made once for
//! [`EVERY`] steps. Nothing but time depends on that: where the kernel refuses it (before Linux
//! 6.15 a mount that is attached nowhere cannot be part of an overlay), all layers are named.
//!
//! Not for processes of steps: in an overlay of an overlay, files of the lower one have other
//! device numbers than directories, which programs notice that stay on one file system.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sys::mount::{MAX_LOWERS, Mount, MountFlags, MountSource, Overlay};

use crate::lineage::Lineage;
use crate::{Active, Kind, Result, SnapshotId, Snapshotter};

/// How many layers a foundation has more than the one before.
const EVERY: usize = 32;
/// Shorter chains have none.
const LEAST: usize = 2 * EVERY;
/// How many are kept: branches that grow at the same time have one each.
const KEPT: usize = 4;

/// An overlay of the lowest layers of some chains.
#[derive(Debug)]
struct Foundation {
    /// The topmost snapshot in it.
    top: SnapshotId,
    /// Attached nowhere: gone when it is closed.
    mount: OwnedFd,
}

/// The foundations that were used last.
#[derive(Debug, Default)]
pub(crate) struct Foundations {
    /// The oldest first.
    recent: Mutex<VecDeque<Arc<Foundation>>>,
    /// This kernel takes none.
    refused: AtomicBool,
}

impl Foundations {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Foundation>>> {
        // Each change is one insertion or removal.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes all: a snapshot is not there any more.
    pub(crate) fn forget(&self) {
        self.lock().clear();
    }
}

/// How many of so many layers are below; none of a short chain.
fn depth(layers: usize) -> Option<usize> {
    (layers >= LEAST).then(|| (layers / EVERY * EVERY).min(MAX_LOWERS))
}

impl Snapshotter {
    /// Opens an active snapshot on a long chain, writable, as the mount of [`Self::rootfs`] shows
    /// it: for changes by this process. None where that mount is as good, or all there is.
    ///
    /// # Errors
    /// If the work directory can't be made, or a layer is not there.
    pub fn open_on_foundation(&self, active: &Active) -> Result<Option<OwnedFd>> {
        let refused = || self.foundations.refused.load(Ordering::Relaxed);
        let (Kind::Overlay | Kind::UserOverlay, Some(parent)) = (self.kind(), active.parent) else {
            return Ok(None);
        };
        if refused() {
            return Ok(None);
        }
        let lineage = self.lineage(&parent)?;
        let Some(depth) = depth(lineage.layers().len()).filter(|_| !lineage.repeats()) else {
            return Ok(None);
        };
        let opened = match self.foundation(&lineage, depth)? {
            Some(foundation) => {
                let above = &lineage.layers()[depth..];
                let lowers: Result<Vec<_>> =
                    above.iter().rev().map(|layer| self.present_fs(layer)).collect();
                let overlay = self.writable(active, lowers?)?;
                overlay.open_on(foundation.mount.as_fd(), MountFlags::default()).ok()
            }
            None => None,
        };
        if opened.is_none() {
            self.foundations.refused.store(true, Ordering::Relaxed);
        }
        Ok(opened)
    }

    /// The foundation of so many layers; none where the kernel makes no such overlay.
    fn foundation(&self, lineage: &Lineage, depth: usize) -> Result<Option<Arc<Foundation>>> {
        let top = lineage.ids()[depth - 1];
        if let Some(found) = self.foundations.lock().iter().find(|it| it.top == top) {
            return Ok(Some(found.clone()));
        }
        let layers = lineage.layers()[..depth].iter().rev();
        let lowers = layers.map(|layer| self.present_fs(layer)).collect::<Result<Vec<_>>>()?;
        let user_xattr = self.kind().user_xattr();
        let overlay =
            Overlay { lowers, upper: None, user_xattr, volatile: false, redirects: false };
        let source = MountSource::Overlay(overlay);
        let flags = MountFlags::default().read_only();
        let Ok(mount) = (Mount { target: "/".into(), source, flags }).open() else {
            return Ok(None);
        };
        let new = Arc::new(Foundation { top, mount });
        let mut recent = self.foundations.lock();
        recent.push_back(new.clone());
        // What is closed here may take the kernel some milliseconds.
        let oldest = if recent.len() > KEPT { recent.pop_front() } else { None };
        drop(recent);
        drop(oldest);
        Ok(Some(new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_enough_and_within_the_bounds_of_the_kernel() {
        assert_eq!(depth(LEAST - 1), None);
        for layers in LEAST..2 * MAX_LOWERS {
            let below = depth(layers).unwrap();
            assert!(below <= MAX_LOWERS && layers - below < MAX_LOWERS, "{below} of {layers}");
            assert!(layers - below < EVERY || below == MAX_LOWERS);
        }
    }
}
