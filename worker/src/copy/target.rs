//! Writing selected entries into a root file system.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use oci::Timestamp;
use oci::layer::{Compression, ContentHash, Entry, Metadata, Node, TreePath, WHITEOUT_PREFIX};
use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid};
use snapshotter::Hints;
use sys::root::{Root, Special};

use super::destination::{Destination, Landing};
use super::error::CopyError;
use super::owner::Ids;
use super::select::{Kind, Selected};
use super::source::{SourceError, SourceTree};
use super::{Chmod, archive};

/// `user.*` and everything else stays behind: this is the one attribute that layers keep.
const CAPABILITY: &[u8] = b"security.capability";
/// Missing parents get these permissions (BuildKit: `copy.WithCreatedMode`).
const PARENT_MODE: u32 = 0o755;

/// A root file system that is copied to, with what the instruction says of owner and mode.
pub struct Target<'a> {
    /// The root; no name leaves it.
    pub root: &'a Root,
    /// `--chown`, resolved.
    pub owner: Option<Ids>,
    /// `--chmod`.
    pub mode: Option<&'a Chmod>,
    /// Whether what is there already is replaced by something of another kind, a directory with
    /// all that is in it (`--link`; BuildKit: `AlwaysReplaceExistingDestPaths`).
    pub replace: bool,
    /// Where the contents of written files are noted.
    pub contents: &'a Contents,
    /// What became of the destination, for all copies of the instruction.
    pub landing: &'a Landing,
    /// Called now and then; true stops the copy.
    pub cancelled: &'a dyn Fn() -> bool,
}

/// What copies wrote into one root file system. Of files the content is noted that they were found
/// or known to have: the commit need not read them again.
#[derive(Debug, Default)]
pub struct Contents {
    files: RefCell<HashMap<TreePath, (u64, ContentHash)>>,
    written: RefCell<HashSet<TreePath>>,
}

impl Contents {
    /// What the commit should know.
    pub fn into_hints(self) -> Hints {
        Hints { contents: self.files.into_inner(), written: self.written.into_inner() }
    }

    /// A copy makes what is at `path`, with the time of its source.
    pub(super) fn wrote(&self, path: &Path) {
        if let Ok(path) = TreePath::new(path.as_os_str().as_encoded_bytes()) {
            self.written.borrow_mut().insert(path);
        }
    }

    /// Notes what is at `path`, which has no links on the way.
    fn note(&self, path: &Path, size: u64, content: ContentHash) {
        if let Ok(path) = TreePath::new(path.as_os_str().as_encoded_bytes()) {
            self.files.borrow_mut().insert(path, (size, content));
        }
    }

    /// Something else is at `path` now.
    fn forget(&self, path: &Path) {
        if let Ok(path) = TreePath::new(path.as_os_str().as_encoded_bytes()) {
            self.files.borrow_mut().remove(&path);
        }
    }

    /// Anything may be anywhere now.
    fn forget_all(&self) {
        self.files.borrow_mut().clear();
    }
}

/// A directory whose time is set once nothing more is written into it.
struct Pending {
    path: PathBuf,
    mtime: Timestamp,
}

impl Target<'_> {
    /// Copies everything that was selected.
    ///
    /// # Errors
    /// As [`Self::copy`]; or if several sources would become one file.
    pub fn copy_all(
        &self,
        source: &dyn SourceTree,
        selection: &[Selected],
        dest: &str,
        unpack: bool,
    ) -> Result<(), CopyError> {
        selection.iter().try_for_each(|s| self.copy(source, s, dest, unpack))
    }

    /// Copies one selected thing of `source` to `dest`. With `unpack`, a file that is an archive
    /// is extracted instead.
    ///
    /// # Errors
    /// If source or destination cannot be used; what was written until then is of no use.
    pub fn copy(
        &self,
        source: &dyn SourceTree,
        selected: &Selected,
        dest: &str,
        unpack: bool,
    ) -> Result<(), CopyError> {
        let dest = Destination::new(dest)?;
        match &selected.kind {
            Kind::Single(entry) => {
                if unpack && matches!(entry.node, Node::File { .. }) {
                    let mut file = source.open(&selected.source)?;
                    let compression = archive::detect(&mut file)
                        .map_err(|e| SourceError::read(&selected.source, e))?;
                    if let Some(compression) = compression {
                        return self.extract(file, compression, selected, entry, &dest);
                    }
                }
                // The matches of one wildcard may follow each other onto one name (as in BuildKit).
                let number = selected.argument;
                let path = dest.of_file(self.root, &selected.name, self.landing, number)?;
                if let Some(parent) = path.parent() {
                    self.make_directories(parent)?;
                }
                self.write(source, &selected.source, entry, &path, None)
            }
            Kind::Contents(entries) | Kind::Tree(entries) => {
                let base = dest.of_contents(self.root)?;
                self.make_directories(&base)?;
                self.write_tree(source, selected, entries, &base)
            }
        }
    }

    /// Extracts an archive whose content was hashed as `entry` says.
    fn extract(
        &self,
        file: File,
        compression: Compression,
        selected: &Selected,
        entry: &Entry,
        dest: &Destination,
    ) -> Result<(), CopyError> {
        let path = dest.of_contents(self.root)?;
        self.make_directories(&path)?;
        self.contents.forget_all();
        let name = selected.name.to_string();
        let read = archive::extract(self, file, compression, &path, &name)?;
        match &entry.node {
            Node::File { content, .. } if *content != read => {
                Err(SourceError::Changed { path: selected.source.to_string() }.into())
            }
            _ => Ok(()),
        }
    }

    /// Writes a file whose content stands in the Dockerfile.
    ///
    /// # Errors
    /// As [`Self::copy`].
    pub fn inline(
        &self,
        number: usize,
        name: &str,
        data: &str,
        dest: &str,
    ) -> Result<(), CopyError> {
        let dest = Destination::new(dest)?;
        let name = TreePath::clean(name.as_bytes())?;
        let path = dest.of_file(self.root, &name, self.landing, number)?;
        check_name(&path)?;
        if let Some(parent) = path.parent() {
            self.make_directories(parent)?;
        }
        self.make_room(&path)?;
        self.contents.forget(&path);
        let mut file = self.root.create_file(&path, 0o600)?;
        file.write_all(data.as_bytes()).map_err(|source| write_error(&path, source))?;
        let meta = Metadata { mode: 0o644, mtime: Timestamp::now(), ..Metadata::default() };
        self.finish_file(&file, &meta, false).map_err(|source| write_error(&path, source))
    }

    /// Creates `path` and its missing parents, which belong to the instruction's owner.
    pub(crate) fn make_directories(&self, path: &Path) -> Result<(), CopyError> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        check_name(path)?;
        let created = self.root.mkdir_all(path, PARENT_MODE).map_err(|error| {
            if error.kind() == io::ErrorKind::NotADirectory {
                return CopyError::NotADirectory { path: format!("/{}", path.display()) };
            }
            error.into()
        })?;
        let owner = self.owner.unwrap_or_default();
        for dir in created {
            self.root.chown(&dir, owner.uid, owner.gid)?;
            let mode = self.mode.map_or(PARENT_MODE, |m| m.apply(PARENT_MODE, true));
            self.root.chmod(&dir, mode)?;
        }
        Ok(())
    }

    fn write_tree(
        &self,
        source: &dyn SourceTree,
        selected: &Selected,
        entries: &[Entry],
        base: &Path,
    ) -> Result<(), CopyError> {
        let mut directories = Vec::new();
        for entry in entries {
            let path = base.join(entry.path.as_path());
            if let Node::Directory { .. } = entry.node {
                self.write_directory(entry, &path, source.has_owners())?;
                directories.push(Pending { path, mtime: entry.meta.mtime });
                continue;
            }
            let from = selected.source.join(&entry.path)?;
            self.write(source, &from, entry, &path, Some(base))?;
        }
        for dir in directories.iter().rev() {
            self.root.set_mtime(&dir.path, (dir.mtime.seconds, dir.mtime.nanos))?;
        }
        Ok(())
    }

    /// A directory below the one that is copied: one that is there takes the source's metadata.
    fn write_directory(&self, entry: &Entry, path: &Path, owners: bool) -> Result<(), CopyError> {
        check_name(path)?;
        self.contents.wrote(path);
        match self.root.try_stat(path)? {
            Some(stat) if stat.is_dir() => {}
            Some(_) if !self.replace => {
                return Err(CopyError::NotADirectory { path: format!("/{}", path.display()) });
            }
            there => {
                if there.is_some() {
                    self.root.unlink(path)?;
                }
                self.root.mkdir(path, 0o700)?;
            }
        }
        self.finish_path(entry, path, owners, true)
    }

    /// Owner, then mode, then attributes: changing the owner clears setuid and capabilities.
    fn finish_path(
        &self,
        entry: &Entry,
        path: &Path,
        owners: bool,
        has_mode: bool,
    ) -> Result<(), CopyError> {
        let ids = self.ids(&entry.meta, owners);
        self.root.chown(path, ids.uid, ids.gid)?;
        if has_mode {
            let directory = matches!(entry.node, Node::Directory { .. });
            self.root.chmod(path, self.mode_of(entry.meta.mode, directory))?;
        }
        if let Some(capability) = entry.meta.capability.as_ref().filter(|_| owners) {
            self.root.set_xattr(path, CAPABILITY, capability)?;
        }
        Ok(())
    }

    /// Anything but a directory. `base`: what hard links are relative to.
    fn write(
        &self,
        source: &dyn SourceTree,
        from: &TreePath,
        entry: &Entry,
        path: &Path,
        base: Option<&Path>,
    ) -> Result<(), CopyError> {
        if (self.cancelled)() {
            let stopped = io::Error::from(io::ErrorKind::Interrupted);
            return Err(write_error(path, stopped));
        }
        check_name(path)?;
        self.make_room(path)?;
        self.contents.forget(path);
        self.contents.wrote(path);
        let owners = source.has_owners();
        let mtime = (entry.meta.mtime.seconds, entry.meta.mtime.nanos);
        match &entry.node {
            Node::File { content, .. } => {
                return self.write_file(source, from, *content, &entry.meta, path);
            }
            Node::HardLink { target } => {
                let existing = base.unwrap_or(Path::new("")).join(target.as_path());
                return Ok(self.root.hard_link(existing, path)?);
            }
            Node::Symlink { target } => {
                self.root.symlink(target, path)?;
                self.finish_path(entry, path, owners, false)?;
            }
            Node::CharDevice { major, minor } => {
                self.node(entry, path, Special::Char(*major, *minor), owners)?;
            }
            Node::BlockDevice { major, minor } => {
                self.node(entry, path, Special::Block(*major, *minor), owners)?;
            }
            Node::Fifo => self.node(entry, path, Special::Fifo, owners)?,
            Node::Directory { .. } | Node::Whiteout => return Ok(()),
        }
        Ok(self.root.set_mtime(path, mtime)?)
    }

    fn write_file(
        &self,
        source: &dyn SourceTree,
        from: &TreePath,
        content: ContentHash,
        meta: &Metadata,
        path: &Path,
    ) -> Result<(), CopyError> {
        let owners = source.has_owners();
        let file = self.root.create_file(path, 0o600)?;
        let data = source.open(from)?;
        let failed = |e| write_error(path, e);
        // A context may change while it is read; a result cannot.
        let size = if owners {
            sys::copy::copy_file(&data, &file).map_err(failed)?
        } else {
            let mut hasher = blake3::Hasher::new();
            let size = sys::copy::copy_hashing(&data, &file, &mut |chunk| {
                hasher.update(chunk);
            });
            let size = size.map_err(failed)?;
            if *hasher.finalize().as_bytes() != content.0 {
                return Err(SourceError::Changed { path: from.to_string() }.into());
            }
            size
        };
        self.finish_file(&file, meta, owners).map_err(failed)?;
        self.contents.note(path, size, content);
        Ok(())
    }

    fn node(
        &self,
        entry: &Entry,
        path: &Path,
        special: Special,
        owners: bool,
    ) -> Result<(), CopyError> {
        check_device(path, special)?;
        self.root.mknod(path, special, 0o600)?;
        self.finish_path(entry, path, owners, true)
    }

    /// Removes what is at `path`; a directory, unless it is to be replaced, stays and is an error.
    fn make_room(&self, path: &Path) -> Result<(), CopyError> {
        match self.root.try_stat(path)? {
            None => Ok(()),
            Some(stat) if stat.is_dir() && self.replace => {
                self.contents.forget_all();
                Ok(self.root.remove_all(path)?)
            }
            Some(stat) if stat.is_dir() => {
                Err(CopyError::IsADirectory { path: format!("/{}", path.display()) })
            }
            Some(_) => Ok(self.root.unlink(path)?),
        }
    }

    fn ids(&self, meta: &Metadata, owners: bool) -> Ids {
        match (self.owner, owners) {
            (Some(ids), _) => ids,
            (None, true) => Ids { uid: meta.uid, gid: meta.gid },
            (None, false) => Ids::default(),
        }
    }

    fn mode_of(&self, mode: u32, directory: bool) -> u32 {
        self.mode.map_or(mode, |m| m.apply(mode, directory))
    }

    fn finish_file(&self, file: &File, meta: &Metadata, owners: bool) -> io::Result<()> {
        let ids = self.ids(meta, owners);
        rustix::fs::fchown(file, Some(Uid::from_raw(ids.uid)), Some(Gid::from_raw(ids.gid)))
            .map_err(|errno| sys::userns::owner_error(ids.uid, ids.gid, errno))?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(self.mode_of(meta.mode, false)))?;
        if let Some(capability) = meta.capability.as_ref().filter(|_| owners) {
            sys::xattr::set(file.as_fd(), CAPABILITY, capability)?;
        }
        let time = Timespec { tv_sec: meta.mtime.seconds, tv_nsec: i64::from(meta.mtime.nanos) };
        rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time })?;
        Ok(())
    }
}

/// Refuses a path that would be a deletion in a layer.
pub(super) fn check_name(path: &Path) -> Result<(), CopyError> {
    let hides = |part: &std::ffi::OsStr| part.as_encoded_bytes().starts_with(WHITEOUT_PREFIX);
    match path.iter().any(hides) {
        true => Err(CopyError::Whiteout { path: format!("/{}", path.display()) }),
        false => Ok(()),
    }
}

/// Refuses the device that would be a deletion in a layer.
pub(super) fn check_device(path: &Path, special: Special) -> Result<(), CopyError> {
    match special {
        Special::Char(0, 0) => {
            Err(CopyError::WhiteoutDevice { path: format!("/{}", path.display()) })
        }
        _ => Ok(()),
    }
}

pub(crate) fn write_error(path: &Path, source: io::Error) -> CopyError {
    CopyError::Write { path: format!("/{}", path.display()), source }
}
