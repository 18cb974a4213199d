//! Overlays of one, two and hundreds of layers, both ways.

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags};

use super::*;
use crate::mount::{Mount, MountSource, Upper};

fn root() -> bool {
    let yes = rustix::process::geteuid().is_root();
    if !yes {
        eprintln!("skipped: mounting needs root");
    }
    yes
}

fn layers(dir: &Path, count: usize) -> Vec<PathBuf> {
    (0..count)
        .map(|number| {
            let layer = dir.join(format!("a-long-name-of-a-snapshot-{number}")).join("fs");
            fs::create_dir_all(&layer).unwrap();
            fs::write(layer.join(format!("f{number}")), number.to_string()).unwrap();
            fs::write(layer.join("same"), number.to_string()).unwrap();
            layer
        })
        .collect()
}

fn upper(dir: &Path) -> Upper {
    let it = Upper { dir: dir.join("upper"), work: dir.join("work") };
    fs::create_dir(&it.dir).unwrap();
    fs::create_dir(&it.work).unwrap();
    it
}

/// tmpfs, because an overlay cannot be the upper of another and CI often runs on one.
fn place() -> (tempfile::TempDir, PathBuf) {
    let shm = Path::new("/dev/shm");
    let temp = if shm.is_dir() {
        tempfile::tempdir_in(shm).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    };
    let path = temp.path().to_path_buf();
    (temp, path)
}

fn read(mount: impl AsFd, name: &str) -> String {
    let fd = rustix::fs::openat(mount, name, OFlags::RDONLY, Mode::empty()).unwrap();
    std::io::read_to_string(fs::File::from(fd)).unwrap()
}

fn exercise(open: fn(&Overlay, MountFlags) -> Result<OwnedFd, MountError>) {
    const LAYERS: usize = 240;
    let (_temp, dir) = place();
    let overlay = Overlay {
        lowers: layers(&dir, LAYERS),
        upper: Some(upper(&dir)),
        user_xattr: false,
        volatile: true,
        redirects: false,
    };
    let fd = open(&overlay, MountFlags::DATA).unwrap();
    assert_eq!(read(&fd, "same"), "0", "the first lower is the topmost");
    assert_eq!(read(&fd, "f239"), "239");
    let made =
        rustix::fs::openat(&fd, "new", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o644));
    drop(made.unwrap());
    assert!(dir.join("upper/new").exists());
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!before.contains(dir.to_str().unwrap()), "nothing is attached");
}

#[test]
fn privileged_hundreds_of_layers_one_by_one() {
    if root() && appends_layers() {
        exercise(|overlay, flags| open_by_appending(overlay, None, flags));
    }
}

#[test]
fn privileged_hundreds_of_layers_in_one_page() {
    if root() {
        exercise(open_by_mount);
    }
}

#[test]
fn privileged_more_layers_than_one_overlay_takes() {
    if !root() {
        return;
    }
    let (_temp, dir) = place();
    let lowers = layers(&dir, MOST + 1);
    // What a layer in the middle of the lowest ones removes, and one above them.
    fs::write(lowers[MOST - 1].join("gone"), "").unwrap();
    fs::write(lowers[MOST - 1].join("removed"), "").unwrap();
    let device = rustix::fs::makedev(0, 0);
    let mode = Mode::from_raw_mode(0);
    for (layer, name) in [(MOST - 200, "gone"), (3, "removed")] {
        let at = lowers[layer].join(name);
        rustix::fs::mknodat(rustix::fs::CWD, at, FileType::CharacterDevice, mode, device).unwrap();
    }
    let upper = Some(upper(&dir));
    let mut overlay =
        Overlay { lowers, upper, user_xattr: false, volatile: true, redirects: false };
    let refused = open(&overlay, MountFlags::default()).unwrap_err();
    assert!(refused.to_string().contains("1000 layers: the kernel takes at most 999"), "{refused}");
    overlay.lowers.pop();
    for count in [MOST, MAX_LOWERS + 1, MAX_LOWERS] {
        overlay.lowers.truncate(count);
        // Whoever mounts an upper directory a second time clears what the first one left.
        let _ = fs::remove_dir_all(dir.join("work/work"));
        let fd = open(&overlay, MountFlags::default()).unwrap();
        assert_eq!(read(&fd, "same"), "0");
        for layer in [1, 499, 500, count - 1] {
            assert_eq!(layer < count, there(&fd, &format!("f{layer}")), "{layer} of {count}");
        }
        assert!(!there(&fd, "gone") && !there(&fd, "removed"));
    }
    let attached = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!attached.contains(dir.to_str().unwrap()), "nothing is attached");
}

fn there(mount: impl AsFd, name: &str) -> bool {
    rustix::fs::statat(mount, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

#[test]
fn privileged_odd_paths() {
    if !root() {
        return;
    }
    type Open = fn(&Overlay, MountFlags) -> Result<OwnedFd, MountError>;
    let appending: Open = |overlay, flags| open_by_appending(overlay, None, flags);
    for open in [appending, open_by_mount] {
        let (_temp, dir) = place();
        let odd = dir.join("a:b,c\\d e");
        let deep = dir.join("x".repeat(120)).join("y".repeat(120)).join("z".repeat(60));
        fs::create_dir(&odd).unwrap();
        fs::create_dir_all(&deep).unwrap();
        let upper = Upper { dir: odd.join("up\\per"), work: odd.join("work") };
        fs::create_dir(&upper.dir).unwrap();
        fs::create_dir(&upper.work).unwrap();
        let mut lowers = layers(&odd, 2);
        lowers.push(deep);
        let overlay = Overlay {
            lowers,
            upper: Some(upper),
            user_xattr: false,
            volatile: false,
            redirects: false,
        };
        let fd = open(&overlay, MountFlags::default()).unwrap();
        assert_eq!(read(&fd, "same"), "0");
    }
}

#[test]
fn privileged_one_lower_is_a_read_only_bind() {
    if !root() {
        return;
    }
    let (_temp, dir) = place();
    let overlay = Overlay {
        lowers: layers(&dir, 1),
        upper: None,
        user_xattr: false,
        volatile: false,
        redirects: false,
    };
    let mount = Mount {
        target: "/".into(),
        source: MountSource::Overlay(overlay),
        flags: MountFlags::default(),
    };
    let fd = mount.open().unwrap();
    assert_eq!(read(&fd, "f0"), "0");
    let refused =
        rustix::fs::openat(&fd, "new", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o644));
    assert_eq!(refused.unwrap_err(), rustix::io::Errno::ROFS);
}

#[test]
fn no_directory_at_all() {
    let overlay = Overlay {
        lowers: vec![],
        upper: None,
        user_xattr: false,
        volatile: false,
        redirects: false,
    };
    assert!(matches!(open(&overlay, MountFlags::default()), Err(MountError::EmptyOverlay)));
}
