//! Following symbolic links inside a tree.

use super::{Node, Tree, TreePath, TreePathError};

/// How many symbolic links are followed for one path (Linux: path_resolution(7)).
pub const MAX_SYMLINKS: usize = 40;

/// Where a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The path without symbolic links; where something on the way is missing, the path at which
    /// it would be.
    pub path: TreePath,
    /// Whether there is something at `path`.
    pub exists: bool,
}

/// Why a path leads nowhere.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ResolveError {
    /// A loop, or too many links in a row.
    #[error("resolving {path}: more than {MAX_SYMLINKS} symbolic links")]
    TooManyLinks {
        /// What was to be resolved.
        path: String,
    },
    /// Something on the way is not a directory.
    #[error("resolving {path}: {at} is not a directory")]
    NotADirectory {
        /// What was to be resolved.
        path: String,
        /// What is in the way.
        at: TreePath,
    },
    /// A link target makes no path.
    #[error("resolving a symbolic link: {0}")]
    Path(#[from] TreePathError),
}

impl Tree {
    /// Follows the symbolic links on the way to `path` as a process would that has this tree as
    /// its root: absolute targets start at the root, `..` stays inside. `follow_last`: also if
    /// the last component is one.
    ///
    /// # Errors
    /// If there are too many links or something on the way is not a directory. A missing
    /// component is no error.
    pub fn resolve(&self, path: &TreePath, follow_last: bool) -> Result<Resolved, ResolveError> {
        self.resolve_raw(path.as_bytes(), follow_last)
    }

    /// As [`Self::resolve`] for a path as somebody wrote it: `..` after a symbolic link is the
    /// parent of what the link leads to.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn resolve_raw(&self, path: &[u8], follow_last: bool) -> Result<Resolved, ResolveError> {
        let name = || TreePath::clean(path).map_or_else(|e| e.path, |p| p.to_string());
        // What is still to go, the next component last.
        let mut todo: Vec<Vec<u8>> = components(path);
        let mut at = TreePath::root();
        let mut exists = true;
        let mut links = 0;
        while let Some(component) = todo.pop() {
            if component == b".." {
                at = at.parent().unwrap_or_default();
                exists = at.is_root() || self.get(&at).is_some();
                continue;
            }
            let next = at.child(&component)?;
            let entry = self.get(&next);
            exists = entry.is_some();
            match entry.map(|e| &e.node) {
                Some(Node::Symlink { target }) if follow_last || !todo.is_empty() => {
                    links += 1;
                    if links > MAX_SYMLINKS {
                        return Err(ResolveError::TooManyLinks { path: name() });
                    }
                    if target.first() == Some(&b'/') {
                        at = TreePath::root();
                    }
                    exists = at.is_root() || self.get(&at).is_some();
                    todo.extend(components(target));
                }
                Some(Node::Directory { .. }) | None => at = next,
                Some(_) if todo.is_empty() => at = next,
                Some(_) => return Err(ResolveError::NotADirectory { path: name(), at: next }),
            }
        }
        Ok(Resolved { path: at, exists })
    }
}

/// The components of `path` that count, the last one first.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|b| *b == b'/')
        .rev()
        .filter(|c| !matches!(*c, b"" | b"."))
        .map(<[u8]>::to_vec)
        .collect()
}
