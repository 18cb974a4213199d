//! One entry of a layer.

use crate::Timestamp;

use super::TreePath;

/// The BLAKE3 digest of a file's content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub [u8; 32]);

impl std::fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "blake3:{}", hex::encode(&self.0[..6]))
    }
}

/// What every kind of entry has.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Permission bits with setuid, setgid and sticky: `0o7777`.
    pub mode: u32,
    /// The owner, as the container sees it.
    pub uid: u32,
    /// The group, as the container sees it.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// `security.capability` (in its version 2 form) where the file has it; nothing else enters
    /// a layer (BuildKit does the same: other attributes belong to the host, not to the image).
    pub capability: Option<Box<[u8]>>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory. `opaque`: the lower layers' content of it is hidden; only in layers that
    /// other builders made (a layer of our own has whiteouts instead).
    Directory {
        /// See the variant.
        opaque: bool,
    },
    /// A regular file.
    File {
        /// In bytes.
        size: u64,
        /// Of the whole content.
        content: ContentHash,
    },
    /// A symbolic link with its target as stored.
    Symlink {
        /// Any bytes but NUL.
        target: Box<[u8]>,
    },
    /// One more name of the file at `target`. In a layer of our own the target is the first
    /// path, in order, of its group, and in the same layer.
    HardLink {
        /// In the same tree.
        target: TreePath,
    },
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// The lower layers' entry of this name is gone. Metadata is all zero.
    Whiteout,
}

/// One entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Never the root: a layer has no entry for it.
    pub path: TreePath,
    /// What it is.
    pub node: Node,
    /// Its metadata; a hard link repeats that of its target.
    pub meta: Metadata,
}

impl Entry {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.node, Node::Directory { .. })
    }

    /// Whether it says that the lower layers' entry is gone.
    pub fn is_whiteout(&self) -> bool {
        matches!(self.node, Node::Whiteout)
    }

    /// The size of a regular file in bytes; none for every other kind.
    pub fn file_size(&self) -> Option<u64> {
        match self.node {
            Node::File { size, .. } => Some(size),
            _ => None,
        }
    }

    /// Whether nothing that lower layers have below this path can be seen: everything but a
    /// directory that is not opaque hides it.
    pub fn hides_lower(&self) -> bool {
        !matches!(self.node, Node::Directory { opaque: false })
    }
}
