//! The way through GNU tar: it reads what we write, and we read what it writes.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink as make_symlink};
use std::path::Path;
use std::process::Command;

use oci::Timestamp;
use oci::layer::*;
use tempfile::TempDir;

use crate::make::*;

/// Whether GNU tar is here; says so if not.
fn gnu_tar() -> bool {
    let version = Command::new("tar").arg("--version").output();
    let found = version.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains("GNU tar"));
    if !found {
        println!("skipped: no GNU tar");
    }
    found
}

fn run(args: &[&str], at: &Path) -> String {
    let out = Command::new("tar")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .args(args)
        .current_dir(at)
        .output()
        .unwrap();
    assert!(out.status.success(), "tar {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

#[test]
fn gnu_tar_extracts_what_we_write() {
    if !gnu_tar() {
        return;
    }
    let long = format!("d/{}", "n".repeat(180));
    let target = "t/".repeat(100);
    let mut contents = Contents::default();
    let mut stamped = contents.file(&long, b"long");
    stamped.meta.mtime = Timestamp { seconds: 1_600_000_000, nanos: 123_456_789 };
    stamped.meta.mode = 0o4751;
    let m = layer(vec![
        dir("d"),
        stamped,
        contents.file("d/f", &[b'x'; 70_000]),
        link("d/g", "d/f"),
        contents.file("d-x", b""),
        symlink("s", &target),
        contents.file("umlaut-\u{fc}", b"u"),
        entry("fifo", Node::Fifo, 0o600),
        gone("removed"),
    ]);
    let tmp = TempDir::new().unwrap();
    fs::write(tmp.path().join("l.tar"), contents.write(&m, WriteOptions::default())).unwrap();
    let list = run(&["--quoting-style=literal", "-tf", "l.tar"], tmp.path());
    let want = ["d/", "d/f", "d/g", &long, "d-x", "fifo", ".wh.removed", "s", "umlaut-\u{fc}"];
    assert_eq!(list.lines().collect::<Vec<_>>(), want);
    fs::create_dir(tmp.path().join("out")).unwrap();
    run(&["-xpf", "l.tar", "-C", "out"], tmp.path());
    let out = tmp.path().join("out");
    let meta = fs::metadata(out.join(&long)).unwrap();
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_600_000_000, 123_456_789));
    assert_eq!(meta.permissions().mode() & 0o7777, 0o4751);
    assert_eq!(fs::read(out.join("d/f")).unwrap(), [b'x'; 70_000]);
    assert_eq!(
        fs::metadata(out.join("d/f")).unwrap().ino(),
        fs::metadata(out.join("d/g")).unwrap().ino()
    );
    assert_eq!(fs::read_link(out.join("s")).unwrap().to_str(), Some(&target[..]));
    assert_eq!(fs::read(out.join("umlaut-\u{fc}")).unwrap(), b"u");
}

/// A directory with everything an ordinary user can make.
fn sample(at: &Path) -> (String, String) {
    let long = format!("{}/{}", "a".repeat(120), "b".repeat(150));
    fs::create_dir_all(at.join("d/empty")).unwrap();
    fs::create_dir(at.join("a".repeat(120))).unwrap();
    fs::write(at.join(&long), "long").unwrap();
    fs::write(at.join("d/f"), vec![b'y'; 3000]).unwrap();
    fs::hard_link(at.join("d/f"), at.join("d/link")).unwrap();
    fs::write(at.join("d-x"), "").unwrap();
    make_symlink("d/f", at.join("s")).unwrap();
    let target = "../".repeat(60);
    make_symlink(&target, at.join("longlink")).unwrap();
    fs::set_permissions(at.join("d/f"), fs::Permissions::from_mode(0o6750)).unwrap();
    (long, target)
}

#[test]
fn we_read_what_gnu_tar_writes() {
    if !gnu_tar() {
        return;
    }
    let tmp = TempDir::new().unwrap();
    let at = tmp.path().join("in");
    fs::create_dir(&at).unwrap();
    let (long, target) = sample(&at);
    let disk = fs::metadata(at.join("d/f")).unwrap();
    let mut seen = Vec::new();
    for format in ["gnu", "pax"] {
        let args = ["--format", format, "--sort=name", "-C", "in", "-cf", "x.tar", "."];
        run(&args, tmp.path());
        let m = read_layer(&fs::read(tmp.path().join("x.tar")).unwrap());
        assert_eq!(m.len(), 9, "{format}");
        let f = m.get(&path("d/f")).unwrap();
        assert_eq!(f.node, file("d/f", &[b'y'; 3000]).node);
        assert_eq!((f.meta.mode, f.meta.uid, f.meta.gid), (0o6750, disk.uid(), disk.gid()));
        assert_eq!(f.meta.mtime.seconds, disk.mtime());
        if format == "pax" {
            assert_eq!(i64::from(f.meta.mtime.nanos), disk.mtime_nsec());
        }
        assert_eq!(m.get(&path("d/link")).unwrap().node, Node::HardLink { target: path("d/f") });
        assert_eq!(m.get(&path(&long)).unwrap().node, file("", b"long").node);
        assert_eq!(m.get(&path("longlink")).unwrap().node, symlink("", &target).node);
        assert!(m.get(&path("d/empty")).unwrap().is_directory());
        seen.push(m.diff_digest());
    }
    assert_eq!(seen[0], seen[1]);
    // The old forms hold short names only.
    for format in ["v7", "ustar"] {
        let args = ["--format", format, "-C", "in", "-cf", "x.tar", "d", "d-x", "s"];
        run(&args, tmp.path());
        let raw = fs::read(tmp.path().join("x.tar")).unwrap();
        assert!(is_tar(&raw));
        let m = read_layer(&raw);
        assert_eq!(m.len(), 6, "{format}");
        assert!(m.get(&path("d")).unwrap().is_directory());
        assert_eq!(m.get(&path("d/f")).unwrap().file_size(), Some(3000));
    }
}

#[test]
fn sparse_files_in_every_form() {
    if !gnu_tar() {
        return;
    }
    let tmp = TempDir::new().unwrap();
    // More pieces than one header of the old form holds.
    let mut want = vec![0; 4 << 20];
    let sparse = fs::File::create(tmp.path().join("sparse")).unwrap();
    sparse.set_len(want.len() as u64).unwrap();
    for piece in 0..40 {
        let at = piece * 100_000;
        want[at..at + 10].fill(b'p');
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"pppppppppp", at as u64).unwrap();
    }
    fs::write(tmp.path().join("z"), "after").unwrap();
    for form in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let args = [form, &["-S", "-cf", "x.tar", "sparse", "z"]].concat();
        run(&args, tmp.path());
        let raw = fs::read(tmp.path().join("x.tar")).unwrap();
        assert!(raw.len() < want.len(), "{form:?}");
        let entries = read_entries(&raw).unwrap();
        assert_eq!(entries[0].0.raw_path, b"sparse", "{form:?}");
        assert!(entries[0].0.sparse.as_ref().is_some_and(|s| s.len() >= 30), "{form:?}");
        assert!(entries[0].1 == want, "{form:?}");
        assert_eq!(entries[1].1, b"after", "{form:?}");
    }
}

#[test]
fn privileged_owners_devices_and_attributes() {
    if !gnu_tar() {
        return;
    }
    if !root() {
        println!("skipped: making devices and giving files away needs root");
        return;
    }
    let mut contents = Contents::default();
    let mut owned = contents.file("owned", b"o");
    (owned.meta.uid, owned.meta.gid) = (3_000_000_000, 2_500_000);
    let m = layer(vec![owned, entry("null", Node::CharDevice { major: 1, minor: 3 }, 0o666)]);
    let tmp = TempDir::new().unwrap();
    fs::write(tmp.path().join("l.tar"), contents.write(&m, WriteOptions::default())).unwrap();
    fs::create_dir(tmp.path().join("out")).unwrap();
    run(&["--numeric-owner", "-xpf", "l.tar", "-C", "out"], tmp.path());
    let meta = fs::metadata(tmp.path().join("out/owned")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (3_000_000_000, 2_500_000));
    for format in ["gnu", "pax"] {
        let args = [
            "--format",
            format,
            "--numeric-owner",
            "-C",
            "out",
            "-cf",
            "back.tar",
            "null",
            "owned",
        ];
        run(&args, tmp.path());
        let back = read_layer(&fs::read(tmp.path().join("back.tar")).unwrap());
        assert_eq!(back.diff_digest(), m.diff_digest(), "{format}");
    }
}
