//! File systems in files, which can be full and can lose their power.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use crate::{host, temp};

/// How large the file system is that holds disks, in MiB: the least that XFS is made in, and
/// room for copies.
const FIELD: u64 = 512;

/// How often a copy is tried where it takes time.
const TRIES: usize = 50;

/// An ext4 file system in a file.
pub struct Disk {
    dir: Place,
    mount: Option<Mount>,
}

/// Where the file is.
enum Place {
    /// On a file system that copies a file at one moment, whatever is written to it.
    Field(Arc<Field>, TempDir),
    /// Wherever temporary files are.
    Plain(TempDir),
}

/// An XFS file system in a file: a copy of one of its files by reference (`FICLONE`,
/// ioctl_ficlonerange(2)) excludes all writes to it.
struct Field {
    // Goes before its directory does.
    mount: Mount,
    _dir: TempDir,
}

/// A mounted file system.
struct Mount(PathBuf);

impl Mount {
    /// None where the kernel has no loop devices to give, or not this file system.
    fn new(image: &Path, at: PathBuf) -> Option<Self> {
        fs::create_dir_all(&at).ok()?;
        let done = Command::new("mount").args(["-o", "loop"]).arg(image).arg(&at).output();
        done.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let quiet = || Command::new("umount").arg(&self.0).output();
        // Something may look at it for a moment (a process of a build that was killed).
        let gone = || quiet().is_ok_and(|output| output.status.success());
        if !host::wait_until(Duration::from_secs(5), gone) {
            eprintln!("{} stays mounted", self.0.display());
        }
    }
}

impl Field {
    fn new() -> Option<Arc<Self>> {
        let dir = temp::directory();
        let image = dir.path().join("field");
        fs::File::create(&image).ok()?.set_len(FIELD << 20).ok()?;
        let made = Command::new("mkfs.xfs").args(["-q", "-m", "reflink=1"]).arg(&image).output();
        if !made.is_ok_and(|output| output.status.success()) {
            return None;
        }
        let mount = Mount::new(&image, dir.path().join("held"))?;
        Some(Arc::new(Self { mount, _dir: dir }))
    }

    fn place(self: &Arc<Self>) -> Option<Place> {
        let dir = tempfile::tempdir_in(&self.mount.0).ok()?;
        Some(Place::Field(self.clone(), dir))
    }
}

impl Disk {
    /// An empty one. None where the kernel has no loop devices to give.
    ///
    /// # Panics
    /// If its file cannot be made.
    pub fn new(megabytes: u64) -> Option<Self> {
        Self::make(Place::Plain(temp::directory()), megabytes)
    }

    /// An empty one whose [`unplugged`](Self::unplugged) copies are of any moment. Where there is
    /// no XFS, they are of those at which nothing happened to be written.
    ///
    /// # Panics
    /// If its file cannot be made.
    pub fn that_loses_power(megabytes: u64) -> Option<Self> {
        let place = Field::new().and_then(|field| field.place());
        Self::make(place.unwrap_or_else(|| Place::Plain(temp::directory())), megabytes)
    }

    fn make(dir: Place, megabytes: u64) -> Option<Self> {
        let mut disk = Self { dir, mount: None };
        fs::File::create(disk.image()).unwrap().set_len(megabytes << 20).unwrap();
        let mut make = Command::new("mkfs.ext4");
        make.args(["-q", "-F", "-m", "0"]).arg(disk.image());
        assert!(make.status().unwrap().success());
        disk.mount = Some(Mount::new(&disk.image(), disk.root())?);
        Some(disk)
    }

    /// The disk as a loss of power at this moment would leave it: its bytes, at one moment.
    ///
    /// # Panics
    /// If it cannot be read, or the copy not be written.
    pub fn unplugged(&self) -> Option<Self> {
        let mut copy = match &self.dir {
            Place::Field(field, _) => {
                let copy = Self { dir: field.place()?, mount: None };
                let from = fs::File::open(self.image()).unwrap();
                let to = fs::File::create(copy.image()).unwrap();
                rustix::fs::ioctl_ficlone(&to, &from).unwrap();
                copy
            }
            Place::Plain(_) => {
                let copy = Self { dir: Place::Plain(temp::directory()), mount: None };
                write_sparse(&copy.image(), &self.quiet_bytes()?);
                copy
            }
        };
        copy.mount = Some(Mount::new(&copy.image(), copy.root())?);
        Some(copy)
    }

    /// Its bytes at a moment at which nothing was written, if there is one.
    fn quiet_bytes(&self) -> Option<Vec<u8>> {
        let mut before = fs::read(self.image()).unwrap();
        for _ in 0..TRIES {
            let after = fs::read(self.image()).unwrap();
            if before == after {
                return Some(after);
            }
            before = after;
        }
        None
    }

    fn dir(&self) -> &Path {
        match &self.dir {
            Place::Field(_, dir) | Place::Plain(dir) => dir.path(),
        }
    }

    fn image(&self) -> PathBuf {
        self.dir().join("image")
    }

    /// Where it is mounted.
    pub fn root(&self) -> PathBuf {
        self.dir().join("root")
    }

    /// A path beside it, which is not on it.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    fn filler(&self) -> PathBuf {
        self.root().join("filler")
    }

    /// Leaves about so many bytes, until [`clear`](Self::clear).
    ///
    /// # Panics
    /// If the file that takes them cannot be made.
    pub fn fill(&self, leave: u64) {
        let stat = rustix::fs::statvfs(self.root()).unwrap();
        let free = (stat.f_bavail * stat.f_frsize).saturating_sub(leave);
        let file = fs::File::create(self.filler()).unwrap();
        let flags = rustix::fs::FallocateFlags::empty();
        let _ = rustix::fs::fallocate(&file, flags, 0, free.max(1));
    }

    /// Gives back what [`fill`](Self::fill) took.
    ///
    /// # Panics
    /// If it took nothing.
    pub fn clear(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Before the directory that it is in.
        self.mount = None;
    }
}

/// Writes a file without the blocks that are empty.
fn write_sparse(path: &Path, bytes: &[u8]) {
    let file = fs::File::create(path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    for (at, block) in bytes.chunks(1 << 16).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            file.write_all_at(block, (at as u64) << 16).unwrap();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileged_a_copy_has_what_was_synced() {
        crate::require_root!();
        crate::require_programs!("mkfs.ext4", "mount", "umount");
        let makes: [fn(u64) -> Option<Disk>; 2] = [Disk::new, Disk::that_loses_power];
        for make in makes {
            let Some(disk) = make(16) else {
                return crate::skip::say("disk", "no loop devices");
            };
            let file = fs::File::create(disk.root().join("synced")).unwrap();
            file.write_all_at(b"kept", 0).unwrap();
            file.sync_all().unwrap();
            fs::write(disk.root().join("lost"), "lost").unwrap();
            let copy = disk.unplugged().unwrap();
            assert_eq!(fs::read(copy.root().join("synced")).unwrap(), b"kept");
            assert_ne!(fs::read(copy.root().join("lost")).unwrap_or_default(), b"lost");
            assert_eq!(fs::read(disk.root().join("lost")).unwrap(), b"lost");
            let root = disk.root();
            drop((file, copy, disk));
            assert_eq!(host::mounts_below(&root), Vec::<String>::new());
        }
    }
}
