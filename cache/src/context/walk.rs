//! Walking a build context: what is selected, with the content of its files.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use oci::layer::{ContentHash, Entry, Metadata, Node, TreePath};
use rayon::prelude::*;

use super::Context;
use super::hash::{self, HashedFile};
use super::listing::{Item, Listing};
use super::stat::{FileKind, Stat};
use crate::error::CacheError;

/// From so many directories of one level on, they are read by several threads.
const PARALLEL: usize = 4;

/// What a [`Selection`] says of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is selected; if it is a directory, what is in it is asked for next.
    Take,
    /// It is not selected by itself; if it is a directory, what is in it is asked for next, and
    /// it is selected if something in it is.
    Pass,
    /// Nothing of it is selected; a directory is not even read.
    Skip,
}

/// Decides what of a context is selected. Called from several threads.
pub trait Selection: Sync {
    /// What to do with `path`, which is a directory or not.
    fn verdict(&self, path: &TreePath, is_directory: bool) -> Verdict;
}

impl<F: Fn(&TreePath, bool) -> Verdict + Sync> Selection for F {
    fn verdict(&self, path: &TreePath, is_directory: bool) -> Verdict {
        self(path, is_directory)
    }
}

/// Selects everything.
pub struct Everything;

impl Selection for Everything {
    fn verdict(&self, _: &TreePath, _: bool) -> Verdict {
        Verdict::Take
    }
}

/// A path that is selected, or may turn out to be.
struct Found {
    path: TreePath,
    stat: Stat,
    verdict: Verdict,
    /// Its stat match can be trusted.
    trusted: bool,
}

/// The found names of one directory, in order.
type Level = Vec<Found>;

impl Context {
    /// Everything at and below `root` that `selection` takes, in the order of a depth-first walk
    /// with sorted directories. The context's own directory has no entry. Paths are those in the
    /// context, owners 0:0; files that are links to one another are a group, as in a layer.
    ///
    /// # Errors
    /// If `root` is not there; if something selected cannot be read (the error names it) or
    /// changes while it is read.
    pub fn walk(
        &self,
        root: &TreePath,
        selection: &dyn Selection,
    ) -> Result<Vec<Entry>, CacheError> {
        let mut found = self.find(root, selection)?;
        let contents = self.contents(&mut found)?;
        self.entries(found, &contents)
    }

    /// What is selected, without its content.
    fn find(&self, root: &TreePath, selection: &dyn Selection) -> Result<Vec<Found>, CacheError> {
        let Some(stat) = self.stat_entry(root)? else {
            let source = std::io::ErrorKind::NotFound.into();
            let path = self.path.join(root.as_path());
            return Err(CacheError::Io { operation: "read", path, source });
        };
        let is_directory = stat.kind == FileKind::Directory;
        let verdict = match root.is_root() {
            true => Verdict::Pass,
            false => selection.verdict(root, is_directory),
        };
        if verdict == Verdict::Skip || (verdict == Verdict::Pass && !is_directory) {
            return Ok(Vec::new());
        }
        let trusted = self.trusts_entry(root, &stat)?;
        let first = Found { path: root.clone(), stat, verdict, trusted };
        let mut below = self.levels(&first, selection)?;
        let mut out = Vec::new();
        emit(first, &mut below, &mut out);
        out.retain(|f| !f.path.is_root());
        Ok(out)
    }

    /// Reads the directories at and below `first`, level by level (a recursion could be as deep
    /// as a path is long).
    fn levels(
        &self,
        first: &Found,
        selection: &dyn Selection,
    ) -> Result<HashMap<TreePath, Level>, CacheError> {
        let mut below = HashMap::new();
        let is_directory = |f: &Found| f.stat.kind == FileKind::Directory;
        let mut frontier: Vec<TreePath> =
            Some(first).filter(|f| is_directory(f)).map(|f| f.path.clone()).into_iter().collect();
        while !frontier.is_empty() {
            let level = |path: &TreePath| self.level(path, selection);
            let levels: Vec<Level> = if frontier.len() < PARALLEL {
                frontier.iter().map(level).collect::<Result<_, _>>()?
            } else {
                frontier.par_iter().map(level).collect::<Result<_, _>>()?
            };
            let next = levels.iter().flatten().filter(|f| is_directory(f));
            let next = next.map(|f| f.path.clone()).collect();
            below.extend(frontier.into_iter().zip(levels));
            frontier = next;
        }
        Ok(below)
    }

    /// The selected names of one directory.
    fn level(&self, dir: &TreePath, selection: &dyn Selection) -> Result<Level, CacheError> {
        let (listing, mut open): (Arc<Listing>, _) = self.listing_and_dir(dir)?;
        let unknown: Vec<&Item> = listing.items.iter().filter(|i| i.kind.is_none()).collect();
        self.look_at(dir, &mut open, &unknown)?;
        let mut picked: Vec<(&Item, TreePath, Verdict)> = Vec::new();
        for item in &listing.items {
            let kind = item.kind.or_else(|| Some(item.stat.get()?.as_ref()?.kind));
            let Some(kind) = kind else { continue };
            let path = self.child(dir, &item.name)?;
            let verdict = selection.verdict(&path, kind == FileKind::Directory);
            match verdict {
                Verdict::Skip => {}
                Verdict::Pass if kind != FileKind::Directory => {}
                _ => picked.push((item, path, verdict)),
            }
        }
        let items: Vec<&Item> = picked.iter().map(|(item, ..)| *item).collect();
        self.look_at(dir, &mut open, &items)?;
        let found = picked.into_iter().filter_map(|(item, path, verdict)| {
            let stat = (*item.stat.get()?)?;
            // A single file may be a mount point of its own.
            let trusted = listing.trusted && stat.dev == listing.device;
            Some(Found { path, stat, verdict, trusted })
        });
        Ok(found.collect())
    }

    /// Whether the stat match of a walk's root can be trusted.
    fn trusts_entry(&self, path: &TreePath, stat: &Stat) -> Result<bool, CacheError> {
        if stat.kind != FileKind::File {
            return Ok(true);
        }
        let listing = self.listing(&path.parent().unwrap_or_default())?;
        Ok(listing.trusted && listing.device == stat.dev)
    }

    /// The content of each regular file of `found`; files that are not known are read.
    fn contents(&self, found: &mut [Found]) -> Result<Vec<Option<ContentHash>>, CacheError> {
        let mut contents = vec![None; found.len()];
        let mut unknown = Vec::new();
        if found.iter().any(|f| f.stat.kind == FileKind::File) {
            self.with_index(|index| {
                for (at, file) in found.iter().enumerate() {
                    if file.stat.kind == FileKind::File {
                        contents[at] = index.get(&file.stat);
                        if contents[at].is_none() {
                            unknown.push(at);
                        }
                    }
                }
            });
        }
        let read = |&at: &usize| {
            let path = &found[at].path;
            let shown = self.path.join(path.as_path());
            Ok((at, hash::hash_file(&self.root, path, &shown)?))
        };
        let read: Vec<(usize, HashedFile)> = match unknown.len() {
            0 => Vec::new(),
            1 => unknown.iter().map(read).collect::<Result<_, CacheError>>()?,
            _ => unknown.par_iter().map(read).collect::<Result<_, CacheError>>()?,
        };
        self.with_index(|index| {
            for (at, file) in read {
                self.counts.hashed_files.fetch_add(1, Ordering::Relaxed);
                self.counts.hashed_bytes.fetch_add(file.stat.size, Ordering::Relaxed);
                index.put(&file.stat, file.content, file.settled && found[at].trusted);
                contents[at] = Some(file.content);
                // It may have changed since its directory was read.
                found[at].stat = file.stat;
            }
        });
        Ok(contents)
    }

    fn entries(
        &self,
        found: Vec<Found>,
        contents: &[Option<ContentHash>],
    ) -> Result<Vec<Entry>, CacheError> {
        let mut groups: HashMap<(u64, u64), TreePath> = HashMap::new();
        let mut entries = Vec::with_capacity(found.len());
        for (Found { path, stat, .. }, content) in found.into_iter().zip(contents) {
            let node = match (stat.kind, content) {
                (FileKind::Directory, _) => Node::Directory { opaque: false },
                (FileKind::Symlink, _) => {
                    Node::Symlink { target: self.read_link(&path)?.into_boxed_slice() }
                }
                (FileKind::Fifo, _) => Node::Fifo,
                (FileKind::CharDevice, _) => {
                    Node::CharDevice { major: stat.rdev.0, minor: stat.rdev.1 }
                }
                (FileKind::BlockDevice, _) => {
                    Node::BlockDevice { major: stat.rdev.0, minor: stat.rdev.1 }
                }
                (FileKind::File, Some(content)) => {
                    let first = (stat.links > 1)
                        .then(|| groups.entry(stat.identity()).or_insert_with(|| path.clone()));
                    match first {
                        Some(first) if *first != path => Node::HardLink { target: first.clone() },
                        _ => Node::File { size: stat.size, content: *content },
                    }
                }
                // As BuildKit's transfer of a context leaves it.
                (FileKind::Socket, _) => {
                    let content = ContentHash(*blake3::hash(&[]).as_bytes());
                    Node::File { size: 0, content }
                }
                (FileKind::File, None) => continue,
            };
            // Links have no mode of their own; what stat shows differs between file systems.
            let mode = if stat.kind == FileKind::Symlink { 0o777 } else { stat.mode };
            let meta = Metadata { mode, mtime: stat.mtime, ..Metadata::default() };
            entries.push(Entry { path, node, meta });
        }
        Ok(entries)
    }
}

/// Puts `first` and what is below it into `out`, depth first. A directory that was only passed
/// stays if something in it was taken.
fn emit(first: Found, below: &mut HashMap<TreePath, Level>, out: &mut Vec<Found>) {
    // The rest of each open directory, and where in `out` the directory stands.
    let mut open: Vec<(std::vec::IntoIter<Found>, usize)> = vec![(vec![first].into_iter(), 0)];
    while let Some((rest, own)) = open.last_mut() {
        let own = *own;
        let Some(next) = rest.next() else {
            open.pop();
            let only_passed = out.get(own).is_some_and(|f| f.verdict == Verdict::Pass);
            if !open.is_empty() && only_passed && out.len() == own + 1 {
                out.pop();
            }
            continue;
        };
        let inside = below.remove(&next.path);
        out.push(next);
        if let Some(inside) = inside {
            open.push((inside.into_iter(), out.len() - 1));
        }
    }
}
