//! Merging the directories of a chain of layers.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Entry, Tree, TreePath};

/// The layers that take part in one directory, topmost first: the index of each and its entries
/// below that directory.
pub(super) struct Visible(pub(super) Vec<(usize, Range<usize>)>);

/// One name in a merged directory.
pub(super) struct Child<'a> {
    /// The entry that is seen and the index of its layer.
    seen: Option<(usize, &'a Entry)>,
    /// What takes part below it.
    below: Visible,
    /// Lower layers have no say any more.
    closed: bool,
}

impl<'a> Child<'a> {
    /// The entry that is seen; none if it is gone, or a directory without an entry.
    pub(super) fn entry(&self) -> Option<&'a Entry> {
        self.seen.map(|(_, entry)| entry)
    }
}

impl Visible {
    /// What is seen in the directory, in order; `depth` is the length of its path in bytes.
    pub(super) fn children<'a>(&self, tree: &'a Tree, depth: usize) -> Vec<Child<'a>> {
        let mut names: BTreeMap<&'a [u8], Child<'a>> = BTreeMap::new();
        for (index, range) in &self.0 {
            let layer = &tree.layers()[*index];
            for mut group in layer.groups(range.clone(), depth) {
                let child = names.entry(layer.group_name(&group, depth)).or_insert_with(|| Child {
                    seen: None,
                    below: Visible(Vec::new()),
                    closed: false,
                });
                if child.closed {
                    continue;
                }
                let Some(head) = layer.head(&group, depth) else {
                    child.below.0.push((*index, group));
                    continue;
                };
                child.closed = head.hides_lower();
                if !head.is_whiteout() {
                    child.seen = child.seen.or(Some((*index, head)));
                }
                group.start += 1;
                if !group.is_empty() {
                    child.below.0.push((*index, group));
                }
            }
        }
        // Names of one directory in byte order are paths in tree order.
        names.into_values().collect()
    }
}

/// A depth-first walk.
pub(super) struct Walk<'a> {
    tree: &'a Tree,
    /// What is still to visit, the next one last, with the length of its path's directory.
    pending: Vec<(Child<'a>, usize)>,
}

impl<'a> Walk<'a> {
    /// The walk at and below `path`.
    pub(super) fn new(tree: &'a Tree, path: &TreePath) -> Self {
        let seen = tree.entry_with_layer(path);
        let below = match seen {
            Some((_, entry)) if !entry.is_directory() => Visible(Vec::new()),
            _ => tree.visible(path),
        };
        let root = Child { seen, below, closed: true };
        Self { tree, pending: vec![(root, path.as_bytes().len())] }
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = (usize, &'a Entry);

    fn next(&mut self) -> Option<Self::Item> {
        while let Some((at, depth)) = self.pending.pop() {
            let children = at.below.children(self.tree, depth);
            for child in children.into_iter().rev() {
                let end = child.path_end(self.tree, depth);
                self.pending.push((child, end));
            }
            if at.seen.is_some() {
                return at.seen;
            }
        }
        None
    }
}

impl Child<'_> {
    /// The length of its path in bytes, for a child of a directory whose path has `depth`.
    fn path_end(&self, tree: &Tree, depth: usize) -> usize {
        if let Some((_, entry)) = self.seen {
            return entry.path.as_bytes().len();
        }
        let start = if depth == 0 { 0 } else { depth + 1 };
        self.below.0.first().map_or(depth, |(index, range)| {
            let path = tree.layers()[*index].entries()[range.start].path.as_bytes();
            path[start..].iter().position(|b| *b == b'/').map_or(path.len(), |n| start + n)
        })
    }
}
