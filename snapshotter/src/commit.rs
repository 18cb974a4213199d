//! From what a step left to a snapshot.

use std::collections::HashSet;
use std::os::fd::OwnedFd;

use oci::layer::{LayerManifest, TreePath};
use sys::root::{Root, Special};
use sys::walk::FileKind;

use crate::diff::{Contents, Matched, Surplus};
use crate::scan::{Scanned, scan};
use crate::snapshotter::open_dir;
use crate::{Active, Hints, Kind, Result, Snapshot, Snapshotter, hash};

impl Snapshotter {
    /// Makes a snapshot of what changed in `active`, which nothing may write to any more: the
    /// normalised diff against its parents. What no layer keeps (attributes, sockets, traces of
    /// the overlay) is taken off the disk as well. Complete when it returns, and not synced.
    ///
    /// # Errors
    /// If something can't be read or must not be in a layer; `active` is discarded then.
    pub fn commit(&self, active: Active, hints: &Hints) -> Result<Snapshot> {
        let manifest = self.diff(&active, hints);
        let manifest = self.or_discard(&active.dir, manifest)?;
        let sealed = self.seal(active.id, active.parent, &active.dir, manifest);
        self.or_discard(&active.dir, sealed)
    }

    fn diff(&self, active: &Active, hints: &Hints) -> Result<LayerManifest> {
        self.at_rest(&active.dir)?;
        let fs = open_dir(&active.dir.join("fs"))?;
        let scanned = scan(&fs, self.kind())?;
        let tree = self.tree(active.parent.as_ref())?;
        let matched = Matched::new(&scanned, &tree, self.kind() == Kind::Copy);
        // A file of a copy that was not touched since has the content it was copied with. The
        // same tick of the clock counts as touched.
        let mut contents = matched
            .unknown_content(&|stat| active.complete.is_some_and(|complete| stat.ctime < complete));
        learn(&fs, &scanned, &mut contents, hints)?;
        let diff = matched.decide(&contents);
        take_off(fs, &scanned, &diff.surplus)?;
        Ok(LayerManifest::new(diff.entries))
    }
}

/// Reads the files that are not known.
fn learn(fs: &OwnedFd, scanned: &[Scanned], contents: &mut Contents, hints: &Hints) -> Result<()> {
    for entry in scanned.iter().filter(|entry| hints.written.contains(&entry.path)) {
        contents.keep(&entry.stat);
    }
    let mut wanted = std::mem::take(&mut contents.wanted);
    wanted.retain(|index| {
        let entry = &scanned[*index];
        match hints.contents.get(&entry.path) {
            Some((size, content)) if *size == entry.stat.size => {
                contents.insert(&entry.stat, *size, *content);
                false
            }
            _ => true,
        }
    });
    for (index, (size, content)) in wanted.iter().zip(hash::hash_all(fs, scanned, &wanted)?) {
        contents.insert(&scanned[*index].stat, size, content);
    }
    Ok(())
}

/// Removes what the layer does not have, and gives the directories it was in their times back.
fn take_off(fs: OwnedFd, scanned: &[Scanned], surplus: &[Surplus]) -> Result<()> {
    if surplus.is_empty() {
        return Ok(());
    }
    let root = Root::new(fs);
    let mut changed: HashSet<TreePath> = HashSet::new();
    // What is in a directory before itself.
    for Surplus { index, whiteout } in surplus.iter().rev() {
        let entry = &scanned[*index];
        let path = entry.path.as_path();
        if entry.stat.is_dir() {
            match root.rmdir(path) {
                // It hides what is below, and holds it again: it shows the same.
                Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => continue,
                other => other?,
            }
        } else {
            root.unlink(path)?;
        }
        if *whiteout {
            debug_assert_eq!(entry.stat.kind, FileKind::Socket);
            root.mknod(path, Special::Char(0, 0), 0)?;
        }
        changed.remove(&entry.path);
        changed.extend(entry.path.parent().filter(|parent| !parent.is_root()));
    }
    for entry in scanned.iter().filter(|entry| changed.contains(&entry.path)) {
        root.set_mtime(entry.path.as_path(), entry.stat.mtime)?;
    }
    Ok(())
}
