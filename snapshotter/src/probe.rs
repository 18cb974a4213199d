//! Whether overlays work in a directory: by making one there and using it.

use std::path::Path;

use rustix::fs::OFlags;
use sys::mount::{Mount, MountFlags, MountSource, Overlay, Upper};
use sys::root::{Context, Root};

use crate::snapshotter::{PROBE_PREFIX, Snapshotter};
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
        let name = format!("{PROBE_PREFIX}{}", SnapshotId::random());
        let result = Root::at(dir).map_err(Error::from).and_then(|root| {
            let result = try_overlay(dir, &root, &name, kind);
            let removed = root.remove_all(&name).map_err(Error::from);
            result.and(removed)
        });
        match result {
            Ok(()) => Probe { kind, reason: None },
            Err(error) => Probe { kind: Kind::Copy, reason: Some(error.to_string()) },
        }
    }
}

fn try_overlay(dir: &Path, root: &Root, name: &str, kind: Kind) -> Result<()> {
    let fail = |reason: &str| Error::Mount { id: "(probe)".to_owned(), reason: reason.to_owned() };
    let stat = rustix::fs::fstatfs(root.fd()).context("cannot look at the file system of", dir)?;
    if stat.f_type as u64 == OVERLAYFS_MAGIC {
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
    let mount = Mount {
        target: "/".into(),
        source: MountSource::Overlay(Overlay {
            lowers: vec![path("lower2"), path("lower")],
            upper: Some(Upper { dir: path("upper"), work: path("work") }),
            user_xattr: kind.user_xattr(),
            volatile: true,
        }),
        flags: MountFlags::default(),
    };
    let mounted = mount.open().map_err(|error| fail(&error.to_string()))?;
    let merged = Root::new(mounted);
    merged.create_file("new", 0o644)?;
    merged.unlink("gone")?;
    merged.remove_all("d")?;
    merged.mkdir("d", 0o755)?;
    merged.open("new", OFlags::RDWR)?;
    let upper = Root::at(&path("upper"))?;
    let whiteout = upper.try_stat("gone")?.is_some_and(|stat| stat.special == (0, 0));
    let opaque = kind.marks().map_or("", |marks| marks.opaque);
    let mark = upper.get_xattr("d", opaque.as_bytes())?;
    if !merged.read_dir("d")?.is_empty() || !whiteout || mark.as_deref() != Some(b"y") {
        return Err(fail("the overlay does not behave like one"));
    }
    Ok(())
}
