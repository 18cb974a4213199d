//! The life of snapshots: looking up, removing, crashes, probing.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use oci::layer::{ContentHash, TreePath};
use snapshotter::{Error, Hints, Kind, SnapshotId, Snapshotter};
use sys::mount::{Mount, MountFlags, MountSource, Overlay, Upper};

use crate::harness::{benches, shell};

#[test]
fn privileged_another_process_sees_the_same() {
    for bench in benches() {
        let base = bench.step(None, "echo f > file; mkdir dir; ln file dir/link");
        let next = bench.step(Some(&base), "rm file");
        let other = Snapshotter::open(bench.snapshots.dir(), bench.snapshots.kind()).unwrap();
        assert_eq!(other.get(&next.id).unwrap(), next);
        assert_eq!(other.manifest(&base.id).unwrap(), bench.snapshots.manifest(&base.id).unwrap());
        let mut list = other.list().unwrap();
        list.sort();
        let mut want = vec![base.id, next.id];
        want.sort();
        assert_eq!(list, want);
        assert!(other.disk_usage(&base.id).unwrap() >= 4096);
        // Removed by the one, missing for the other.
        other.remove(&next.id).unwrap();
        assert!(bench.snapshots.get(&next.id).unwrap_err().is_not_found());
        assert!(bench.snapshots.remove(&next.id).unwrap_err().is_not_found());
        assert!(bench.snapshots.prepare(Some(&next.id)).unwrap_err().is_not_found());
        assert!(other.get(&SnapshotId::random()).unwrap_err().is_not_found());
    }
}

#[test]
fn privileged_garbage_is_swept() {
    for bench in benches() {
        let kept = bench.step(None, "echo f > file");
        let dead = bench.snapshots.prepare(Some(&kept.id)).unwrap();
        let live = bench.snapshots.prepare(Some(&kept.id)).unwrap();
        bench.change(&dead, |_, fd| shell(fd, "mkdir -p a/b; echo x > a/b/c"));
        let trash = bench.snapshots.dir().join("0123456789abcdef.trash/fs/x");
        std::fs::create_dir_all(trash).unwrap();
        let probe = |name: &str| bench.snapshots.dir().join(name);
        std::fs::create_dir(probe("probe-young")).unwrap();
        std::fs::create_dir(probe("probe-old")).unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(2 * 24 * 60 * 60);
        std::fs::File::open(probe("probe-old")).unwrap().set_modified(long_ago).unwrap();
        let name = live.dir_name();
        let swept = bench.snapshots.sweep_garbage(&|active| active == name).unwrap();
        assert_eq!(swept, 3);
        std::fs::remove_dir(probe("probe-young")).unwrap();
        assert_eq!(bench.snapshots.list().unwrap(), [kept.id]);
        bench.change(&live, |_, fd| shell(fd, "rm file"));
        let after = bench.snapshots.commit(live, &Hints::default()).unwrap();
        assert_eq!(bench.lines(&after), ["- file"]);
        let given_up = bench.snapshots.prepare(None).unwrap();
        bench.snapshots.discard(given_up).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(bench.snapshots.dir())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let mut want = vec![kept.id.to_string(), after.id.to_string(), "empty".to_owned()];
        want.sort();
        assert_eq!(names, want);
    }
}

#[test]
fn privileged_damaged_files_are_errors() {
    for bench in benches() {
        let base = bench.step(None, "echo f > file");
        let dir = bench.snapshots.dir().join(base.id.to_string());
        let fresh = || Snapshotter::open(bench.snapshots.dir(), bench.snapshots.kind()).unwrap();
        let manifest = std::fs::read(dir.join("manifest")).unwrap();
        std::fs::write(dir.join("manifest"), &manifest[..manifest.len() - 1]).unwrap();
        assert!(matches!(fresh().manifest(&base.id), Err(Error::Corrupt { .. })));
        for text in ["", "{}", "null", &" ".repeat(1 << 20)] {
            std::fs::write(dir.join("meta"), text).unwrap();
            assert!(matches!(fresh().get(&base.id), Err(Error::Corrupt { .. })));
        }
        // Its own parent.
        let circle = format!(
            r#"{{"version":1,"parent":"{}","diff":"{:064}","size":0,"entries":0}}"#,
            base.id, 0
        );
        std::fs::write(dir.join("meta"), circle).unwrap();
        assert!(matches!(fresh().chain(&base.id), Err(Error::Corrupt { .. })));
    }
}

#[test]
fn privileged_hints_are_believed_if_they_fit() {
    for bench in benches() {
        let active = bench.snapshots.prepare(None).unwrap();
        bench.change(&active, |_, fd| shell(fd, "echo a > a; echo b > b"));
        let hint = ContentHash([1; 32]);
        let path = |name: &str| TreePath::new(name.as_bytes()).unwrap();
        let hints = Hints {
            contents: HashMap::from([(path("a"), (2, hint)), (path("b"), (3, hint))]),
            ..Hints::default()
        };
        let snapshot = bench.snapshots.commit(active, &hints).unwrap();
        let manifest = bench.snapshots.manifest(&snapshot.id).unwrap();
        let content = |name| match manifest.get(&path(name)).unwrap().node {
            oci::layer::Node::File { content, .. } => content,
            _ => panic!("not a file"),
        };
        assert_eq!(content("a"), hint);
        assert_eq!(content("b").0, *blake3::hash(b"b\n").as_bytes());
    }
}

#[test]
fn privileged_views_are_read_only() {
    for bench in benches() {
        let one = bench.step(None, "echo f > file");
        let two = bench.step(Some(&one), "echo g > file");
        for id in [None, Some(&one.id), Some(&two.id)] {
            let mounted = bench.snapshots.view(id).unwrap().open().unwrap();
            let root = sys::root::Root::new(mounted);
            let error = root.create_file("new", 0o644).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        }
    }
}

#[test]
fn privileged_a_probe_leaves_nothing_and_refuses_overlays() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: mounting needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let probe = Snapshotter::probe(dir.path());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    if probe.kind != Kind::Overlay {
        println!("skipped: overlays do not work here: {}", probe.reason.unwrap());
        return;
    }
    for name in ["lower", "upper", "work"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    let overlay = Overlay {
        lowers: vec![dir.path().join("lower")],
        upper: Some(Upper { dir: dir.path().join("upper"), work: dir.path().join("work") }),
        user_xattr: false,
        volatile: false,
        redirects: false,
    };
    let source = MountSource::Overlay(overlay);
    let flags = MountFlags::default();
    let mounted = Mount { target: "/".into(), source, flags }.open().unwrap();
    let path = sys::xattr::descriptor_path(&mounted);
    let probe = Snapshotter::probe(&path);
    assert_eq!(probe.kind, Kind::Copy);
    assert!(probe.reason.unwrap().contains("overlay"));
    // And copies do work there.
    let snapshots = Snapshotter::open(&path.join("s"), Kind::Copy).unwrap();
    let active = snapshots.prepare(None).unwrap();
    let root = sys::root::Root::new(snapshots.rootfs(&active).unwrap().open().unwrap());
    root.mkdir("d", 0o755).unwrap();
    drop(root);
    let one = snapshots.commit(active, &Hints::default()).unwrap();
    let active = snapshots.prepare(Some(&one.id)).unwrap();
    let root = sys::root::Root::new(snapshots.rootfs(&active).unwrap().open().unwrap());
    root.rmdir("d").unwrap();
    drop(root);
    let two = snapshots.commit(active, &Hints::default()).unwrap();
    assert!(snapshots.manifest(&two.id).unwrap().entries()[0].is_whiteout());
    drop(snapshots);
    drop(mounted);
    assert_eq!(Snapshotter::probe(&dir.path().join("missing")).kind, Kind::Copy);
}
