//! The merged tree of a result as a source of copies.

use std::fs::File;
use std::sync::Arc;

use oci::layer::{Entry, Node, Tree, TreePath};
use snapshotter::{SnapshotId, Snapshotter};

use super::source::{Keep, SourceError, SourceTree, link_groups};

/// A result's root file system, read through the manifests and files of its layers: nothing is
/// mounted.
pub struct ResultTree {
    tree: Tree,
    chain: Vec<SnapshotId>,
    snapshotter: Arc<Snapshotter>,
}

impl ResultTree {
    /// The tree of `snapshot`; an empty one for none.
    ///
    /// # Errors
    /// If a layer manifest cannot be read.
    pub fn open(
        snapshotter: &Arc<Snapshotter>,
        snapshot: Option<&SnapshotId>,
    ) -> Result<Self, snapshotter::Error> {
        let chain = match snapshot {
            Some(id) => snapshotter.chain(id)?,
            None => Vec::new(),
        };
        Ok(Self { tree: snapshotter.tree(snapshot)?, chain, snapshotter: snapshotter.clone() })
    }

    /// The file that `entry`, found in `layer`, is a name of: the layer and the path that holds
    /// the data, and the node of that path. A link's target may be hidden by a higher layer, but
    /// its own layer still has it.
    fn file_of(&self, layer: usize, entry: &Entry) -> Option<((usize, TreePath), Node)> {
        let file = self.tree.content_of(layer, entry)?;
        Some(((layer, file.path.clone()), file.node.clone()))
    }

    fn collect(
        &self,
        dir: &TreePath,
        base: &TreePath,
        keep: &(dyn Fn(&TreePath, bool) -> Keep + Sync),
        out: &mut Vec<Entry>,
    ) {
        for entry in self.tree.children(dir) {
            let relative = entry.path.strip_prefix(base).unwrap_or_default();
            let directory = matches!(entry.node, Node::Directory { .. });
            let kept = keep(&relative, directory);
            if kept == Keep::No || (kept == Keep::IfSomethingBelow && !directory) {
                continue;
            }
            let at = out.len();
            out.push(entry.clone());
            if directory {
                self.collect(&entry.path, base, keep, out);
                if kept == Keep::IfSomethingBelow && out.len() == at + 1 {
                    out.pop();
                }
            }
        }
    }
}

impl SourceTree for ResultTree {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, SourceError> {
        let Some((layer, entry)) = self.tree.entry_with_layer(path) else { return Ok(None) };
        let mut entry = entry.clone();
        if let Some((_, node)) = self.file_of(layer, &entry) {
            entry.node = node;
        }
        Ok(Some(entry))
    }

    fn list(&self, path: &TreePath) -> Result<Vec<Entry>, SourceError> {
        Ok(self.tree.children(path).into_iter().cloned().collect())
    }

    fn walk(
        &self,
        path: &TreePath,
        keep: &(dyn Fn(&TreePath, bool) -> Keep + Sync),
    ) -> Result<Vec<Entry>, SourceError> {
        let mut out = Vec::new();
        self.collect(path, path, keep, &mut out);
        link_groups(&mut out, |entry| {
            let (layer, entry) = self.tree.entry_with_layer(&entry.path)?;
            self.file_of(layer, entry)
        });
        Ok(out)
    }

    fn hashed(&self, entry: Entry) -> Result<Entry, SourceError> {
        Ok(entry)
    }

    fn open(&self, path: &TreePath) -> Result<File, SourceError> {
        let found = self.tree.entry_with_layer(path);
        let Some((layer, entry)) = found else {
            return Err(SourceError::read(
                path,
                std::io::Error::from(std::io::ErrorKind::NotFound),
            ));
        };
        let data = self.file_of(layer, entry).map_or_else(|| path.clone(), |((_, p), _)| p);
        let id = &self.chain[layer];
        self.snapshotter.open_file(id, &data).map_err(|e| SourceError::read(path, e))
    }

    fn has_owners(&self) -> bool {
        true
    }
}
