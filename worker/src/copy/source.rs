//! Where a copy reads from: a context in place, or a result's merged tree.

use std::collections::HashMap;
use std::fs::File;
use std::hash::Hash;

use oci::layer::{Entry, Node, TreePath};

/// The most symbolic links that one path may go through, as in the kernel (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// A tree of files to select from. Paths never leave it: `..` and absolute links are taken
/// inside, as after chroot(2).
pub trait SourceTree: Send + Sync {
    /// The entry at `path` itself (a final symbolic link is not followed; a hard link is the file
    /// that it is). The root has none. The content digest of a file may be left out.
    ///
    /// # Errors
    /// If the tree cannot be read.
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, SourceError>;

    /// The entries of the directory `path`, sorted, content digests left out.
    ///
    /// # Errors
    /// If the tree cannot be read.
    fn list(&self, path: &TreePath) -> Result<Vec<Entry>, SourceError>;

    /// Everything below the directory `path`, depth first and sorted, with content digests;
    /// only what `keep` says of a path (relative to `path`) and whether it is a directory. A
    /// directory that is not kept is not entered. Of the names of one file the first that is kept
    /// has its content, the others are hard links to it.
    ///
    /// # Errors
    /// If the tree cannot be read.
    fn walk(
        &self,
        path: &TreePath,
        keep: &(dyn Fn(&TreePath, bool) -> Keep + Sync),
    ) -> Result<Vec<Entry>, SourceError>;

    /// The same entry with its content digest.
    ///
    /// # Errors
    /// If the file cannot be read.
    fn hashed(&self, entry: Entry) -> Result<Entry, SourceError>;

    /// Opens the regular file at `path` for reading; hard links are followed.
    ///
    /// # Errors
    /// If it is gone or cannot be opened.
    fn open(&self, path: &TreePath) -> Result<File, SourceError>;

    /// Whether owners and capabilities count: they do not in a context (its files belong to
    /// whoever checked them out).
    fn has_owners(&self) -> bool;

    /// Why nothing is found at `path`, where the tree has more to say than that: an ignore file
    /// leaves it out.
    fn why_missing(&self, path: &TreePath) -> Option<String> {
        let _ = path;
        None
    }
}

/// What becomes of a path during a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It is part of the result.
    Yes,
    /// It is not, and nothing below it is.
    No,
    /// A directory that is part of the result only if something below it is.
    IfSomethingBelow,
}

/// Why a source tree cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A plain path that is not there.
    #[error("{path:?}{}", missing(.tree, .reason.as_deref(), .near.as_deref()))]
    NotFound {
        /// As the instruction names it.
        path: String,
        /// What was searched, for people.
        tree: String,
        /// Why, where more is known.
        reason: Option<String>,
        /// What is there and has nearly its name.
        near: Option<String>,
    },
    /// A symbolic link leads through too many others.
    #[error("{path:?}: too many levels of symbolic links")]
    Loop {
        /// Where it started.
        path: String,
    },
    /// A file changed between being hashed and being copied.
    #[error("{path:?} changed while it was being copied; run the build again")]
    Changed {
        /// Which.
        path: String,
    },
    /// The tree's own failure.
    #[error("cannot read {path:?}: {source}")]
    Read {
        /// Which path.
        path: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A pattern that is none.
    #[error("invalid pattern {pattern:?}: {source}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why.
        #[source]
        source: graph::pattern::PatternError,
    },
}

fn missing(tree: &str, reason: Option<&str>, near: Option<&str>) -> String {
    match (reason, near) {
        (Some(reason), _) => format!(" is not in {tree}: {reason}"),
        (None, Some(near)) => format!(": not found in {tree} (did you mean {near:?}?)"),
        (None, None) => format!(": not found in {tree}"),
    }
}

impl SourceError {
    /// A failed read of `path`.
    pub fn read(
        path: &TreePath,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Read { path: path.to_string(), source: source.into() }
    }
}

/// Follows symbolic links inside `tree`: the path that `path` finally means, with the entry
/// there (none for the root directory). `Ok(None)` where nothing is there.
///
/// # Errors
/// If the tree cannot be read or links loop.
pub fn resolve(
    tree: &dyn SourceTree,
    path: &TreePath,
    follow_last: bool,
) -> Result<Option<(TreePath, Option<Entry>)>, SourceError> {
    // What is still to go, the next component last.
    let mut pending: Vec<Vec<u8>> = path.components().map(<[u8]>::to_vec).collect();
    pending.reverse();
    let mut at = TreePath::root();
    let mut entry = None;
    let mut links = 0;
    while let Some(name) = pending.pop() {
        match name.as_slice() {
            b"" | b"." => continue,
            b".." => {
                at = at.parent().unwrap_or_default();
                entry = None;
                continue;
            }
            _ => {}
        }
        let next = at.child(&name).map_err(|e| SourceError::read(path, e))?;
        let Some(found) = tree.entry(&next)? else { return Ok(None) };
        match &found.node {
            Node::Symlink { target } if follow_last || !pending.is_empty() => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(SourceError::Loop { path: path.to_string() });
                }
                if target.starts_with(b"/") {
                    at = TreePath::root();
                }
                pending.extend(target.split(|b| *b == b'/').map(<[u8]>::to_vec).rev());
                entry = None;
            }
            Node::Directory { .. } => {
                at = next;
                entry = Some(found);
            }
            _ if pending.iter().any(|c| !c.is_empty() && c != b".") => return Ok(None),
            _ => {
                at = next;
                entry = Some(found);
            }
        }
    }
    if entry.is_none() && !at.is_root() {
        entry = tree.entry(&at)?;
    }
    Ok(Some((at, entry)))
}

/// Of the names of one file, makes the first one carry the content and the others link to it.
/// `file_of` tells which file an entry is a name of, and its content; entries it answers `None`
/// for stay as they are.
pub fn link_groups<K: Eq + Hash>(
    entries: &mut [Entry],
    mut file_of: impl FnMut(&Entry) -> Option<(K, Node)>,
) {
    let mut first_names: HashMap<K, TreePath> = HashMap::new();
    for entry in entries {
        let Some((file, node)) = file_of(entry) else { continue };
        match first_names.get(&file) {
            Some(first) => entry.node = Node::HardLink { target: first.clone() },
            None => {
                first_names.insert(file, entry.path.clone());
                entry.node = node;
            }
        }
    }
}
