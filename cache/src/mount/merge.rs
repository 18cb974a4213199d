//! Making the changes of a log. Each can be made again after it was made, so that whoever finds a
//! merge that was cut off begins with the first.

use std::io;
use std::path::{Path, PathBuf};

use super::redo::Change;
use super::tree::Tree;
use crate::error::{At, CacheError};

/// Asked before each change of a commit; an error stops it there.
pub type Observer<'a> = dyn FnMut() -> io::Result<()> + 'a;

/// What the overlay left.
pub(super) const UPPER: &str = "upper";
/// Where directories wait that are not all taken yet.
pub(super) const PARKING: &str = "parking";
/// The same, when they are.
const PARKED: &str = "parked";
/// What is no longer in the base.
pub(super) const GONE: &str = "gone";

/// The directories of a merge.
pub(super) struct Merge {
    /// What it changes.
    pub(super) base: Tree,
    /// What it alone has: the upper directory, and places for what it takes.
    pub(super) own: Tree,
}

impl Merge {
    /// Makes the changes that were not made yet.
    pub(super) fn run(
        &self,
        changes: &[Change],
        observer: &mut Observer<'_>,
    ) -> Result<(), CacheError> {
        for change in changes {
            observer().at("merge into", &self.base.shown(Path::new("")))?;
            self.make(change)?;
        }
        Ok(())
    }

    fn make(&self, change: &Change) -> Result<(), CacheError> {
        let at = |dir: &str, slot: &u32| Path::new(dir).join(slot.to_string());
        let upper = |path: &PathBuf| Path::new(UPPER).join(path);
        match change {
            Change::Park { path, slot } => match self.own.has(Path::new(PARKED))? {
                true => Ok(()),
                false => self.take(path, &at(PARKING, slot)),
            },
            Change::Parked => match self.own.has(Path::new(PARKED))? {
                true => Ok(()),
                false => self.own.rename(Path::new(PARKING), &self.own, Path::new(PARKED)),
            },
            Change::Take { path, slot } => self.take(path, &at(GONE, slot)),
            Change::Unpark { slot, path } => self.put(&at(PARKED, slot), path),
            Change::Put { path } => self.put(&upper(path), path),
            Change::Make { path } => self.base.make(path),
            Change::Dress { path, meta } => {
                let dress = || -> io::Result<()> {
                    meta.apply(self.own.dir(&upper(path))?, self.base.dir(path)?)
                };
                dress().at("set the metadata of", &self.base.shown(path))
            }
        }
    }

    /// What is in its slot was taken before.
    fn take(&self, path: &Path, slot: &Path) -> Result<(), CacheError> {
        if self.own.has(slot)? { Ok(()) } else { self.base.rename(path, &self.own, slot) }
    }

    /// What is not in its old place any more was put before.
    fn put(&self, old: &Path, path: &Path) -> Result<(), CacheError> {
        if self.own.has(old)? { self.own.rename(old, &self.base, path) } else { Ok(()) }
    }
}
