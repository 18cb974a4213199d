//! Tests of the parent module.

use super::*;
use std::os::unix::fs::symlink;

struct Fixture {
    outside: tempfile::TempDir,
    root: Root,
}

/// `outside/secret` beside `outside/root`, where everything happens.
fn fixture() -> Fixture {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), b"secret").unwrap();
    std::fs::create_dir(outside.path().join("root")).unwrap();
    let root = Root::at(&outside.path().join("root")).unwrap();
    Fixture { outside, root }
}

#[test]
fn nothing_leads_out() {
    let f = fixture();
    let inside = f.outside.path().join("root");
    symlink("../secret", inside.join("up")).unwrap();
    symlink(f.outside.path(), inside.join("abs")).unwrap();
    symlink("/proc/self/root", inside.join("magic")).unwrap();
    for path in ["../secret", "/../secret", "up", "abs/secret", "magic/etc/passwd"] {
        let error = f.root.open(path, OFlags::RDONLY).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "{path}");
    }
    // Writing through them stays inside, or fails.
    assert!(f.root.create_file("abs/planted", 0o644).is_err());
    f.root.create_file("../../planted", 0o644).unwrap();
    assert!(inside.join("planted").exists() && !f.outside.path().join("planted").exists());
    f.root.chmod("../planted", 0o4711).unwrap();
    assert_eq!(f.root.stat("planted").unwrap().mode, 0o4711);
}

#[test]
fn links_in_the_last_place_are_not_followed() {
    let f = fixture();
    f.root.create_file("file", 0o600).unwrap();
    f.root.symlink(b"file", "link").unwrap();
    assert_eq!(f.root.stat("link").unwrap().kind, walk::FileKind::Symlink);
    assert_eq!(f.root.stat_followed("link").unwrap().kind, walk::FileKind::File);
    assert!(f.root.chmod("link", 0o777).is_err());
    f.root.set_mtime("link", (5, 7)).unwrap();
    assert_eq!(f.root.stat("link").unwrap().mtime, (5, 7));
    assert_ne!(f.root.stat("file").unwrap().mtime, (5, 7));
    assert!(f.root.create_file("link", 0o600).is_err());
    f.root.remove_all("link").unwrap();
    assert!(f.root.try_stat("file").unwrap().is_some());
    assert_eq!(f.root.try_stat("file/x").unwrap(), None);
}

#[test]
fn mkdir_all_goes_through_links_inside() {
    let f = fixture();
    f.root.symlink(b"/not/there", "link").unwrap();
    let made = f.root.mkdir_all("link/x/../y", 0o755).unwrap();
    let want: Vec<PathBuf> =
        ["not", "not/there", "not/there/x", "not/there/y"].iter().map(PathBuf::from).collect();
    assert_eq!(made, want);
    f.root.symlink(b"loop", "loop").unwrap();
    assert!(f.root.mkdir_all("loop/x", 0o755).is_err());
    f.root.create_file("file", 0o600).unwrap();
    let error = f.root.mkdir_all("file/x", 0o755).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    assert!(error.to_string().contains("file/x"), "{error}");
}

#[test]
fn all_kinds_of_entries() {
    let f = fixture();
    f.root.mkdir("d", 0o755).unwrap();
    f.root.create_file("d/f", 0o644).unwrap();
    f.root.hard_link("d/f", "g").unwrap();
    f.root.mknod("p", Special::Fifo, 0o644).unwrap();
    assert_eq!(f.root.stat("g").unwrap().links, 2);
    assert!(f.root.open_file("p").is_err(), "opening a pipe would block");
    f.root.rename("g", "d/h").unwrap();
    let names: Vec<_> = f.root.read_dir("d").unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(names, ["f", "h"]);
    f.root.symlink(b"t\xff", "l").unwrap();
    assert_eq!(f.root.readlink("l").unwrap().as_os_str().as_bytes(), b"t\xff");
    f.root.unlink("d/h").unwrap();
    f.root.remove_all("d").unwrap();
    f.root.remove_all("not/there").unwrap();
    assert!(f.root.rmdir("..").is_err());
    f.root.remove_all("").unwrap();
    assert!(f.root.read_dir("").unwrap().is_empty());
}

#[test]
fn removing_a_tree_deeper_than_paths_can_be() {
    let f = fixture();
    let mut dir = f.root.fd.try_clone().unwrap();
    let name = "d".repeat(100);
    for _ in 0..150 {
        rustix::fs::mkdirat(&dir, &name, Mode::from_raw_mode(0o755)).unwrap();
        dir = walk::open_dir(&dir, Path::new(&name)).unwrap();
    }
    drop(dir);
    f.root.remove_all(&name).unwrap();
    assert_eq!(f.root.try_stat(&name).unwrap(), None);
    assert!(f.root.read_dir("").unwrap().is_empty());
}
