//! The merged view of a chain of layers.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::walk::{Visible, Walk};
use super::{Entry, LayerManifest, TreePath};

/// What a process sees that runs on a chain of layers, lowest first, without a merged copy:
/// a lookup asks the layers from the top down and ends at the first that knows.
///
/// Every directory on the way to an entry should have an entry of its own in that layer or one
/// below. Where one is missing (layers of other builders may leave it out), what is below it
/// is still found, but the directory itself has no entry to return.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    layers: Vec<Arc<LayerManifest>>,
}

impl Tree {
    /// The tree of `layers`, lowest first.
    pub fn new(layers: Vec<Arc<LayerManifest>>) -> Self {
        Self { layers }
    }

    /// The layers, lowest first.
    pub fn layers(&self) -> &[Arc<LayerManifest>] {
        &self.layers
    }

    /// Puts one more layer on top.
    pub fn push(&mut self, layer: Arc<LayerManifest>) {
        self.layers.push(layer);
    }

    /// The entry that is seen at `path`; none for the root, which no layer has an entry for.
    /// Symbolic links are not followed, see [`Self::resolve`].
    pub fn get(&self, path: &TreePath) -> Option<&Entry> {
        self.entry_with_layer(path).map(|(_, entry)| entry)
    }

    /// The entry that is seen at `path` and the index of the layer it is from.
    pub fn entry_with_layer(&self, path: &TreePath) -> Option<(usize, &Entry)> {
        let raw = path.as_bytes();
        for (index, layer) in self.layers.iter().enumerate().rev() {
            match layer.position(raw) {
                Ok(at) => {
                    let entry = &layer.entries()[at];
                    return (!entry.is_whiteout()).then_some((index, entry));
                }
                Err(at) if layer.ancestor_hides(raw, at) => return None,
                Err(_) => {}
            }
        }
        None
    }

    /// The entry that carries the content of `entry` of layer `layer`: itself, or the file that
    /// a hard link names. The name of that file may be gone from the tree; its content is not.
    pub fn content_of<'a>(&'a self, layer: usize, entry: &'a Entry) -> Option<&'a Entry> {
        self.layers.get(layer)?.content_of(entry)
    }

    /// What is seen in the directory at `path`, in order; empty where there is none.
    pub fn children(&self, path: &TreePath) -> Vec<&Entry> {
        let depth = path.as_bytes().len();
        self.visible(path).children(self, depth).into_iter().filter_map(|c| c.entry()).collect()
    }

    /// What is seen at and below `path`, depth first and in order. The root has no entry.
    pub fn walk(&self, path: &TreePath) -> impl Iterator<Item = &Entry> {
        self.walk_with_layer(path).map(|(_, entry)| entry)
    }

    /// As [`Self::walk`], with the index of the layer that each entry is from.
    pub fn walk_with_layer(&self, path: &TreePath) -> impl Iterator<Item = (usize, &Entry)> {
        Walk::new(self, path)
    }

    /// The directories that lead to entries of `layer` and have an entry neither there nor in
    /// this tree, in order. Whoever unpacks a layer of another builder makes them.
    pub fn missing_parents(&self, layer: &LayerManifest) -> Vec<TreePath> {
        let mut missing: BTreeSet<TreePath> = BTreeSet::new();
        let mut last: Option<TreePath> = None;
        for entry in layer.entries() {
            let parent = entry.path.parent().filter(|p| !p.is_root());
            if parent == last {
                continue;
            }
            let mut at = parent.clone();
            while let Some(dir) = at.filter(|dir| !dir.is_root()) {
                if missing.contains(&dir) || layer.get(&dir).is_some() {
                    break;
                }
                let below = layer.position(dir.as_bytes()).unwrap_or_else(|at| at);
                let seen = !layer.ancestor_hides(dir.as_bytes(), below)
                    && self.get(&dir).is_some_and(Entry::is_directory);
                if seen {
                    break;
                }
                at = dir.parent();
                missing.insert(dir);
            }
            last = parent;
        }
        missing.into_iter().collect()
    }

    /// The layers that take part in the directory at `path`.
    pub(super) fn visible(&self, path: &TreePath) -> Visible {
        let raw = path.as_bytes();
        let mut ranges = Vec::new();
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let mut range = layer.subtree_range(raw);
            let here = layer.entries().get(range.start).filter(|e| e.path == *path);
            let hides = match here {
                Some(entry) => {
                    range.start += 1;
                    if !entry.is_directory() {
                        break;
                    }
                    entry.hides_lower()
                }
                None => false,
            };
            let at = range.start - usize::from(here.is_some());
            if !range.is_empty() {
                ranges.push((index, range));
            }
            if hides || layer.ancestor_hides(raw, at) {
                break;
            }
        }
        Visible(ranges)
    }
}

impl FromIterator<Arc<LayerManifest>> for Tree {
    fn from_iter<I: IntoIterator<Item = Arc<LayerManifest>>>(layers: I) -> Self {
        Self::new(layers.into_iter().collect())
    }
}
