//! The root file system of an image as a directory.

use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use oci::Timestamp;
use oci::layer::{Entry, Node};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, makedev, mknodat, utimensat};

use crate::rootfs::{Merged, clamp, merge};
use crate::{ExportError, Image, Report};

/// Copies the image's root file system into the directory `dest`. What is there stays unless the
/// image has a file of the same name; everything belongs to the user who runs the export.
/// Device nodes are made where the user may, else left out and returned.
///
/// # Errors
/// If a file cannot be read or written.
pub fn local(image: &Image, dest: &Path, report: &dyn Report) -> Result<Vec<PathBuf>, ExportError> {
    let tree = image.layers.tree().map_err(ExportError::Tree)?;
    fs::create_dir_all(dest).map_err(fail(dest))?;
    let merged = merge(&tree);
    let mut writer = Writer { image, dest, left_out: Vec::new() };
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
}

impl Writer<'_> {
    fn path(&self, entry: &Entry) -> PathBuf {
        self.dest.join(entry.path.as_path())
    }

    fn write(&mut self, item: &Merged) -> Result<(), ExportError> {
        let path = self.path(&item.entry);
        let directory = matches!(item.entry.node, Node::Directory { .. });
        make_room(&path, directory).map_err(fail(&path))?;
        match &item.entry.node {
            Node::Directory { .. } => {
                if !path.is_dir() {
                    fs::create_dir(&path).map_err(fail(&path))?;
                }
                fs::set_permissions(&path, Permissions::from_mode(0o700)).map_err(fail(&path))
            }
            Node::File { .. } => self.write_file(item, &path),
            Node::Symlink { target } => {
                symlink(std::ffi::OsStr::from_bytes(target), &path).map_err(fail(&path))?;
                self.set_own_time(&path, item.entry.meta.mtime)
            }
            Node::HardLink { target } => {
                fs::hard_link(self.dest.join(target.as_path()), &path).map_err(fail(&path))
            }
            Node::Fifo => self.node(&item.entry, &path, FileType::Fifo, 0),
            Node::CharDevice { major, minor } => {
                self.node(&item.entry, &path, FileType::CharacterDevice, makedev(*major, *minor))
            }
            Node::BlockDevice { major, minor } => {
                self.node(&item.entry, &path, FileType::BlockDevice, makedev(*major, *minor))
            }
            Node::Whiteout => Ok(()),
        }
    }

    fn write_file(&self, item: &Merged, path: &Path) -> Result<(), ExportError> {
        let (layer, data) = &item.data;
        let mut content = self.image.layers.open(*layer, data).map_err(ExportError::Tree)?;
        let mut file = File::create_new(path).map_err(fail(path))?;
        io::copy(&mut content, &mut file).map_err(fail(path))?;
        file.set_permissions(Permissions::from_mode(item.entry.meta.mode)).map_err(fail(path))?;
        self.set_time(&file, item.entry.meta.mtime).map_err(fail(path))
    }

    fn set_time(&self, file: &File, time: Timestamp) -> io::Result<()> {
        match clamp(time, self.image.epoch).to_system_time() {
            Some(time) => file.set_times(FileTimes::new().set_modified(time)),
            None => Ok(()),
        }
    }

    /// Sets the time of what is no regular file, links not followed.
    fn set_own_time(&self, path: &Path, time: Timestamp) -> Result<(), ExportError> {
        let time = clamp(time, self.image.epoch);
        let time = Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanos) };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| fail(path)(e.into()))
    }

    fn node(
        &mut self,
        entry: &Entry,
        path: &Path,
        kind: FileType,
        device: u64,
    ) -> Result<(), ExportError> {
        match mknodat(CWD, path, kind, Mode::from_raw_mode(entry.meta.mode), device) {
            Err(rustix::io::Errno::PERM) => {
                self.left_out.push(entry.path.as_path().to_owned());
                Ok(())
            }
            Err(error) => Err(fail(path)(error.into())),
            Ok(()) => {
                // Whatever the umask is.
                let mode = Permissions::from_mode(entry.meta.mode);
                fs::set_permissions(path, mode).map_err(fail(path))?;
                self.set_own_time(path, entry.meta.mtime)
            }
        }
    }

    fn finish_directory(&self, entry: &Entry) -> Result<(), ExportError> {
        let path = self.path(entry);
        let dir = File::open(&path).map_err(fail(&path))?;
        self.set_time(&dir, entry.meta.mtime).map_err(fail(&path))?;
        dir.set_permissions(Permissions::from_mode(entry.meta.mode)).map_err(fail(&path))
    }
}

/// Removes what stands in the way of an entry. A directory that is there stays a directory; a
/// symbolic link is replaced and never followed.
fn make_room(path: &Path, directory: bool) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(there) if there.is_dir() && directory => Ok(()),
        Ok(there) if there.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    }
}

fn fail(path: &Path) -> impl Fn(io::Error) -> ExportError {
    let path = path.to_owned();
    move |source| ExportError::File { path: path.clone(), source }
}
