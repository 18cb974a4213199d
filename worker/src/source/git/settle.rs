//! What git leaves to the umask and the moment: owners, modes, times. And moving a directory to
//! the root.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::OFlags;
use sys::root::{PathError, Root, set_mtime_at};
use sys::walk::{self, FileKind, Stat};

use super::error::{At, GitError};

/// The mode of directories and of what can be executed.
const OPEN: u32 = 0o755;
/// The mode of other files.
const FILE: u32 = 0o644;
/// The mode of git's own files that never change.
const FIXED: u32 = 0o444;

impl From<PathError> for GitError {
    fn from(error: PathError) -> Self {
        let operation = error.operation.strip_prefix("cannot ").unwrap_or(error.operation);
        Self::File { operation, path: error.path, source: error.source }
    }
}

/// Gives everything at and below `dir` to root, modes 0644 or 0755 (BuildKit: files of ADD from a
/// repository), and, if there is one, the time `mtime`, in seconds since the epoch.
pub(super) fn settle(dir: &Path, mtime: Option<i64>) -> Result<(), GitError> {
    let root = Root::at(dir)?;
    let own = Stat::of_fd(root.fd()).at("look at", dir)?;
    let mut failure = None;
    let walked = walk::walk(root.fd(), &mut |path, stat| {
        one(&root, path, stat, mtime).map_err(|error| {
            failure = Some(error);
            io::Error::other("see failure")
        })?;
        Ok(true)
    });
    if let Some(error) = failure {
        return Err(error.into());
    }
    walked.at("read", dir)?;
    one(&root, Path::new(""), &own, None)?;
    if let Some(time) = mtime {
        set_mtime_at(root.fd(), OsStr::new("."), (time, 0)).at("set the time of", dir)?;
    }
    Ok(())
}

fn one(root: &Root, path: &Path, stat: &Stat, mtime: Option<i64>) -> Result<(), PathError> {
    if (stat.uid, stat.gid) != (0, 0) {
        root.chown(path, 0, 0)?;
    }
    let mode = mode_of(path, stat);
    if stat.kind != FileKind::Symlink && stat.mode != mode {
        root.chmod(path, mode)?;
    }
    match mtime {
        Some(time) => root.set_mtime(path, (time, 0)),
        None => Ok(()),
    }
}

fn mode_of(path: &Path, stat: &Stat) -> u32 {
    // git writes nothing of a tree below such a name.
    let in_git = || path.iter().any(|part| part == ".git");
    match stat.kind {
        FileKind::File if stat.mode & 0o100 != 0 => OPEN,
        FileKind::File if stat.mode & 0o200 == 0 && in_git() => FIXED,
        FileKind::File => FILE,
        _ => OPEN,
    }
}

/// Moves what is in the directory `subdir` of the tree at `from` into the empty directory `to`.
/// Links on the way are followed inside the tree.
pub(super) fn lift(from: &Path, subdir: &str, to: &Path) -> Result<(), io::Error> {
    let tree = Root::at(from).map_err(|e| e.source)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let source = tree.open(subdir, flags).map_err(|e| e.source)?;
    let target = File::open(to)?;
    for name in walk::read_names(&source)? {
        rustix::fs::renameat(source.as_fd(), &name, target.as_fd(), &name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_directory_becomes_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("a/b/c")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("a/b/f"), "x").unwrap();
        fs::write(dir.path().join("secret"), "s").unwrap();
        symlink("a/b", from.join("link")).unwrap();
        symlink("/a", from.join("absolute")).unwrap();
        symlink("../../../../../../..", from.join("up")).unwrap();
        assert_eq!(lift(&from, "nowhere", &to).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(lift(&from, "a/b/f", &to).is_err());
        // The root of the tree, which is not above it.
        lift(&from, "up/absolute/b", &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("f")).unwrap(), "x");
        assert!(to.join("c").is_dir() && !to.join("secret").exists());
    }
}
