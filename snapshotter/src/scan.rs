//! Reading the directory of a step that has ended, and taking off what no snapshot keeps.
//!
//! Of extended attributes only `security.capability` stays (BuildKit puts nothing else into
//! layers), so that the next step does not see what the layer does not have. What an overlay
//! needs to be stacked again, the opaque mark, stays as well; its other bookkeeping refers to
//! inodes of layers below and goes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oci::layer::{CAPABILITY_XATTR, TreePath, normalise_capability};
use rayon::prelude::*;
use sys::root::Context;
use sys::walk::{DirEntry, FileKind, Stat};
use sys::{root, walk, xattr};

use crate::{Error, Kind, Result};

/// The attributes of overlayfs that mean something here (kernel documentation
/// `filesystems/overlayfs.rst`).
pub(crate) struct Marks {
    /// On a directory that hides what lower layers have of it.
    pub(crate) opaque: &'static str,
    /// On what has its content elsewhere, or only its metadata here.
    elsewhere: [&'static str; 2],
}

impl Kind {
    /// The attributes by which an overlay of this kind marks; none for a copy.
    pub(crate) fn marks(self) -> Option<&'static Marks> {
        match self {
            Self::Overlay => Some(&Marks {
                opaque: "trusted.overlay.opaque",
                elsewhere: ["trusted.overlay.redirect", "trusted.overlay.metacopy"],
            }),
            Self::UserOverlay | Self::FuseOverlay => Some(&Marks {
                opaque: "user.overlay.opaque",
                elsewhere: ["user.overlay.redirect", "user.overlay.metacopy"],
            }),
            Self::Copy => None,
        }
    }
}

/// How fuse-overlayfs marks a directory that hides what lower layers have: with an attribute of
/// its own (versions before 1.13; later ones with that of overlayfs), and with files in it. All
/// names with `.wh.` are refused to a step, so the files are nobody else's.
const FUSE_OPAQUE: &str = "user.fuseoverlayfs.opaque";
const FUSE_MARKERS: [&str; 2] = [".wh..wh..opq", ".wh..opq"];

/// With fewer directories than this, a level is read on this thread alone.
const PARALLEL_FROM: usize = 4;

/// Attributes that security modules own: they label what they find and refuse removal.
const MODULE_LABELS: [&[u8]; 5] = [
    b"security.selinux",
    b"security.ima",
    b"security.evm",
    b"security.apparmor",
    b"security.SMACK64",
];

/// One entry of the directory of a step.
#[derive(Clone, Debug)]
pub(crate) struct Scanned {
    pub(crate) path: TreePath,
    pub(crate) stat: Stat,
    /// Of a symbolic link.
    pub(crate) target: Option<Box<[u8]>>,
    /// The file's capabilities, version 2.
    pub(crate) capability: Option<Box<[u8]>>,
    /// A directory that hides what is below it in lower layers.
    pub(crate) opaque: bool,
    /// Stands for a removed entry of lower layers.
    pub(crate) whiteout: bool,
}

/// Reads everything below the open directory `root`, in the order of paths, and strips it.
///
/// # Errors
/// If something can't be read, a name is too long, or an entry must not be in a snapshot.
pub(crate) fn scan(root: &OwnedFd, kind: Kind) -> Result<Vec<Scanned>> {
    strip_root(root)?;
    let mut directories: HashMap<TreePath, Vec<Scanned>> = HashMap::new();
    let mut level = vec![TreePath::root()];
    let read = |dir: &TreePath| scan_dir(root, dir, kind);
    while !level.is_empty() {
        let read: Vec<Vec<Scanned>> = if level.len() < PARALLEL_FROM {
            level.iter().map(read).collect::<Result<_>>()?
        } else {
            level.par_iter().map(read).collect::<Result<_>>()?
        };
        let inner = read.iter().flatten().filter(|s| s.stat.is_dir());
        let next = inner.map(|s| s.path.clone()).collect();
        directories.extend(std::mem::replace(&mut level, next).into_iter().zip(read));
    }
    Ok(in_order(directories))
}

/// The entries of all directories, depth first.
fn in_order(mut directories: HashMap<TreePath, Vec<Scanned>>) -> Vec<Scanned> {
    let mut all = Vec::with_capacity(directories.values().map(Vec::len).sum());
    let mut pending: Vec<Scanned> = Vec::new();
    let mut open = |dir: &TreePath, pending: &mut Vec<Scanned>| {
        pending.extend(directories.remove(dir).unwrap_or_default().into_iter().rev());
    };
    open(&TreePath::root(), &mut pending);
    while let Some(entry) = pending.pop() {
        if entry.stat.is_dir() {
            open(&entry.path, &mut pending);
        }
        all.push(entry);
    }
    all
}

fn scan_dir(root: &OwnedFd, dir: &TreePath, kind: Kind) -> Result<Vec<Scanned>> {
    let what = "cannot read directory";
    let fd = walk::open_below(root, dir.as_path()).context(what, dir.as_path())?;
    let mut entries = walk::read_dir(&fd).context(what, dir.as_path())?;
    if kind == Kind::FuseOverlay {
        unmark(&fd, &mut entries).context("cannot take a marker out of", dir.as_path())?;
    }
    entries.into_iter().map(|entry| scan_entry(&fd, dir, &entry, kind)).collect()
}

/// Removes the files by which fuse-overlayfs marks a directory; its time stays.
fn unmark(fd: &OwnedFd, entries: &mut Vec<DirEntry>) -> std::io::Result<()> {
    let is_marker = |entry: &DirEntry| FUSE_MARKERS.iter().any(|name| entry.name == *name);
    if !entries.iter().any(is_marker) {
        return Ok(());
    }
    let (seconds, nanos) = Stat::of_fd(fd)?.mtime;
    for marker in entries.extract_if(.., |entry| is_marker(entry)) {
        rustix::fs::unlinkat(fd, &marker.name, rustix::fs::AtFlags::empty())?;
    }
    let omit = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let mtime = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    let times = rustix::fs::Timestamps { last_access: omit, last_modification: mtime };
    Ok(rustix::fs::futimens(fd, &times)?)
}

fn scan_entry(fd: &OwnedFd, dir: &TreePath, entry: &DirEntry, kind: Kind) -> Result<Scanned> {
    let path = dir.child(entry.name.as_bytes())?;
    let device = entry.stat.kind == FileKind::CharDevice && entry.stat.special == (0, 0);
    if device && kind == Kind::Copy {
        // The kernel refuses to make one on an overlay: both kinds keep the same things out.
        let reason = "a character device 0:0 means a removed file in layers";
        return Err(Error::Refused { path, reason });
    }
    let mut scanned = Scanned {
        path,
        stat: entry.stat,
        target: None,
        capability: None,
        opaque: false,
        whiteout: device,
    };
    if entry.stat.kind == FileKind::Symlink {
        let target = root::readlink_at(fd, &entry.name)
            .context("cannot read link", scanned.path.as_path())?;
        scanned.target = Some(target.as_os_str().as_bytes().into());
    }
    strip(fd.as_fd(), &entry.name, kind, &mut scanned)?;
    Ok(scanned)
}

/// Takes the attributes off one entry, and notes those that stay.
fn strip(fd: BorrowedFd<'_>, name: &OsStr, kind: Kind, scanned: &mut Scanned) -> Result<()> {
    let path = scanned.path.clone();
    let path = path.as_path();
    let marks = kind.marks();
    let is = |attribute: &[u8], mark: &str| attribute == mark.as_bytes();
    for attribute in xattr::list_at(fd, name).context("cannot list the attributes of", path)? {
        let read =
            || xattr::get_at(fd, name, &attribute).context("cannot read an attribute of", path);
        match &attribute[..] {
            a if a == CAPABILITY_XATTR && scanned.stat.kind == FileKind::File => {
                let Some(value) = read()? else { continue };
                // Inside a user namespace the kernel stores version 3 (capabilities(7)).
                let Ok(normal) = normalise_capability(&value) else {
                    let reason = "its file capabilities are malformed";
                    return Err(Error::Refused { path: scanned.path.clone(), reason });
                };
                if *normal != *value {
                    xattr::set_at(fd, name, &attribute, &normal)
                        .context("cannot set the capabilities of", path)?;
                }
                scanned.capability = Some(normal);
            }
            a if marks.is_some_and(|marks| is(a, marks.opaque))
                && scanned.stat.is_dir()
                && read()?.as_deref() == Some(b"y") =>
            {
                scanned.opaque = true;
            }
            a if kind == Kind::FuseOverlay && is(a, FUSE_OPAQUE) && scanned.stat.is_dir() => {
                if let Some(marks) = marks.filter(|_| !scanned.opaque) {
                    xattr::set_at(fd, name, marks.opaque.as_bytes(), b"y")
                        .context("cannot mark as opaque", path)?;
                }
                scanned.opaque = true;
                xattr::remove_at(fd, name, &attribute)
                    .context("cannot remove an attribute of", path)?;
            }
            a if marks.is_some_and(|marks| marks.elsewhere.iter().any(|mark| is(a, mark))) => {
                let reason = "its content is in a layer below (overlay redirect or metacopy)";
                return Err(Error::Refused { path: scanned.path.clone(), reason });
            }
            _ if is_module_label(&attribute) => {}
            _ => xattr::remove_at(fd, name, &attribute)
                .context("cannot remove an attribute of", path)?,
        }
    }
    Ok(())
}

/// The root directory is in no layer: it gets the metadata that every root has.
fn strip_root(fd: &OwnedFd) -> Result<()> {
    let path = Path::new("/");
    for attribute in xattr::list(fd).context("cannot list the attributes of", path)? {
        if !is_module_label(&attribute) {
            xattr::remove(fd, &attribute).context("cannot remove an attribute of", path)?;
        }
    }
    reset_root(fd)
}

/// Mode 0755, and owned by the user that runs the builder.
pub(crate) fn reset_root(fd: &OwnedFd) -> Result<()> {
    let path = Path::new("/");
    let stat = Stat::of_fd(fd).context("cannot look at", path)?;
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if (stat.uid, stat.gid) != (uid.as_raw(), gid.as_raw()) {
        rustix::fs::fchown(fd, Some(uid), Some(gid)).context("cannot change the owner of", path)?;
    }
    if stat.mode != 0o755 {
        rustix::fs::fchmod(fd, rustix::fs::Mode::from_raw_mode(0o755))
            .context("cannot change the mode of", path)?;
    }
    Ok(())
}

fn is_module_label(attribute: &[u8]) -> bool {
    MODULE_LABELS.iter().any(|label| attribute.starts_with(label))
}
