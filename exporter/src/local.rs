//! The root file system of an image as a directory.
//!
//! Exports of several builds into one directory take turns ([`Turn`]), so that the last one wins.
//! Everything but a directory is made beside its place and renamed into it: whoever reads the
//! directory meanwhile sees the old file or the new one, never a half.

use std::cell::Cell;
use std::fs::{self, File, FileTimes, Permissions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use oci::Timestamp;
use oci::layer::{Entry, Node};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, makedev, mknodat, utimensat};

use crate::rootfs::{Merged, clamp, merge};
use crate::turn::Turn;
use crate::{ExportError, Image, Report};

/// Copies the image's root file system into the directory `dest`. What is there stays unless the
/// image has a file of the same name; everything belongs to the user who runs the export.
/// Device nodes are made where the user may, else left out and returned. Waits while another
/// build exports into the same directory.
///
/// # Errors
/// If a file cannot be read or written.
pub fn local(image: &Image, dest: &Path, report: &dyn Report) -> Result<Vec<PathBuf>, ExportError> {
    let tree = image.layers.tree().map_err(ExportError::Tree)?;
    let _turn = Turn::take(dest, report)?;
    let merged = merge(&tree);
    let mut writer = Writer { image, dest, left_out: Vec::new(), made: Cell::new(0) };
    for item in &merged {
        if report.cancelled() {
            return Err(ExportError::Cancelled);
        }
        writer.write(item)?;
    }
    // Children change the times of directories, and a directory's mode may forbid writing to it.
    for item in merged.iter().rev().filter(|m| matches!(m.entry.node, Node::Directory { .. })) {
        writer.finish_directory(&item.entry)?;
    }
    Ok(writer.left_out)
}

struct Writer<'a> {
    image: &'a Image,
    dest: &'a Path,
    left_out: Vec<PathBuf>,
    /// Counts names of what is not in its place yet.
    made: Cell<u64>,
}

impl Writer<'_> {
    fn path(&self, entry: &Entry) -> PathBuf {
        self.dest.join(entry.path.as_path())
    }

    fn write(&mut self, item: &Merged) -> Result<(), ExportError> {
        let entry = &item.entry;
        let path = self.path(entry);
        match &entry.node {
            Node::Directory { .. } => make_directory(&path).map_err(fail(&path)),
            Node::File { .. } => {
                let (layer, data) = &item.data;
                let open = || self.image.layers.open(*layer, data).map_err(ExportError::Tree);
                self.place(&path, |new| {
                    self.write_file(&mut *open()?, entry, new).map_err(fail(&path))
                })
            }
            Node::Symlink { target } => self.place(&path, |new| {
                let made = symlink(std::ffi::OsStr::from_bytes(target), new);
                made.and_then(|()| self.set_own_time(new, entry.meta.mtime)).map_err(fail(&path))
            }),
            Node::HardLink { target } => {
                let target = self.dest.join(target.as_path());
                self.place(&path, |new| fs::hard_link(&target, new).map_err(fail(&path)))
            }
            Node::Fifo => self.node(entry, &path, FileType::Fifo, 0),
            Node::CharDevice { major, minor } => {
                self.node(entry, &path, FileType::CharacterDevice, makedev(*major, *minor))
            }
            Node::BlockDevice { major, minor } => {
                self.node(entry, &path, FileType::BlockDevice, makedev(*major, *minor))
            }
            Node::Whiteout => Ok(()),
        }
    }

    /// Has something made by another name beside `path`, and renames it into its place.
    fn place(
        &self,
        path: &Path,
        make: impl Fn(&Path) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let new = self.temporary(path);
        let placed = make(&new).and_then(|()| rename_over(&new, path).map_err(fail(path)));
        if placed.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_file(&new);
        }
        placed
    }

    /// A name beside `path` that nothing has.
    fn temporary(&self, path: &Path) -> PathBuf {
        loop {
            let number = self.made.replace(self.made.get() + 1);
            let new = path.with_file_name(format!(".drydock-{}-{number}", std::process::id()));
            if matches!(fs::symlink_metadata(&new), Err(e) if e.kind() == ErrorKind::NotFound) {
                return new;
            }
        }
    }

    fn write_file(&self, content: &mut dyn Read, entry: &Entry, new: &Path) -> io::Result<()> {
        // Until it has its mode, it is nobody else's to read.
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(new)?;
        io::copy(content, &mut file)?;
        file.set_permissions(Permissions::from_mode(entry.meta.mode))?;
        self.set_time(&file, entry.meta.mtime)
    }

    fn set_time(&self, file: &File, time: Timestamp) -> io::Result<()> {
        match clamp(time, self.image.epoch).to_system_time() {
            Some(time) => file.set_times(FileTimes::new().set_modified(time)),
            None => Ok(()),
        }
    }

    /// Sets the time of what is no regular file, links not followed.
    fn set_own_time(&self, path: &Path, time: Timestamp) -> io::Result<()> {
        let time = clamp(time, self.image.epoch);
        let time = Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanos) };
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn node(
        &mut self,
        entry: &Entry,
        path: &Path,
        kind: FileType,
        device: u64,
    ) -> Result<(), ExportError> {
        let refused = Cell::new(false);
        let made = self.place(path, |new| {
            let made = mknodat(CWD, new, kind, Mode::from_raw_mode(entry.meta.mode), device);
            refused.set(made == Err(rustix::io::Errno::PERM));
            made.map_err(|e| fail(path)(e.into()))?;
            // Whatever the umask is.
            let mode = Permissions::from_mode(entry.meta.mode);
            let set = fs::set_permissions(new, mode);
            set.and_then(|()| self.set_own_time(new, entry.meta.mtime)).map_err(fail(path))
        });
        if !refused.get() {
            return made;
        }
        // What is there is not what the image has.
        clear(path).map_err(fail(path))?;
        self.left_out.push(entry.path.as_path().to_owned());
        Ok(())
    }

    fn finish_directory(&self, entry: &Entry) -> Result<(), ExportError> {
        let path = self.path(entry);
        let dir = File::open(&path).map_err(fail(&path))?;
        self.set_time(&dir, entry.meta.mtime).map_err(fail(&path))?;
        dir.set_permissions(Permissions::from_mode(entry.meta.mode)).map_err(fail(&path))
    }
}

/// Makes a directory that we may write to. One that is there stays; a symbolic link is replaced and
/// never followed.
fn make_directory(path: &Path) -> io::Result<()> {
    let is_directory = || fs::symlink_metadata(path).is_ok_and(|there| there.is_dir());
    if !is_directory() {
        clear(path)?;
        match fs::create_dir(path) {
            // Where there are no locks, another export may have been faster.
            Err(e) if e.kind() == ErrorKind::AlreadyExists && is_directory() => {}
            other => other?,
        }
    }
    fs::set_permissions(path, Permissions::from_mode(0o700))
}

/// Renames `new` to `path`, whatever is there: a link is replaced and never followed.
fn rename_over(new: &Path, path: &Path) -> io::Result<()> {
    match fs::rename(new, path) {
        Err(error) if error.kind() == ErrorKind::IsADirectory => {
            fs::remove_dir_all(path)?;
            fs::rename(new, path)
        }
        other => other,
    }
}

/// Removes what is at `path`, if anything is.
fn clear(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn fail(path: &Path) -> impl Fn(io::Error) -> ExportError {
    let path = path.to_owned();
    move |source| ExportError::File { path: path.clone(), source }
}
