//! Making room: what goes, what stays, and what is known of it afterwards.

mod common;

use std::fs;
use std::time::Duration;

use cache::gc::{Collector, Eviction, Item, ItemId, Kind, disk_usage};
use cache::{Holding, State, StoredImage, StoredLayer};
use oci::{Descriptor, Digest, Timestamp};

type Cause = Box<dyn std::error::Error + Send + Sync>;

const SIZE: usize = 100_000;

/// Snapshots that are files. The payload of a record is the name of its snapshot.
struct Snapshots<'a> {
    state: &'a State,
    parents: Vec<(&'static str, Option<&'static str>)>,
}

impl<'a> Snapshots<'a> {
    fn new(state: &'a State, parents: &[(&'static str, Option<&'static str>)]) -> Self {
        for (id, _) in parents {
            fs::write(state.snapshots_dir().join(id), vec![1; SIZE]).unwrap();
        }
        Self { state, parents: parents.to_vec() }
    }

    fn there(&self) -> Vec<&'static str> {
        let all = self.parents.iter().map(|(id, _)| *id);
        all.filter(|id| self.state.snapshots_dir().join(id).exists()).collect()
    }
}

impl Collector for Snapshots<'_> {
    fn snapshots(&mut self) -> Result<Vec<Item>, Cause> {
        let item = |id: &'static str| Item {
            id: ItemId::Snapshot(id.to_owned()),
            parent: self.parents.iter().find(|(it, _)| *it == id).unwrap().1.map(str::to_owned),
            uses: None,
            size: disk_usage(&self.state.snapshots_dir().join(id)),
            created: Timestamp::EPOCH,
            last_used: self.state.last_used().get(id).unwrap_or(Timestamp::EPOCH),
            kind: Kind::Regular,
            description: format!("RUN {id}"),
        };
        Ok(self.there().into_iter().map(item).collect())
    }

    fn remove(&mut self, id: &str) -> Result<(), Cause> {
        Ok(self.state.discard(&self.state.snapshots_dir().join(id))?)
    }

    fn is_usable(&self, payload: &str) -> bool {
        self.state.snapshots_dir().join(payload).exists()
    }

    fn snapshot_of(&self, payload: &str) -> Option<String> {
        Some(payload.to_owned())
    }
}

fn eviction(bytes: usize) -> Eviction {
    Eviction { bytes: bytes as u64, all_or_nothing: false, rule: "--max-cache 10GB".to_owned() }
}

fn made(state: &State, snapshot: &str, seconds: u64) {
    let record = solver::Record {
        payload: snapshot.to_owned(),
        duration: Duration::from_secs(seconds),
        ..common::record(snapshot)
    };
    common::publish(state, &record);
}

fn image(name: Option<&str>, snapshot: &str) -> StoredImage {
    StoredImage {
        reference: name.map(str::to_owned),
        config: Descriptor::of("application/json", snapshot.as_bytes()),
        snapshot: Some(snapshot.to_owned()),
        layers: vec![StoredLayer {
            diff_id: Digest::of(snapshot.as_bytes()),
            snapshot: Some(snapshot.to_owned()),
            blob: None,
        }],
        source: None,
        manifest: None,
        platform: "linux/amd64".parse().unwrap(),
        created: None,
        size: SIZE as u64,
        stored: Timestamp::now(),
    }
}

#[test]
fn what_is_quick_to_make_again_goes_and_it_is_known_by_what() {
    let dir = tempfile::tempdir().unwrap();
    let state = common::open(dir.path());
    let mut snapshots = Snapshots::new(&state, &[("slow", None), ("quick", None), ("base", None)]);
    for (id, seconds) in [("slow", 600), ("quick", 1), ("base", 300)] {
        made(&state, id, seconds);
        state.last_used().touch(id).unwrap();
    }
    let report = state.evict(&eviction(SIZE / 2), &mut snapshots).unwrap();
    assert_eq!((report.removed.len(), report.records), (1, 1));
    assert!(report.freed >= SIZE as u64 / 2);
    assert_eq!(snapshots.there(), ["slow", "base"]);
    assert!(common::get(&state, "quick").is_none() && common::get(&state, "slow").is_some());
    let state = common::open(dir.path());
    let stone = state.history().tombstones().get(&common::key("quick")).unwrap();
    assert_eq!(stone.rule, "--max-cache 10GB");
    assert!(state.history().tombstones().get(&common::key("slow")).is_none());
}

#[test]
fn the_used_and_the_named_stay_and_images_without_a_name_go_with_their_parts() {
    let dir = tempfile::tempdir().unwrap();
    let state = common::open(dir.path());
    let all = [
        ("base", None),
        ("named", Some("base")),
        ("held", None),
        ("nameless", None),
        ("old", Some("held")),
    ];
    let mut snapshots = Snapshots::new(&state, &all);
    state.images().put(&image(Some("app:1"), "named")).unwrap();
    state.images().put(&image(Some("app:2"), "nameless")).unwrap();
    // The name goes on: what it named has none any more.
    let next = StoredImage { snapshot: None, layers: Vec::new(), ..image(Some("app:2"), "x") };
    state.images().put(&next).unwrap();
    let _held = state.lease().hold(Holding::Snapshot, "held").unwrap();
    let none = Eviction { all_or_nothing: true, ..eviction(100 * SIZE) };
    assert!(state.evict(&none, &mut snapshots).unwrap().removed.is_empty());
    assert_eq!(snapshots.there().len(), 5);
    let report = state.evict(&eviction(100 * SIZE), &mut snapshots).unwrap();
    assert_eq!(snapshots.there(), ["base", "named", "held"]);
    assert_eq!(report.images, [image(None, "nameless").id()]);
    assert_eq!(state.images().list().unwrap().len(), 2);
    let shares = state.shares(&mut snapshots).unwrap();
    assert!((2 * SIZE as u64..3 * SIZE as u64).contains(&shares.images), "{shares:?}");
    let [(lease, bytes)] = &shares.leases[..] else { panic!("{shares:?}") };
    assert_eq!(lease, state.lease().name());
    assert!((SIZE as u64..2 * SIZE as u64).contains(bytes));
}

#[test]
fn rules_have_their_turn_now_and_then() {
    let dir = tempfile::tempdir().unwrap();
    let state = common::open(dir.path());
    let hour = Duration::from_secs(3600);
    let turn = state.turn(hour).unwrap().expect("nobody had one");
    assert!(state.turn(Duration::ZERO).unwrap().is_none(), "somebody has it");
    turn.done(&state).unwrap();
    assert!(state.turn(hour).unwrap().is_none(), "it was just done");
    assert!(state.turn(Duration::ZERO).unwrap().is_some());
    let (used, disk) = state.footprint().unwrap();
    assert!(used > 0 && disk.size > disk.free);
}
