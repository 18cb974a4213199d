//! Where a copy lands.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use oci::layer::TreePath;
use sys::root::Root;
use sys::walk::FileKind;

use super::error::CopyError;
use super::target::write_error;

/// The most links that a destination may lead through, as in the kernel (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// A destination as the instruction names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    /// Its normal form.
    pub(crate) path: TreePath,
    /// Whether it says that it is a directory: by a final `/` or `/.`.
    pub(crate) directory: bool,
}

impl Destination {
    /// Reads a destination; `..` clamps at the root.
    pub(crate) fn new(text: &str) -> Result<Self, CopyError> {
        Ok(Self {
            path: TreePath::clean(text.as_bytes())?,
            directory: text.ends_with('/') || text.ends_with("/.") || text == ".",
        })
    }

    /// Where it is, links followed inside the root, and whether there is a directory now.
    fn find(&self, root: &Root) -> Result<(PathBuf, bool), CopyError> {
        let path = real_path(root, self.path.as_path())?;
        let directory = root.try_stat(&path)?.is_some_and(|s| s.is_dir());
        Ok((path, directory))
    }

    /// Refuses several sources for what is no directory (Docker's reference, COPY).
    pub(crate) fn check_several(&self, root: &Root) -> Result<(), CopyError> {
        if self.directory || self.find(root)?.1 {
            return Ok(());
        }
        Err(CopyError::SeveralSources { path: self.path.to_string() })
    }

    /// The path that a single file called `name` gets: no link is on the way, and one at its end
    /// only in a directory, where it is replaced.
    pub(crate) fn of_file(&self, root: &Root, name: &TreePath) -> Result<PathBuf, CopyError> {
        let (path, directory) = self.find(root)?;
        Ok(if self.directory || directory { path.join(name.as_path()) } else { path })
    }

    /// The path of the directory that contents go to, without links.
    ///
    /// # Errors
    /// If something else is there.
    pub(crate) fn of_contents(&self, root: &Root) -> Result<PathBuf, CopyError> {
        let path = real_path(root, self.path.as_path())?;
        match root.try_stat(&path)? {
            Some(stat) if !stat.is_dir() => {
                Err(CopyError::NotADirectory { path: self.path.to_string() })
            }
            _ => Ok(path),
        }
    }
}

/// What `path` finally means inside the root: every link is followed, the last one too, and what
/// is not there yet is where its target would be.
fn real_path(root: &Root, path: &Path) -> Result<PathBuf, CopyError> {
    // What is still to go, the next component last.
    let mut left = components(path);
    let mut at = PathBuf::new();
    let mut links = 0;
    while let Some(name) = left.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        let is_link = root.try_stat(&next)?.is_some_and(|s| s.kind == FileKind::Symlink);
        if !is_link {
            at = next;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            let source = std::io::Error::other("too many levels of symbolic links");
            return Err(write_error(path, source));
        }
        let target = root.readlink(&next)?;
        if target.is_absolute() {
            at = PathBuf::new();
        }
        left.extend(components(&target));
    }
    Ok(at)
}

/// The components of a path that mean something, the last one first.
fn components(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    });
    let mut parts: Vec<OsString> = parts.collect();
    parts.reverse();
    parts
}
