//! Mounts, mount points, and what is left of them.

mod harness;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use executor::ExecError;
use harness::{Fixture, bind, ready, tmpfs};
use sys::mount::{MountFlags, MountSource};

#[test]
fn privileged_an_empty_root_keeps_three_directories() {
    if !ready() {
        return;
    }
    let it = Fixture::bare();
    it.sh("cat /etc/hosts /etc/resolv.conf /etc/hostname");
    assert_eq!(it.changes(), ["dev", "proc", "sys"]);
    for name in ["dev", "proc", "sys"] {
        let made = fs::metadata(it.upper(name)).unwrap();
        assert_eq!((made.uid(), made.gid(), made.mode() & 0o7777), (0, 0, 0o755));
    }
}

#[test]
fn privileged_network_files_are_mounts() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    fs::write(it.lower("etc/hosts"), "the image's own\n").unwrap();
    let mut spec = it.shell("cat /etc/hosts /etc/hostname; hostname; echo x >> /etc/hosts");
    spec.extra_hosts = vec![("db".into(), "10.0.0.2".into())];
    let ran = it.run(&spec);
    assert_eq!(
        ran.out,
        "127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         10.0.0.2\tdb\nbuildkitsandbox\nbuildkitsandbox\n"
    );
    assert!(ran.err.contains("Read-only file system"), "{}", ran.err);
    assert_eq!(it.sh("cat /etc/resolv.conf"), fs::read_to_string("/etc/resolv.conf").unwrap());
    assert_eq!(fs::read_to_string(it.lower("etc/hosts")).unwrap(), "the image's own\n");
    assert!(!it.upper("etc/hosts").exists());
}

#[test]
fn privileged_stubs_go_and_times_stay() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    let old = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 987_654_321);
    let etc = fs::File::open(it.lower("etc")).unwrap();
    etc.set_modified(old).unwrap();
    let modified = || {
        let upper = it.upper("etc");
        let path = if upper.exists() { upper } else { it.lower("etc") };
        fs::metadata(path).unwrap().modified().unwrap()
    };
    let mut spec = it.spec(&["true"]);
    spec.mounts = vec![tmpfs("/etc/deep/cache"), tmpfs("/mnt/a"), tmpfs("/mnt/a/b")];
    it.run(&spec);
    assert_eq!(modified(), old);
    assert_eq!(it.changes(), ["dev", "proc", "sys"]);
    // A change of the process's own keeps its time.
    it.sh("echo x > /etc/own");
    assert_ne!(modified(), old);
    assert!(it.upper("etc/own").exists());
    assert!(!it.upper("etc/hosts").exists());
}

#[test]
fn privileged_links_in_the_image_stay_inside() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    let target = "../run/systemd/resolve/stub-resolv.conf";
    symlink(target, it.lower("etc/resolv.conf")).unwrap();
    let outside = it.dir.join("outside");
    fs::write(&outside, "host").unwrap();
    symlink(&outside, it.lower("etc/hosts")).unwrap();
    symlink("/../../../../../..", it.lower("up")).unwrap();
    let mut spec = it
        .shell("cat /etc/resolv.conf; readlink /etc/resolv.conf; head -n1 /etc/hosts; ls /up/mnt");
    spec.mounts = vec![tmpfs("/up/mnt/dir")];
    let ran = it.run(&spec);
    let host = fs::read_to_string("/etc/resolv.conf").unwrap();
    let expected = format!("{host}{target}\n127.0.0.1\tlocalhost buildkitsandbox\ndir\n");
    assert_eq!(ran.out, expected, "{}", ran.err);
    assert_eq!(fs::read_to_string(&outside).unwrap(), "host");
    assert_eq!(it.changes(), ["dev", "proc", "sys"]);
}

#[test]
fn privileged_a_linked_etc_is_followed_inside() {
    if !ready() {
        return;
    }
    let it = Fixture::bare();
    symlink("/real/etc", it.lower("etc")).unwrap();
    assert_eq!(
        it.sh("head -n1 /etc/hosts; ls /real/etc"),
        "127.0.0.1\tlocalhost buildkitsandbox\nhostname\nhosts\nresolv.conf\n"
    );
    assert_eq!(it.changes(), ["dev", "proc", "sys"]);
}

#[test]
fn privileged_mounts_of_the_caller() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    let cache = it.dir.join("cache");
    let data = it.dir.join("data");
    fs::create_dir(&cache).unwrap();
    fs::write(&data, "content\n").unwrap();
    symlink("/cache", it.lower("alias")).unwrap();
    let mut read_only = bind(&data, "/alias/nested/file");
    read_only.mount.flags = MountFlags::DATA.read_only();
    let mut spec = it.shell(
        "cat /cache/nested/file; echo kept > /cache/kept; echo x > /cache/nested/file; \
         echo t > /scratch/t; df /scratch | tail -n1 | awk '{print $2}'; cat /dev/own/f",
    );
    spec.mounts =
        vec![bind(&cache, "/cache"), read_only, tmpfs("/scratch"), bind(&data, "/dev/own/f")];
    let ran = it.run(&spec);
    assert_eq!(ran.out, "content\n1024\ncontent\n", "{}", ran.err);
    assert!(ran.err.contains("Read-only file system"), "{}", ran.err);
    assert_eq!(fs::read_to_string(cache.join("kept")).unwrap(), "kept\n");
    assert!(!cache.join("nested").exists(), "stubs in mounts go too");
    assert_eq!(fs::read_to_string(&data).unwrap(), "content\n");
    assert_eq!(it.changes(), ["dev", "proc", "sys"]);
}

#[test]
fn privileged_parts_of_a_mount() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    let tree = it.dir.join("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    fs::write(tree.join("a/b/f"), "deep\n").unwrap();
    fs::write(tree.join("secret"), "").unwrap();
    symlink("a", tree.join("link")).unwrap();
    let part = |part: &str, target: &str| {
        let mut volume = bind(&tree, target);
        volume.mount.flags = MountFlags::default().read_only();
        volume.part = part.into();
        volume
    };
    let mut spec = it.shell("cat /one/f /two /three/b/f; ls /one /three; echo x > /one/f");
    spec.mounts = vec![part("a/b", "/one"), part("a/b/f", "/two"), part("a", "/three")];
    let ran = it.run(&spec);
    assert_eq!(ran.out, "deep\ndeep\ndeep\n/one:\nf\n\n/three:\nb\n", "{}", ran.err);
    assert!(ran.err.contains("Read-only file system"), "{}", ran.err);
    assert_eq!(it.changes(), ["dev", "proc", "sys"]);
    // Links are followed by whoever names the part, never here.
    let mut spec = it.spec(&["true"]);
    spec.mounts = vec![part("link/b", "/one")];
    assert!(it.try_run(&spec).is_err());
}

#[test]
fn privileged_impossible_mount_points() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    let data = it.dir.join("data");
    fs::write(&data, "").unwrap();
    let refused = |mount| {
        let mut spec = it.spec(&["true"]);
        spec.mounts = vec![mount];
        it.try_run(&spec).unwrap_err()
    };
    for mount in [
        tmpfs("/"),
        tmpfs("/../.."),
        tmpfs("/proc/own"),
        tmpfs("/proc"),
        tmpfs("/etc/passwd"),
        tmpfs("/etc/passwd/below"),
        bind(&data, "/etc"),
    ] {
        let target = mount.mount.target.clone();
        let error = refused(mount);
        assert!(matches!(error, ExecError::MountPoint { .. }), "{}: {error}", target.display());
    }
    assert!(matches!(refused(tmpfs("relative")), ExecError::Relative { .. }));
    assert!(matches!(refused(bind(Path::new("/no/such"), "/x")), ExecError::Mount { .. }));
    assert_eq!(it.changes(), ["dev", "proc", "sys"], "no stub survives a refusal");
}

#[test]
fn privileged_linked_proc_is_refused() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    symlink("/tmp", it.lower("proc")).unwrap();
    let error = it.try_run(&it.spec(&["true"])).unwrap_err();
    assert!(matches!(error, ExecError::MountPoint { .. }), "{error}");
}

#[test]
fn privileged_devices() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    assert_eq!(
        it.sh("ls /dev | xargs"),
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero\n"
    );
    assert_eq!(
        it.sh("head -c 4 /dev/zero | wc -c; echo x > /dev/null; head -c 2 /dev/urandom | wc -c"),
        "4\n2\n"
    );
    assert_eq!(
        it.sh("df -k /dev/shm | tail -n1 | awk '{print $2}'; stat -c %a /dev/shm /dev/null"),
        "65536\n1777\n666\n"
    );
    let mut spec = it.shell("df -k /dev/shm | tail -n1 | awk '{print $2}'");
    spec.limits.shm_size = Some(1 << 20);
    assert_eq!(it.run(&spec).out, "1024\n");
    assert_eq!(it.sh("ls /dev/pts; ls -d /run 2>&1 | head -n1").lines().next(), Some("ptmx"));
}

#[test]
fn privileged_many_layers() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    let mut spec = it.shell("cat /f0 /f199; echo up > /f200");
    let MountSource::Overlay(overlay) = &mut spec.rootfs.source else { panic!() };
    for number in 0..200 {
        let layer = it.dir.join(format!("layer-with-a-long-name-{number}"));
        fs::create_dir(&layer).unwrap();
        fs::write(layer.join(format!("f{number}")), format!("{number}\n")).unwrap();
        overlay.lowers.insert(0, layer);
    }
    let ran = it.run(&spec);
    assert_eq!(ran.out, "0\n199\n", "{}", ran.err);
    assert_eq!(fs::read_to_string(it.upper("f200")).unwrap(), "up\n");
}

#[test]
fn privileged_read_only_root() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    for name in ["proc", "sys", "dev"] {
        fs::create_dir(it.lower(name)).unwrap();
    }
    for name in ["hosts", "resolv.conf", "hostname"] {
        fs::write(it.lower("etc").join(name), "").unwrap();
    }
    let mut spec = it.shell("head -n1 /etc/hosts; echo x > /x");
    spec.rootfs = bind(&it.dir.join("lower"), "/").mount;
    spec.rootfs.flags.read_only = true;
    let ran = it.run(&spec);
    assert_eq!(ran.out, "127.0.0.1\tlocalhost buildkitsandbox\n");
    assert!(ran.err.contains("Read-only file system"), "{}", ran.err);
}
