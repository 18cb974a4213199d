//! Several users of one state directory at the same time: each case is a race that was, or could
//! be, lost.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cache::gc::{Collector, Item, ItemId, Kind, Request};
use cache::{Holding, State, StoredImage};
use common::{get, key, open, publish, record};
use oci::{Descriptor, Timestamp};
use solver::RecordStore;

/// How long each race is run.
const TIME: Duration = Duration::from_millis(1500);

/// Sets a flag when it goes, also by a failed assertion: the others must not run for ever.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Snapshots without parents: empty files.
struct Files(PathBuf);

type Cause = Box<dyn std::error::Error + Send + Sync>;

impl Collector for Files {
    fn snapshots(&mut self) -> Result<Vec<Item>, Cause> {
        let names = fs::read_dir(&self.0)?.map(|e| Ok(e?.file_name().into_string().unwrap()));
        let names: Result<Vec<String>, std::io::Error> = names.collect();
        let item = |id| Item {
            id: ItemId::Snapshot(id),
            parent: None,
            uses: None,
            size: 1,
            created: Timestamp::EPOCH,
            last_used: Timestamp::EPOCH,
            kind: Kind::Regular,
            description: String::new(),
        };
        Ok(names?.into_iter().map(item).collect())
    }

    fn remove(&mut self, id: &str) -> Result<(), Cause> {
        Ok(fs::remove_file(self.0.join(id))?)
    }

    fn is_usable(&self, payload: &str) -> bool {
        self.0.join(payload).exists()
    }
}

fn image(name: &str, snapshot: &str, config: Descriptor) -> StoredImage {
    StoredImage {
        reference: Some(name.to_owned()),
        config,
        snapshot: Some(snapshot.to_owned()),
        layers: Vec::new(),
        source: None,
        manifest: None,
        platform: "linux/amd64".parse().unwrap(),
        created: None,
        size: 1,
        stored: Timestamp::from_seconds(1),
    }
}

#[test]
fn a_named_image_keeps_its_parts_beside_collections() {
    let dir = tempfile::tempdir().unwrap();
    let all = Request { all: true, ..Request::default() };
    let over = AtomicBool::new(false);
    let build = |builder: usize| {
        let _ends = Ends(&over);
        let state = open(dir.path());
        let end = Instant::now() + TIME;
        for n in 0.. {
            if Instant::now() > end || over.load(Ordering::SeqCst) {
                return n;
            }
            let (text, name) = (format!("{builder}-{n}"), format!("{builder}:{}", n % 3));
            let descriptor = Descriptor::of("application/json", text.as_bytes());
            let digest = descriptor.digest.to_string();
            let snapshot = state.lease().hold(Holding::InProgress, &text).unwrap();
            let config = state.lease().hold(Holding::Blob, &digest).unwrap();
            fs::write(state.snapshots_dir().join(&text), "").unwrap();
            state.blobs().put("application/json", text.as_bytes()).unwrap();
            state.images().put(&image(&name, &text, descriptor.clone())).unwrap();
            drop((snapshot, config));
            std::thread::yield_now();
            assert!(state.snapshots_dir().join(&text).exists(), "{text}: the snapshot is gone");
            assert!(state.blobs().has(&descriptor), "{text}: the config is gone");
        }
        0
    };
    let collect = || {
        let state = open(dir.path());
        let mut files = Files(state.snapshots_dir());
        while !over.load(Ordering::SeqCst) {
            state.collect(&all, &mut files).unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(collect);
        scope.spawn(collect);
        let builders: Vec<_> = (0..2).map(|b| scope.spawn(move || build(b))).collect();
        for builder in builders {
            assert!(builder.join().unwrap() > 3, "too slow to show anything");
        }
    });
    let state = open(dir.path());
    let parts: BTreeSet<_> =
        state.images().list().unwrap().iter().filter_map(|i| i.snapshot.clone()).collect();
    assert!(parts.iter().all(|id| state.snapshots_dir().join(id).exists()));
}

#[test]
fn a_folded_record_is_found_whatever_the_writer_does() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    publish(&state, &record("always"));
    state.finish().unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ends = Ends(&over);
            let end = Instant::now() + TIME;
            for n in 0.. {
                if Instant::now() > end {
                    break;
                }
                publish(&state, &record(&n.to_string()));
                state.finish().unwrap();
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let _ends = Ends(&over);
                while !over.load(Ordering::SeqCst) {
                    let reader = open(dir.path());
                    assert!(get(&reader, "always").is_some());
                    assert_eq!(reader.take_warnings(), Vec::<String>::new());
                }
            });
        }
    });
}

#[test]
fn a_newer_record_is_never_folded_away_by_an_older_one() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let folder = open(dir.path());
                while !over.load(Ordering::SeqCst) {
                    folder.finish().unwrap();
                }
            });
        }
        let _ends = Ends(&over);
        let end = Instant::now() + TIME;
        let mut n = 1;
        while Instant::now() < end {
            let started = Timestamp::from_seconds(n);
            publish(&state, &solver::Record { started, ..record("k") });
            for _ in 0..3 {
                let found = get(&state, "k").unwrap();
                assert_eq!(found.started, started);
                std::thread::sleep(Duration::from_millis(2));
            }
            n += 1;
        }
    });
}

#[test]
fn a_tag_never_names_an_image_that_was_removed() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let config = Descriptor::of("application/json", b"{}");
    let one = image("a:1", "s", config);
    state.images().put(&one).unwrap();
    assert!(state.images().tag(&one, "b:1").unwrap());
    state.images().remove(&one.id()).unwrap();
    assert!(!state.images().tag(&one, "c:1").unwrap());
    assert!(state.images().list().unwrap().is_empty());
}

#[test]
fn an_image_syncs_what_others_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let (builder, tagger) = (open(dir.path()), open(dir.path()));
    publish(&builder, &record("a"));
    let config = Descriptor::of("application/json", b"{}");
    tagger.images().put(&image("a:1", "s", config)).unwrap();
    // The file system, the watermark, the file, its directory.
    assert_eq!(tagger.sync_count(), 4);
}

#[test]
fn a_record_from_the_future_is_not_fresh() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let now = Timestamp::now();
    let started = Timestamp { seconds: now.seconds + 3600, nanos: 0 };
    publish(&state, &solver::Record { started, ..record("a") });
    assert!(get(&state, "a").is_some(), "nobody asked for a fresh one");
    assert!(state.get(&key("a"), now).unwrap().is_none());
}

#[test]
fn what_cannot_be_read_does_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let stuck = dir.path().join("done").join(key("stuck").to_string());
    fs::create_dir(&stuck).unwrap();
    publish(&state, &record("a"));
    state.finish().unwrap();
    let left = fs::read_dir(dir.path().join("done")).unwrap().count();
    assert_eq!(left, 1, "only the one that cannot be read");
    assert!(get(&state, "a").is_some() && get(&state, "stuck").is_none());
    assert!(!state.take_warnings().is_empty());
}

#[test]
fn a_collection_frees_space_where_the_records_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    publish(&state, &record("a"));
    // Not a damaged database, but no place for one.
    fs::write(dir.path().join("records-v1"), "").unwrap();
    let trash = dir.path().join("trash");
    fs::write(trash.join("x"), "large").unwrap();
    let mut files = Files(state.snapshots_dir());
    state.collect(&Request::default(), &mut files).unwrap();
    assert_eq!(fs::read_dir(&trash).unwrap().count(), 0);
    assert!(state.take_warnings().iter().any(|w| w.contains("build records")));
    assert!(get(&state, "a").is_some(), "what was published stays");
}

#[test]
fn what_live_processes_hold_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two): (State, State) = (open(dir.path()), open(dir.path()));
    let _a = one.lease().hold(Holding::InProgress, "a").unwrap();
    let b = two.lease().hold(Holding::InProgress, "b").unwrap();
    let _c = two.lease().hold(Holding::Snapshot, "c").unwrap();
    let names = |state: &State| state.held(Holding::InProgress).unwrap().into_iter().collect();
    let (before, after): (Vec<String>, Vec<String>) = {
        let before = names(&one);
        drop(b);
        (before, names(&one))
    };
    assert_eq!((before, after), (vec!["a".into(), "b".into()], vec!["a".into()]));
}
