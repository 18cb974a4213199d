//! Random changes: both kinds make the same layers, and what is mounted is what they say.

use std::time::Duration;

use oci::Timestamp;
use oci::layer::{LayerManifest, Metadata};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use snapshotter::Snapshot;
use sys::root::{Root, Special};
use sys::walk::FileKind;

use crate::harness::{Bench, benches, lines};

/// How many sequences of steps are tried.
const CASES: u32 = 20;

/// Longer than the clock of a file system takes to tick.
const TICK: Duration = Duration::from_millis(12);

#[derive(Clone, Debug)]
pub(crate) enum Change {
    Write(String, u8),
    Remove(String),
    Mkdir(String),
    Rename(String, String),
    Link(String, String),
    Symlink(String),
    Pipe(String),
    Chmod(String, u32),
    Chown(String, u32),
    /// Sets the time to one of a few.
    Touch(String, u32),
    /// Removes a directory and makes it again.
    Again(String),
}

fn path() -> impl Strategy<Value = String> {
    let name = prop_oneof![Just("a"), Just("b"), Just("a-"), Just("c")];
    prop::collection::vec(name, 1..4).prop_map(|parts| parts.join("/"))
}

pub(crate) fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (path(), 0..3u8).prop_map(|(p, n)| Change::Write(p, n)),
        2 => path().prop_map(Change::Remove),
        3 => path().prop_map(Change::Mkdir),
        2 => (path(), path()).prop_map(|(a, b)| Change::Rename(a, b)),
        2 => (path(), path()).prop_map(|(a, b)| Change::Link(a, b)),
        1 => path().prop_map(Change::Symlink),
        1 => path().prop_map(Change::Pipe),
        1 => (path(), prop_oneof![Just(0o600), Just(0o755), Just(0o2711)])
            .prop_map(|(p, m)| Change::Chmod(p, m)),
        1 => (path(), 0..2u32).prop_map(|(p, n)| Change::Chown(p, n)),
        2 => (path(), 0..3u32).prop_map(|(p, n)| Change::Touch(p, n)),
        2 => path().prop_map(Change::Again),
    ]
}

/// Whether it worked; both kinds have to agree on that, too.
pub(crate) fn apply(root: &Root, change: &Change) -> bool {
    match change {
        Change::Write(path, n) => {
            // Over an existing file as well as new.
            let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NOFOLLOW;
            let regular = matches!(root.try_stat(path), Ok(Some(s)) if s.kind == FileKind::File);
            let file = match regular {
                true => root.open(path, flags).map(std::fs::File::from),
                false => root.create_file(path, 0o644),
            };
            let content = [b'x'; 3];
            let write = |file: std::fs::File| {
                file.set_len(0).is_ok()
                    && rustix::io::pwrite(file, &content[..(*n).into()], 0).is_ok()
            };
            file.is_ok_and(write)
        }
        Change::Remove(path) => root.remove_all(path).is_ok(),
        Change::Mkdir(path) => root.mkdir(path, 0o755).is_ok(),
        Change::Rename(from, to) => {
            // Of directories from below an overlay can't: programs copy them then.
            let directory = root.stat(from).map_or(true, |stat| stat.is_dir());
            !directory && root.rename(from, to).is_ok()
        }
        Change::Link(from, to) => root.hard_link(from, to).is_ok(),
        Change::Symlink(path) => root.symlink(b"a/b", path).is_ok(),
        Change::Pipe(path) => root.mknod(path, Special::Fifo, 0o644).is_ok(),
        Change::Chmod(path, mode) => root.chmod(path, *mode).is_ok(),
        Change::Chown(path, id) => root.chown(path, *id, *id).is_ok(),
        Change::Touch(path, n) => root.set_mtime(path, (i64::from(*n), *n)).is_ok(),
        Change::Again(path) => {
            let directory = root.stat(path).is_ok_and(|stat| stat.is_dir());
            directory && root.remove_all(path).is_ok() && root.mkdir(path, 0o755).is_ok()
        }
    }
}

/// The same cases in every run.
pub(crate) fn runner() -> TestRunner {
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// Everything the same time, so that whatever was only touched is as it was.
fn freeze(root: &Root) {
    let mut all = Vec::new();
    sys::walk::walk(root.fd(), &mut |path, _| {
        all.push(path.to_owned());
        Ok(true)
    })
    .unwrap();
    for path in all {
        root.set_mtime(path, (7, 7)).unwrap();
    }
}

fn run(bench: &Bench, steps: &[(bool, Vec<Change>)]) -> (Vec<bool>, Vec<Vec<String>>) {
    let mut worked = Vec::new();
    let mut layers = Vec::new();
    let mut top: Option<Snapshot> = None;
    for (frozen, changes) in steps {
        std::thread::sleep(TICK);
        let next = bench.step_with(top.as_ref(), |root, _| {
            worked.extend(changes.iter().map(|change| apply(root, change)));
            if *frozen {
                freeze(root);
            }
        });
        layers.push(bench.lines(&next));
        top = Some(next);
    }
    (worked, layers)
}

#[test]
fn privileged_random_changes_make_equal_layers() {
    let benches = benches();
    let [overlays @ .., copy] = &benches[..] else { return };
    let step = (any::<bool>(), prop::collection::vec(change(), 1..10));
    let steps = prop::collection::vec(step, 2..5);
    let result = runner().run(&steps, |steps| {
        let want = run(copy, &steps);
        for overlay in overlays {
            prop_assert_eq!(run(overlay, &steps), want.clone());
        }
        Ok(())
    });
    result.unwrap();
}

/// Makes `changes` on nothing, and puts them onto what `below` makes, and again onto what
/// `between` makes on that; then `after`. What is mounted is looked at after each.
fn run_linked(bench: &Bench, parts: &[Vec<Change>; 4]) -> Vec<Vec<String>> {
    let step = |top: Option<&Snapshot>, changes: &[Change]| {
        std::thread::sleep(TICK);
        bench.step_with(top, |root, _| {
            changes.iter().for_each(|change| {
                apply(root, change);
            });
        })
    };
    let [below, changes, between, after] = parts;
    let layer = step(None, changes);
    let one = bench.link(&layer, &step(None, below));
    let two = step(Some(&one), between);
    let three = bench.link(&layer, &two);
    let four = step(Some(&three), after);
    let seen = [&one, &three, &four].map(|top| bench.seen(top));
    [bench.lines(&layer), bench.lines(&two), bench.lines(&four)].into_iter().chain(seen).collect()
}

#[test]
fn privileged_random_layers_on_random_bases() {
    let benches = benches();
    let [overlays @ .., copy] = &benches[..] else { return };
    let changes = || prop::collection::vec(change(), 1..10);
    let parts = [changes(), changes(), changes(), changes()];
    let result = runner().run(&parts, |parts| {
        let want = run_linked(copy, &parts);
        for overlay in overlays {
            prop_assert_eq!(run_linked(overlay, &parts), want.clone());
        }
        Ok(())
    });
    result.unwrap();
}

#[test]
fn times_are_not_compared() {
    // What the comparison of this file rests on.
    let entry = |seconds| oci::layer::Entry {
        path: oci::layer::TreePath::new(b"a").unwrap(),
        node: oci::layer::Node::Fifo,
        meta: Metadata { mtime: Timestamp::from_seconds(seconds), ..Metadata::default() },
    };
    let layer = |seconds| LayerManifest::new(vec![entry(seconds)]);
    assert_eq!(lines(&layer(1)), lines(&layer(2)));
    assert_eq!(layer(1).diff_digest(), layer(2).diff_digest());
}
