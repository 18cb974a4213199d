//! The layer of one snapshot on top of another one, without its files being copied or looked at
//! again.
//!
//! A layer that was made on nothing holds directories and files, and says nothing about what is
//! below: no whiteouts, no opaque marks, nothing that was copied up. So it means the same
//! wherever it is put, and is the same layer: a directory over a directory is merged with it and
//! has the layer's metadata, everything else replaces what is below.

use std::path::Path;

use oci::layer::{LayerManifest, Node};
use sys::root::{Context, Root};

use crate::attach::copy_up;
use crate::snapshotter::open_dir;
use crate::{Error, Kind, Result, Snapshot, SnapshotId, Snapshotter, active_name, apply, replica};

impl Snapshotter {
    /// A snapshot on top of `parent` that has the layer of `layer`, which was made on nothing.
    /// It needs that snapshot for as long as it exists, see [`Snapshot::layer`]. Not synced.
    ///
    /// # Errors
    /// [`Error::NotFound`] for either; [`Error::NotAlone`].
    pub fn rebase(&self, layer: &SnapshotId, parent: &SnapshotId) -> Result<Snapshot> {
        self.rebase_as(SnapshotId::random(), layer, parent)
    }

    /// As [`Self::rebase`], with an id of the caller's choice (a random one), so that it can be
    /// noted before there is anything on disk.
    ///
    /// # Errors
    /// As [`Self::rebase`].
    pub fn rebase_as(
        &self,
        id: SnapshotId,
        layer: &SnapshotId,
        parent: &SnapshotId,
    ) -> Result<Snapshot> {
        self.get(parent)?;
        let own = self.get(layer)?;
        if own.parent.is_some() || own.layer.is_some() {
            return Err(Error::NotAlone(*layer));
        }
        let dir = self.dir().join(active_name(id));
        std::fs::create_dir(&dir).context("cannot create directory", &dir)?;
        let made = self
            .rebase_in(&dir, Snapshot { id, parent: Some(*parent), layer: Some(*layer), ..own });
        self.or_discard(&dir, made)
    }

    fn rebase_in(&self, dir: &Path, snapshot: Snapshot) -> Result<Snapshot> {
        let manifest = self.manifest(&snapshot.layer.unwrap_or(snapshot.id))?;
        if let (Kind::Copy, Some(parent), Some(layer)) =
            (self.kind(), snapshot.parent, snapshot.layer)
        {
            let fs = dir.join("fs");
            std::fs::create_dir(&fs).context("cannot create directory", &fs)?;
            let root = Root::at(&fs)?;
            root.chmod("", 0o755)?;
            replica::copy_tree(&open_dir(&self.fs(parent)?)?, &open_dir(&fs)?)?;
            put_onto(&root, &Root::at(&self.fs(layer)?)?, &manifest)?;
        }
        self.name(snapshot, dir, manifest)
    }
}

/// Makes in `root` what `manifest` says; the files are in `layer`.
fn put_onto(root: &Root, layer: &Root, manifest: &LayerManifest) -> Result<()> {
    for entry in manifest.entries() {
        let at = entry.path.as_path();
        let there = root.try_stat(at)?;
        let merged = matches!(entry.node, Node::Directory { opaque: false })
            && there.as_ref().is_some_and(sys::walk::Stat::is_dir);
        if there.is_some() && !merged {
            root.remove_all(at)?;
        }
        match &entry.node {
            Node::Directory { .. } if !merged => root.mkdir(at, 0o755)?,
            Node::Directory { .. } | Node::Whiteout => {}
            Node::HardLink { target } => root.hard_link(target.as_path(), at)?,
            _ => copy_up(layer, &entry.path, root, &entry.path)?,
        }
    }
    // Times last: whatever is made in a directory changes its own.
    for entry in manifest.entries().iter().filter(|entry| entry.is_directory()) {
        apply::directory_metadata(root, &entry.path, &entry.meta)?;
    }
    Ok(())
}
