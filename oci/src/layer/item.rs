//! What a tar entry means in a layer.

use super::capability::{CAPABILITY_XATTR, CapabilityError, normalise_capability};
use super::whiteout::{AUFS_PREFIX, WHITEOUT_PREFIX, WhiteoutName};
use super::{ContentHash, Entry, Metadata, Node, TarEntry, TarKind, TreePath, TreePathError};

/// The longest symbolic link target, in bytes (Linux: `PATH_MAX` with its NUL).
const MAX_TARGET: usize = 4095;

/// What a tar entry means in a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerItem {
    /// An entry, whiteouts included.
    Entry(Entry),
    /// The directory at this path hides what lower layers have in it, and only that: entries of
    /// the same layer stay, whether they come before or after.
    Opaque(TreePath),
    /// Nothing.
    Skip(SkipReason),
}

/// Why a tar entry means nothing in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// The root directory, which has no entry.
    Root,
    /// AUFS bookkeeping (`.wh..wh.plnk` and the like).
    Aufs,
}

/// Why a tar entry is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LayerItemError {
    /// Its name makes no path.
    #[error("layer entry: {0}")]
    Path(#[from] TreePathError),
    /// A whiteout of nothing, or something inside a whiteout.
    #[error("layer entry {path}: not a whiteout that names something")]
    Whiteout {
        /// Of the entry.
        path: TreePath,
    },
    /// A character device 0:0. Overlayfs takes it for a whiteout.
    #[error("layer entry {path}: a character device 0:0 would act as a whiteout")]
    WhiteoutDevice {
        /// Of the entry.
        path: TreePath,
    },
    /// An attribute that overlayfs reads.
    #[error("layer entry {path}: the attribute {name} would change how layers are stacked")]
    OverlayAttribute {
        /// Of the entry.
        path: TreePath,
        /// Of the attribute.
        name: String,
    },
    /// File capabilities in no known form.
    #[error("layer entry {path}: {source}")]
    Capability {
        /// Of the entry.
        path: TreePath,
        /// What is wrong.
        source: CapabilityError,
    },
    /// A symbolic link that no file system holds.
    #[error("layer entry {path}: a symbolic link target of {size} bytes, or with a NUL byte")]
    Target {
        /// Of the entry.
        path: TreePath,
        /// Of the target.
        size: usize,
    },
    /// A hard link to itself or to the root.
    #[error("layer entry {path}: a hard link to {target}")]
    HardLink {
        /// Of the entry.
        path: TreePath,
        /// What it links to.
        target: TreePath,
    },
    /// A regular file was given without the hash of its content.
    #[error("layer entry {path}: the content was not hashed")]
    NoContent {
        /// Of the entry.
        path: TreePath,
    },
}

/// Reads a tar entry as a layer entry. `content` is the hash of the content of a regular file;
/// for a whiteout it does not matter.
///
/// Names are cleaned (absolute ones become relative, `..` stays inside), whiteout names become
/// what they mean, of the extended attributes only `security.capability` of regular files stays.
/// A hard link's metadata is what the archive says; [`super::LayerManifest::new`] makes it that
/// of its target.
///
/// # Errors
/// See [`LayerItemError`].
pub fn to_layer_entry(
    entry: &TarEntry,
    content: Option<ContentHash>,
) -> Result<LayerItem, LayerItemError> {
    let path = TreePath::clean(&entry.raw_path)?;
    let Some(name) = path.file_name() else { return Ok(LayerItem::Skip(SkipReason::Root)) };
    if path.components().any(|c| WhiteoutName::parse(c) == WhiteoutName::Aufs) {
        return Ok(LayerItem::Skip(SkipReason::Aufs));
    }
    let parent = path.parent().unwrap_or_default();
    if parent.components().any(|c| c.starts_with(WHITEOUT_PREFIX)) {
        return Err(LayerItemError::Whiteout { path });
    }
    match WhiteoutName::parse(name) {
        WhiteoutName::Plain => {}
        WhiteoutName::Opaque => return Ok(LayerItem::Opaque(parent)),
        WhiteoutName::Gone(name) => {
            let path = parent.child(name)?;
            let meta = Metadata::default();
            return Ok(LayerItem::Entry(Entry { path, node: Node::Whiteout, meta }));
        }
        WhiteoutName::Aufs | WhiteoutName::Invalid => {
            return Err(LayerItemError::Whiteout { path });
        }
    }
    let capability = capability(entry, &path)?;
    let node = node(entry, &path, content)?;
    let meta = Metadata {
        mode: entry.mode & 0o7777,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        capability,
    };
    Ok(LayerItem::Entry(Entry { path, node, meta }))
}

fn node(
    entry: &TarEntry,
    path: &TreePath,
    content: Option<ContentHash>,
) -> Result<Node, LayerItemError> {
    Ok(match &entry.kind {
        TarKind::Directory => Node::Directory { opaque: false },
        TarKind::File { size } => {
            let content =
                content.ok_or_else(|| LayerItemError::NoContent { path: path.clone() })?;
            Node::File { size: *size, content }
        }
        TarKind::Symlink { target } => {
            if target.is_empty() || target.len() > MAX_TARGET || target.contains(&0) {
                let size = target.len();
                return Err(LayerItemError::Target { path: path.clone(), size });
            }
            Node::Symlink { target: target.as_slice().into() }
        }
        TarKind::HardLink { target } => {
            let target = TreePath::clean(target)?;
            if target.is_root() || target == *path {
                return Err(LayerItemError::HardLink { path: path.clone(), target });
            }
            if target.components().any(|c| c.starts_with(AUFS_PREFIX)) {
                return Err(LayerItemError::HardLink { path: path.clone(), target });
            }
            Node::HardLink { target }
        }
        TarKind::CharDevice { major: 0, minor: 0 } => {
            return Err(LayerItemError::WhiteoutDevice { path: path.clone() });
        }
        TarKind::CharDevice { major, minor } => Node::CharDevice { major: *major, minor: *minor },
        TarKind::BlockDevice { major, minor } => Node::BlockDevice { major: *major, minor: *minor },
        TarKind::Fifo => Node::Fifo,
    })
}

/// The capability of a regular file, after a look at all attributes.
fn capability(entry: &TarEntry, path: &TreePath) -> Result<Option<Box<[u8]>>, LayerItemError> {
    const OVERLAY: &[u8] = b".overlay.";
    let mut found = None;
    for (name, value) in &entry.xattrs {
        if name.windows(OVERLAY.len()).any(|part| part == OVERLAY) {
            let name = String::from_utf8_lossy(name).into_owned();
            return Err(LayerItemError::OverlayAttribute { path: path.clone(), name });
        }
        if name == CAPABILITY_XATTR && matches!(entry.kind, TarKind::File { .. }) {
            let value = normalise_capability(value)
                .map_err(|source| LayerItemError::Capability { path: path.clone(), source })?;
            found = Some(value);
        }
    }
    Ok(found)
}
