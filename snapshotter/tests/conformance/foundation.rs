//! Long chains that stand on a foundation: the same layers as with all of them named.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use snapshotter::{Hints, Kind, Snapshot};
use sys::root::Root;

use crate::harness::Bench;
use crate::random::{Change, apply, change, runner};

/// Long enough for two foundations, one after the other.
const STEPS: usize = 110;

/// Makes a step, on a foundation where there is one; whether there was.
fn step(bench: &Bench, top: Option<&Snapshot>, changes: &[Change]) -> (Snapshot, Vec<bool>, bool) {
    let active = bench.snapshots.prepare(top.map(|top| &top.id)).unwrap();
    let opened = bench.snapshots.open_on_foundation(&active).unwrap();
    let stands = opened.is_some();
    let mounted =
        opened.unwrap_or_else(|| bench.snapshots.rootfs(&active).unwrap().open().unwrap());
    let root = Root::new(mounted);
    let worked = changes.iter().map(|change| apply(&root, change)).collect();
    drop(root);
    let snapshot = bench.snapshots.commit(active, &Hints::default()).unwrap();
    bench.verify(&snapshot.id);
    (snapshot, worked, stands)
}

#[test]
fn privileged_random_changes_on_foundations_make_equal_layers() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: making snapshots needs root (chown, mknod, mount)");
        return;
    }
    let steps = prop::collection::vec(prop::collection::vec(change(), 1..6), STEPS);
    let steps = steps.new_tree(&mut runner()).unwrap().current();
    let Some(plain) = Bench::new(Kind::Copy) else { return };
    for kind in [Kind::Overlay, Kind::UserOverlay] {
        let Some(bench) = Bench::new(kind) else { continue };
        let mut tops: [Option<Snapshot>; 2] = [None, None];
        let mut standing = 0;
        for (at, changes) in steps.iter().enumerate() {
            let (one, worked, stands) = step(&bench, tops[0].as_ref(), changes);
            let (two, same, _) = step(&plain, tops[1].as_ref(), changes);
            assert_eq!(worked, same, "step {at}: {changes:?}");
            assert_eq!(bench.lines(&one), plain.lines(&two), "step {at}: {changes:?}");
            standing += usize::from(stands);
            tops = [Some(one), Some(two)];
        }
        if standing == 0 {
            println!("skipped: this kernel takes no detached mount into an overlay");
        } else {
            assert_eq!(standing, STEPS - 64, "each step on at least 64 layers");
        }
        // A foundation does not keep a snapshot, nor is one used whose snapshot is gone.
        let [Some(top), _] = &tops else { panic!("there are steps") };
        let chain = bench.snapshots.chain(&top.id).unwrap();
        bench.snapshots.remove(&chain[1]).unwrap();
        assert!(bench.snapshots.prepare(Some(&top.id)).is_ok(), "only the leaf is looked for");
        let active = bench.snapshots.prepare(Some(&top.id)).unwrap();
        assert!(bench.snapshots.open_on_foundation(&active).unwrap_err().is_not_found());
    }
}
