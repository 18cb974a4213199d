//! ADD of a local archive: told by its content, extracted inside the destination.
//!
//! The destination is the archive's root: absolute names, `..` and links that the archive itself
//! brings stay inside it (BuildKit extracts under chroot).

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use oci::Timestamp;
use oci::layer;
use oci::layer::{Compression, ContentHash, LayerReader, TarEntry, TarKind, TreePath};
use rustix::fs::OFlags;
use sys::root::{Root, Special};
use sys::walk::FileKind;

use super::error::CopyError;
use super::owner::Ids;
use super::target::{Target, check_device, check_name, write_error};

/// One tar header.
const HEADER: usize = 512;
/// Enough of a file to tell any compression.
const HEAD: usize = 16;
const CAPABILITY: &[u8] = b"security.capability";

/// Tells by the content whether `file` is a tar, plain or compressed; leaves it at its start.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn detect(file: &mut File) -> io::Result<Option<Compression>> {
    let mut head = [0; HEAD];
    let got = read_up_to(file, &mut head)?;
    let compression = layer::detect(&head[..got]);
    file.rewind()?;
    let mut block = [0; HEADER];
    let mut decoder = layer::decoder(compression, Box::new(file.try_clone()?));
    // What cannot be decompressed is a file like any other.
    let tar = read_up_to(&mut decoder, &mut block)
        .is_ok_and(|got| got == HEADER && layer::is_tar(&block));
    file.seek(SeekFrom::Start(0))?;
    Ok(tar.then_some(compression))
}

fn read_up_to(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match reader.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

/// Bytes that are copied at a time.
const BUFFER: usize = 64 << 10;

/// A file that hashes what is read of it.
#[derive(Clone)]
struct Hashing {
    file: Arc<File>,
    hasher: Arc<Mutex<blake3::Hasher>>,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = (&*self.file).read(buffer)?;
        let mut hasher = self.hasher.lock().unwrap_or_else(PoisonError::into_inner);
        hasher.update(&buffer[..got]);
        Ok(got)
    }
}

/// Extracts an archive into the directory `dest`, which exists and has no links on the way.
/// Returns the digest of the archive, as it was read.
///
/// # Errors
/// If the archive is damaged or an entry cannot be written.
pub(super) fn extract(
    target: &Target<'_>,
    file: File,
    compression: Compression,
    dest: &Path,
    name: &str,
) -> Result<ContentHash, CopyError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let inside = if dest.as_os_str().is_empty() {
        target.root.try_clone()?
    } else {
        Root::new(target.root.open(dest, flags)?)
    };
    let broken = |source: Box<dyn std::error::Error + Send + Sync>| CopyError::Archive {
        archive: name.to_owned(),
        source,
    };
    let mut extraction =
        Extraction { target, dest, root: inside, times: Vec::new(), made: HashSet::new() };
    let mut hashing = Hashing { file: Arc::new(file), hasher: Arc::default() };
    let decoder = layer::decoder(compression, Box::new(hashing.clone()));
    let mut reader = LayerReader::new(decoder);
    while let Some(entry) = reader.next().map_err(|e| broken(e.into()))? {
        if (target.cancelled)() {
            return Err(write_error(dest, io::Error::from(io::ErrorKind::Interrupted)));
        }
        let path = TreePath::clean(&entry.raw_path)?;
        extraction.entry(&entry, &path, &mut reader).map_err(|error| match error {
            CopyError::Root(error) => broken(error.into()),
            error @ CopyError::ArchiveContent { .. } => broken(error.into()),
            other => other,
        })?;
    }
    extraction.finish()?;
    drop(reader);
    // What follows the end of the archive belongs to the file.
    io::copy(&mut hashing, &mut io::sink()).map_err(|e| broken(e.into()))?;
    let hasher = hashing.hasher.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(ContentHash(*hasher.finalize().as_bytes()))
}

/// Copies a file out of an archive; a damaged archive is not the file's fault.
fn copy_content(from: &mut impl Read, to: &mut File, at: &Path) -> Result<(), CopyError> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let got = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => {
                let path = at.display().to_string();
                return Err(CopyError::ArchiveContent { path, source });
            }
        };
        to.write_all(&buffer[..got]).map_err(|e| write_error(at, e))?;
    }
}

struct Extraction<'a> {
    target: &'a Target<'a>,
    /// What `root` is in the target.
    dest: &'a Path,
    root: Root,
    /// Directories whose times are set at the end.
    times: Vec<(PathBuf, Timestamp)>,
    /// Directories that are known to be there.
    made: HashSet<PathBuf>,
}

impl Extraction<'_> {
    fn entry<R: Read>(
        &mut self,
        entry: &TarEntry,
        path: &TreePath,
        reader: &mut LayerReader<R>,
    ) -> Result<(), CopyError> {
        if path.is_root() {
            // The archive's own root: the destination is there already.
            return Ok(());
        }
        let at = path.as_path();
        check_name(at)?;
        self.target.contents.wrote(&self.dest.join(at));
        self.parents(at)?;
        let mtime = (entry.mtime.seconds, entry.mtime.nanos);
        match &entry.kind {
            TarKind::Directory => {
                match self.root.try_stat(at)? {
                    Some(stat) if stat.is_dir() => {}
                    Some(_) => {
                        self.make_room(at)?;
                        self.root.mkdir(at, 0o700)?;
                    }
                    None => self.root.mkdir(at, 0o700)?,
                }
                self.made.insert(at.to_owned());
                self.times.push((at.to_owned(), entry.mtime));
                return self.finish_entry(entry, at, true);
            }
            TarKind::File { .. } => {
                self.make_room(at)?;
                let mut file = self.root.create_file(at, 0o600)?;
                copy_content(&mut reader.content(), &mut file, at)?;
                drop(file);
                self.finish_entry(entry, at, true)?;
            }
            TarKind::Symlink { target } => {
                self.make_room(at)?;
                self.root.symlink(target, at)?;
                self.finish_entry(entry, at, false)?;
            }
            TarKind::HardLink { target } => {
                let existing = TreePath::clean(target)?;
                if existing == *path {
                    return Ok(());
                }
                self.make_room(at)?;
                return Ok(self.root.hard_link(existing.as_path(), at)?);
            }
            TarKind::CharDevice { major, minor } => {
                self.node(entry, at, Special::Char(*major, *minor))?;
            }
            TarKind::BlockDevice { major, minor } => {
                self.node(entry, at, Special::Block(*major, *minor))?;
            }
            TarKind::Fifo => self.node(entry, at, Special::Fifo)?,
        }
        Ok(self.root.set_mtime(at, mtime)?)
    }

    fn node(&mut self, entry: &TarEntry, at: &Path, special: Special) -> Result<(), CopyError> {
        check_device(at, special)?;
        self.make_room(at)?;
        self.root.mknod(at, special, 0o600)?;
        self.finish_entry(entry, at, true)
    }

    /// Directories that the archive does not mention.
    fn parents(&mut self, at: &Path) -> Result<(), CopyError> {
        let Some(parent) = at.parent().filter(|p| !p.as_os_str().is_empty()) else {
            return Ok(());
        };
        if self.made.contains(parent) {
            return Ok(());
        }
        let owner = self.target.owner.unwrap_or_default();
        for dir in self.root.mkdir_all(parent, 0o755)? {
            self.root.chown(&dir, owner.uid, owner.gid)?;
        }
        self.made.insert(parent.to_owned());
        Ok(())
    }

    /// An entry replaces what has its name, a whole directory too, as tar(1) would with
    /// `--recursive-unlink` (Docker: `archive.Untar`).
    fn make_room(&mut self, at: &Path) -> Result<(), CopyError> {
        let Some(stat) = self.root.try_stat(at)? else { return Ok(()) };
        if stat.is_dir() {
            self.root.remove_all(at)?;
        } else {
            self.root.unlink(at)?;
            if stat.kind != FileKind::Symlink {
                return Ok(());
            }
        }
        // Also what was reached through a link of that name, or through another one that leads
        // here: whatever is known of directories may be wrong now.
        self.made.clear();
        self.times.retain(|(dir, _)| !dir.starts_with(at));
        Ok(())
    }

    /// Owner, mode, attributes, in this order.
    fn finish_entry(&self, entry: &TarEntry, at: &Path, has_mode: bool) -> Result<(), CopyError> {
        let own = Ids { uid: entry.uid, gid: entry.gid };
        let ids = self.target.owner.unwrap_or(own);
        self.root.chown(at, ids.uid, ids.gid)?;
        if has_mode {
            // `--chmod` does not reach into archives.
            let mode = match self.target.mode.filter(|mode| mode.reaches_into_archives()) {
                Some(mode) => mode.apply(entry.mode, matches!(entry.kind, TarKind::Directory)),
                None => entry.mode,
            };
            self.root.chmod(at, mode)?;
        }
        let file = matches!(entry.kind, TarKind::File { .. });
        for (key, value) in entry.xattrs.iter().filter(|(key, _)| file && key == CAPABILITY) {
            self.root.set_xattr(at, key, value)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<(), CopyError> {
        for (path, mtime) in self.times.iter().rev() {
            let time = (mtime.seconds, mtime.nanos);
            match self.root.set_mtime(path, time) {
                // A later entry replaced it, by a name that leads through a link.
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                other => other?,
            }
        }
        Ok(())
    }
}
