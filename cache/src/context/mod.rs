//! Build contexts in place: a directory of the host is looked at where it is, and a file whose
//! stat is known is not opened.
//!
//! A [`Context`] belongs to one build. What was seen of a directory or file stays seen, so that
//! several COPYs of one build agree and share the work. Symbolic links are never followed out of
//! the directory; [`Context::resolve`] follows them inside, as if it were a root directory.

mod hash;
mod index;
mod listing;
mod stat;
mod walk;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use oci::layer::TreePath;
use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;

use crate::durable;
use crate::error::{At, CacheError};
use crate::filesystem::{self, Kind};
use crate::warnings::Warnings;
use index::Index;
use listing::Listing;

pub use stat::{FileKind, Stat};
pub use walk::{Everything, Selection, Verdict};

/// As many symbolic links are followed in one path (Linux: `MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// Indexes that were not of use for so long are removed when the state directory is swept.
const MAX_AGE: Duration = Duration::from_secs(90 * 24 * 3600);

/// How far stat matches are trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// A file whose device, inode, size, ctime and mtime are known has the known content. (A
    /// store through a shared mapping into a page that was already dirty can change content
    /// without changing either time; so can a write to the device below.)
    #[default]
    Stat,
    /// Every selected file is read in every build.
    None,
}

/// The names in a directory, with their kinds.
pub type Names = Vec<(Box<[u8]>, FileKind)>;

/// The indexes of all build contexts.
pub struct ContextHashes {
    dir: PathBuf,
    warnings: Arc<Warnings>,
}

impl ContextHashes {
    pub(crate) fn new(dir: PathBuf, warnings: Arc<Warnings>) -> Self {
        Self { dir, warnings }
    }

    /// Opens the directory `path` as a build context.
    ///
    /// # Errors
    /// If it is not a directory that can be opened.
    pub fn open(&self, path: &Path) -> Result<Context, CacheError> {
        self.open_with(path, Trust::Stat)
    }

    /// Opens the directory `path` as a build context.
    ///
    /// # Errors
    /// If it is not a directory that can be opened.
    pub fn open_with(&self, path: &Path, trust: Trust) -> Result<Context, CacheError> {
        let path = path.canonicalize().at("open the build context", path)?;
        let root = File::open(&path).at("open the build context", &path)?;
        if !root.metadata().at("open the build context", &path)?.is_dir() {
            return Err(Errno::NOTDIR).at("open the build context", &path);
        }
        let name = blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex();
        Ok(Context {
            index_path: self.dir.join(&name[..32]),
            trust,
            root,
            path,
            index: Mutex::default(),
            listings: Mutex::default(),
            devices: Mutex::default(),
            counts: Counts::default(),
            warnings: self.warnings.clone(),
        })
    }

    /// Removes what killed processes left and the indexes that nobody needed for a long time.
    pub(crate) fn sweep(&self) {
        durable::sweep_abandoned(&self.dir);
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten() {
            let used =
                entry.metadata().and_then(|m| m.accessed().and_then(|a| Ok((a, m.modified()?))));
            let Ok((accessed, modified)) = used else { continue };
            let age = SystemTime::now().duration_since(accessed.max(modified));
            if age.is_ok_and(|age| age > MAX_AGE) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// A build context, as one build sees it.
pub struct Context {
    path: PathBuf,
    root: File,
    index_path: PathBuf,
    trust: Trust,
    /// Loaded at the first file that has to be known.
    index: Mutex<Option<Index>>,
    listings: Mutex<HashMap<TreePath, Arc<Listing>>>,
    /// Whether the times on a device can be trusted.
    devices: Mutex<HashMap<u64, bool>>,
    counts: Counts,
    warnings: Arc<Warnings>,
}

#[derive(Default)]
struct Counts {
    directories: AtomicU64,
    stats: AtomicU64,
    hashed_files: AtomicU64,
    hashed_bytes: AtomicU64,
}

/// What a context cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContextStats {
    /// Directories that were read.
    pub directories: u64,
    /// Files that were looked at.
    pub stats: u64,
    /// Files that were opened and read.
    pub hashed_files: u64,
    /// Their bytes.
    pub hashed_bytes: u64,
}

impl Context {
    /// The directory, as an absolute path without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it cost so far.
    pub fn stats(&self) -> ContextStats {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ContextStats {
            directories: get(&self.counts.directories),
            stats: get(&self.counts.stats),
            hashed_files: get(&self.counts.hashed_files),
            hashed_bytes: get(&self.counts.hashed_bytes),
        }
    }

    /// What is at `path`, without reading it. None if there is nothing, or a component above it is
    /// a link or no directory.
    ///
    /// # Errors
    /// If a directory above it cannot be searched.
    pub fn stat_entry(&self, path: &TreePath) -> Result<Option<Stat>, CacheError> {
        let parent = path.parent().unwrap_or_default();
        let listing = lock(&self.listings).get(&parent).cloned();
        if let (Some(listing), Some(name)) = (listing, path.file_name()) {
            let Some(item) = listing.get(name) else { return Ok(None) };
            if let Some(known) = item.stat.get() {
                return Ok(*known);
            }
        }
        self.counts.stats.fetch_add(1, Ordering::Relaxed);
        let shown = self.path.join(path.as_path());
        let found = (|| {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let dir = stat::open_beneath(&self.root, &parent, flags)?;
            match path.file_name() {
                None => rustix::fs::fstat(&dir),
                Some(name) => rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW),
            }
        })();
        match found {
            Ok(raw) => Ok(Stat::of(&raw)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => Ok(None),
            Err(e) => Err(e).at("look at", &shown),
        }
    }

    /// The names in the directory `path`, sorted, with their kinds.
    ///
    /// # Errors
    /// If it cannot be read, or is no directory.
    pub fn list(&self, path: &TreePath) -> Result<Names, CacheError> {
        let listing = self.listing(path)?;
        let mut names = Vec::with_capacity(listing.items.len());
        for item in &listing.items {
            let kind = match item.kind {
                Some(kind) => Some(kind),
                None => self.stat_entry(&self.child(path, &item.name)?)?.map(|s| s.kind),
            };
            names.extend(kind.map(|kind| (item.name.clone(), kind)));
        }
        Ok(names)
    }

    /// The target of the symbolic link at `path`, as stored.
    ///
    /// # Errors
    /// If it is no link, or cannot be read.
    pub fn read_link(&self, path: &TreePath) -> Result<Vec<u8>, CacheError> {
        let shown = self.path.join(path.as_path());
        let link = stat::open_beneath(&self.root, path, OFlags::PATH).at("read", &shown)?;
        let target = rustix::fs::readlinkat(&link, c"", Vec::new()).at("read", &shown)?;
        Ok(target.into_bytes())
    }

    /// Follows symbolic links in `path`, and at its end if `follow_last`, as if the context were
    /// the root directory: absolute targets begin at it, `..` ends at it. Returns where it leads,
    /// whether or not something is there, and the links on the way, in order.
    ///
    /// # Errors
    /// If there are too many links, or a directory cannot be searched.
    pub fn resolve(
        &self,
        path: &TreePath,
        follow_last: bool,
    ) -> Result<(TreePath, Vec<TreePath>), CacheError> {
        let mut links = Vec::new();
        let mut at = TreePath::root();
        // Components still to go, the next one last.
        let mut left: Vec<Vec<u8>> = path.components().map(<[u8]>::to_vec).collect();
        left.reverse();
        while let Some(name) = left.pop() {
            if name == b".." {
                at = at.parent().unwrap_or_default();
                continue;
            }
            let next = self.child(&at, &name)?;
            let followed = !left.is_empty() || follow_last;
            let is_link =
                followed && self.stat_entry(&next)?.is_some_and(|s| s.kind == FileKind::Symlink);
            if !is_link {
                at = next;
                continue;
            }
            if links.len() == MAX_LINKS {
                return Err(CacheError::Loop(self.path.join(path.as_path())));
            }
            let target = self.read_link(&next)?;
            links.push(next);
            if target.starts_with(b"/") {
                at = TreePath::root();
            }
            let parts = target.split(|b| *b == b'/').filter(|p| !matches!(*p, b"" | b"."));
            left.extend(parts.rev().map(<[u8]>::to_vec));
        }
        Ok((at, links))
    }

    /// Opens the regular file at `path` for reading. A socket is an empty one.
    ///
    /// # Errors
    /// If it is not there, is not a regular file, or cannot be opened.
    pub fn open_file(&self, path: &TreePath) -> Result<File, CacheError> {
        let shown = self.path.join(path.as_path());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match stat::open_beneath(&self.root, path, flags) {
            Ok(file) => File::from(file),
            Err(Errno::NXIO) if self.is_socket(path)? => return empty_file().at("open", &shown),
            Err(error) => return Err(error).at("open", &shown),
        };
        match file.metadata().at("open", &shown)?.is_file() {
            true => Ok(file),
            false => Err(std::io::Error::other("it is not a regular file")).at("open", &shown),
        }
    }

    fn is_socket(&self, path: &TreePath) -> Result<bool, CacheError> {
        Ok(self.stat_entry(path)?.is_some_and(|stat| stat.kind == FileKind::Socket))
    }

    /// The content of the regular file at `path`, at most `limit` bytes of it.
    ///
    /// # Errors
    /// If it is not there, is not a regular file, is longer, or cannot be read.
    pub fn read_file(&self, path: &TreePath, limit: u64) -> Result<Vec<u8>, CacheError> {
        let shown = self.path.join(path.as_path());
        let mut bytes = Vec::new();
        let file = self.open_file(path)?;
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes).at("read", &shown)?;
        if bytes.len() as u64 > limit {
            let cause = format!("it is larger than {limit} bytes");
            return Err(std::io::Error::other(cause)).at("read", &shown);
        }
        Ok(bytes)
    }

    /// Writes the index, if something was learned.
    ///
    /// # Errors
    /// If it cannot be written. The next build then reads the same files again.
    pub fn save(&self) -> Result<(), CacheError> {
        if self.trust == Trust::None {
            return Ok(());
        }
        lock(&self.index).as_mut().map_or(Ok(()), |index| index.save(&self.index_path))
    }

    fn child(&self, dir: &TreePath, name: &[u8]) -> Result<TreePath, CacheError> {
        Ok(dir.child(name)?)
    }

    /// Calls `f` with the index, loaded.
    fn with_index<T>(&self, f: impl FnOnce(&mut Index) -> T) -> T {
        let mut index = lock(&self.index);
        f(index.get_or_insert_with(|| match self.trust {
            Trust::Stat => Index::load(&self.index_path, || self.tell_damaged_index()),
            Trust::None => Index::default(),
        }))
    }

    fn tell_damaged_index(&self) {
        self.warnings.add(format!(
            "{} is damaged: the files of {} are read again",
            self.index_path.display(),
            self.path.display()
        ));
    }

    /// Whether stat matches on the device of `dir` can be trusted: on network and FUSE file
    /// systems, times are what somebody else says.
    fn trusts(&self, device: u64, dir: &File) -> bool {
        let mut devices = lock(&self.devices);
        *devices.entry(device).or_insert_with(|| match filesystem::kind_of(dir) {
            Kind::Local => true,
            Kind::Foreign(name) => {
                self.warnings.add(format!(
                    "{} is on a {name} file system: its files are read in every build",
                    self.path.display()
                ));
                false
            }
        })
    }
}

/// A file with nothing in it and no name.
fn empty_file() -> Result<File, Errno> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    rustix::fs::memfd_create(c"empty", flags).map(File::from)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
