//! From what an overlay left in its upper directory to the changes that make its lower one the same.
//!
//! The lower directory, here the base, is read at paths of its own; a directory that was renamed
//! is found at another path than it is shown at. What moves is therefore taken out first, the
//! deepest first, and put into its place on the way down; everything else follows from comparing
//! the two, directory by directory (`filesystems/overlayfs.rst`).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::attributes::{self, Meta, OPAQUE, REDIRECT};
use super::redo::Change;
use super::tree::{Kind, Tree};
use crate::error::{At, CacheError};

/// What no overlay leaves.
const CLAIMED: &str = "another directory shows the same one of the base";

/// A directory of the upper one.
struct Pair {
    /// Where it is shown.
    path: PathBuf,
    /// Where the base has what is shown with it; nothing if it hides that or there is none.
    below: Option<PathBuf>,
}

struct Planner<'a> {
    base: &'a Tree,
    upper: &'a Tree,
    /// The directories of the base that are shown elsewhere.
    moved: BTreeMap<PathBuf, u32>,
    changes: Vec<Change>,
    /// What comes last: changes in a directory change its times.
    dresses: Vec<Change>,
    slots: u32,
}

/// The changes that merge `upper` into `base`. The marks of the overlay are taken off what will be
/// moved; besides that nothing is changed.
pub(super) fn plan(base: &Tree, upper: &Tree) -> Result<Vec<Change>, CacheError> {
    let (moved, changes, dresses) = (BTreeMap::new(), Vec::new(), Vec::new());
    let mut planner = Planner { base, upper, moved, changes, dresses, slots: 0 };
    planner.find_moved()?;
    // Deeper ones are greater: a path is less than what begins with it.
    for (path, slot) in planner.moved.iter().rev() {
        planner.changes.push(Change::Park { path: path.clone(), slot: *slot });
    }
    if !planner.moved.is_empty() {
        planner.changes.push(Change::Parked);
    }
    planner.dress(PathBuf::new())?;
    let mut open = vec![Pair::root()];
    while let Some(pair) = open.pop() {
        planner.merge(&pair, &mut open)?;
    }
    let Planner { mut changes, dresses, .. } = planner;
    changes.extend(dresses);
    Ok(changes)
}

impl Pair {
    fn root() -> Self {
        Self { path: PathBuf::new(), below: Some(PathBuf::new()) }
    }
}

impl Planner<'_> {
    /// Finds the directories that were renamed.
    fn find_moved(&mut self) -> Result<(), CacheError> {
        let mut open = vec![Pair::root()];
        while let Some(pair) = open.pop() {
            for (name, kind) in self.upper.entries(&pair.path)? {
                if kind != Kind::Directory {
                    continue;
                }
                let path = pair.path.join(&name);
                let below = self.source(&pair, &path, &name)?;
                if let Some(source) = &below
                    && pair.below.as_ref().is_none_or(|below| *source != below.join(&name))
                {
                    let slot = self.slot();
                    if self.moved.insert(source.clone(), slot).is_some() {
                        return Err(self.refused(&path, CLAIMED));
                    }
                }
                open.push(Pair { path, below });
            }
        }
        Ok(())
    }

    fn slot(&mut self) -> u32 {
        self.slots += 1;
        self.slots
    }

    fn refused(&self, path: &Path, reason: &'static str) -> CacheError {
        CacheError::Upper { path: self.upper.shown(path), reason }
    }

    /// Where the base has what is shown with the directory `path` of the upper one.
    fn source(
        &self,
        parent: &Pair,
        path: &Path,
        name: &OsStr,
    ) -> Result<Option<PathBuf>, CacheError> {
        if self.upper.attribute(path, OPAQUE)?.as_deref() == Some(b"y") {
            return Ok(None);
        }
        let source = match self.upper.attribute(path, REDIRECT)? {
            None => parent.below.as_ref().map(|below| below.join(name)),
            Some(redirect) => {
                let redirect = Path::new(OsStr::from_bytes(&redirect));
                match redirect.strip_prefix("/") {
                    Ok(absolute) => Some(absolute.to_owned()),
                    Err(_) => parent.below.as_ref().map(|below| below.join(redirect)),
                }
            }
        };
        let Some(source) = source else { return Ok(None) };
        let plain = source.components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || source.as_os_str().is_empty() {
            return Err(self.refused(path, "it was renamed from a place that cannot be"));
        }
        let directory = self.base.kind(&source)? == Some(Kind::Directory);
        Ok(directory.then_some(source))
    }

    /// Plans one directory; those in it that have to be looked into are added to `open`.
    fn merge(&mut self, pair: &Pair, open: &mut Vec<Pair>) -> Result<(), CacheError> {
        for (name, kind) in self.upper.entries(&pair.path)? {
            let path = pair.path.join(&name);
            let natural = pair.below.as_ref().map(|below| below.join(&name));
            let there = match &natural {
                Some(natural) if !self.moved.contains_key(natural) => self.base.kind(natural)?,
                _ => None,
            };
            match kind {
                Kind::Whiteout => self.take(there.is_some(), &path),
                Kind::Other => {
                    self.take(there == Some(Kind::Directory), &path);
                    self.put(path)?;
                }
                Kind::Directory => {
                    let below = self.source(pair, &path, &name)?;
                    if below.is_some() && below == natural {
                        if there.is_none() {
                            return Err(self.refused(&path, CLAIMED));
                        }
                        self.dress(path.clone())?;
                        open.push(Pair { path, below });
                        continue;
                    }
                    self.take(there.is_some(), &path);
                    self.replace(Pair { path, below }, open)?;
                }
            }
        }
        Ok(())
    }

    /// Plans a directory where the base has nothing any more.
    fn replace(&mut self, pair: Pair, open: &mut Vec<Pair>) -> Result<(), CacheError> {
        let path = pair.path.clone();
        match &pair.below {
            Some(source) => {
                let Some(slot) = self.moved.get(source).copied() else {
                    return Err(self.refused(&path, "it changed while it was read"));
                };
                self.changes.push(Change::Unpark { slot, path: path.clone() });
            }
            None if self.is_whole(&path)? => return self.put(path),
            None => self.changes.push(Change::Make { path: path.clone() }),
        }
        self.dress(path)?;
        open.push(pair);
        Ok(())
    }

    /// Whether a directory that shows nothing of the base is all that is shown: then it is moved in
    /// one. The marks of what is in it are taken off on the way.
    fn is_whole(&self, path: &Path) -> Result<bool, CacheError> {
        let mut directories = vec![path.to_owned()];
        let mut open = vec![Pair { path: path.to_owned(), below: None }];
        while let Some(pair) = open.pop() {
            for (name, kind) in self.upper.entries(&pair.path)? {
                let path = pair.path.join(&name);
                match kind {
                    Kind::Whiteout => return Ok(false),
                    Kind::Other => {}
                    Kind::Directory => {
                        if self.source(&pair, &path, &name)?.is_some() {
                            return Ok(false);
                        }
                        directories.push(path.clone());
                        open.push(Pair { path, below: None });
                    }
                }
            }
        }
        for dir in directories {
            for (name, _) in self.upper.entries(&dir)? {
                self.strip(&dir.join(name))?;
            }
        }
        Ok(true)
    }

    fn strip(&self, path: &Path) -> Result<(), CacheError> {
        let strip = || {
            let (dir, name) = self.upper.parent(path)?;
            attributes::strip(dir, name)
        };
        strip().at("take the marks of the overlay off", &self.upper.shown(path))
    }

    fn take(&mut self, needed: bool, path: &Path) {
        if needed {
            let slot = self.slot();
            self.changes.push(Change::Take { path: path.to_owned(), slot });
        }
    }

    fn put(&mut self, path: PathBuf) -> Result<(), CacheError> {
        self.strip(&path)?;
        self.changes.push(Change::Put { path });
        Ok(())
    }

    fn dress(&mut self, path: PathBuf) -> Result<(), CacheError> {
        let meta = self.upper.dir(&path).and_then(Meta::of);
        let meta = meta.at("look at", &self.upper.shown(&path))?;
        self.dresses.push(Change::Dress { path, meta });
        Ok(())
    }
}
