//! A directory of snapshots in which shell scripts are the steps.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use oci::layer::{ContentHash, Entry, LayerManifest, Node, TreePath};
use snapshotter::{Active, Hints, Kind, Snapshot, SnapshotId, Snapshotter};
use sys::root::Root;
use sys::walk::{FileKind, Stat};

/// Snapshots of one kind in a temporary directory.
pub(crate) struct Bench {
    pub(crate) snapshots: Snapshotter,
    pub(crate) dir: tempfile::TempDir,
}

/// All kinds, or none with a printed reason if this is not root.
pub(crate) fn benches() -> Vec<Bench> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: making snapshots needs root (chown, mknod, mount)");
        return Vec::new();
    }
    [Kind::Overlay, Kind::UserOverlay, Kind::Copy].into_iter().filter_map(Bench::new).collect()
}

impl Bench {
    pub(crate) fn new(kind: Kind) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let probe = Snapshotter::probe(dir.path());
        if kind.is_overlay() && !probe.kind.is_overlay() {
            println!("skipped for overlay: {}", probe.reason.unwrap_or_default());
            return None;
        }
        let snapshots = Snapshotter::open(&dir.path().join("snapshots-v1"), kind).unwrap();
        Some(Self { snapshots, dir })
    }

    /// Runs `change` in a root file system on top of `parent` and commits it.
    pub(crate) fn step_with(
        &self,
        parent: Option<&Snapshot>,
        change: impl FnOnce(&Root, &OwnedFd),
    ) -> Snapshot {
        let active = self.snapshots.prepare(parent.map(|p| &p.id)).unwrap();
        self.change(&active, change);
        let snapshot = self.snapshots.commit(active, &Hints::default()).unwrap();
        self.verify(&snapshot.id);
        snapshot
    }

    pub(crate) fn change(&self, active: &Active, change: impl FnOnce(&Root, &OwnedFd)) {
        let mounted = self.snapshots.rootfs(active).unwrap().open().unwrap();
        let root = Root::new(mounted.try_clone().unwrap());
        change(&root, &mounted);
    }

    /// As [`Self::step_with`], with a shell script whose working directory is the root.
    pub(crate) fn step(&self, parent: Option<&Snapshot>, script: &str) -> Snapshot {
        self.step_with(parent, |_, fd| shell(fd, script))
    }

    /// The entries of a snapshot's layer, see [`lines`].
    pub(crate) fn lines(&self, snapshot: &Snapshot) -> Vec<String> {
        lines(&self.snapshots.manifest(&snapshot.id).unwrap())
    }

    /// That what is mounted is what the manifests say, and that of the layer's files the
    /// content can be had.
    pub(crate) fn verify(&self, id: &SnapshotId) {
        let mounted = self.snapshots.view(Some(id)).unwrap().open().unwrap();
        let mut seen = Vec::new();
        let root = Root::new(mounted.try_clone().unwrap());
        sys::walk::walk(&mounted, &mut |path, stat| {
            seen.push(describe_file(&root, path, stat));
            Ok(true)
        })
        .unwrap();
        let tree = self.snapshots.tree(Some(id)).unwrap();
        let said: Vec<String> = tree
            .walk_with_layer(&TreePath::root())
            .map(|(layer, entry)| {
                let data = tree.content_of(layer, entry).unwrap();
                describe(entry, data)
            })
            .collect();
        assert_eq!(seen, said, "{:?}", self.snapshots.kind());
        let manifest = self.snapshots.manifest(id).unwrap();
        for entry in manifest.entries() {
            if let Some(Node::File { content, .. }) = manifest.content_of(entry).map(|e| &e.node) {
                let file = self.snapshots.open_file(id, &entry.path).unwrap();
                assert_eq!(hash(&file), *content, "{}", entry.path);
            }
        }
        assert!(root.stat("").unwrap().mode == 0o755);
    }
}

pub(crate) fn shell(root: &OwnedFd, script: &str) {
    let done = Command::new("/bin/sh")
        .args(["-euc", script])
        .current_dir(format!("/proc/self/fd/{}", root.as_raw_fd()))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{script}: {error}");
}

fn hash(file: &std::fs::File) -> ContentHash {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).unwrap();
    ContentHash(*hasher.finalize().as_bytes())
}

/// `- gone`, `d dir 755`, `f file 644 2`, `h link=file`, …: everything but owners that are root
/// and times.
pub(crate) fn lines(manifest: &LayerManifest) -> Vec<String> {
    let line = |entry: &Entry| {
        let path = entry.path.as_path().display();
        let mode = entry.meta.mode;
        let mut line = match &entry.node {
            Node::Whiteout => format!("- {path}"),
            Node::Directory { opaque: false } => format!("d {path} {mode:o}"),
            Node::Directory { opaque: true } => format!("D {path} {mode:o}"),
            Node::File { size, .. } => format!("f {path} {mode:o} {size}"),
            Node::Symlink { target } => {
                format!("l {path}>{}", String::from_utf8_lossy(target))
            }
            Node::HardLink { target } => format!("h {path}={}", target.as_path().display()),
            Node::CharDevice { major, minor } => format!("c {path} {mode:o} {major}:{minor}"),
            Node::BlockDevice { major, minor } => format!("b {path} {mode:o} {major}:{minor}"),
            Node::Fifo => format!("p {path} {mode:o}"),
        };
        if (entry.meta.uid, entry.meta.gid) != (0, 0) {
            line += &format!(" {}:{}", entry.meta.uid, entry.meta.gid);
        }
        if entry.meta.capability.is_some() {
            line += " cap";
        }
        line
    };
    manifest.entries().iter().map(line).collect()
}

fn describe(entry: &Entry, data: &Entry) -> String {
    let node = match &data.node {
        Node::Directory { .. } => "directory".to_owned(),
        Node::File { size, content } => format!("file {size} {content:?}"),
        Node::Symlink { target } => format!("link {}", String::from_utf8_lossy(target)),
        Node::CharDevice { major, minor } => format!("char {major}:{minor}"),
        Node::BlockDevice { major, minor } => format!("block {major}:{minor}"),
        Node::Fifo => "pipe".to_owned(),
        other => format!("{other:?}"),
    };
    let meta = &data.meta;
    format!(
        "{} {node} {:o} {}:{} {}.{:09} {:?}",
        entry.path,
        meta.mode,
        meta.uid,
        meta.gid,
        meta.mtime.seconds,
        meta.mtime.nanos,
        meta.capability
    )
}

fn describe_file(root: &Root, path: &std::path::Path, stat: &Stat) -> String {
    let (major, minor) = stat.special;
    let node = match stat.kind {
        FileKind::Directory => "directory".to_owned(),
        FileKind::File => {
            format!("file {} {:?}", stat.size, hash(&root.open_file(path).unwrap()))
        }
        FileKind::Symlink => {
            let target = root.readlink(path).unwrap();
            format!("link {}", String::from_utf8_lossy(target.as_os_str().as_bytes()))
        }
        FileKind::CharDevice => format!("char {major}:{minor}"),
        FileKind::BlockDevice => format!("block {major}:{minor}"),
        FileKind::Fifo => "pipe".to_owned(),
        FileKind::Socket => "socket".to_owned(),
    };
    // Nothing else is left on disk; what a security module adds is its own.
    let attributes = root.list_xattr(path).unwrap();
    let mut other = attributes.iter().filter(|name| {
        !name.starts_with(b"security.")
            && !name.starts_with(b"trusted.overlay.opaque")
            && !name.starts_with(b"user.overlay.opaque")
    });
    assert_eq!(other.next(), None, "{}", path.display());
    let capability = match stat.kind {
        FileKind::File => root.get_xattr(path, b"security.capability").unwrap(),
        _ => None,
    };
    let capability = capability.map(Vec::into_boxed_slice);
    let path = TreePath::new(path.as_os_str().as_bytes()).unwrap();
    format!(
        "{path} {node} {:o} {}:{} {}.{:09} {capability:?}",
        stat.mode, stat.uid, stat.gid, stat.mtime.0, stat.mtime.1
    )
}
