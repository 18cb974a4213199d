//! Where a copy lands.

use std::path::{Path, PathBuf};

use oci::layer::TreePath;
use sys::root::Root;
use sys::walk::FileKind;

use super::error::CopyError;

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

    /// Whether there is a directory now (links followed inside the root).
    fn is_directory(&self, root: &Root) -> bool {
        self.path.is_root() || root.stat_followed(self.path.as_path()).is_ok_and(|s| s.is_dir())
    }

    /// Refuses several sources for what is no directory (Docker's reference, COPY).
    pub(crate) fn check_several(&self, root: &Root) -> Result<(), CopyError> {
        if self.directory || self.is_directory(root) {
            return Ok(());
        }
        Err(CopyError::SeveralSources { path: self.path.to_string() })
    }

    /// The path that a single file called `name` gets.
    pub(crate) fn of_file(&self, root: &Root, name: &TreePath) -> Result<PathBuf, CopyError> {
        if self.directory || self.is_directory(root) {
            return Ok(self.path.join(name)?.as_path().to_owned());
        }
        follow(root, self.path.as_path())
    }

    /// The path of the directory that contents go to.
    ///
    /// # Errors
    /// If something else is there.
    pub(crate) fn of_contents(&self, root: &Root) -> Result<PathBuf, CopyError> {
        let path = follow(root, self.path.as_path())?;
        match root.try_stat(&path)? {
            Some(stat) if !stat.is_dir() => {
                Err(CopyError::NotADirectory { path: self.path.to_string() })
            }
            _ => Ok(path),
        }
    }
}

/// Follows the links that `path` itself is, inside the root; a link to nothing is followed to
/// where its target would be.
fn follow(root: &Root, path: &Path) -> Result<PathBuf, CopyError> {
    let mut at = path.to_owned();
    for _ in 0..MAX_LINKS {
        if at.as_os_str().is_empty() {
            return Ok(at);
        }
        match root.try_stat(&at)? {
            Some(stat) if stat.kind == FileKind::Symlink => {
                let target = root.readlink(&at)?;
                let joined = at.parent().unwrap_or(Path::new("")).join(target);
                let clean = TreePath::clean(joined.as_os_str().as_encoded_bytes())?;
                at = clean.as_path().to_owned();
            }
            _ => return Ok(at),
        }
    }
    Err(CopyError::Write {
        path: format!("/{}", path.display()),
        source: std::io::Error::other("too many levels of symbolic links"),
    })
}
