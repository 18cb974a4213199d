//! Where a copy lands.

use std::cell::Cell;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use oci::layer::TreePath;
use sys::root::Root;
use sys::walk::FileKind;

use super::error::CopyError;
use super::target::write_error;

/// The most links that a destination may lead through, as in the kernel (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// Which source of an instruction became what its destination names, if one did. Shared by all
/// copies of one instruction.
#[derive(Debug, Default)]
pub struct Landing {
    /// How many sources the copies that are done had.
    before: Cell<usize>,
    /// The number of the source.
    by: Cell<Option<usize>>,
}

impl Landing {
    /// A copy with `count` sources is done.
    pub fn pass(&self, count: usize) {
        self.before.set(self.before.get() + count);
    }

    /// Source `source` of the present copy becomes what the destination names; whether none did.
    fn take(&self, source: usize) -> bool {
        let number = self.before.get() + source;
        self.by.replace(Some(number)).is_none_or(|earlier| earlier == number)
    }
}

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

    /// The path that a single file called `name` gets: no link is on the way, and one at its end
    /// only in a directory, where it is replaced. `source` is its number in this
    /// copy: only one of an instruction's may become what the destination itself names.
    ///
    /// # Errors
    /// If an earlier source did (Docker's reference, COPY; BuildKit lets the last one win).
    pub(crate) fn of_file(
        &self,
        root: &Root,
        name: &TreePath,
        landing: &Landing,
        source: usize,
    ) -> Result<PathBuf, CopyError> {
        let (path, directory) = self.find(root)?;
        if self.directory || directory {
            return Ok(path.join(name.as_path()));
        }
        if !landing.take(source) {
            return Err(CopyError::SeveralSources { path: self.path.to_string() });
        }
        Ok(path)
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
