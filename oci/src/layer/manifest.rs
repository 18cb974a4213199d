//! The entry list of one layer.

use std::collections::HashMap;
use std::ops::Range;

use super::path::{common_bytes, is_within, tree_order};
use super::{Entry, Metadata, Node, TreePath};

/// How many hard links are followed one after the other when an imported layer links to links.
const MAX_LINK_HOPS: usize = 40;

/// Every entry of one layer, sorted by path, each path once.
///
/// Two rules hold in every manifest, whatever it was made from: a whiteout has no metadata, and
/// of the names of one file the first in order is the file, the others are links to it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LayerManifest {
    entries: Vec<Entry>,
}

impl LayerManifest {
    /// A manifest of `entries` in any order; of entries with an equal path the last one counts,
    /// as when a tar is extracted.
    ///
    /// An entry for the root is dropped. Hard links are regrouped so that the first path of a
    /// group carries the content and all of them the same metadata. A link whose target is not
    /// in `entries` stays as it is.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.retain(|e| !e.path.is_root());
        entries.reverse();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        entries.dedup_by(|later, first| later.path == first.path);
        Self::from_sorted(entries)
    }

    /// Of entries that are in order, each path once, none the root.
    pub(super) fn from_sorted(mut entries: Vec<Entry>) -> Self {
        for entry in &mut entries {
            if entry.is_whiteout() {
                entry.meta = Metadata::default();
            }
        }
        let mut manifest = Self { entries };
        manifest.regroup_links();
        manifest
    }

    /// The entries in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries in order, by value.
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// Whether nothing changed in this layer.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry at `path`.
    pub fn get(&self, path: &TreePath) -> Option<&Entry> {
        self.position(path.as_bytes()).ok().map(|at| &self.entries[at])
    }

    /// The entry that carries the content of `entry`: itself, or for a hard link the file it
    /// names in this layer. None if that is not here.
    pub fn content_of<'a>(&'a self, entry: &'a Entry) -> Option<&'a Entry> {
        let mut at = entry;
        for _ in 0..MAX_LINK_HOPS {
            match &at.node {
                Node::HardLink { target } => at = self.get(target)?,
                _ => return Some(at),
            }
        }
        None
    }

    /// The entries directly in the directory at `path`, in order. What lies deeper is skipped,
    /// not visited.
    pub fn children(&self, path: &TreePath) -> impl Iterator<Item = &Entry> {
        let depth = path.as_bytes().len();
        let mut range = self.subtree_range(path.as_bytes());
        if self.entries.get(range.start).is_some_and(|e| e.path == *path) {
            range.start += 1;
        }
        self.groups(range, depth).filter_map(move |group| self.head(&group, depth))
    }

    /// The entry at `path`, if there is one, and everything below it, in order.
    pub fn subtree(&self, path: &TreePath) -> &[Entry] {
        &self.entries[self.subtree_range(path.as_bytes())]
    }

    /// The sizes of all regular files, in bytes. Hard links count nothing.
    pub fn total_size(&self) -> u64 {
        self.entries.iter().filter_map(Entry::file_size).fold(0, u64::saturating_add)
    }

    /// Where `path` is, or where it would be.
    pub(super) fn position(&self, path: &[u8]) -> Result<usize, usize> {
        self.entries.binary_search_by(|e| tree_order(e.path.as_bytes(), path))
    }

    /// The entries at and below `path`.
    pub(super) fn subtree_range(&self, path: &[u8]) -> Range<usize> {
        if path.is_empty() {
            return 0..self.entries.len();
        }
        let start = self.position(path).unwrap_or_else(|at| at);
        start..self.subtree_end(start, path)
    }

    /// The first index from `start` on that is not within `ancestor`, for a `start` that is its
    /// first entry. Steps double, so that a directory costs little when it is small.
    fn subtree_end(&self, start: usize, ancestor: &[u8]) -> usize {
        let within = |at: usize| is_within(self.entries[at].path.as_bytes(), ancestor);
        let (mut low, mut step) = (start, 1);
        while low + step < self.entries.len() && within(low + step) {
            low += step;
            step *= 2;
        }
        let high = (low + step).min(self.entries.len());
        low + self.entries[low..high].partition_point(|e| is_within(e.path.as_bytes(), ancestor))
    }

    /// Splits `range`, entries below a directory whose path has `depth` bytes, by child.
    pub(super) fn groups(
        &self,
        range: Range<usize>,
        depth: usize,
    ) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut at = range.start;
        std::iter::from_fn(move || {
            if at >= range.end {
                return None;
            }
            let child = &self.entries[at].path.as_bytes()[..self.child_end(at, depth)];
            let group = at..self.subtree_end(at, child);
            at = group.end;
            Some(group)
        })
    }

    /// The entry of the child that `group` (see [`Self::groups`]) belongs to, if it has one.
    pub(super) fn head(&self, group: &Range<usize>, depth: usize) -> Option<&Entry> {
        let entry = &self.entries[group.start];
        (self.child_end(group.start, depth) == entry.path.as_bytes().len()).then_some(entry)
    }

    /// The name of the child that `group` belongs to.
    pub(super) fn group_name(&self, group: &Range<usize>, depth: usize) -> &[u8] {
        let start = if depth == 0 { 0 } else { depth + 1 };
        &self.entries[group.start].path.as_bytes()[start..self.child_end(group.start, depth)]
    }

    /// How long the path of the child at `depth` is that the entry at index `at` is in.
    fn child_end(&self, at: usize, depth: usize) -> usize {
        let path = self.entries[at].path.as_bytes();
        let start = if depth == 0 { 0 } else { depth + 1 };
        path[start..].iter().position(|b| *b == b'/').map_or(path.len(), |n| start + n)
    }

    /// Whether an ancestor of `path` in this layer hides what lower layers have at `path`;
    /// `at` is the position of `path`.
    ///
    /// Every ancestor of `path` in this layer is also one of the entry before `path`, or that
    /// entry: what lies between them in order lies inside the ancestor. So most layers are
    /// done with after one comparison.
    pub(super) fn ancestor_hides(&self, path: &[u8], at: usize) -> bool {
        let Some(before) = at.checked_sub(1).map(|i| self.entries[i].path.as_bytes()) else {
            return false;
        };
        let common = common_bytes(path, before);
        let ends = (1..path.len()).rev().filter(|end| path[*end] == b'/');
        for end in ends.skip_while(|end| *end > common) {
            // `a/b` is not an ancestor that `a/bc` shares.
            if end == common && !matches!(before.get(end), None | Some(b'/')) {
                continue;
            }
            let found = self.entries[..at]
                .binary_search_by(|e| tree_order(e.path.as_bytes(), &path[..end]));
            if found.is_ok_and(|i| self.entries[i].hides_lower()) {
                return true;
            }
        }
        false
    }

    /// Makes the first path of every hard-link group the one with the content.
    fn regroup_links(&mut self) {
        if !self.entries.iter().any(|e| matches!(e.node, Node::HardLink { .. })) {
            return;
        }
        // Keyed by the index of the entry that has the content; members come in order.
        let mut groups: HashMap<usize, Vec<usize>> = HashMap::new();
        for (at, entry) in self.entries.iter().enumerate() {
            if !matches!(entry.node, Node::HardLink { .. }) {
                continue;
            }
            let Some(content) = self.content_of(entry) else { continue };
            if matches!(content.node, Node::Directory { .. } | Node::Whiteout) {
                continue;
            }
            if let Ok(content) = self.position(content.path.as_bytes()) {
                groups.entry(content).or_default().push(at);
            }
        }
        for (content, links) in groups {
            let first = links[0].min(content);
            let (node, meta) =
                (self.entries[content].node.clone(), self.entries[content].meta.clone());
            let target = self.entries[first].path.clone();
            for at in links.into_iter().chain([content]) {
                self.entries[at].meta = meta.clone();
                self.entries[at].node = Node::HardLink { target: target.clone() };
            }
            self.entries[first].node = node;
        }
    }

    /// The identity of the change this layer makes: a BLAKE3 digest over everything but times.
    ///
    /// The encoding is a list of fields with fixed widths or a length before them, in the order
    /// of the entries, so that different manifests never have equal bytes.
    pub fn diff_digest(&self) -> [u8; 32] {
        const CONTEXT: &str = "drydock layer diff v1";
        const FLUSH: usize = 1 << 16;
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        let mut buffer = Vec::with_capacity(FLUSH + 4096);
        buffer.extend((self.entries.len() as u64).to_le_bytes());
        for entry in &self.entries {
            canonical(entry, &mut buffer);
            if buffer.len() >= FLUSH {
                hasher.update(&buffer);
                buffer.clear();
            }
        }
        hasher.update(&buffer);
        *hasher.finalize().as_bytes()
    }
}

impl FromIterator<Entry> for LayerManifest {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        Self::new(entries.into_iter().collect())
    }
}

/// The fields of `entry` that are part of identities, in one unambiguous form.
fn canonical(entry: &Entry, out: &mut Vec<u8>) {
    bytes(entry.path.as_bytes(), out);
    for number in [entry.meta.mode, entry.meta.uid, entry.meta.gid] {
        out.extend(number.to_le_bytes());
    }
    match &entry.meta.capability {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            bytes(value, out);
        }
    }
    match &entry.node {
        Node::Directory { opaque } => out.extend([1, u8::from(*opaque)]),
        Node::File { size, content } => {
            out.push(2);
            out.extend(size.to_le_bytes());
            out.extend(content.0);
        }
        Node::Symlink { target } => {
            out.push(3);
            bytes(target, out);
        }
        Node::HardLink { target } => {
            out.push(4);
            bytes(target.as_bytes(), out);
        }
        Node::CharDevice { major, minor } => device(5, *major, *minor, out),
        Node::BlockDevice { major, minor } => device(6, *major, *minor, out),
        Node::Fifo => out.push(7),
        Node::Whiteout => out.push(8),
    }
}

fn bytes(value: &[u8], out: &mut Vec<u8>) {
    out.extend((value.len() as u64).to_le_bytes());
    out.extend(value);
}

fn device(tag: u8, major: u32, minor: u32, out: &mut Vec<u8>) {
    out.push(tag);
    out.extend(major.to_le_bytes());
    out.extend(minor.to_le_bytes());
}
