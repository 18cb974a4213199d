//! What the program fuse-overlayfs damages when it copies it up, copied up before it can.
//!
//! Version 1.10, as measured (`docs/design/snapshotters.md`):
//!
//! - chown(2) after chmod(2) takes set-user-id and set-group-id bits off, of directories too;
//! - a named pipe cannot be opened, so it is neither changed nor removed, and may become a file;
//! - a symbolic link becomes root's;
//! - names of one file stay one file: what is written to one is read from the others.
//!
//! A layer under way that holds such entries already, equal to those below, shows the same, and
//! the diff leaves out again what stays equal. Names of one file become files of their own, which
//! is what writing to one of them makes of it in any overlay.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use oci::layer::{Entry, Metadata, Node, Tree, TreePath};
use sys::root::Root;

use crate::attach::copy_up;
use crate::{Result, SnapshotId, Snapshotter, apply};

/// The set-user-id and set-group-id bits of a mode.
const SET_ID: u32 = 0o6000;

/// How much the copies may hold, in bytes: on most file systems a copy takes time and space.
const MAX_BYTES: u64 = 64 << 20;

/// How many entries are copied at most.
const MAX_ENTRIES: usize = 10_000;

/// Which entries below are to be copied, pure.
#[derive(Debug, Default)]
pub(crate) struct Seeds {
    /// By path: the index of the layer. Directories are made, not copied.
    pub(crate) entries: BTreeMap<TreePath, usize>,
    bytes: u64,
}

impl Seeds {
    /// What is damaged most first, then the names of files with several; files whose names do not
    /// all have room are left as they are.
    pub(crate) fn of(tree: &Tree) -> Self {
        let mut seeds = Self::default();
        let mut files: HashMap<(usize, &TreePath), Vec<(&TreePath, u64)>> = HashMap::new();
        let mut order = Vec::new();
        for (layer, entry) in tree.walk_with_layer(&TreePath::root()) {
            let Some(data) = tree.content_of(layer, entry) else { continue };
            let size = data.file_size().unwrap_or_default();
            if is_fragile(data) {
                seeds.add(&[(&entry.path, size)], layer);
            }
            let linked = matches!(entry.node, Node::HardLink { .. } | Node::File { .. });
            if linked {
                let names = files.entry((layer, &data.path)).or_default();
                if names.is_empty() {
                    order.push((layer, &data.path));
                }
                names.push((&entry.path, size));
            }
        }
        for file in order {
            match files.get(&file) {
                Some(names) if names.len() > 1 => seeds.add(names, file.0),
                _ => {}
            }
        }
        seeds
    }

    /// Adds all, if there is room.
    fn add(&mut self, names: &[(&TreePath, u64)], layer: usize) {
        let new = || names.iter().filter(|(path, _)| !self.entries.contains_key(*path));
        let bytes = self.bytes + new().map(|(_, size)| size).sum::<u64>();
        if bytes > MAX_BYTES || self.entries.len() + new().count() > MAX_ENTRIES {
            return;
        }
        self.bytes = bytes;
        self.entries.extend(names.iter().map(|(path, _)| ((*path).clone(), layer)));
    }
}

/// Whether a copy of it is not what it should be.
fn is_fragile(data: &Entry) -> bool {
    let Metadata { mode, uid, gid, .. } = data.meta;
    let foreign = (uid, gid) != (0, 0);
    match &data.node {
        Node::File { .. } => foreign && mode & SET_ID != 0,
        Node::Directory { .. } => mode & SET_ID != 0,
        Node::Symlink { .. } => foreign,
        Node::Fifo => true,
        _ => false,
    }
}

impl Snapshotter {
    /// Puts what would be damaged into the empty directory `fs` of a layer on `parent`.
    pub(crate) fn seed(&self, parent: &SnapshotId, fs: &Path) -> Result<()> {
        let tree = self.tree(Some(parent))?;
        let seeds = Seeds::of(&tree);
        let chain = self.chain(parent)?;
        let root = Root::at(fs)?;
        let mut layers: HashMap<usize, Root> = HashMap::new();
        let mut made: HashSet<TreePath> = HashSet::new();
        let mut directories: Vec<(TreePath, Metadata)> = Vec::new();
        for (path, layer) in &seeds.entries {
            let Some(entry) = tree.get(path) else { continue };
            let Some(ways) = ways(&tree, path, entry.is_directory()) else { continue };
            for (way, meta) in ways.into_iter().rev() {
                if made.insert(way.clone()) {
                    root.mkdir(way.as_path(), 0o700)?;
                    directories.push((way, meta));
                }
            }
            if entry.is_directory() {
                continue;
            }
            let Some(id) = chain.get(*layer) else { continue };
            if !layers.contains_key(layer) {
                layers.insert(*layer, Root::at(&self.fs(*id)?)?);
            }
            if let Some(layer) = layers.get(layer) {
                copy_up(layer, path, &root, path)?;
            }
        }
        // Making something in a directory changes its time: the deepest first, all at the end.
        for (path, meta) in directories.iter().rev() {
            apply::directory_metadata(&root, path, meta)?;
        }
        Ok(())
    }
}

/// The directories that have to be there for `path`, itself if it is one, the deepest first; none
/// if one of them is in no layer.
fn ways(tree: &Tree, path: &TreePath, itself: bool) -> Option<Vec<(TreePath, Metadata)>> {
    let mut ways = Vec::new();
    let mut at = if itself { Some(path.clone()) } else { path.parent() };
    while let Some(dir) = at.filter(|dir| !dir.is_root()) {
        let entry = tree.get(&dir).filter(|entry| entry.is_directory())?;
        ways.push((dir.clone(), entry.meta.clone()));
        at = dir.parent();
    }
    Some(ways)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use oci::layer::{ContentHash, LayerManifest};

    use super::*;

    fn entry(path: &str, node: Node, mode: u32, uid: u32) -> Entry {
        let meta = Metadata { mode, uid, ..Metadata::default() };
        Entry { path: TreePath::new(path.as_bytes()).unwrap(), node, meta }
    }

    fn file(size: u64) -> Node {
        Node::File { size, content: ContentHash([1; 32]) }
    }

    fn link(to: &str) -> Node {
        Node::HardLink { target: TreePath::new(to.as_bytes()).unwrap() }
    }

    fn seeds(layers: Vec<Vec<Entry>>) -> Vec<(String, usize)> {
        let layers = layers.into_iter().map(|l| Arc::new(LayerManifest::new(l))).collect();
        let seeds = Seeds::of(&Tree::new(layers)).entries;
        let name = |path: TreePath| String::from_utf8_lossy(path.as_bytes()).into_owned();
        seeds.into_iter().map(|(path, layer)| (name(path), layer)).collect()
    }

    #[test]
    fn what_would_be_damaged() {
        let directory = || Node::Directory { opaque: false };
        let lower = vec![
            entry("plain", file(5), 0o755, 7),
            entry("root", file(5), 0o4755, 0),
            entry("d", directory(), 0o2775, 0),
            entry("e", directory(), 0o1777, 3),
            entry("set", file(5), 0o4755, 7),
            entry("pipe", Node::Fifo, 0o644, 0),
            entry("l", Node::Symlink { target: (*b"x").into() }, 0o777, 0),
            entry("m", Node::Symlink { target: (*b"x").into() }, 0o777, 7),
            entry("n1", file(5), 0o644, 0),
            entry("n2", link("n1"), 0o644, 0),
            entry("gone1", file(5), 0o644, 0),
            entry("gone2", link("gone1"), 0o644, 0),
        ];
        let upper = vec![entry("gone1", Node::Whiteout, 0, 0), entry("pipe", file(1), 0o644, 0)];
        let want = [("d", 0), ("m", 0), ("n1", 0), ("n2", 0), ("set", 0)];
        assert_eq!(seeds(vec![lower, upper]), want.map(|(path, at)| (path.to_owned(), at)));
    }

    #[test]
    fn large_files_with_many_names_stay_one() {
        let mut layer = vec![entry("a", file(MAX_BYTES / 4), 0o755, 0)];
        layer.extend((0..4).map(|n| entry(&format!("a{n}"), link("a"), 0o755, 0)));
        layer.extend([entry("b", file(5), 0o644, 0), entry("c", link("b"), 0o644, 0)]);
        assert_eq!(seeds(vec![layer]), [("b".to_owned(), 0), ("c".to_owned(), 0)]);
    }
}
