//! Build contexts from strings.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tempfile::TempDir;

use crate::temp;

/// A directory with a Dockerfile and what else a case needs. Modes do not depend on the umask:
/// files have 0644, directories 0755.
pub struct Context {
    /// Shared with the commands that use it, so that it is there as long as they are.
    dir: Arc<TempDir>,
}

impl Context {
    /// An empty one.
    pub fn empty() -> Self {
        let dir = temp::directory();
        set_mode(dir.path(), 0o755);
        Self { dir: Arc::new(dir) }
    }

    /// One with this Dockerfile.
    pub fn new(dockerfile: &str) -> Self {
        Self::empty().file("Dockerfile", dockerfile)
    }

    pub(crate) fn shared(&self) -> Arc<TempDir> {
        self.dir.clone()
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The path of something in it.
    pub fn join(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Adds or replaces a file.
    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.write(path, content);
        self
    }

    /// Adds a directory.
    pub fn dir(self, path: &str) -> Self {
        self.make_dirs(Path::new(path));
        self
    }

    /// Adds a symbolic link.
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.make_parents(path);
        symlink(target, self.join(path)).unwrap();
        self
    }

    /// Adds one more name of a file.
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.make_parents(path);
        fs::hard_link(self.join(target), self.join(path)).unwrap();
        self
    }

    /// Sets a mode.
    pub fn mode(self, path: &str, mode: u32) -> Self {
        set_mode(&self.join(path), mode);
        self
    }

    /// Writes a file anew: another inode, its directory's time changes.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        self.make_parents(path);
        let full = self.join(path);
        let _ = fs::remove_file(&full);
        fs::write(&full, content).unwrap();
        set_mode(&full, 0o644);
    }

    /// Writes into a file that is there and keeps its inode and mode.
    pub fn overwrite(&self, path: &str, content: impl AsRef<[u8]>) {
        fs::write(self.join(path), content).unwrap();
    }

    /// Sets the time of a file's last change.
    pub fn set_time(&self, path: &str, time: SystemTime) {
        let file = File::open(self.join(path)).unwrap();
        file.set_times(FileTimes::new().set_modified(time)).unwrap();
    }

    /// The time of a file's last change.
    pub fn time(&self, path: &str) -> SystemTime {
        fs::symlink_metadata(self.join(path)).unwrap().modified().unwrap()
    }

    /// Removes a file or a tree.
    pub fn remove(&self, path: &str) {
        let path = self.join(path);
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }

    /// Waits until files written so far are old enough for their times to be believed: one that
    /// is hashed within a clock's tick of its writing has to be hashed again.
    pub fn settle(self) -> Self {
        std::thread::sleep(std::time::Duration::from_millis(60));
        self
    }

    fn make_parents(&self, path: &str) {
        if let Some(parent) = Path::new(path).parent() {
            self.make_dirs(parent);
        }
    }

    fn make_dirs(&self, path: &Path) {
        let mut full = self.dir.path().to_owned();
        for part in path.components() {
            full.push(part);
            if !full.exists() {
                fs::create_dir(&full).unwrap();
                set_mode(&full, 0o755);
            }
        }
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}
