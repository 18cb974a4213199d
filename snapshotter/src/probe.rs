//! Whether overlays work in a directory: by making one there and using it.

use std::path::Path;

use rustix::fs::OFlags;
use sys::fuse::FuseOverlay;
use sys::mount::{Mount, MountFlags, MountSource, Overlay, Upper};
use sys::root::{Context, Root};

use crate::snapshotter::{PROBE_PREFIX, Snapshotter, open_dir};
use crate::{Error, Kind, Result, SnapshotId};

/// `statfs(2)`: the magic number of overlayfs.
const OVERLAYFS_MAGIC: u64 = 0x794c_7630;

/// Which kind of snapshot works in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The kind to use.
    pub kind: Kind,
    /// If it is [`Kind::Copy`]: why, to be shown.
    pub reason: Option<String>,
}

impl Snapshotter {
    /// Finds out whether overlays work in `dir`, which must exist: mounts one of directories
    /// below it, writes to it, removes a directory from the lower layer and makes it again. The
    /// mount is attached nowhere, and nothing is left.
    pub fn probe(dir: &Path) -> Probe {
        let kind = match sys::userns::inside() {
            true => Kind::UserOverlay,
            false => Kind::Overlay,
        };
        Self::probe_kind(dir, kind, None)
    }

    /// As [`Self::probe`], of one kind; [`Kind::FuseOverlay`] takes the `program`.
    pub fn probe_kind(dir: &Path, kind: Kind, program: Option<&Path>) -> Probe {
        if kind == Kind::Copy {
            return Probe { kind, reason: None };
        }
        let name = format!("{PROBE_PREFIX}{}", SnapshotId::random());
        let result = Root::at(dir).map_err(Error::from).and_then(|root| {
            let result = try_overlay(dir, &root, &name, (kind, program));
            let removed = root.remove_all(&name).map_err(Error::from);
            result.and(removed)
        });
        match result {
            Ok(()) => Probe { kind, reason: None },
            Err(error) => Probe { kind: Kind::Copy, reason: Some(error.to_string()) },
        }
    }
}

fn try_overlay(
    dir: &Path,
    root: &Root,
    name: &str,
    (kind, program): (Kind, Option<&Path>),
) -> Result<()> {
    let fail = |reason: &str| Error::Mount { id: "(probe)".to_owned(), reason: reason.to_owned() };
    let stat = rustix::fs::fstatfs(root.fd()).context("cannot look at the file system of", dir)?;
    if stat.f_type as u64 == OVERLAYFS_MAGIC && kind != Kind::FuseOverlay {
        // Newer kernels may take it, but then marks are stored in another way.
        return Err(fail("the directory is on an overlay itself"));
    }
    root.mkdir(name, 0o700)?;
    let base = dir.join(name);
    let base = Root::at(&base)?;
    for dir in ["lower", "lower/d", "lower2", "upper", "work"] {
        base.mkdir(dir, 0o755)?;
    }
    base.create_file("lower/d/old", 0o644)?;
    base.create_file("lower/gone", 0o644)?;
    let path = |part: &str| dir.join(name).join(part);
    let overlay = Overlay {
        lowers: vec![path("lower2"), path("lower")],
        upper: Some(Upper { dir: path("upper"), work: path("work") }),
        user_xattr: kind.user_xattr(),
        volatile: true,
        redirects: false,
    };
    let source = match kind {
        Kind::FuseOverlay => {
            let program = program.ok_or(Error::NoProgram)?.to_owned();
            MountSource::FuseOverlay(FuseOverlay { program, base: dir.to_owned(), overlay })
        }
        _ => MountSource::Overlay(overlay),
    };
    let mount = Mount { target: "/".into(), source, flags: MountFlags::default() };
    let mounted = mount.open().map_err(|error| fail(&error.to_string()))?;
    let merged = Root::new(mounted);
    merged.create_file("new", 0o644)?;
    merged.unlink("gone")?;
    merged.remove_all("d")?;
    merged.mkdir("d", 0o755)?;
    merged.open("new", OFlags::RDWR)?;
    let empty = merged.read_dir("d")?.is_empty();
    drop(merged);
    let upper = open_dir(&path("upper"))?;
    if kind == Kind::FuseOverlay {
        sys::fuse::at_rest(&path("upper"))
            .map(drop)
            .context("cannot finish the overlay of", dir)?;
    }
    let entries = crate::scan::scan(&upper, kind)?;
    let whiteout = entries.iter().any(|e| e.path.as_bytes() == b"gone" && e.whiteout);
    let opaque = entries.iter().any(|e| e.path.as_bytes() == b"d" && e.opaque);
    if !empty || !whiteout || !opaque {
        return Err(fail("the overlay does not behave like one"));
    }
    Ok(())
}
