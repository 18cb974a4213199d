//! The normalised diff: what a step really changed, from what its directory holds and what the
//! manifests below say. Pure: files are hashed by the caller, between [`Matched::new`] and
//! [`Matched::decide`].
//!
//! The rules, all BuildKit's:
//! - A whiteout stands for what existed below; a removed directory is one whiteout.
//! - A directory that hides the lower one becomes whiteouts of what was not made again in it.
//! - What was copied up and is as below, its time included, is not in the layer.
//! - A directory is in the layer if its own metadata differs, or something in it is.
//! - Of several names of a file in the layer, the first has the content.
//! - Sockets are in no layer.

use std::collections::HashMap;
use std::iter::Peekable;
use std::vec;

use oci::Timestamp;
use oci::layer::{ContentHash, Entry, Metadata, Node, Tree, TreePath};
use sys::walk::{FileKind, Stat};

use crate::scan::Scanned;

/// The entries of a step's directory, each beside its counterpart below.
pub(crate) struct Matched<'a> {
    scanned: &'a [Scanned],
    tree: &'a Tree,
    items: Vec<Item<'a>>,
}

enum Item<'a> {
    /// The entry `scanned[index]`.
    Upper { index: usize, lower: Option<Found<'a>>, hidden: bool },
    /// Something below that a hiding directory hides.
    Gone(TreePath),
}

/// What became of the entries.
#[derive(Debug, Default)]
pub(crate) struct Diff {
    /// The layer.
    pub(crate) entries: Vec<Entry>,
    /// What is on disk and not in the layer, parents before children. Taking it off does not
    /// change what the chain shows.
    pub(crate) surplus: Vec<Surplus>,
}

/// Something on disk that the layer does not have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Surplus {
    /// Which entry of the scanned ones.
    pub(crate) index: usize,
    /// It was a socket in place of something below: a whiteout has to take its place.
    pub(crate) whiteout: bool,
}

/// The index of a layer, and its entry.
type Found<'a> = (usize, &'a Entry);

/// One directory on the way to the present entry.
struct Frame {
    path: TreePath,
    /// Whether there is a directory of this path below.
    below: bool,
    /// Whether what is absent here is gone.
    hidden: bool,
    /// What lies below in a hidden directory, from the present entry on.
    pending: Peekable<vec::IntoIter<TreePath>>,
}

impl Frame {
    fn new(tree: &Tree, path: TreePath, below: bool, hidden: bool) -> Self {
        let names: Vec<TreePath> = match hidden && below {
            true => tree.children(&path).into_iter().map(|e| e.path.clone()).collect(),
            false => Vec::new(),
        };
        Self { path, below, hidden, pending: names.into_iter().peekable() }
    }
}

impl<'a> Matched<'a> {
    /// Finds the counterpart of each entry. With `whole`, the directory is a whole root file
    /// system, in which what is absent was removed; else the upper directory of an overlay.
    pub(crate) fn new(scanned: &'a [Scanned], tree: &'a Tree, whole: bool) -> Self {
        let mut items = Vec::with_capacity(scanned.len());
        let root = Frame::new(tree, TreePath::root(), !tree.layers().is_empty(), whole);
        let mut frames = vec![root];
        for (index, entry) in scanned.iter().enumerate() {
            while frames.len() > 1 && !entry.path.starts_with(&frames[frames.len() - 1].path) {
                let done = frames.pop();
                items.extend(done.into_iter().flat_map(|f| f.pending).map(Item::Gone));
            }
            let Some(frame) = frames.last_mut() else { break };
            while let Some(gone) = frame.pending.next_if(|path| *path < entry.path) {
                items.push(Item::Gone(gone));
            }
            frame.pending.next_if(|path| *path == entry.path);
            let hidden = frame.hidden;
            let lower = match frame.below {
                true => tree.entry_with_layer(&entry.path),
                false => None,
            };
            items.push(Item::Upper { index, lower, hidden });
            if entry.stat.is_dir() {
                let below = lower.is_some_and(|(_, entry)| entry.is_directory());
                let hidden = hidden || entry.opaque;
                frames.push(Frame::new(tree, entry.path.clone(), below, hidden));
            }
        }
        while let Some(frame) = frames.pop() {
            items.extend(frame.pending.map(Item::Gone));
        }
        Self { scanned, tree, items }
    }

    /// The regular files whose content has to be known, one name of each. `trusted` says of a
    /// file whose metadata is as below that its content is too, unseen.
    pub(crate) fn unknown_content(&self, trusted: &dyn Fn(&Stat) -> bool) -> Contents {
        let mut contents = Contents::default();
        for item in &self.items {
            let Item::Upper { index, lower, .. } = item else { continue };
            let entry = &self.scanned[*index];
            if entry.stat.kind != FileKind::File {
                continue;
            }
            let inode = inode(&entry.stat);
            if contents.known.contains_key(&inode) || !contents.asked.insert(inode) {
                continue;
            }
            let below = lower.and_then(|found| self.lower_content(found, entry));
            match below {
                Some(content) if trusted(&entry.stat) => {
                    contents.known.insert(inode, content);
                }
                _ => contents.wanted.push(*index),
            }
        }
        contents
    }

    /// Decides what is in the layer. `contents` has every file of [`Self::unknown_content`].
    pub(crate) fn decide(self, contents: &Contents) -> Diff {
        let groups = self.groups(contents);
        let mut diff = Diff::default();
        let mut kept: Vec<Entry> = Vec::new();
        // Backwards: whether a directory is in the layer is decided by what is in it.
        for item in self.items.iter().rev() {
            let (index, lower, hidden) = match item {
                Item::Gone(path) => {
                    kept.push(whiteout(path.clone()));
                    continue;
                }
                Item::Upper { index, lower, hidden } => (*index, *lower, *hidden),
            };
            let entry = &self.scanned[index];
            let socket = entry.stat.kind == FileKind::Socket;
            if entry.whiteout || socket {
                let replaced = lower.is_some();
                if replaced {
                    kept.push(whiteout(entry.path.clone()));
                }
                if socket || !replaced && !hidden {
                    let whiteout = socket && replaced && !hidden;
                    diff.surplus.push(Surplus { index, whiteout });
                }
                continue;
            }
            let holds = kept.last().is_some_and(|next| next.path.starts_with(&entry.path));
            let group = groups.get(&inode(&entry.stat));
            let same = match group {
                Some(group) => group.unchanged,
                None => lower.is_some_and(|found| self.unchanged(found, entry, contents)),
            };
            if same && !holds && !contents.kept.contains(&inode(&entry.stat)) {
                if !hidden {
                    diff.surplus.push(Surplus { index, whiteout: false });
                }
                continue;
            }
            let first = group.map(|group| &self.scanned[group.first].path);
            kept.push(layer_entry(entry, first.filter(|first| **first != entry.path), contents));
        }
        kept.reverse();
        diff.surplus.reverse();
        diff.entries = kept;
        diff
    }

    /// The files with more than one name here.
    fn groups(&self, contents: &Contents) -> HashMap<Inode, Group> {
        let mut members: HashMap<Inode, Vec<(usize, Option<Found<'a>>)>> = HashMap::new();
        for item in &self.items {
            let Item::Upper { index, lower, .. } = item else { continue };
            let stat = &self.scanned[*index].stat;
            if stat.kind == FileKind::File && stat.links > 1 {
                members.entry(inode(stat)).or_default().push((*index, *lower));
            }
        }
        members.retain(|_, names| names.len() > 1);
        let group = |names: Vec<(usize, Option<Found<'a>>)>| {
            // A new link to a file from below: with all its names the file is in the layer,
            // or the link would be lost. Only what was one file below already can be left out.
            let below = names[0].1.and_then(|found| self.lower_file(found));
            let unchanged = below.is_some()
                && names.iter().all(|(index, lower)| {
                    lower.is_some_and(|found| {
                        self.lower_file(found) == below
                            && self.unchanged(found, &self.scanned[*index], contents)
                    })
                });
            Group { first: names[0].0, unchanged }
        };
        members.into_iter().map(|(inode, names)| (inode, group(names))).collect()
    }

    /// Equal for two names of one file below, and for nothing else.
    fn lower_file(&self, (layer, entry): Found<'a>) -> Option<(usize, &'a TreePath)> {
        Some((layer, &self.tree.content_of(layer, entry)?.path))
    }

    /// The content below, of a file whose metadata is the same here.
    fn lower_content(
        &self,
        (layer, lower): Found<'a>,
        entry: &Scanned,
    ) -> Option<(u64, ContentHash)> {
        let data = self.tree.content_of(layer, lower)?;
        match data.node {
            Node::File { size, content }
                if size == entry.stat.size && data.meta == metadata(entry) =>
            {
                Some((size, content))
            }
            _ => None,
        }
    }

    fn unchanged(&self, (layer, lower): Found<'a>, entry: &Scanned, contents: &Contents) -> bool {
        let Some(data) = self.tree.content_of(layer, lower) else { return false };
        if data.meta != metadata(entry) {
            return false;
        }
        match (node(entry, contents), &data.node) {
            // A mark that hides lower layers is not a property of the directory.
            (Node::Directory { .. }, Node::Directory { .. }) => true,
            (here, below) => here == *below,
        }
    }
}

struct Group {
    /// The index of its first name in order.
    first: usize,
    unchanged: bool,
}

type Inode = ((u32, u32), u64);

fn inode(stat: &Stat) -> Inode {
    (stat.device, stat.inode)
}

/// What the files contain.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    known: HashMap<Inode, (u64, ContentHash)>,
    asked: std::collections::HashSet<Inode>,
    /// Indices of the entries whose files have to be read.
    pub(crate) wanted: Vec<usize>,
    /// What is in the layer even if it is the same below.
    kept: std::collections::HashSet<Inode>,
}

impl Contents {
    /// Notes size and hash of a file.
    pub(crate) fn insert(&mut self, stat: &Stat, size: u64, content: ContentHash) {
        self.known.insert(inode(stat), (size, content));
    }

    /// It is in the layer even if it is the same below.
    pub(crate) fn keep(&mut self, stat: &Stat) {
        self.kept.insert(inode(stat));
    }

    fn of(&self, stat: &Stat) -> (u64, ContentHash) {
        self.known.get(&inode(stat)).copied().unwrap_or((stat.size, ContentHash([0; 32])))
    }
}

fn metadata(entry: &Scanned) -> Metadata {
    Metadata {
        mode: entry.stat.mode,
        uid: entry.stat.uid,
        gid: entry.stat.gid,
        mtime: Timestamp { seconds: entry.stat.mtime.0, nanos: entry.stat.mtime.1 },
        capability: entry.capability.clone(),
    }
}

fn node(entry: &Scanned, contents: &Contents) -> Node {
    let (major, minor) = entry.stat.special;
    match entry.stat.kind {
        FileKind::Directory => Node::Directory { opaque: false },
        FileKind::File => {
            let (size, content) = contents.of(&entry.stat);
            Node::File { size, content }
        }
        FileKind::Symlink => Node::Symlink { target: entry.target.clone().unwrap_or_default() },
        FileKind::CharDevice => Node::CharDevice { major, minor },
        FileKind::BlockDevice => Node::BlockDevice { major, minor },
        // Sockets were sorted out before.
        FileKind::Fifo | FileKind::Socket => Node::Fifo,
    }
}

fn layer_entry(entry: &Scanned, first: Option<&TreePath>, contents: &Contents) -> Entry {
    let node = match first {
        Some(first) => Node::HardLink { target: first.clone() },
        None => node(entry, contents),
    };
    Entry { path: entry.path.clone(), node, meta: metadata(entry) }
}

fn whiteout(path: TreePath) -> Entry {
    Entry { path, node: Node::Whiteout, meta: Metadata::default() }
}

#[cfg(test)]
mod tests;
