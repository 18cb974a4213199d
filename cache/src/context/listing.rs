//! The names in one directory of a build context, and what is known of them.

use std::fs::File;
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use oci::layer::TreePath;
use rayon::prelude::*;
use rustix::fs::{AtFlags, OFlags, RawDir};
use rustix::io::Errno;

use super::stat::{self, FileKind, Stat};
use super::{Context, lock};
use crate::error::{At, CacheError};

const BUFFER: usize = 1 << 15;

/// Directories with more selected names are looked at by several threads.
const PARALLEL: usize = 2048;

/// One name.
pub(super) struct Item {
    pub(super) name: Box<[u8]>,
    /// As the directory says; not every file system does.
    pub(super) kind: Option<FileKind>,
    /// Once it was looked at; none if it was gone then.
    pub(super) stat: OnceLock<Option<Stat>>,
}

/// A directory that was read.
pub(super) struct Listing {
    /// Sorted by name.
    pub(super) items: Vec<Item>,
    /// Stat matches of its own files can be trusted.
    pub(super) trusted: bool,
    /// The device it is on.
    pub(super) device: u64,
}

impl Listing {
    pub(super) fn get(&self, name: &[u8]) -> Option<&Item> {
        let at = self.items.binary_search_by(|i| (*i.name).cmp(name)).ok()?;
        Some(&self.items[at])
    }
}

impl Context {
    /// The directory at `path`, read once in a build.
    pub(super) fn listing(&self, path: &TreePath) -> Result<Arc<Listing>, CacheError> {
        Ok(self.listing_and_dir(path)?.0)
    }

    /// The same; and the directory, if it had to be opened for it.
    pub(super) fn listing_and_dir(
        &self,
        path: &TreePath,
    ) -> Result<(Arc<Listing>, Option<File>), CacheError> {
        if let Some(known) = lock(&self.listings).get(path) {
            return Ok((known.clone(), None));
        }
        let dir = self.open_dir(path, OFlags::RDONLY)?;
        let listing = Arc::new(self.read_dir(&dir, path)?);
        let listing = lock(&self.listings).entry(path.clone()).or_insert(listing).clone();
        Ok((listing, Some(dir)))
    }

    /// Looks at those of `items` that were not looked at yet. `dir` is the directory, once it is
    /// open.
    pub(super) fn look_at(
        &self,
        path: &TreePath,
        dir: &mut Option<File>,
        items: &[&Item],
    ) -> Result<(), CacheError> {
        let new: Vec<&Item> = items.iter().filter(|i| i.stat.get().is_none()).copied().collect();
        if new.is_empty() {
            return Ok(());
        }
        let dir: &File = match dir {
            Some(dir) => dir,
            None => dir.insert(self.open_dir(path, OFlags::PATH)?),
        };
        self.counts.stats.fetch_add(new.len() as u64, Ordering::Relaxed);
        let look = |item: &&Item| {
            let found = match rustix::fs::statat(dir, &*item.name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(raw) => Stat::of(&raw),
                // Gone since the directory was read: as if it had never been there.
                Err(Errno::NOENT) => None,
                Err(e) => return Err((e, item.name.clone())),
            };
            item.stat.get_or_init(|| found);
            Ok(())
        };
        let looked = if new.len() > PARALLEL {
            new.par_iter().with_min_len(PARALLEL / 4).try_for_each(look)
        } else {
            new.iter().try_for_each(look)
        };
        looked.or_else(|(e, name)| {
            Err(e).at("look at", &self.path.join(self.child(path, &name)?.as_path()))
        })
    }

    fn open_dir(&self, path: &TreePath, flags: OFlags) -> Result<File, CacheError> {
        let shown = self.path.join(path.as_path());
        let dir = stat::open_beneath(&self.root, path, flags | OFlags::DIRECTORY);
        dir.map(File::from).at("read the directory", &shown)
    }

    fn read_dir(&self, dir: &File, path: &TreePath) -> Result<Listing, CacheError> {
        self.counts.directories.fetch_add(1, Ordering::Relaxed);
        let shown = self.path.join(path.as_path());
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
        let mut items = Vec::new();
        let mut raw = RawDir::new(dir, &mut buffer);
        while let Some(entry) = raw.next() {
            let entry = entry.at("read the directory", &shown)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                let kind = FileKind::of(entry.file_type());
                items.push(Item { name: name.into(), kind, stat: OnceLock::new() });
            }
        }
        items.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let stat = rustix::fs::fstat(dir).at("read the directory", &shown)?;
        #[allow(clippy::unnecessary_cast, reason = "its type differs between architectures")]
        let device = stat.st_dev as u64;
        Ok(Listing { items, trusted: self.trusts(device, dir), device })
    }
}
