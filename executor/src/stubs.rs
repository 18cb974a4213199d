//! Mount points that exist only for a run.
//!
//! What was created to hold a mount must not end up in a layer. It is removed after the run if it
//! is still what was created and still empty, and the times of the directories around it are
//! put back. What the process itself changed there keeps the process's times.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::tree::Place;

/// Mode of created directories and files, whatever the builder's umask is.
const DIR_MODE: Mode = Mode::from_raw_mode(0o755);
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);

/// Stubs made so far; dropping removes them.
#[derive(Debug, Default)]
pub(crate) struct Stubs {
    parents: Vec<Parent>,
    made: Vec<Made>,
    sealed: bool,
}

/// A directory that got a stub.
#[derive(Debug)]
struct Parent {
    dir: OwnedFd,
    identity: (u64, u64),
    before: Timestamps,
    /// Its mtime when all stubs were there.
    with_stubs: Timespec,
}

#[derive(Debug)]
struct Made {
    parent: usize,
    name: OsString,
    is_dir: bool,
    identity: (u64, u64),
}

impl Stubs {
    /// Makes what is missing at `place`: directories, and for the last component a file unless
    /// `as_dir`. The result is open on the whole path.
    pub(crate) fn make(&mut self, place: Place, as_dir: bool) -> Result<OwnedFd, Errno> {
        let mut dir = place.found;
        let count = place.missing.len();
        for (number, name) in place.missing.into_iter().enumerate() {
            let as_dir = as_dir || number + 1 < count;
            let parent = self.parent(&dir)?;
            dir = match create(&dir, &name, as_dir) {
                Ok(fd) => {
                    let identity = identity(&rustix::fs::fstat(&fd)?);
                    self.made.push(Made { parent, name, is_dir: as_dir, identity });
                    fd
                }
                // The stub is the other's, to be removed by it.
                Err(Errno::EXIST) => reopen(&dir, &name)?,
                Err(errno) => return Err(errno),
            };
        }
        Ok(dir)
    }

    /// To be called when all stubs are made and before the process starts.
    pub(crate) fn seal(&mut self) -> Result<(), Errno> {
        self.sealed = true;
        for parent in &mut self.parents {
            parent.with_stubs = timestamps(&rustix::fs::fstat(&parent.dir)?).last_modification;
        }
        Ok(())
    }

    fn parent(&mut self, dir: &OwnedFd) -> Result<usize, Errno> {
        let stat = rustix::fs::fstat(dir)?;
        let identity = identity(&stat);
        if let Some(known) = self.parents.iter().position(|it| it.identity == identity) {
            return Ok(known);
        }
        let before = timestamps(&stat);
        let dir = rustix::io::fcntl_dupfd_cloexec(dir, 0)?;
        let with_stubs = before.last_modification;
        self.parents.push(Parent { dir, identity, before, with_stubs });
        Ok(self.parents.len() - 1)
    }

    /// Removes the stubs. To be called when the process has ended.
    ///
    /// # Errors
    /// If one stays: it would look like the process's work.
    pub(crate) fn clear(mut self) -> Result<(), Errno> {
        self.remove()
    }

    fn remove(&mut self) -> Result<(), Errno> {
        let mut removed = Ok(());
        // Once: what times mean afterwards, nobody knows.
        let parents = std::mem::take(&mut self.parents);
        let times: Vec<Option<Timestamps>> = parents.iter().map(Parent::times).collect();
        let mut changed = vec![false; times.len()];
        for made in self.made.drain(..).rev() {
            let dir = &parents[made.parent].dir;
            let Ok(stat) = rustix::fs::statat(dir, &made.name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            if identity(&stat) != made.identity {
                continue;
            }
            if !made.is_dir && stat.st_size != 0 {
                changed[made.parent] = true;
                continue;
            }
            let flags = if made.is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            match rustix::fs::unlinkat(dir, &made.name, flags) {
                Ok(()) | Err(Errno::NOENT) => {}
                // A directory that is not empty stays: it is the process's now, and so is the
                // change of the one that it is in.
                Err(Errno::NOTEMPTY | Errno::EXIST) => {
                    changed[made.parent] = true;
                }
                Err(errno) => removed = Err(errno),
            }
        }
        for ((parent, times), changed) in parents.iter().zip(times).zip(changed) {
            let Some(times) = times else { continue };
            let changed = changed || !same_time(&times.last_modification, &parent.with_stubs);
            let times = if changed { &times } else { &parent.before };
            // Fails for a stub's own directory, which is gone.
            let _ = rustix::fs::utimensat(&parent.dir, ".", times, AtFlags::empty());
        }
        removed
    }
}

impl Drop for Stubs {
    fn drop(&mut self) {
        if !self.sealed {
            // A plan that failed half-way. A directory that cannot be read keeps its times.
            let _ = self.seal();
        }
        // Of a process that failed: nobody takes what is left.
        let _ = self.remove();
    }
}

impl Parent {
    /// The times of the directory, to be asked for before stubs are removed.
    fn times(&self) -> Option<Timestamps> {
        rustix::fs::fstat(&self.dir).ok().map(|stat| timestamps(&stat))
    }
}

fn create(dir: &OwnedFd, name: &OsStr, as_dir: bool) -> Result<OwnedFd, Errno> {
    if as_dir {
        rustix::fs::mkdirat(dir, name, DIR_MODE)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        rustix::fs::fchmod(&fd, DIR_MODE)?;
        Ok(fd)
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, name, flags, FILE_MODE)?;
        rustix::fs::fchmod(&fd, FILE_MODE)?;
        Ok(fd)
    }
}

/// Makes what is missing at `place` as directories that stay, owned by `uid` and `gid`.
pub(crate) fn make_lasting(place: Place, uid: u32, gid: u32) -> Result<(), Errno> {
    let mut dir = place.found;
    for name in place.missing {
        dir = match create(&dir, &name, true) {
            Ok(made) => {
                if (uid, gid) != (0, 0) {
                    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
                    rustix::fs::fchown(&made, Some(uid), Some(gid))?;
                }
                made
            }
            Err(Errno::EXIST) => reopen(&dir, &name)?,
            Err(errno) => return Err(errno),
        };
    }
    Ok(())
}

/// What another step, which shares this cache mount, made a moment ago.
fn reopen(dir: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

fn identity(stat: &rustix::fs::Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn timestamps(stat: &rustix::fs::Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.cast_signed(),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn same_time(one: &Timespec, other: &Timespec) -> bool {
    (one.tv_sec, one.tv_nsec) == (other.tv_sec, other.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;
    use std::fs;
    use std::os::fd::AsFd;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    fn root() -> (tempfile::TempDir, OwnedFd, SystemTime) {
        let temp = tempfile::tempdir().unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::new(1_000_000, 123_456_789);
        fs::create_dir(temp.path().join("etc")).unwrap();
        for name in ["", "etc"] {
            fs::File::open(temp.path().join(name)).unwrap().set_modified(old).unwrap();
        }
        let fd = rustix::fs::open(temp.path(), OFlags::PATH, Mode::empty()).unwrap();
        (temp, fd, old)
    }

    fn make(stubs: &mut Stubs, root: &OwnedFd, path: &str, as_dir: bool) {
        let place = Tree::new(root.as_fd()).resolve(Path::new(path)).unwrap();
        stubs.make(place, as_dir).unwrap();
    }

    #[test]
    fn nothing_is_left_and_times_come_back() {
        let (temp, fd, old) = root();
        let mut stubs = Stubs::default();
        make(&mut stubs, &fd, "/etc/hosts", false);
        make(&mut stubs, &fd, "/etc/deep/er/dir", true);
        make(&mut stubs, &fd, "/etc/resolv.conf", false);
        make(&mut stubs, &fd, "/new/file", false);
        stubs.seal().unwrap();
        assert!(temp.path().join("etc/deep/er/dir").is_dir());
        drop(stubs);
        let modified = |name: &str| fs::metadata(temp.path().join(name)).unwrap().modified();
        assert_eq!(modified("").unwrap(), old);
        assert_eq!(modified("etc").unwrap(), old);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(temp.path().join("etc")).unwrap().count(), 0);
    }

    #[test]
    fn what_the_process_made_stays() {
        let (temp, fd, old) = root();
        let mut stubs = Stubs::default();
        make(&mut stubs, &fd, "/etc/hosts", false);
        make(&mut stubs, &fd, "/cache/dir", true);
        make(&mut stubs, &fd, "/etc/replaced", false);
        stubs.seal().unwrap();
        fs::write(temp.path().join("etc/own"), "x").unwrap();
        fs::write(temp.path().join("cache/own"), "x").unwrap();
        fs::remove_file(temp.path().join("etc/replaced")).unwrap();
        fs::create_dir(temp.path().join("etc/replaced")).unwrap();
        let own = fs::metadata(temp.path().join("etc")).unwrap().modified().unwrap();
        stubs.clear().unwrap();
        assert!(!temp.path().join("etc/hosts").exists());
        assert!(temp.path().join("etc/replaced").is_dir());
        assert!(!temp.path().join("cache/dir").exists());
        assert!(temp.path().join("cache/own").exists());
        let after = fs::metadata(temp.path().join("etc")).unwrap().modified().unwrap();
        assert_eq!(after, own);
        assert_ne!(after, old);
        // What became of a stub is new to the directory that it is in.
        assert_ne!(fs::metadata(temp.path()).unwrap().modified().unwrap(), old);
    }
}
