//! Giving an unpacked layer its place in a chain.

use std::collections::HashSet;
use std::path::Path;

use oci::layer::{Tree, TreePath};
use sys::root::{Context, Root};

use crate::settle::settle;
use crate::snapshotter::open_dir;
use crate::staging::{Name, Staging, Step};
use crate::{Error, Kind, Result, Snapshot, SnapshotId, Snapshotter, Unpacked, apply, replica};

/// Where the copy of the parent is made that a layer is put onto.
const MERGED: &str = "merged";

impl Snapshotter {
    /// Makes a snapshot of an unpacked layer on top of `parent`. Directories that the layer has
    /// no entry for take the metadata they have below; hard links to files below become copies.
    /// Not synced.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the parent does not exist; [`Error::Link`] for a hard link to
    /// nothing. The unpacked layer is discarded then.
    pub fn attach(&self, parent: Option<&SnapshotId>, unpacked: Unpacked) -> Result<Snapshot> {
        let Unpacked { id, dir, mut staging } = unpacked;
        let placed = self.place(parent, &dir, &mut staging);
        self.or_discard(&dir, placed)?;
        let sealed = self.seal(id, parent.copied(), &dir, staging.manifest());
        self.or_discard(&dir, sealed)
    }

    fn place(&self, parent: Option<&SnapshotId>, dir: &Path, staging: &mut Staging) -> Result<()> {
        let tree = self.tree(parent)?;
        let chain = parent.map(|id| self.chain(id)).transpose()?.unwrap_or_default();
        let root = Root::at(&dir.join("fs"))?;
        let mut changed: HashSet<TreePath> =
            staging.names.iter().filter(|(_, n)| is_stand_in(n)).map(|(p, _)| p.clone()).collect();
        for step in settle(staging, &tree)? {
            if let Step::CopyUp { layer, source, to } = &step {
                let id = chain.get(*layer).copied().ok_or_else(|| no_layer(to))?;
                copy_up(&Root::at(&self.fs(id)?)?, source, &root, to)?;
            }
            apply::step(&root, self.kind(), &step)?;
            changed.extend(touched(&step));
        }
        for (path, meta) in staging.explicit_directories() {
            if changed.contains(path) {
                apply::directory_metadata(&root, path, meta)?;
            }
        }
        if self.kind() == Kind::Copy && parent.is_some() {
            self.merge(parent, dir, &root, staging, &tree)?;
        }
        Ok(())
    }

    /// Puts the layer onto a copy of its parent.
    fn merge(
        &self,
        parent: Option<&SnapshotId>,
        dir: &Path,
        layer: &Root,
        staging: &Staging,
        tree: &Tree,
    ) -> Result<()> {
        let active = Root::at(dir)?;
        active.mkdir(MERGED, 0o755)?;
        active.chmod(MERGED, 0o755)?;
        if let Some(parent) = parent {
            replica::copy_tree(&open_dir(&self.fs(*parent)?)?, &open_dir(&dir.join(MERGED))?)?;
        }
        let merged = Root::at(&dir.join(MERGED))?;
        for (path, name) in &staging.names {
            let at = path.as_path();
            let keep = match name {
                Name::Directory { opaque, .. } => {
                    !opaque && tree.get(path).is_some_and(oci::layer::Entry::is_directory)
                }
                _ => false,
            };
            if !keep {
                merged.remove_all(at)?;
            }
            match name {
                Name::Directory { .. } if merged.try_stat(at)?.is_none() => {
                    merged.mkdir(at, 0o755)?
                }
                Name::Directory { .. } | Name::Whiteout | Name::Link { .. } => {}
                Name::Inode(_) => {
                    let (from, from_name) = layer.open_parent(at)?;
                    let (to, to_name) = merged.open_parent(at)?;
                    rustix::fs::renameat(from, from_name, to, to_name)
                        .context("cannot rename to", at)?;
                }
            }
        }
        for (path, meta) in staging.explicit_directories() {
            apply::directory_metadata(&merged, path, meta)?;
        }
        active.remove_all("fs")?;
        Ok(active.rename(MERGED, "fs")?)
    }
}

fn is_stand_in(name: &Name) -> bool {
    matches!(name, Name::Directory { meta: None, .. })
}

fn no_layer(path: &TreePath) -> Error {
    Error::Refused { path: path.clone(), reason: "its layer is not in the chain" }
}

/// Copies a file of a layer below with its metadata.
///
/// # Errors
/// If it can't be read, or made.
pub(crate) fn copy_up(layer: &Root, source: &TreePath, root: &Root, to: &TreePath) -> Result<()> {
    let stat = layer.stat(source.as_path())?;
    let (from, name) = layer.open_parent(source.as_path())?;
    let (dir, new_name) = root.open_parent(to.as_path())?;
    replica::copy_entry(&from, &name, &stat, &dir, &new_name)
        .context("cannot copy", source.as_path())?;
    Ok(())
}

/// The directories whose times a step changes, and those that it makes.
fn touched(step: &Step) -> Vec<TreePath> {
    let parent = |path: &TreePath| path.parent();
    match step {
        Step::Mkdir(path) => [Some(path.clone()), parent(path)].into_iter().flatten().collect(),
        Step::Move { from, to } => [parent(from), parent(to)].into_iter().flatten().collect(),
        Step::Remove(path) | Step::Whiteout(path) => parent(path).into_iter().collect(),
        Step::Link { path, .. } | Step::CopyUp { to: path, .. } => {
            parent(path).into_iter().collect()
        }
        Step::Opaque(_) | Step::Transparent(_) => Vec::new(),
    }
}
