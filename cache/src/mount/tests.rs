//! Who gets which copy, and what becomes of changes.

use super::*;
use std::cell::Cell;

fn store() -> (tempfile::TempDir, CacheMounts) {
    let dir = tempfile::tempdir().unwrap();
    for name in ["mounts", "trash"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let trash = Arc::new(Trash::new(dir.path().join("trash")));
    let mounts = CacheMounts::new(dir.path().join("mounts"), trash);
    (dir, mounts)
}

fn open(mounts: &CacheMounts, sharing: Sharing, fresh: bool) -> Option<CacheMount> {
    let emptied = Emptied::default();
    open_in(mounts, sharing, fresh.then_some(&emptied))
}

fn open_in(mounts: &CacheMounts, sharing: Sharing, fresh: Option<&Emptied>) -> Option<CacheMount> {
    let fill = |dir: &Path| Ok(fs::write(dir.join("seed"), "s")?);
    let cancelled = || true;
    let wanted = Wanted {
        name: "/c",
        shown: "/c",
        sharing,
        fresh,
        fill: &fill,
        cancelled: &cancelled,
        transaction: None,
    };
    mounts.open(&wanted).unwrap()
}

#[test]
fn who_shares_and_who_does_not() {
    let (_dir, mounts) = store();
    let first = open(&mounts, Sharing::Shared, false).unwrap();
    assert_eq!(fs::read_to_string(first.path().join("seed")).unwrap(), "s");
    let second = open(&mounts, Sharing::Shared, false).unwrap();
    assert_eq!(first.path(), second.path());
    assert!(open(&mounts, Sharing::Locked, false).is_none());
    let own = open(&mounts, Sharing::Private, false).unwrap();
    assert_ne!(own.path(), first.path());
    drop((first, second));
    // The first copy is free again; the other one is somebody's.
    let locked = open(&mounts, Sharing::Locked, false).unwrap();
    assert!(locked.path().ends_with("0"));
    assert!(open(&mounts, Sharing::Locked, false).is_none());
    drop((own, locked));
    assert!(open(&mounts, Sharing::Private, false).unwrap().path().ends_with("0"));
    assert_eq!(mounts.list().unwrap().len(), 2);
}

#[test]
fn those_who_come_while_one_is_filled_share_it() {
    let (_dir, mounts) = store();
    let fill = |dir: &Path| {
        std::thread::sleep(Duration::from_millis(400));
        Ok(fs::write(dir.join("seed"), "s")?)
    };
    let sharing = Sharing::Shared;
    let open = || {
        let wanted = Wanted {
            name: "n",
            shown: "n",
            sharing,
            fresh: None,
            fill: &fill,
            cancelled: &|| false,
            transaction: None,
        };
        mounts.open(&wanted).unwrap().unwrap()
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
        let all: Vec<_> = all.into_iter().map(|one| one.join().unwrap()).collect();
        assert!(all.iter().all(|one| one.path().ends_with("0")), "{all:?}");
    });
}

#[test]
fn fresh_ones_are_empty_again_and_stay() {
    let (_dir, mounts) = store();
    fs::write(open(&mounts, Sharing::Shared, false).unwrap().path().join("x"), "").unwrap();
    assert!(open(&mounts, Sharing::Shared, false).unwrap().path().join("x").exists());
    let used = open(&mounts, Sharing::Shared, false).unwrap();
    // What somebody uses is not taken away.
    let fresh = open(&mounts, Sharing::Shared, true).unwrap();
    assert!(used.path().join("x").exists() && !fresh.path().join("x").exists());
    drop((used, fresh));
    assert!(!open(&mounts, Sharing::Locked, true).unwrap().path().join("x").exists());
    assert!(!open(&mounts, Sharing::Shared, false).unwrap().path().join("x").exists());
}

#[test]
fn a_build_empties_each_copy_once() {
    let (_dir, mounts) = store();
    let leave = |mount: &CacheMount, name: &str| fs::write(mount.path().join(name), "").unwrap();
    let two = [Sharing::Private, Sharing::Private].map(|it| open(&mounts, it, false).unwrap());
    two.iter().for_each(|mount| leave(mount, "old"));
    drop(two);
    let build = Emptied::default();
    let open = |sharing| open_in(&mounts, sharing, Some(&build)).unwrap();
    let first = open(Sharing::Shared);
    assert_eq!(names(first.path()), ["seed"]);
    leave(&first, "new");
    // Beside the first, and on the same copy.
    assert_eq!(names(open(Sharing::Shared).path()), ["new", "seed"]);
    // The other copy is emptied, too, when it is used.
    let private = open(Sharing::Private);
    assert!(private.path().ends_with("1"));
    assert_eq!(names(private.path()), ["seed"]);
    leave(&private, "own");
    drop((first, private));
    assert_eq!(names(open(Sharing::Locked).path()), ["new", "seed"]);
    let held = open(Sharing::Locked);
    assert_eq!(names(open(Sharing::Private).path()), ["own", "seed"]);
    drop(held);
    // Another build.
    let mount = open_in(&mounts, Sharing::Shared, Some(&Emptied::default())).unwrap();
    assert_eq!(names(mount.path()), ["seed"]);
}

#[test]
fn half_full_ones_are_filled_again() {
    let (_dir, mounts) = store();
    let calls = Cell::new(0);
    let fill = |dir: &Path| {
        calls.set(calls.get() + 1);
        fs::write(dir.join("half"), "")?;
        if calls.get() == 1 { Err("disk full".into()) } else { Ok(()) }
    };
    let cancelled = || false;
    let sharing = Sharing::Locked;
    let wanted = Wanted {
        name: "n",
        shown: "n",
        sharing,
        fresh: None,
        fill: &fill,
        cancelled: &cancelled,
        transaction: None,
    };
    let error = mounts.open(&wanted).unwrap_err().to_string();
    assert!(error.contains("\"n\"") && error.contains("disk full"), "{error}");
    assert!(mounts.open(&wanted).unwrap().is_some());
}

#[test]
fn collected_unless_used() {
    let (_dir, mounts) = store();
    let used = open(&mounts, Sharing::Shared, false).unwrap();
    let stored = mounts.list().unwrap().remove(0);
    assert_eq!((stored.name.as_str(), stored.path.as_path()), ("/c", used.path()));
    assert!(mounts.in_use(&stored.id) && !mounts.remove(&stored.id).unwrap());
    drop(used);
    assert!(!mounts.in_use(&stored.id) && mounts.remove(&stored.id).unwrap());
    assert!(mounts.list().unwrap().is_empty());
}

fn copied(from: &Path, to: &Path) -> Result<(), Cause> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

fn begin(mounts: &CacheMounts, method: Method<'_>, fresh: bool) -> CacheMount {
    let (name, sharing, transaction) = ("/c", Sharing::Locked, Some(method));
    let emptied = Emptied::default();
    let fresh = fresh.then_some(&emptied);
    let (shown, fill, cancelled) = (name, &|_: &Path| Ok(()), &|| true);
    let wanted = Wanted { name, shown, sharing, fresh, fill, cancelled, transaction };
    mounts.open(&wanted).unwrap().unwrap()
}

/// Where a step writes to.
fn written(mount: &CacheMount) -> PathBuf {
    match mount.view() {
        View::Directory(path) | View::Overlay { upper: path, .. } => path,
    }
}

/// An observer that lets so many changes through.
fn stop_after(mut count: usize) -> impl FnMut() -> std::io::Result<()> {
    move || {
        count = count.checked_sub(1).ok_or(std::io::ErrorKind::StorageFull)?;
        Ok(())
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().flatten();
    let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn changes_of_a_copy_count_when_they_are_committed() {
    let (_dir, mounts) = store();
    drop(open(&mounts, Sharing::Locked, false));
    for stop in 0..=3 {
        let mount = begin(&mounts, Method::Copy(&copied), false);
        fs::write(written(&mount).join("forgotten"), "").unwrap();
        assert!(mounts.in_use(&mounts.ids().unwrap()[0]));
        drop(mount);
        let mount = begin(&mounts, Method::Copy(&copied), false);
        assert_eq!(mount.path().join("seed").exists(), written(&mount).join("seed").exists());
        fs::write(written(&mount).join(stop.to_string()), "").unwrap();
        let committed = commit_observed(vec![mount], &mut stop_after(stop));
        assert_eq!(committed.is_ok(), stop == 3, "{stop}");
        let mount = open(&mounts, Sharing::Shared, false).unwrap();
        let want: Vec<_> = (0..=stop).map(|n| n.to_string()).chain(["seed".to_owned()]).collect();
        assert_eq!(names(mount.path()), want);
        assert_eq!(names(mount.path().parent().unwrap()), ["0", "0.lock", "choice", "name"]);
    }
}

#[test]
fn nobody_shares_a_transaction() {
    let (_dir, mounts) = store();
    let mount = begin(&mounts, Method::Overlay, false);
    assert!(open(&mounts, Sharing::Locked, false).is_none());
    assert!(open(&mounts, Sharing::Shared, false).unwrap().path().ends_with("1"));
    drop(mount);
    assert!(open(&mounts, Sharing::Shared, false).unwrap().path().ends_with("0"));
}

#[test]
fn what_killed_steps_wrote_is_seen_and_goes() {
    let (_dir, mounts) = store();
    let home = open(&mounts, Sharing::Locked, false).unwrap().path().parent().unwrap().to_owned();
    let before = mounts.list().unwrap()[0].size;
    let upper = home.join("0.step/upper");
    fs::create_dir_all(&upper).unwrap();
    fs::write(upper.join("large"), vec![7; 100_000]).unwrap();
    assert!(mounts.list().unwrap()[0].size >= before + 100_000);
    let mount = open(&mounts, Sharing::Shared, false).unwrap();
    assert_eq!((names(mount.path()), home.join("0.step").exists()), (vec!["seed".into()], false));
    drop(mount);
    fs::create_dir_all(&upper).unwrap();
    assert!(mounts.remove(&mounts.ids().unwrap()[0]).unwrap());
    assert_eq!(mounts.ids().unwrap(), Vec::<String>::new());
}

/// A merge of files and a directory that was cut off after so many changes.
fn cut_off(mounts: &CacheMounts, stop: usize) -> PathBuf {
    drop(open(mounts, Sharing::Locked, false));
    let mount = begin(mounts, Method::Overlay, false);
    fs::create_dir(written(&mount).join("d")).unwrap();
    for name in ["a", "d/b", "seed"] {
        fs::write(written(&mount).join(name), "new").unwrap();
    }
    let home = mount.path().parent().unwrap().to_owned();
    let error = commit_observed(vec![mount], &mut stop_after(stop)).unwrap_err().to_string();
    assert!(error.contains("cannot complete the commit of cache mount \"/c\""), "{error}");
    home
}

#[test]
fn merges_in_part_are_completed_or_removed_as_a_whole() {
    for stop in 0..5 {
        let (_dir, mounts) = store();
        cut_off(&mounts, stop);
        let mount = open(&mounts, Sharing::Private, false).unwrap();
        assert_eq!(names(mount.path()), ["a", "d", "seed"], "{stop}");
        assert_eq!(fs::read_to_string(mount.path().join("seed")).unwrap(), "new");
        drop(mount);

        let (_dir, mounts) = store();
        let home = cut_off(&mounts, stop);
        let id = mounts.ids().unwrap().remove(0);
        assert!(!mounts.in_use(&id) && mounts.remove(&id).unwrap());
        assert_eq!(names(&home), ["0.lock", "choice", "name"]);

        // Removing it was cut off.
        let (_dir, mounts) = store();
        let home = cut_off(&mounts, stop);
        fs::remove_dir_all(home.join("0")).unwrap();
        assert_eq!(mounts.ids().unwrap().len(), 1);
        let mount = open(&mounts, Sharing::Shared, false).unwrap();
        assert_eq!(names(mount.path()), ["seed"], "{stop}");
        assert_eq!(names(&home), ["0", "0.lock", "choice", "name"]);
        drop(mount);

        // Nobody wants what it holds.
        let (_dir, mounts) = store();
        let home = cut_off(&mounts, stop);
        let mount = open(&mounts, Sharing::Shared, true).unwrap();
        assert_eq!(names(mount.path()), ["seed"], "{stop}");
        assert_eq!(fs::read_to_string(mount.path().join("seed")).unwrap(), "s");
        assert_eq!(names(&home), ["0", "0.lock", "choice", "name"]);
    }
}

#[test]
fn a_damaged_log_is_not_followed() {
    let (_dir, mounts) = store();
    let home = cut_off(&mounts, 1);
    let log = home.join("0.commit/log");
    let mut bytes = fs::read(&log).unwrap();
    bytes[40] ^= 1;
    fs::write(&log, bytes).unwrap();
    let wanted = Wanted {
        name: "/c",
        shown: "/c",
        sharing: Sharing::Shared,
        fresh: None,
        fill: &|_| Ok(()),
        cancelled: &|| true,
        transaction: None,
    };
    let error = mounts.open(&wanted).unwrap_err().to_string();
    assert!(error.contains("the log of its changes is damaged"), "{error}");
    let id = format!("prune --filter id={}`", mounts.ids().unwrap()[0]);
    assert!(error.contains(&id), "{error}");
    assert!(mounts.remove(&mounts.ids().unwrap()[0]).unwrap());
    assert!(mounts.open(&wanted).unwrap().is_some());
}

#[test]
fn uppers_that_no_overlay_leaves_change_nothing() {
    let (_dir, mounts) = store();
    drop(open(&mounts, Sharing::Locked, false));
    let claim = |dir: &Path| {
        let name = std::ffi::OsStr::new("trusted.overlay.redirect");
        rustix::fs::setxattr(dir, name, b"/seed-dir", rustix::fs::XattrFlags::empty()).is_ok()
    };
    let mount = begin(&mounts, Method::Overlay, false);
    fs::create_dir(mount.path().join("seed-dir")).unwrap();
    for name in ["one", "two"] {
        fs::create_dir(written(&mount).join(name)).unwrap();
        if !claim(&written(&mount).join(name)) {
            eprintln!("skipped: attributes of overlays need root");
            return;
        }
    }
    let error = commit(vec![mount]).unwrap_err().to_string();
    assert!(error.contains("another directory shows the same"), "{error}");
    let mount = open(&mounts, Sharing::Locked, false).unwrap();
    assert_eq!(names(mount.path()), ["seed", "seed-dir"]);
    drop(mount);

    // Nor does one that leads out.
    let mount = begin(&mounts, Method::Overlay, false);
    fs::create_dir(written(&mount).join("out")).unwrap();
    let name = std::ffi::OsStr::new("trusted.overlay.redirect");
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(written(&mount).join("out"), name, b"../..", flags).unwrap();
    let error = commit(vec![mount]).unwrap_err().to_string();
    assert!(error.contains("from a place that cannot be"), "{error}");
}

/// Makes a file immutable, and takes that back in the end.
struct Immutable(PathBuf);

impl Immutable {
    fn set(path: PathBuf, flags: rustix::fs::IFlags) -> bool {
        File::open(path).is_ok_and(|file| rustix::fs::ioctl_setflags(file, flags).is_ok())
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        for part in [self.0.clone(), self.0.with_file_name("")] {
            Self::set(part, rustix::fs::IFlags::empty());
        }
    }
}

#[test]
fn flags_that_forbid_changes_do_not_hold_up_a_merge() {
    let (_dir, mounts) = store();
    let seed = open(&mounts, Sharing::Locked, false).unwrap().path().join("seed");
    let immutable = Immutable(seed.clone());
    let mount = begin(&mounts, Method::Overlay, false);
    fs::write(written(&mount).join("seed"), "new").unwrap();
    let flag = rustix::fs::IFlags::IMMUTABLE;
    if !Immutable::set(seed.clone(), flag) || !Immutable::set(seed.with_file_name(""), flag) {
        eprintln!("skipped: no file can be made immutable here");
        return;
    }
    commit(vec![mount]).unwrap();
    assert_eq!(fs::read_to_string(&immutable.0).unwrap(), "new");
}
