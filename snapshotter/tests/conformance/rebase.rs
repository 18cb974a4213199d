//! Layers that were made on nothing, on top of other root file systems.

use std::sync::Arc;

use oci::layer::{LayerManifest, TreePath};
use snapshotter::{Error, Kind, Snapshot, SnapshotId, Snapshotter};
use sys::root::Root;

use crate::harness::{Bench, benches};

impl Bench {
    pub(crate) fn link(&self, layer: &Snapshot, parent: &Snapshot) -> Snapshot {
        let snapshot = self.snapshots.rebase(&layer.id, &parent.id).unwrap();
        self.verify(&snapshot.id);
        snapshot
    }

    /// Everything that is seen.
    pub(crate) fn seen(&self, top: &Snapshot) -> Vec<String> {
        let tree = self.snapshots.tree(Some(&top.id)).unwrap();
        crate::harness::lines(&LayerManifest::new(tree.walk(&TreePath::root()).cloned().collect()))
    }

    /// A script on top, and the layer that it makes; its own scratch files are not in it.
    fn after(&self, top: &Snapshot, script: &str) -> Vec<String> {
        self.lines(&self.step(Some(top), script))
    }
}

const BASE: &str = "mkdir -m 700 etc; echo old > etc/conf; echo kept > etc/kept
    mkdir real; echo r > real/r; ln -s real link; ln -s /nowhere broken
    mkdir -p tree/deep; echo t > tree/deep/t; echo f > file; mkfifo pipe";

#[test]
fn privileged_what_a_layer_does_to_what_is_below() {
    for bench in benches() {
        let base = bench.step(None, BASE);
        let layer = bench.step(
            None,
            "mkdir etc link broken file pipe; chown 3:4 etc
             for d in etc link broken file pipe; do echo new > $d/conf; done; echo x > tree",
        );
        let top = bench.link(&layer, &base);
        let want = [
            "d broken 755",
            "f broken/conf 644 4",
            // Merged, with the owner and mode of the layer.
            "d etc 755 3:4",
            "f etc/conf 644 4",
            "f etc/kept 644 5",
            "d file 755",
            "f file/conf 644 4",
            "d link 755",
            "f link/conf 644 4",
            "d pipe 755",
            "f pipe/conf 644 4",
            "d real 755",
            "f real/r 644 2",
            "f tree 644 2",
        ];
        assert_eq!(bench.seen(&top), want);
        // What runs on top of it sees all that, and what it removes is gone.
        let removed = "rm -r link file tree; rm etc/conf broken/conf; rmdir broken";
        let want = ["- broken", "d etc 755 3:4", "- etc/conf", "- file", "- link", "- tree"];
        assert_eq!(bench.after(&top, removed), want);
        let again = "rm -r etc; mkdir etc; echo n > etc/new; rm link/conf";
        let want = [
            "d etc 755",
            "- etc/conf",
            "- etc/kept",
            "f etc/new 644 2",
            "d link 755",
            "- link/conf",
        ];
        assert_eq!(bench.after(&top, again), want);
        let replaced = "rm -r link; ln -s real link; echo y > tree; rm -r etc; echo > etc";
        let want = ["f etc 644 1", "l link>real", "f tree 644 2"];
        assert_eq!(bench.after(&top, replaced), want);
    }
}

#[test]
fn privileged_one_layer_on_many_bases() {
    for bench in benches() {
        let one = bench.step(None, BASE);
        let two = bench.step(Some(&one), "rm -r etc real; mkdir other");
        let script =
            "mkdir -p etc/d; echo a > etc/a; ln etc/a etc/d/b; mkfifo etc/p; chmod 4711 etc/a
             ln -s a etc/l; touch -d '1969-12-31 23:00:00.25' etc/l etc/p; chown 7:8 etc/a";
        let layer = bench.step(None, script);
        let tops = [bench.link(&layer, &one), bench.link(&layer, &two)];
        let manifest = bench.snapshots.manifest(&layer.id).unwrap();
        for (top, parent) in tops.iter().zip([&one, &two]) {
            assert_eq!((top.parent, top.layer), (Some(parent.id), Some(layer.id)));
            assert_eq!((top.diff_digest, top.size), (layer.diff_digest, layer.size));
            assert_eq!(top.entries, layer.entries);
            assert_eq!(bench.snapshots.layer_of(&top.id).unwrap(), layer.id);
            assert!(Arc::ptr_eq(&bench.snapshots.manifest(&top.id).unwrap(), &manifest));
            let dir = bench.snapshots.dir().join(top.id.to_string());
            assert!(!dir.join("manifest").exists());
            assert_eq!(dir.join("fs").exists(), bench.snapshots.kind() == Kind::Copy);
            // The links of the layer are one file still; a change of one is not one of the other.
            let view = bench.snapshots.view(Some(&top.id)).unwrap().open().unwrap();
            let inode = |path| Root::new(view.try_clone().unwrap()).stat(path).unwrap().inode;
            assert_eq!(inode("etc/a"), inode("etc/d/b"));
            let after = bench.after(top, "echo more >> etc/d/b");
            assert_eq!(after, ["d etc 755", "d etc/d 755", "f etc/d/b 711 7 7:8"]);
        }
        assert_eq!(bench.snapshots.layer_of(&layer.id).unwrap(), layer.id);
        // Of an overlay no more than its name is new.
        if bench.snapshots.kind().is_overlay() {
            assert!(bench.snapshots.disk_usage(&tops[0].id).unwrap() <= 16384);
        }
        let other = Snapshotter::open(bench.snapshots.dir(), bench.snapshots.kind()).unwrap();
        assert_eq!(other.get(&tops[1].id).unwrap(), tops[1]);
        assert_eq!(other.manifest(&tops[1].id).unwrap(), manifest);
        assert_eq!(other.chain(&tops[1].id).unwrap(), [one.id, two.id, tops[1].id]);
    }
}

#[test]
fn privileged_layers_stack_in_any_order_and_number() {
    for bench in benches() {
        let base = bench.step(None, BASE);
        let a = bench.step(None, "mkdir -p d etc; echo a > d/x; echo a > d/a; echo a > etc/conf");
        let b = bench.step(None, "mkdir -p d; echo bb > d/x; mkdir d/a; echo b > d/a/b");
        let top = bench.link(&b, &bench.link(&a, &base));
        let seen = bench.seen(&top);
        assert!(seen.contains(&"f d/x 644 3".to_owned()), "{seen:?}");
        assert!(seen.contains(&"f d/a/b 644 2".to_owned()), "{seen:?}");
        // The same layer twice, and more often, with changes between.
        let removed = bench.step(Some(&top), "rm -r d etc; echo > d");
        let again = bench.link(&a, &removed);
        let seen = bench.seen(&again);
        assert!(seen.contains(&"f d/a 644 2".to_owned()), "{seen:?}");
        assert!(!seen.iter().any(|line| line.contains("etc/kept")), "{seen:?}");
        let last = bench.link(&a, &bench.link(&b, &again));
        assert_eq!(bench.seen(&last), bench.seen(&bench.link(&a, &bench.link(&b, &removed))));
        assert_eq!(bench.snapshots.chain(&last.id).unwrap().len(), 7);
        let after = bench.after(&last, "test $(cat d/x) = a; rm d/x; mkdir d/new; rm -r etc");
        assert_eq!(after, ["d d 755", "d d/new 755", "- d/x", "- etc"]);
        // On top of itself nothing changes.
        let twice = bench.link(&a, &a);
        assert_eq!(bench.seen(&twice), bench.seen(&a));
        assert_eq!(bench.after(&twice, "rm d/x"), ["d d 755", "- d/x"]);
    }
}

#[test]
fn privileged_layers_of_steps_are_not_put_elsewhere() {
    for bench in benches() {
        let base = bench.step(None, BASE);
        let step = bench.step(Some(&base), "rm file; echo x > x");
        let layer = bench.step(None, "echo l > l");
        let top = bench.link(&layer, &base);
        let names = || std::fs::read_dir(bench.snapshots.dir()).unwrap().count();
        let before = names();
        for bad in [&step, &top] {
            let error = bench.snapshots.rebase(&bad.id, &base.id).unwrap_err();
            assert!(matches!(error, Error::NotAlone(id) if id == bad.id), "{error}");
        }
        let missing = SnapshotId::random();
        assert!(bench.snapshots.rebase(&missing, &base.id).unwrap_err().is_not_found());
        assert!(bench.snapshots.rebase(&layer.id, &missing).unwrap_err().is_not_found());
        assert_eq!(names(), before);
    }
}

#[test]
fn privileged_without_its_layer_it_is_no_chain() {
    for bench in benches() {
        let base = bench.step(None, BASE);
        let layer = bench.step(None, "echo l > l");
        let top = bench.link(&layer, &base);
        let step = bench.step(Some(&top), "echo s > s");
        bench.snapshots.remove(&layer.id).unwrap();
        let fresh = Snapshotter::open(bench.snapshots.dir(), bench.snapshots.kind()).unwrap();
        for id in [&top.id, &step.id] {
            assert!(bench.snapshots.chain(id).unwrap_err().is_not_found());
            assert!(fresh.chain(id).unwrap_err().is_not_found());
            // It can be listed still, and so collected.
            fresh.get(id).unwrap();
            fresh.disk_usage(id).unwrap();
        }
        assert!(fresh.manifest(&top.id).unwrap_err().is_not_found());
        fresh.remove(&step.id).unwrap();
        fresh.remove(&top.id).unwrap();
    }
}

#[test]
fn privileged_versions_of_the_description() {
    for bench in benches() {
        let base = bench.step(None, BASE);
        let layer = bench.step(None, "echo l > l");
        let top = bench.link(&layer, &base);
        let meta = |id: &SnapshotId| bench.snapshots.dir().join(id.to_string()).join("meta");
        let text = |id| std::fs::read_to_string(meta(id)).unwrap();
        // What an older program reads is as it was; what it would misread it refuses.
        assert!(text(&layer.id).contains("\"version\":1") && !text(&layer.id).contains("layer"));
        assert!(text(&top.id).contains("\"version\":2"));
        let fresh = || Snapshotter::open(bench.snapshots.dir(), bench.snapshots.kind()).unwrap();
        let good = text(&top.id);
        let own = good.replace(&layer.id.to_string(), &top.id.to_string());
        for bad in [good.replace(":2", ":1"), good.replace(&layer.id.to_string(), "x")] {
            std::fs::write(meta(&top.id), bad).unwrap();
            assert!(matches!(fresh().get(&top.id), Err(Error::Corrupt { .. })));
        }
        // Its own layer: nothing to show, and no end of the search for it either.
        std::fs::write(meta(&top.id), own).unwrap();
        assert!(fresh().manifest(&top.id).is_err());
    }
}

#[test]
fn privileged_an_unfinished_one_is_garbage() {
    for bench in benches() {
        let base = bench.step(None, BASE);
        let layer = bench.step(None, "echo l > l");
        let top = bench.link(&layer, &base);
        let path = |name: String| bench.snapshots.dir().join(name);
        // Killed before the rename.
        let left = format!("{}.active", top.id);
        std::fs::rename(path(top.id.to_string()), path(left.clone())).unwrap();
        assert!(bench.snapshots.get(&top.id).unwrap_err().is_not_found());
        assert_eq!(bench.snapshots.sweep_garbage(&|_| false).unwrap(), 1);
        assert!(!path(left).exists());
        bench.verify(&layer.id);
        bench.verify(&base.id);
    }
}
