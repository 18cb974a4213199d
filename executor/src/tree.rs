//! Names in a root file system with mounts that are not attached yet.
//!
//! A mount's target is resolved as the process would see it: links lead through the root, never
//! out of it, and through the mounts planned before. This is done by hand, one component at a
//! time, because the kernel does not know these mounts as one tree, and because a target may end
//! in nothing: an image's `/etc/resolv.conf` is often a link to a file that only exists on a
//! running system. Nobody else works in these trees yet, except in shared cache mounts; the
//! child refuses every link when it attaches.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

/// Links followed in one resolution, as in the kernel.
const MAX_LINKS: usize = 40;

/// Why a name leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    /// A call failed.
    #[error("{}: {errno}", path.display())]
    Failed {
        /// How far it went.
        path: PathBuf,
        /// Cause.
        errno: Errno,
    },
    /// It leads into /proc or /sys.
    #[error("{} is a kernel file system", path.display())]
    Kernel {
        /// Which.
        path: PathBuf,
    },
}

/// What a mount in the table shows.
#[derive(Debug)]
enum Shown {
    /// A mount that the builder has open.
    Open(OwnedFd),
    /// A file system of the child's namespaces, which does not exist yet.
    Kernel,
}

/// The root with the mounts planned so far.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    root: BorrowedFd<'a>,
    mounts: Vec<(PathBuf, Shown)>,
}

/// Where a name leads.
#[derive(Debug)]
pub(crate) struct Place {
    /// Absolute, inside the root, without links.
    pub(crate) path: PathBuf,
    /// The last directory (or file) on the way that exists, open as a path.
    pub(crate) found: OwnedFd,
    /// Whether `found` is a directory.
    pub(crate) is_dir: bool,
    /// What is missing below `found`.
    pub(crate) missing: Vec<OsString>,
}

impl<'a> Tree<'a> {
    pub(crate) fn new(root: BorrowedFd<'a>) -> Self {
        Self { root, mounts: Vec::new() }
    }

    /// Records a mount at a path that [`Tree::resolve`] gave. What was mounted below is hidden.
    pub(crate) fn add(&mut self, path: &Path, mount: OwnedFd) {
        self.cover(path, Shown::Open(mount));
    }

    /// Records a mount that is made in the child.
    pub(crate) fn add_kernel(&mut self, path: &Path) {
        self.cover(path, Shown::Kernel);
    }

    fn cover(&mut self, path: &Path, shown: Shown) {
        self.mounts.retain(|(other, _)| !other.starts_with(path));
        self.mounts.push((path.to_path_buf(), shown));
    }

    /// Follows `path` from the root.
    pub(crate) fn resolve(&self, path: &Path) -> Result<Place, TreeError> {
        let mut walk = Walk { tree: self, stack: Vec::new(), missing: Vec::new(), links: 0 };
        let mut pending = components(path);
        while let Some(name) = pending.pop_front() {
            if name == ".." {
                if walk.missing.pop().is_none() {
                    walk.stack.pop();
                }
            } else if !walk.missing.is_empty() {
                walk.missing.push(name);
            } else {
                walk.enter(name, &mut pending)?;
            }
        }
        walk.finish()
    }
}

struct Walk<'t, 'a> {
    tree: &'t Tree<'a>,
    stack: Vec<(OsString, OwnedFd, bool)>,
    missing: Vec<OsString>,
    links: usize,
}

impl Walk<'_, '_> {
    fn path(&self) -> PathBuf {
        let names = self.stack.iter().map(|(name, ..)| name).chain(&self.missing);
        Path::new("/").join(names.collect::<PathBuf>())
    }

    fn failed(&self, name: &OsStr, errno: Errno) -> TreeError {
        TreeError::Failed { path: self.path().join(name), errno }
    }

    fn enter(&mut self, name: OsString, pending: &mut VecDeque<OsString>) -> Result<(), TreeError> {
        let path = self.path().join(&name);
        if let Some((_, shown)) = self.tree.mounts.iter().find(|(other, _)| *other == path) {
            let Shown::Open(fd) = shown else { return Err(TreeError::Kernel { path }) };
            let fd = duplicate(fd.as_fd()).map_err(|errno| self.failed(&name, errno))?;
            let is_dir = is_dir(&fd).map_err(|errno| self.failed(&name, errno))?;
            self.stack.push((name, fd, is_dir));
            return Ok(());
        }
        let dir = self.stack.last().map_or(self.tree.root, |(_, fd, _)| fd.as_fd());
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(dir, &name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => {
                self.missing.push(name);
                return Ok(());
            }
            Err(errno) => return Err(self.failed(&name, errno)),
        };
        let kind = rustix::fs::fstat(&fd).map_err(|errno| self.failed(&name, errno))?.st_mode;
        let kind = FileType::from_raw_mode(kind);
        if !kind.is_symlink() {
            self.stack.push((name, fd, kind.is_dir()));
            return Ok(());
        }
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(self.failed(&name, Errno::LOOP));
        }
        let target = rustix::fs::readlinkat(&fd, "", Vec::new())
            .map_err(|errno| self.failed(&name, errno))?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            self.stack.clear();
        }
        let mut names = components(&target);
        names.append(pending);
        *pending = names;
        Ok(())
    }

    fn finish(mut self) -> Result<Place, TreeError> {
        let path = self.path();
        let (found, is_dir) = match self.stack.pop() {
            Some((_, fd, is_dir)) => (fd, is_dir),
            None => {
                let root = duplicate(self.tree.root);
                (root.map_err(|errno| TreeError::Failed { path: "/".into(), errno })?, true)
            }
        };
        if !is_dir && !self.missing.is_empty() {
            return Err(TreeError::Failed { path, errno: Errno::NOTDIR });
        }
        Ok(Place { path, found, is_dir, missing: self.missing })
    }
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|it| match it {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(fd, 0)
}

/// Whether a descriptor is open on a directory.
pub(crate) fn is_dir(fd: impl AsFd) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode).is_dir())
}

/// A path of the plan as the child wants it: relative to the root.
pub(crate) fn relative(path: &Path) -> Vec<u8> {
    path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn open(path: &Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn links_stay_inside_and_lead_through_mounts() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        let other = temp.path().join("other");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(other.join("sub")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        symlink("../../../../file", root.join("a/out")).unwrap();
        symlink("/a/b/../nothing/here", root.join("dangling")).unwrap();
        symlink("/cache", root.join("link")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let fd = open(&root);
        let mut tree = Tree::new(fd.as_fd());
        let path = |tree: &Tree<'_>, name: &str| {
            let place = tree.resolve(Path::new(name)).unwrap();
            (place.path.to_str().unwrap().to_owned(), place.missing.len())
        };
        assert_eq!(path(&tree, "/"), ("/".into(), 0));
        assert_eq!(path(&tree, "/a/out"), ("/file".into(), 0));
        assert_eq!(path(&tree, "/../a/./b"), ("/a/b".into(), 0));
        assert_eq!(path(&tree, "/dangling/x"), ("/a/nothing/here/x".into(), 3));
        assert_eq!(path(&tree, "/new/../a"), ("/a".into(), 0));
        assert_eq!(path(&tree, "/link/sub"), ("/cache/sub".into(), 2));
        tree.add(Path::new("/cache"), open(&other));
        assert_eq!(path(&tree, "/link/sub"), ("/cache/sub".into(), 0));
        assert!(tree.resolve(Path::new("/file/x")).is_err());
        assert!(tree.resolve(Path::new("/loop")).is_err());
        tree.add_kernel(Path::new("/proc"));
        assert!(matches!(tree.resolve(Path::new("/proc/1")), Err(TreeError::Kernel { .. })));
    }

    #[test]
    fn a_mount_hides_those_below() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("a/b")).unwrap();
        let (root, upper) = (open(temp.path()), tempfile::tempdir().unwrap());
        let mut tree = Tree::new(root.as_fd());
        tree.add(Path::new("/a/b"), open(temp.path()));
        assert!(tree.resolve(Path::new("/a/b/a")).unwrap().missing.is_empty());
        tree.add(Path::new("/a"), open(upper.path()));
        assert_eq!(tree.resolve(Path::new("/a/b/a")).unwrap().missing.len(), 2);
    }
}
