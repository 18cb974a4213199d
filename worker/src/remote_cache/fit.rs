//! Whether a record can be that of the step that it was found for.
//!
//! That a key leads to a tree is the word of whoever wrote the cache. What the tree is a layer on
//! is more than that: the result of a step is one layer on what the step was done on, and its
//! `ContentId` is made of just that. Taken for another tree, a record would give an image that has
//! other layers than its history tells of.

use cache::remote::Made;
use graph::{Op, VertexIndex};
use solver::ContentId;

use super::tree::{From, LazyTree, Place};
use crate::build::BuildWork;
use crate::engine::Engine;
use crate::key::{empty_content, image_content, linked_content, step_content};
use crate::output::{Output, TreeOutput};

/// What the result of a step is a layer on.
pub(super) struct Footing {
    content: ContentId,
    /// How many layers it has; none if that is not known.
    depth: Option<usize>,
}

impl BuildWork<'_> {
    /// What the result of `vertex` is a layer on; `None` where it is none on anything, and where
    /// its root is no tree.
    pub(super) fn footing(&self, vertex: VertexIndex, inputs: &[Output]) -> Option<Footing> {
        let root = match &self.input.definition.vertex(vertex).op {
            Op::Source(_) => return None,
            Op::Exec(exec) => exec.root,
            Op::File(file) => file.root,
            Op::Merge(merge) => Some(merge.base),
        };
        let Some(root) = root else {
            return Some(Footing { content: empty_content(), depth: Some(0) });
        };
        let tree = inputs.get(root)?.tree()?.clone().at_hand();
        let depth = match (&tree.snapshot, tree.elsewhere()) {
            (Some(leaf), _) => self.engine.snapshotter.chain(leaf).ok().map(|chain| chain.len()),
            (None, Some(lazy)) => lazy.depth(),
            (None, None) => Some(0),
        };
        Some(Footing { content: tree.content, depth })
    }
}

impl Engine {
    /// Whether the record that `lazy` was found by can be that of a step on `footing`. `here` is
    /// its tree, if that is on this machine.
    pub(super) fn fits(
        &self,
        footing: &Footing,
        lazy: &LazyTree,
        here: Option<&TreeOutput>,
    ) -> bool {
        if let Some(here) = here {
            return self.is_layer_on(here, &footing.content);
        }
        let Some(from) = &lazy.from else { return true };
        let same_depth = match (lazy.depth(), footing.depth) {
            (Some(all), Some(below)) => all == below + 1,
            _ => true,
        };
        same_depth && stands_on(from, &footing.content)
    }

    /// Whether the topmost layer of a tree that is here was put onto `below`.
    pub(super) fn is_layer_on(&self, tree: &TreeOutput, below: &ContentId) -> bool {
        let Some(leaf) = &tree.snapshot else { return false };
        let Ok(snapshot) = self.snapshotter.get(leaf) else { return false };
        let makings = [step_content, linked_content];
        makings.iter().any(|make| make(below, &snapshot.diff_digest, tree.rewrite) == tree.content)
    }
}

/// Whether the tree of a record is a layer on `below`, as far as its document tells.
fn stands_on(from: &From, below: &ContentId) -> bool {
    let trees = &from.loaded.records.trees;
    let Some(tree) = trees.get(from.record.tree) else { return false };
    match (&tree.made, tree.made.below()) {
        // What it is is known, and no more.
        (Made::Elsewhere {}, _) => true,
        (Made::Image { .. }, _) => false,
        (Made::Layer { .. } | Made::Linked { .. }, Some(at)) => {
            trees.get(at).is_some_and(|tree| tree.content == *below)
        }
        (Made::Layer { .. } | Made::Linked { .. }, None) => *below == empty_content(),
    }
}

impl LazyTree {
    /// How many layers it has; none if not all of them are known.
    fn depth(&self) -> Option<usize> {
        let whole = !self.layers.iter().any(|layer| matches!(layer.place, Place::Nowhere));
        let base = self.base.as_ref().map_or(0, |base| base.layers.len());
        whole.then_some(base + self.layers.len())
    }

    /// What the layer `at` is on; none if that is not known.
    pub(super) fn below(&self, at: usize) -> Option<ContentId> {
        match (at, &self.base) {
            (0, Some(base)) => Some(image_content(&base.config.rootfs.diff_ids)),
            (0, None) => match &self.layers.first()?.place {
                // Some image, or a tree of which nothing more is known.
                Place::Nowhere => None,
                Place::Blob(_) | Place::Linked { .. } => Some(empty_content()),
            },
            _ => Some(self.layers.get(at - 1)?.content),
        }
    }
}
