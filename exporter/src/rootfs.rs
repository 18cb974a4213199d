//! The root file system of an image as one tree.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use oci::Timestamp;
use oci::layer::{Entry, LayerManifest, Node, Tree, TreePath, WriteOptions, write_layer};

use crate::{ExportError, Image, Report};

/// An entry of the merged tree and where its content is.
pub(crate) struct Merged {
    /// The entry; hard links point to a path of the merged tree.
    pub(crate) entry: Entry,
    /// The layer and the entry there that holds the content.
    pub(crate) data: (usize, Entry),
}

/// The merged tree as a list without whiteouts. Of the names of one file the first has its
/// content, the others link to it; a name whose link target a higher layer replaced keeps the
/// content of its own layer.
pub(crate) fn merge(tree: &Tree) -> Vec<Merged> {
    let mut first_names: HashMap<(usize, TreePath), TreePath> = HashMap::new();
    let mut out = Vec::new();
    for (layer, entry) in tree.walk_with_layer(&TreePath::root()) {
        let mut merged = Merged { entry: entry.clone(), data: (layer, entry.clone()) };
        if let Some(file) = tree.content_of(layer, entry) {
            let name = first_names.entry((layer, file.path.clone())).or_insert(entry.path.clone());
            if *name == entry.path {
                merged.entry.node = file.node.clone();
                merged.data.1 = file.clone();
            } else {
                merged.entry.node = Node::HardLink { target: name.clone() };
            }
        }
        if let Node::Directory { opaque } = &mut merged.entry.node {
            *opaque = false;
        }
        out.push(merged);
    }
    out
}

/// Writes the image's root file system as a tar: owners kept, no whiteouts.
///
/// # Errors
/// If a file cannot be read or `out` cannot be written.
pub fn rootfs_tar(
    image: &Image,
    out: &mut dyn Write,
    report: &dyn Report,
) -> Result<(), ExportError> {
    let tree = image.layers.tree().map_err(ExportError::Tree)?;
    let merged = merge(&tree);
    let data: HashMap<TreePath, (usize, Entry)> =
        merged.iter().map(|m| (m.entry.path.clone(), m.data.clone())).collect();
    let manifest = LayerManifest::new(merged.into_iter().map(|m| m.entry).collect());
    let mut open = |entry: &Entry| -> io::Result<Box<dyn Read>> {
        if report.cancelled() {
            return Err(io::Error::from(io::ErrorKind::Interrupted));
        }
        let (layer, file) = &data[&entry.path];
        image.layers.open(*layer, file).map_err(io::Error::other)
    };
    let options = WriteOptions { epoch: image.epoch };
    match write_layer(&manifest, &mut open, &options, &mut *out) {
        Err(_) if report.cancelled() => Err(ExportError::Cancelled),
        Err(error) => Err(error.into()),
        Ok(_) => out.flush().map_err(ExportError::write("root file system")),
    }
}

/// A time as it is exported: not after the epoch where there is one.
pub(crate) fn clamp(time: Timestamp, epoch: Option<Timestamp>) -> Timestamp {
    epoch.map_or(time, |epoch| time.min(epoch))
}
