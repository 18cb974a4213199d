//! Transactions of cache mounts on overlays of the kernel: what is committed is what the step saw,
//! wherever the merge was cut off.

#[path = "transactions/harness.rs"]
mod harness;

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use cache::mount::{Sharing, commit, commit_observed};
use harness::{Changes, Store, set_time, view};
use tests::random::Random;
use tests::require_root;

/// What is committed before a case.
fn old(dir: &Path) {
    for path in ["keep", "dir/sub/deep", "other", "swap-a/x", "swap-b", "nest/in/most", "gone/in"] {
        fs::create_dir_all(dir.join(path)).unwrap();
    }
    for path in [
        "keep/f",
        "dir/f",
        "dir/sub/f",
        "dir/sub/deep/f",
        "other/f",
        "file",
        "to-dir",
        "swap-a/f",
        "swap-b/f",
        "nest/f",
        "nest/in/f",
        "nest/in/most/f",
        "gone/f",
        "gone/in/f",
    ] {
        fs::write(dir.join(path), format!("old {path}")).unwrap();
        set_time(&dir.join(path), 1_000);
    }
    fs::hard_link(dir.join("keep/f"), dir.join("keep/g")).unwrap();
    symlink("/etc/passwd", dir.join("link")).unwrap();
    for (at, path) in
        ["keep", "dir", "dir/sub", "other", "swap-a", "nest/in", "nest"].iter().enumerate()
    {
        set_time(&dir.join(path), 2_000 + at as i64);
    }
    set_time(dir, 3_000);
}

/// A kind of change, and how a step makes it.
type Change = (&'static str, fn(&Path));

/// Every kind of change.
const CHANGES: &[Change] = &[
    ("nothing", |_| {}),
    ("create", |d| {
        fs::create_dir_all(d.join("new/a/b")).unwrap();
        fs::write(d.join("new/a/b/f"), "n").unwrap();
        fs::write(d.join("dir/sub/n"), "n").unwrap();
        set_time(&d.join("new/a"), 77);
    }),
    ("modify", |d| {
        fs::write(d.join("dir/sub/deep/f"), "changed").unwrap();
        fs::write(d.join("file"), "changed").unwrap();
        set_time(&d.join("file"), 5);
    }),
    ("delete", |d| {
        fs::remove_file(d.join("dir/f")).unwrap();
        fs::remove_dir_all(d.join("gone")).unwrap();
        fs::remove_file(d.join("link")).unwrap();
    }),
    ("a directory becomes a file", |d| {
        fs::remove_dir_all(d.join("dir")).unwrap();
        fs::write(d.join("dir"), "a file").unwrap();
    }),
    ("a file becomes a directory", |d| {
        fs::remove_file(d.join("to-dir")).unwrap();
        fs::create_dir(d.join("to-dir")).unwrap();
        fs::write(d.join("to-dir/f"), "in it").unwrap();
    }),
    ("a link becomes a directory", |d| {
        fs::remove_file(d.join("link")).unwrap();
        fs::create_dir(d.join("link")).unwrap();
        fs::write(d.join("link/passwd"), "mine").unwrap();
    }),
    ("a directory becomes a link", |d| {
        fs::remove_dir_all(d.join("dir")).unwrap();
        symlink("/etc", d.join("dir")).unwrap();
    }),
    ("opaque", |d| {
        fs::remove_dir_all(d.join("dir")).unwrap();
        fs::create_dir_all(d.join("dir/sub")).unwrap();
        fs::write(d.join("dir/sub/only"), "o").unwrap();
    }),
    ("rename", |d| fs::rename(d.join("dir"), d.join("moved")).unwrap()),
    ("rename into another", |d| {
        fs::rename(d.join("dir/sub"), d.join("other/sub")).unwrap();
        fs::write(d.join("other/sub/n"), "n").unwrap();
        fs::remove_file(d.join("other/sub/f")).unwrap();
    }),
    ("rename and make again", |d| {
        fs::rename(d.join("dir"), d.join("moved")).unwrap();
        fs::create_dir(d.join("dir")).unwrap();
        fs::write(d.join("dir/f"), "again").unwrap();
    }),
    ("rename into a new one", |d| {
        fs::create_dir_all(d.join("new/a")).unwrap();
        fs::rename(d.join("dir"), d.join("new/a/moved")).unwrap();
        fs::write(d.join("new/f"), "f").unwrap();
    }),
    ("rename out of one that goes", |d| {
        fs::rename(d.join("gone/in"), d.join("saved")).unwrap();
        fs::remove_dir_all(d.join("gone")).unwrap();
    }),
    ("rename over an empty one", |d| {
        fs::create_dir(d.join("empty")).unwrap();
        fs::rename(d.join("dir"), d.join("empty")).unwrap();
    }),
    ("rename there and back", |d| {
        fs::rename(d.join("dir"), d.join("away")).unwrap();
        fs::rename(d.join("away"), d.join("dir")).unwrap();
        fs::write(d.join("dir/n"), "n").unwrap();
    }),
    ("swap", |d| {
        fs::rename(d.join("swap-a"), d.join("t")).unwrap();
        fs::rename(d.join("swap-b"), d.join("swap-a")).unwrap();
        fs::rename(d.join("t"), d.join("swap-b")).unwrap();
        fs::write(d.join("swap-a/n"), "n").unwrap();
    }),
    ("rename inside out", |d| {
        fs::rename(d.join("nest/in/most"), d.join("most")).unwrap();
        fs::rename(d.join("nest/in"), d.join("most/in")).unwrap();
        fs::rename(d.join("nest"), d.join("most/in/nest")).unwrap();
        fs::write(d.join("most/in/nest/n"), "n").unwrap();
    }),
    ("rename within a renamed one", |d| {
        fs::rename(d.join("nest/in/most"), d.join("nest/in/last")).unwrap();
        fs::rename(d.join("nest"), d.join("tree")).unwrap();
        fs::rename(d.join("tree/in"), d.join("tree/out")).unwrap();
        fs::remove_file(d.join("tree/out/last/f")).unwrap();
    }),
    ("hard links", |d| {
        fs::write(d.join("one"), "1").unwrap();
        fs::hard_link(d.join("one"), d.join("dir/two")).unwrap();
        fs::create_dir(d.join("new")).unwrap();
        fs::hard_link(d.join("one"), d.join("new/three")).unwrap();
        fs::hard_link(d.join("file"), d.join("file-too")).unwrap();
    }),
    ("special files", |d| {
        harness::fifo(&d.join("dir/fifo"));
        drop(std::os::unix::net::UnixListener::bind(d.join("socket")).unwrap());
        symlink("nowhere", d.join("dir/link")).unwrap();
    }),
    ("modes and owners", |d| {
        chown(d.join("dir/f"), Some(12), Some(13)).unwrap();
        fs::set_permissions(d.join("dir/f"), fs::Permissions::from_mode(0o4711)).unwrap();
        chown(d.join("dir"), Some(1), Some(2)).unwrap();
        fs::set_permissions(d.join("dir"), fs::Permissions::from_mode(0o2700)).unwrap();
        fs::set_permissions(d.join("other"), fs::Permissions::from_mode(0o0)).unwrap();
        chown(d, Some(5), Some(6)).unwrap();
        fs::set_permissions(d, fs::Permissions::from_mode(0o1777)).unwrap();
    }),
    ("attributes", |d| {
        harness::mark(&d.join("dir"), "user.one", "1");
        harness::mark(&d.join("dir/f"), "user.two", "2");
        harness::mark(d, "user.root", "r");
    }),
    ("times", |d| {
        set_time(&d.join("dir/sub"), 41);
        set_time(&d.join("dir/sub/f"), 42);
        set_time(d, 43);
    }),
];

#[test]
fn privileged_every_kind_of_change() {
    require_root!();
    for (what, change) in CHANGES {
        let store = Store::new();
        store.fill("c", old);
        let mount = store.begin("c", Sharing::Locked, false);
        let changes = Changes::mount(&mount);
        change(&changes.path());
        let want = view(&changes.path());
        drop(changes);
        commit(vec![mount]).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(view(&store.committed("c")), want, "{what}");
        assert_eq!(store.marks("c"), Vec::<String>::new(), "{what}");
        assert_eq!(store.beside("c"), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn privileged_what_is_not_committed_is_gone() {
    require_root!();
    for (what, change) in CHANGES {
        let store = Store::new();
        store.fill("c", old);
        let before = view(&store.committed("c"));
        let mount = store.begin("c", Sharing::Private, false);
        let changes = Changes::mount(&mount);
        change(&changes.path());
        drop((changes, mount));
        assert_eq!(view(&store.committed("c")), before, "{what}");
        assert_eq!(store.beside("c"), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn privileged_merges_go_on_where_they_were_cut_off() {
    require_root!();
    for (what, change) in CHANGES {
        let mut stop = 0;
        loop {
            let store = Store::new();
            store.fill("c", old);
            let mount = store.begin("c", Sharing::Locked, false);
            let changes = Changes::mount(&mount);
            change(&changes.path());
            let want = view(&changes.path());
            drop(changes);
            let mut left = stop;
            let result = commit_observed(vec![mount], &mut || {
                left -= 1;
                if left < 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
            });
            let Err(error) = result else { break };
            let error = error.to_string();
            assert!(error.contains("cache mount \"c\"") && error.contains("nothing of it is lost"));
            // Whoever comes next, in whatever way, sees all of it.
            let next = if stop % 2 == 0 { Sharing::Shared } else { Sharing::Private };
            assert_eq!(view(store.open("c", next).path()), want, "{what}, stopped at {stop}");
            assert_eq!(store.marks("c"), Vec::<String>::new(), "{what}, stopped at {stop}");
            assert_eq!(store.beside("c"), Vec::<String>::new(), "{what}, stopped at {stop}");
            stop += 1;
        }
        assert!(stop > 0, "{what}");
    }
}

#[test]
fn privileged_a_fresh_one_replaces_what_is_committed() {
    require_root!();
    let store = Store::new();
    store.fill("c", old);
    let before = view(&store.committed("c"));
    let write = |mount: &cache::mount::CacheMount| {
        let changes = Changes::mount(mount);
        assert_eq!(fs::read_dir(changes.path()).unwrap().count(), 0);
        fs::write(changes.path().join("new"), "n").unwrap();
        view(&changes.path())
    };
    let mount = store.begin("c", Sharing::Locked, true);
    write(&mount);
    drop(mount);
    assert_eq!(view(&store.committed("c")), before);
    for stop in 0..3 {
        let mount = store.begin("c", Sharing::Locked, true);
        let want = write(&mount);
        let mut left = stop;
        let result = commit_observed(vec![mount], &mut || {
            left -= 1;
            if left < 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        });
        assert!(result.is_err(), "stopped at {stop}");
        assert_eq!(view(store.open("c", Sharing::Locked).path()), want, "stopped at {stop}");
        assert_eq!(store.beside("c"), Vec::<String>::new());
    }
}

#[test]
fn privileged_several_are_decided_before_one_is_merged() {
    require_root!();
    let store = Store::new();
    let names = ["a", "b"];
    let mounts: Vec<_> = names
        .map(|name| {
            store.fill(name, old);
            let mount = store.begin(name, Sharing::Locked, false);
            fs::write(Changes::mount(&mount).path().join("new"), name).unwrap();
            mount
        })
        .into();
    let result = commit_observed(mounts, &mut || Err(io::ErrorKind::StorageFull.into()));
    assert!(result.unwrap_err().to_string().contains("cache mount \"a\""));
    for name in names {
        let mount = store.open(name, Sharing::Shared);
        assert_eq!(fs::read_to_string(mount.path().join("new")).unwrap(), name);
    }
}

/// How many sequences of changes are tried.
const ROUNDS: u32 = 60;

#[test]
fn privileged_random_changes_are_as_on_a_plain_directory() {
    require_root!();
    let mut random = Random::announced("transactions");
    let (mut moved, mut cut) = (0, 0);
    for round in 0..ROUNDS {
        let store = Store::new();
        let plain = tempfile::tempdir().unwrap();
        store.fill("c", harness::some);
        harness::some(plain.path());
        // What one transaction commits, the next one finds.
        for _ in 0..3 {
            let mount = store.begin("c", Sharing::Locked, false);
            let changes = Changes::mount(&mount);
            let script: Vec<harness::Action> =
                (0..14).map(|_| harness::Action::random(&mut random)).collect();
            for action in &script {
                if !action.is_defined(plain.path()) {
                    continue;
                }
                let on_overlay = action.run(&changes.path());
                let on_plain = action.run(plain.path());
                assert_eq!(on_overlay, on_plain, "round {round}: {action:?} of {script:?}");
            }
            let want = view(&changes.path());
            drop(changes);
            moved += store.redirects("c");
            let stop = random.below(24);
            let mut left = stop;
            let committed = commit_observed(vec![mount], &mut || {
                left = left.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
                Ok(())
            });
            cut += usize::from(committed.is_err());
            let mount = store.open("c", Sharing::Locked);
            assert_eq!(view(mount.path()), want, "round {round}, stopped at {stop}: {script:?}");
            let (one, two) = (harness::contents(mount.path()), harness::contents(plain.path()));
            assert_eq!(one, two, "round {round}: {script:?}");
        }
    }
    eprintln!("{moved} directories were renamed, {cut} merges were cut off");
    assert!(moved > 0 && cut > 0);
}
