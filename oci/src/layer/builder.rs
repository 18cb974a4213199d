//! A manifest from the entries of an archive in the order they come.

use std::collections::{BTreeMap, BTreeSet};

use super::{Entry, LayerItem, LayerManifest, Metadata, Node, Tree, TreePath};

/// The permission bits of a directory that an archive has entries below but none for.
const IMPLIED_MODE: u32 = 0o755;

/// Collects the entries of a layer that another builder wrote, in archive order, into the
/// manifest of what they mean together.
///
/// Order matters in an archive and not in a manifest, so it is settled here:
/// - of two entries at one path the later one counts;
/// - something other than a directory at a path takes away what came before it below that path,
///   and so does a whiteout;
/// - a directory after a whiteout of the same name is a new one: it is opaque;
/// - an opaque marker makes its directory opaque wherever it stands among the entries;
/// - a hard link to a file of a lower layer is a file of this one.
#[derive(Debug, Default)]
pub struct ManifestBuilder {
    entries: BTreeMap<TreePath, Entry>,
    opaque: BTreeSet<TreePath>,
}

impl ManifestBuilder {
    /// One without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one more item.
    pub fn push(&mut self, item: LayerItem) {
        let entry = match item {
            LayerItem::Skip(_) => return,
            LayerItem::Opaque(path) => {
                self.opaque.insert(path);
                return;
            }
            LayerItem::Entry(entry) => entry,
        };
        if entry.path.is_root() {
            return;
        }
        self.recreate_parents(&entry.path);
        if !entry.is_directory() {
            self.remove_below(&entry.path);
        } else if self.entries.get(&entry.path).is_some_and(Entry::hides_lower) {
            self.opaque.insert(entry.path.clone());
        }
        self.entries.insert(entry.path.clone(), entry);
    }

    /// The manifest on top of `lower`. A directory that the layer needs but has no entry for
    /// gets the metadata that it has in `lower`; one that is nowhere gets 0755, owner 0, time 0.
    pub fn finish(mut self, lower: &Tree) -> LayerManifest {
        for path in std::mem::take(&mut self.opaque) {
            if path.is_root() {
                self.hide_root(lower);
                continue;
            }
            let entry = self.entries.entry(path).or_insert_with_key(|path| implied(path, lower));
            if entry.is_directory() {
                entry.node = Node::Directory { opaque: true };
            }
        }
        self.adopt_links(lower);
        let mut manifest = LayerManifest::new(self.entries.into_values().collect());
        let missing = lower.missing_parents(&manifest);
        if !missing.is_empty() {
            let mut entries = manifest.into_entries();
            entries.extend(missing.iter().map(|path| implied(path, lower)));
            manifest = LayerManifest::new(entries);
        }
        manifest
    }

    /// Links to files of lower layers become files of this one, as they do when overlayfs copies
    /// such a file up to link to it.
    fn adopt_links(&mut self, lower: &Tree) {
        let mut adopted: BTreeMap<TreePath, TreePath> = BTreeMap::new();
        let outside: Vec<(TreePath, TreePath)> = self
            .entries
            .values()
            .filter_map(|e| match &e.node {
                Node::HardLink { target } => Some((e.path.clone(), target.clone())),
                _ => None,
            })
            .filter(|(_, target)| !self.entries.contains_key(target))
            .collect();
        for (path, target) in outside {
            let Some((layer, entry)) = lower.entry_with_layer(&target) else { continue };
            let Some(content) = lower.content_of(layer, entry) else { continue };
            let Some(link) = self.entries.get_mut(&path) else { continue };
            link.meta = content.meta.clone();
            link.node = match adopted.get(&target) {
                Some(first) => Node::HardLink { target: first.clone() },
                None => content.node.clone(),
            };
            adopted.entry(target).or_insert(path);
        }
    }

    /// Whiteouts of all that the lower layers have in the root, which has no entry to be opaque.
    fn hide_root(&mut self, lower: &Tree) {
        for child in lower.children(&TreePath::root()) {
            match self.entries.get_mut(&child.path) {
                None => {
                    let path = child.path.clone();
                    let entry = Entry { path, node: Node::Whiteout, meta: Metadata::default() };
                    self.entries.insert(child.path.clone(), entry);
                }
                Some(entry) if entry.is_directory() => {
                    entry.node = Node::Directory { opaque: true };
                }
                Some(_) => {}
            }
        }
    }

    /// An entry below a whiteout or a file of the same layer makes a new directory there.
    fn recreate_parents(&mut self, path: &TreePath) {
        let mut at = path.parent();
        while let Some(dir) = at.filter(|dir| !dir.is_root()) {
            if let Some(entry) = self.entries.get_mut(&dir)
                && !entry.is_directory()
            {
                let meta = Metadata { mode: IMPLIED_MODE, ..Metadata::default() };
                *entry = Entry { path: dir.clone(), node: Node::Directory { opaque: true }, meta };
                self.opaque.insert(dir.clone());
            }
            at = dir.parent();
        }
    }

    fn remove_below(&mut self, path: &TreePath) {
        let below: Vec<TreePath> = self
            .entries
            .range(path.clone()..)
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(path))
            .cloned()
            .collect();
        for key in &below {
            self.entries.remove(key);
        }
        self.opaque.retain(|key| !key.starts_with(path));
    }
}

/// The entry of a directory that an archive has none for.
fn implied(path: &TreePath, lower: &Tree) -> Entry {
    let known = lower.get(path).filter(|e| e.is_directory()).map(|e| e.meta.clone());
    let meta = known.unwrap_or(Metadata { mode: IMPLIED_MODE, ..Metadata::default() });
    Entry { path: path.clone(), node: Node::Directory { opaque: false }, meta }
}
