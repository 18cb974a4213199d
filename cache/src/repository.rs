//! Git repositories: what was fetched from a remote, so that the next build fetches only what is
//! new.
//!
//! A repository is known by a name (its remote and the format of its objects). Below `git-v1/`
//! there is a directory `<hash of the name>`, whose inside is git's, a lock file `<hash>.lock`,
//! whose time is that of the last use, and a file `<hash>.name` for people.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::error::{At, CacheError};
use crate::lock::{self, Mode};
use crate::trash::Trash;
use crate::{guarded, space};

/// What lock files end with.
const LOCK: &str = ".lock";
/// What files with names end with.
const NAME: &str = ".name";
/// How often somebody who waits looks again.
const POLL: Duration = Duration::from_millis(10);

/// All repositories of a state directory.
pub struct Repositories {
    dir: PathBuf,
    trash: Arc<Trash>,
}

/// What somebody wants to do with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read it, beside others who do.
    Read,
    /// Make it, fetch into it, repair it.
    Write,
}

/// A repository in use. Its lock is freed when this is dropped.
pub struct Repository<'a> {
    path: PathBuf,
    trash: &'a Trash,
    _lock: File,
}

/// One repository, for usage and collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRepository {
    /// What [`Repositories::remove`] knows it by.
    pub id: String,
    /// The name of the repository.
    pub name: String,
    /// What it takes on the disk, in bytes.
    pub size: u64,
    /// When it was made.
    pub created: SystemTime,
    /// When it was last used.
    pub last_used: SystemTime,
}

impl Repository<'_> {
    /// The directory. Whether it exists is for the caller to see.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Throws away what is there. Only for who has it for writing.
    ///
    /// # Errors
    /// If it cannot be renamed away.
    pub fn discard(&self) -> Result<(), CacheError> {
        self.trash.take(&self.path)
    }
}

impl Repositories {
    pub(crate) fn new(dir: PathBuf, trash: Arc<Trash>) -> Self {
        Self { dir, trash }
    }

    /// Takes the repository called `name` into use; `None` if `cancelled` gave the wait up.
    ///
    /// # Errors
    /// If it cannot be locked.
    pub fn open(
        &self,
        name: &str,
        access: Access,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Option<Repository<'_>>, CacheError> {
        let id = blake3::hash(name.as_bytes()).to_hex();
        let at = self.dir.join(format!("{id}{LOCK}"));
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&at).at("open", &at)?;
        let mode = match access {
            Access::Read => Mode::Shared,
            Access::Write => Mode::Exclusive,
        };
        while !lock::try_lock(&file, mode).at("lock", &at)? {
            if cancelled() {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
        file.set_modified(SystemTime::now()).at("touch", &at)?;
        if access == Access::Write {
            let at = self.dir.join(format!("{id}{NAME}"));
            // Nobody reads it meanwhile, and half of it would be half a line for people.
            fs::write(&at, name).at("write", &at)?;
        }
        let path = self.dir.join(id.as_str());
        Ok(Some(Repository { path, trash: &self.trash, _lock: file }))
    }

    /// Every repository.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn list(&self) -> Result<Vec<StoredRepository>, CacheError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).at("list", &self.dir)?.flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            let Ok(meta) = entry.metadata() else { continue };
            if !meta.is_dir() {
                continue;
            }
            let name = fs::read(self.beside(&id, NAME)).unwrap_or_default();
            let (created, last_used) = guarded::times(&entry.path(), &self.beside(&id, LOCK));
            found.push(StoredRepository {
                name: String::from_utf8_lossy(&name).into_owned(),
                size: space::disk_usage(&entry.path()),
                created,
                last_used,
                id,
            });
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// The repositories that somebody uses.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn used(&self) -> Result<Vec<String>, CacheError> {
        let entries = fs::read_dir(&self.dir).at("list", &self.dir)?.flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let ids = names.filter_map(|name| Some(name.strip_suffix(LOCK)?.to_owned()));
        Ok(ids.filter(|id| guarded::in_use(&self.beside(id, LOCK))).collect())
    }

    /// Removes the repository `id` unless somebody uses it; whether it is gone.
    ///
    /// # Errors
    /// If it cannot be renamed away.
    pub fn remove(&self, id: &str) -> Result<bool, CacheError> {
        if !guarded::remove(&self.dir.join(id), &self.beside(id, LOCK), &self.trash)? {
            return Ok(false);
        }
        let _ = fs::remove_file(self.beside(id, NAME));
        Ok(true)
    }

    /// What goes with the repository `id`, for usage. The lock file stays.
    pub(crate) fn paths(&self, id: &str) -> Vec<PathBuf> {
        vec![self.dir.join(id), self.beside(id, NAME)]
    }

    fn beside(&self, id: &str, suffix: &str) -> PathBuf {
        self.dir.join(format!("{id}{suffix}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Repositories) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["git", "trash"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let trash = Arc::new(Trash::new(dir.path().join("trash")));
        let repositories = Repositories::new(dir.path().join("git"), trash);
        (dir, repositories)
    }

    #[test]
    fn readers_share_and_writers_do_not() {
        let (_dir, repositories) = store();
        let open = |access| repositories.open("https://h/r", access, &|| true).unwrap();
        let first = open(Access::Read).unwrap();
        let second = open(Access::Read).unwrap();
        assert_eq!(first.path(), second.path());
        assert!(open(Access::Write).is_none());
        drop((first, second));
        let writer = open(Access::Write).unwrap();
        assert!(open(Access::Read).is_none() && open(Access::Write).is_none());
        let other = repositories.open("https://h/s", Access::Write, &|| true).unwrap().unwrap();
        assert_ne!(writer.path(), other.path());
    }

    #[test]
    fn collected_unless_used() {
        let (_dir, repositories) = store();
        let writer = repositories.open("https://h/r", Access::Write, &|| true).unwrap().unwrap();
        assert!(repositories.list().unwrap().is_empty());
        fs::create_dir_all(writer.path().join("objects")).unwrap();
        fs::write(writer.path().join("objects/pack"), vec![1; 10_000]).unwrap();
        let stored = repositories.list().unwrap().remove(0);
        assert_eq!(stored.name, "https://h/r");
        assert!(stored.size >= 10_000, "{stored:?}");
        assert_eq!(repositories.used().unwrap(), std::slice::from_ref(&stored.id));
        assert!(!repositories.remove(&stored.id).unwrap());
        drop(writer);
        assert!(repositories.used().unwrap().is_empty());
        assert!(repositories.remove(&stored.id).unwrap());
        assert!(repositories.list().unwrap().is_empty());
    }
}
