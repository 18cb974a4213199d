//! A step's changes to a cache mount, kept apart until the step has succeeded.
//!
//! They are in `<n>.step` beside the copy `<n>`: the upper directory of an overlay on it, or a
//! whole copy that takes its place. Renaming that directory to `<n>.commit` decides: until then
//! nothing has happened, from then on whoever has the lock of the copy completes it before doing
//! anything else. All that the completion needs was written before, the log of the merge too.

use std::fs;
use std::path::{Path, PathBuf};

use super::attributes::Meta;
use super::merge::{GONE, Merge, Observer, PARKING, UPPER};
use super::tree::Tree;
use super::{Cause, plan, redo};
use crate::durable::{self, Durability};
use crate::error::{At, CacheError};
use crate::trash::Trash;

/// What overlayfs needs beside them.
const WORK: &str = "work";
/// All of the new content.
const COPY: &str = "copy";
/// The changes of the merge, in order.
const LOG: &str = "log";

/// Where the parts of one copy of a cache mount are.
#[derive(Clone, Debug)]
pub(super) struct Places {
    home: PathBuf,
    number: usize,
}

impl Places {
    /// What the names of the parts end with that are beside the copy.
    pub(super) const PARTS: [&str; 3] = [".new", ".step", ".commit"];

    pub(super) fn new(home: &Path, number: usize) -> Self {
        Self { home: home.to_owned(), number }
    }

    /// The copy itself.
    pub(super) fn base(&self) -> PathBuf {
        self.home.join(self.number.to_string())
    }

    /// What `drydock du` and `prune` know the copy by.
    fn id(&self) -> String {
        let home = self.home.file_name().unwrap_or_default().to_string_lossy();
        format!("{home}/{}", self.number)
    }

    fn beside(&self, ending: &str) -> PathBuf {
        self.home.join(format!("{}{ending}", self.number))
    }

    /// A copy that is being filled.
    pub(super) fn new_copy(&self) -> PathBuf {
        self.beside(Self::PARTS[0])
    }

    /// What a step does.
    fn step(&self) -> PathBuf {
        self.beside(Self::PARTS[1])
    }

    /// What a step did, decided.
    fn decided(&self) -> PathBuf {
        self.beside(Self::PARTS[2])
    }

    /// Whether a step is at work here, or was and left something.
    pub(super) fn unfinished(&self) -> bool {
        [self.step(), self.decided()].iter().any(|dir| fs::symlink_metadata(dir).is_ok())
    }

    /// Moves everything into the trash. The copy first: what was decided means nothing without it,
    /// but a copy into which it was merged in part may not be left alone.
    pub(super) fn discard(&self, trash: &Trash) -> Result<(), CacheError> {
        trash.take(&self.base())?;
        Self::PARTS.iter().try_for_each(|ending| trash.take(&self.beside(ending)))
    }
}

/// How a transaction keeps changes apart.
pub enum Method<'a> {
    /// By the upper directory of an overlay (see [`View::Overlay`]). Whoever mounts it says
    /// `redirect_dir=on` and keeps its marks in `trusted.*` attributes.
    Overlay,
    /// By copying all of it: called with the directory and an empty one that becomes its equal.
    Copy(&'a dyn Fn(&Path, &Path) -> Result<(), Cause>),
}

/// What a step is to see of a cache mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// A directory.
    Directory(PathBuf),
    /// An overlay.
    Overlay {
        /// The lower directory.
        lower: PathBuf,
        /// The upper directory.
        upper: PathBuf,
        /// What overlayfs needs besides.
        work: PathBuf,
    },
}

/// Changes that are not decided yet.
#[derive(Debug)]
pub(super) struct Transaction {
    places: Places,
    overlay: bool,
}

impl Transaction {
    /// Begins one, on what is committed.
    pub(super) fn begin(places: &Places, method: &Method<'_>) -> Result<Self, CacheError> {
        let step = places.step();
        fs::create_dir(&step).at("create", &step)?;
        let transaction =
            Self { places: places.clone(), overlay: matches!(method, Method::Overlay) };
        match method {
            Method::Overlay => {
                let upper = step.join(UPPER);
                for dir in [&upper, &step.join(WORK)] {
                    fs::create_dir(dir).at("create", dir)?;
                }
                // An overlay shows its upper root.
                let (base, upper) = (Tree::open(&places.base())?, Tree::open(&upper)?);
                let root = Path::new("");
                let dress = || {
                    let base = base.dir(root)?;
                    Meta::of(&base)?.apply(&base, upper.dir(root)?)
                };
                dress().at("set the metadata of", &upper.shown(root))?;
            }
            Method::Copy(copy) => transaction.fill(&|new| copy(&places.base(), new))?,
        }
        Ok(transaction)
    }

    /// Begins one that knows nothing of what is committed, and replaces it.
    pub(super) fn fresh(
        places: &Places,
        fill: &dyn Fn(&Path) -> Result<(), Cause>,
    ) -> Result<Self, CacheError> {
        let step = places.step();
        fs::create_dir(&step).at("create", &step)?;
        let transaction = Self { places: places.clone(), overlay: false };
        transaction.fill(fill)?;
        Ok(transaction)
    }

    fn fill(&self, fill: &dyn Fn(&Path) -> Result<(), Cause>) -> Result<(), CacheError> {
        let copy = self.places.step().join(COPY);
        fs::create_dir(&copy).at("create", &copy)?;
        let failed =
            |source| CacheError::Collect { operation: format!("fill {}", copy.display()), source };
        fill(&copy).map_err(failed)
    }

    pub(super) fn view(&self) -> View {
        let step = self.places.step();
        if !self.overlay {
            return View::Directory(step.join(COPY));
        }
        View::Overlay { lower: self.places.base(), upper: step.join(UPPER), work: step.join(WORK) }
    }

    /// Writes what the merge will do. The step has ended, and its files are on the disk.
    pub(super) fn prepare(&self) -> Result<(), CacheError> {
        if !self.overlay {
            return Ok(());
        }
        let step = self.places.step();
        for dir in [PARKING, GONE] {
            let dir = step.join(dir);
            fs::create_dir(&dir).at("create", &dir)?;
        }
        let changes =
            plan::plan(&Tree::open(&self.places.base())?, &Tree::open(&step.join(UPPER))?)?;
        durable::write_file(&step.join(LOG), &redo::encode(&changes), Durability::Now)
    }

    /// Decides that the changes count.
    pub(super) fn decide(&self) -> Result<(), CacheError> {
        let (step, decided) = (self.places.step(), self.places.decided());
        fs::rename(&step, &decided).at("rename", &step)?;
        durable::sync_parent(&decided)
    }

    /// Forgets them.
    pub(super) fn discard(&self, trash: &Trash) -> Result<(), CacheError> {
        trash.take(&self.places.step())
    }
}

/// Brings a copy into order, whose lock is held: forgets what a step left that did not succeed, and
/// completes what was decided.
pub(super) fn recover(
    places: &Places,
    trash: &Trash,
    observer: &mut Observer<'_>,
) -> Result<(), CacheError> {
    trash.take(&places.step())?;
    complete(places, trash, observer)
}

/// Completes what was decided, if anything was.
pub(super) fn complete(
    places: &Places,
    trash: &Trash,
    observer: &mut Observer<'_>,
) -> Result<(), CacheError> {
    let (base, decided) = (places.base(), places.decided());
    let there = |path: &Path| fs::symlink_metadata(path).is_ok();
    if !there(&decided) {
        return Ok(());
    }
    let mut ask = || observer().at("merge into", &base);
    let copy = decided.join(COPY);
    if there(&copy) {
        ask()?;
        trash.take(&base)?;
        ask()?;
        fs::rename(&copy, &base).at("rename", &copy)?;
    } else if there(&decided.join(UPPER)) && there(&base) {
        let log = decided.join(LOG);
        let bytes = fs::read(&log).at("read", &log)?;
        let Some(changes) = redo::decode(&bytes) else {
            return Err(CacheError::DamagedLog { path: log, id: places.id() });
        };
        Merge { base: Tree::open(&base)?, own: Tree::open(&decided)? }.run(&changes, observer)?;
    }
    observer().at("merge into", &base)?;
    trash.take(&decided)
}
