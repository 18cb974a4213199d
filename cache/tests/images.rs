//! Images and what is collected when they go.

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use cache::gc::{Collector, Item, ItemId, Kind, Request};
use cache::{Holding, State, StoredImage, StoredLayer};
use oci::{Descriptor, Digest, Platform, Timestamp};
use solver::RecordStore;

fn platform() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn image(name: &str, snapshot: &str, text: &str) -> StoredImage {
    StoredImage {
        reference: Some(name.to_owned()),
        config: Descriptor::of("application/json", text.as_bytes()),
        snapshot: Some(snapshot.to_owned()),
        layers: vec![StoredLayer {
            diff_id: Digest::of(snapshot.as_bytes()),
            snapshot: Some(snapshot.to_owned()),
            blob: None,
        }],
        source: None,
        manifest: None,
        platform: platform(),
        created: Some(Timestamp::from_seconds(5)),
        size: 10,
        stored: Timestamp::from_seconds(50),
    }
}

#[test]
fn names_move_and_leave_the_old_image_without_one() {
    let dir = tempfile::tempdir().unwrap();
    let state = common::open(dir.path());
    let images = state.images();
    let (one, two) = (
        image("docker.io/library/app:1", "s1", "one"),
        image("docker.io/library/app:1", "s2", "two"),
    );
    images.put(&one).unwrap();
    assert_eq!(images.get("docker.io/library/app:1").unwrap(), Some(one.clone()));
    let alias = StoredImage { reference: Some("app:alias".into()), ..one.clone() };
    images.put(&alias).unwrap();
    images.put(&two).unwrap();
    assert_eq!(images.list().unwrap(), [alias.clone(), two.clone()], "one has another name");
    images.put(&StoredImage { reference: Some("app:alias".into()), ..two.clone() }).unwrap();
    let dangling = StoredImage { reference: None, ..one.clone() };
    assert_eq!(images.list().unwrap().last(), Some(&dangling));
    assert_eq!(images.find(&one.id().short()).unwrap(), Some(dangling));
    assert!(images.find("").unwrap().is_none() && images.find("zz").unwrap().is_none());
    images.put(&alias).unwrap();
    assert!(images.list().unwrap().iter().all(|i| i.reference.is_some()), "it has a name again");
    assert_eq!(images.untag("app:alias").unwrap().unwrap().id(), one.id());
    assert!(images.untag("app:alias").unwrap().is_none());
    assert_eq!(images.remove(&two.id()).unwrap(), ["docker.io/library/app:1"]);
    assert!(images.list().unwrap().is_empty());
}

#[test]
fn an_ambiguous_beginning_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let state = common::open(dir.path());
    let mut beginnings: BTreeMap<char, usize> = BTreeMap::new();
    for n in 0..17 {
        let image = image(&format!("i:{n}"), "s", &n.to_string());
        *beginnings.entry(image.id().hex().chars().next().unwrap()).or_default() += 1;
        state.images().put(&image).unwrap();
    }
    for (digit, count) in beginnings {
        let found = state.images().find(&digit.to_string());
        assert_eq!(found.is_err(), count > 1);
    }
}

#[test]
fn pulled_digests_are_remembered_by_platform() {
    let dir = tempfile::tempdir().unwrap();
    let state = common::open(dir.path());
    let digest = Digest::of(b"index");
    let one = image("a:1", "s1", "one");
    state.images().remember(&digest, &one).unwrap();
    assert_eq!(state.images().by_digest(&digest, &platform()).unwrap().unwrap().id(), one.id());
    let other: Platform = "linux/arm64".parse().unwrap();
    assert!(state.images().by_digest(&digest, &other).unwrap().is_none());
    assert!(state.images().list().unwrap().is_empty(), "it has no name and is not dangling");
}

#[test]
fn an_equal_image_is_not_written_again_and_a_damaged_one_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let state = common::open(dir.path());
    let one = image("a:1", "s1", "one");
    state.images().put(&one).unwrap();
    let count = state.sync_count();
    state.images().put(&StoredImage { stored: Timestamp::now(), ..one.clone() }).unwrap();
    assert_eq!(state.sync_count(), count);
    for entry in std::fs::read_dir(dir.path().join("images-v1")).unwrap() {
        std::fs::write(entry.unwrap().path(), "{").unwrap();
    }
    assert!(state.images().get("a:1").unwrap().is_none());
    assert_eq!(state.take_warnings().len(), 1);
    state.images().put(&one).unwrap();
    assert!(state.images().get("a:1").unwrap().is_some());
}

/// Snapshots that are empty files.
struct Snapshots {
    dir: PathBuf,
    parents: BTreeMap<String, (Option<String>, Kind)>,
    /// Who has whose layer.
    uses: BTreeMap<String, String>,
    order: Vec<String>,
}

impl Snapshots {
    fn new(state: &State, all: &[(&str, Option<&str>, Kind)]) -> Self {
        let dir = state.snapshots_dir();
        for (id, ..) in all {
            std::fs::write(dir.join(id), "").unwrap();
        }
        let parents = all
            .iter()
            .map(|(id, parent, kind)| ((*id).into(), (parent.map(str::to_owned), *kind)))
            .collect();
        Self { dir, parents, uses: BTreeMap::new(), order: Vec::new() }
    }
}

impl Collector for Snapshots {
    fn snapshots(&mut self) -> Result<Vec<Item>, Box<dyn std::error::Error + Send + Sync>> {
        let there = self.parents.iter().filter(|(id, _)| self.dir.join(id).exists());
        let item = |(id, (parent, kind)): (&String, &(Option<String>, Kind))| Item {
            id: ItemId::Snapshot(id.clone()),
            parent: parent.clone(),
            uses: self.uses.get(id).cloned(),
            size: 100,
            created: Timestamp::EPOCH,
            last_used: Timestamp::from_seconds(10),
            kind: *kind,
            description: String::new(),
        };
        Ok(there.map(item).collect())
    }

    fn remove(&mut self, id: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.order.push(id.to_owned());
        Ok(std::fs::remove_file(self.dir.join(id))?)
    }

    fn is_usable(&self, payload: &str) -> bool {
        self.dir.join(payload).exists()
    }
}

#[test]
fn collection_leaves_what_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let state = common::open(dir.path());
    let mut snapshots = Snapshots::new(
        &state,
        &[
            ("base", None, Kind::Image),
            ("tagged", Some("base"), Kind::Regular),
            ("running", Some("base"), Kind::Regular),
            ("old", Some("base"), Kind::Regular),
            ("older", Some("old"), Kind::Regular),
            ("dangling", Some("old"), Kind::Regular),
        ],
    );
    let blobs = state.blobs();
    let config = blobs.put("application/json", b"config").unwrap();
    let loose = blobs.put("application/json", b"loose").unwrap();
    let tagged = StoredImage { config: config.clone(), ..image("a:1", "tagged", "") };
    state.images().put(&image("a:1", "dangling", "old")).unwrap();
    state.images().put(&tagged).unwrap();
    let held = state.lease().hold(Holding::Snapshot, "running").unwrap();
    for name in ["old", "tagged"] {
        common::publish(&state, &solver::Record { payload: name.into(), ..common::record(name) });
        state.adopt(&common::content(name), name, &|_| true).unwrap();
    }
    let usage = state.usage(&mut snapshots).unwrap();
    let blob = |id: &oci::Digest| {
        let row = usage.rows.iter().find(|row| row.item.id == ItemId::Blob(*id)).unwrap();
        (row.item.size, row.item.description.as_str(), row.shared)
    };
    let (size, said, shared) = blob(&config.digest);
    assert!(size >= 6 && shared && said == "config of a:1", "{size} {said}");
    assert_eq!(blob(&loose.digest).1, "compressed layer or document of no image");
    // An image that lost its name is not shared with: collection would take it.
    assert_eq!(usage.totals.shared, 200 + size);
    assert_eq!(usage.totals.reclaimable, 300 + blob(&loose.digest).0);
    let report = state.collect(&Request::default(), &mut snapshots).unwrap();
    let gone: u64 = report.removed.iter().map(|item| item.size).sum();
    assert_eq!(gone, usage.totals.reclaimable);
    assert_eq!(report.images.len(), 1);
    assert_eq!(snapshots.order, ["dangling", "older", "old"]);
    assert_eq!(report.records, 2, "the step and the content of `old`");
    assert!(common::get(&state, "old").is_none() && common::get(&state, "tagged").is_some());
    assert!(blobs.exists(&config.digest) && !blobs.exists(&loose.digest));
    drop(held);
    let all = Request { all: true, ..Request::default() };
    state.images().remove(&tagged.id()).unwrap();
    state.collect(&all, &mut snapshots).unwrap();
    assert_eq!(snapshots.order.len(), 6);
    assert!(blobs.list().unwrap().is_empty());
}

#[test]
fn a_layer_outlives_what_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = common::open(dir.path());
    let mut snapshots = Snapshots::new(
        &state,
        &[
            ("base", None, Kind::Regular),
            ("layer", None, Kind::Regular),
            ("one", Some("base"), Kind::Regular),
            ("two", Some("one"), Kind::Regular),
        ],
    );
    let uses = [("one", "layer"), ("two", "layer")];
    snapshots.uses = uses.map(|(id, layer)| (id.into(), layer.into())).into();
    state.images().put(&image("a:1", "one", "config")).unwrap();
    let held = state.lease().hold(Holding::Snapshot, "two").unwrap();
    assert_eq!(state.usage(&mut snapshots).unwrap().totals.shared, 300);
    state.collect(&Request::default(), &mut snapshots).unwrap();
    assert!(snapshots.order.is_empty(), "{:?}", snapshots.order);
    drop(held);
    state.collect(&Request::default(), &mut snapshots).unwrap();
    assert_eq!(snapshots.order, ["two"]);
    state.images().remove(&image("a:1", "one", "config").id()).unwrap();
    state.collect(&Request::default(), &mut snapshots).unwrap();
    assert_eq!(snapshots.order[1], "one");
    assert_eq!(snapshots.order.len(), 4);
}

#[test]
fn a_lease_taken_late_finds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let state = common::open(dir.path());
    let mut snapshots = Snapshots::new(&state, &[("a", None, Kind::Regular)]);
    let path = state.snapshots_dir().join("a");
    let exists = || path.exists();
    let held = state.lease().hold_if(Holding::Snapshot, "a", exists).unwrap();
    assert!(held.is_some());
    state.collect(&Request::default(), &mut snapshots).unwrap();
    assert!(path.exists());
    drop(held);
    state.collect(&Request::default(), &mut snapshots).unwrap();
    assert!(state.lease().hold_if(Holding::Snapshot, "a", exists).unwrap().is_none());
}

#[test]
fn locks_of_the_killed_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    let state = common::open(dir.path());
    let lock = dir.path().join("locks").join(common::key("k").to_string());
    std::fs::write(&lock, "").unwrap();
    let held = state.claim(&common::key("held")).unwrap();
    let mut none = Snapshots::new(&state, &[]);
    state.collect(&Request::default(), &mut none).unwrap();
    assert!(!lock.exists());
    assert!(state.claim(&common::key("held")).unwrap().is_none());
    drop(held);
}
