//! Collection beside those who build: what it walks, what it holds meanwhile, and what it counts.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;

use cache::gc::{Collector, Filter, Item, ItemId, Kind, Request, disk_usage};
use cache::{Held, Holding, State};
use oci::Timestamp;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Something that happens at some moment of a collection.
type Moment<'a> = Box<dyn FnMut() + 'a>;

/// Snapshots that are files, with a parent each, and something that happens while they are
/// walked.
struct Snapshots<'a> {
    state: &'a State,
    parents: RefCell<BTreeMap<String, Option<String>>>,
    walked: Moment<'a>,
    walks: usize,
}

impl<'a> Snapshots<'a> {
    fn new(state: &'a State, all: &[(&str, Option<&str>)]) -> Self {
        let snapshots =
            Self { state, parents: RefCell::default(), walked: Box::new(|| ()), walks: 0 };
        all.iter().for_each(|(id, parent)| snapshots.add(id, *parent));
        snapshots
    }

    fn add(&self, id: &str, parent: Option<&str>) {
        fs::write(self.state.snapshots_dir().join(id), vec![1; 5000]).unwrap();
        self.parents.borrow_mut().insert(id.to_owned(), parent.map(str::to_owned));
    }

    fn there(&self) -> Vec<String> {
        let all = self.parents.borrow();
        let there = all.keys().filter(|id| self.state.snapshots_dir().join(id).exists());
        there.cloned().collect()
    }

    fn items(&self) -> Vec<Item> {
        let item = |id: String| Item {
            parent: self.parents.borrow()[&id].clone(),
            uses: None,
            size: disk_usage(&self.state.snapshots_dir().join(&id)),
            created: Timestamp::EPOCH,
            last_used: self.state.last_used().get(&id).unwrap_or(Timestamp::EPOCH),
            kind: Kind::Regular,
            description: format!("RUN {id}"),
            id: ItemId::Snapshot(id),
        };
        self.there().into_iter().map(item).collect()
    }
}

impl Collector for Snapshots<'_> {
    fn snapshots(&mut self) -> Result<Vec<Item>, Cause> {
        self.walks += 1;
        let items = self.items();
        (self.walked)();
        Ok(items)
    }

    fn look_again(&mut self, known: &[Item]) -> Result<Vec<Item>, Cause> {
        let mut items = self.items();
        for item in &mut items {
            if let Some(known) = known.iter().find(|known| known.id == item.id) {
                *item = known.clone();
            }
        }
        Ok(items)
    }

    fn remove(&mut self, id: &str) -> Result<(), Cause> {
        Ok(self.state.discard(&self.state.snapshots_dir().join(id))?)
    }

    fn is_usable(&self, payload: &str) -> bool {
        self.state.snapshots_dir().join(payload).exists()
    }
}

fn hold(state: &State, id: &str) -> Held {
    state.lease().hold(Holding::Snapshot, id).unwrap()
}

#[test]
fn nobody_waits_while_it_walks_or_deletes() {
    let dir = tempfile::tempdir().unwrap();
    let state = common::open(dir.path());
    let held = RefCell::new(Vec::new());
    let mut snapshots = Snapshots::new(&state, &[("a", None), ("b", None)]);
    // A lease takes the lock that collection has for itself: this would wait for ever.
    snapshots.walked = Box::new(|| held.borrow_mut().push(hold(&state, "b")));
    let told = Cell::new(0);
    let mut tell = |_: &Item| {
        held.borrow_mut().push(hold(&state, "x"));
        told.set(told.get() + 1);
    };
    let report = state.collect_telling(&Request::default(), &mut snapshots, &mut tell).unwrap();
    assert_eq!((report.removed.len(), told.get(), snapshots.walks), (1, 1, 1));
    assert_eq!(snapshots.there(), ["b"]);
}

#[test]
fn what_came_meanwhile_stays_with_all_below_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = common::open(dir.path());
    let snapshots = Snapshots::new(&state, &[("base", None), ("old", Some("base"))]);
    let late = RefCell::new(snapshots);
    // Whoever made it is gone already: nothing holds it.
    struct Late<'a, 'b>(&'b RefCell<Snapshots<'a>>);
    impl Collector for Late<'_, '_> {
        fn snapshots(&mut self) -> Result<Vec<Item>, Cause> {
            let items = self.0.borrow().items();
            self.0.borrow().add("new", Some("base"));
            Ok(items)
        }
        fn look_again(&mut self, known: &[Item]) -> Result<Vec<Item>, Cause> {
            self.0.borrow_mut().look_again(known)
        }
        fn remove(&mut self, id: &str) -> Result<(), Cause> {
            self.0.borrow_mut().remove(id)
        }
        fn is_usable(&self, payload: &str) -> bool {
            self.0.borrow().is_usable(payload)
        }
    }
    let report = state.collect(&Request::default(), &mut Late(&late)).unwrap();
    assert_eq!(report.removed.len(), 1);
    assert_eq!(late.borrow().there(), ["base", "new"]);
    state.collect(&Request::default(), &mut *late.borrow_mut()).unwrap();
    assert_eq!(late.borrow().there().len(), 0);
}

#[test]
fn what_is_let_go_meanwhile_goes_too() {
    let dir = tempfile::tempdir().unwrap();
    let state = common::open(dir.path());
    let mut snapshots = Snapshots::new(&state, &[("a", None), ("b", None), ("c", Some("b"))]);
    let held = RefCell::new(Some(hold(&state, "c")));
    let mut tell = |_: &Item| drop(held.borrow_mut().take());
    let report = state.collect_telling(&Request::default(), &mut snapshots, &mut tell).unwrap();
    let order: Vec<String> = report.removed.iter().map(|item| item.id.to_string()).collect();
    assert_eq!(order, ["a", "c", "b"]);
    assert_eq!(snapshots.walks, 1);
}

#[test]
fn what_was_used_since_the_walk_is_not_old() {
    let dir = tempfile::tempdir().unwrap();
    let state = common::open(dir.path());
    let mut snapshots = Snapshots::new(&state, &[("a", None), ("b", None)]);
    snapshots.walked = Box::new(|| state.last_used().touch("b").unwrap());
    let request = Request {
        filters: vec![Filter::parse("until=1h").unwrap()],
        now: Timestamp::now(),
        ..Request::default()
    };
    state.collect(&request, &mut snapshots).unwrap();
    assert_eq!(snapshots.there(), ["b"]);
}

#[test]
fn everything_is_counted_and_what_goes_is_what_is_less() {
    let dir = tempfile::tempdir().unwrap();
    let state = common::open(dir.path());
    let mut snapshots = Snapshots::new(&state, &[("a", None), ("b", Some("a")), ("c", None)]);
    let root = state.root();
    // As builds leave it: records, logs, a download, a context, something that nobody knows.
    for name in ["a", "b"] {
        common::publish(&state, &solver::Record { payload: name.into(), ..common::record(name) });
    }
    state.finish().unwrap();
    drop(state.build_logs().start("app").unwrap());
    let part = root.join("inflight").join(format!("blob-{}", "5".repeat(64)));
    fs::write(&part, vec![1; 9000]).unwrap();
    fs::write(root.join("inflight/log"), vec![1; 9000]).unwrap();
    fs::write(root.join("context-v1/0123"), vec![1; 9000]).unwrap();
    fs::create_dir(root.join("later-v9")).unwrap();
    fs::write(root.join("later-v9/x"), vec![1; 9000]).unwrap();
    fs::hard_link(root.join("later-v9/x"), root.join("later-v9/y")).unwrap();
    fs::create_dir_all(root.join("snapshots-v1/d.active/fs")).unwrap();
    state.blobs().put("application/json", &[b' '; 5000]).unwrap();
    // Nothing is to be written at some later time.
    state.sync().unwrap();
    let held = hold(&state, "c");

    let usage = state.usage(&mut snapshots).unwrap();
    assert_eq!(usage.totals.total, disk_usage(root), "as du counts");
    let of = |id: &str| usage.rows.iter().find(|row| row.item.id.to_string() == id).unwrap();
    assert_eq!(of("a").item.kind.word(), "regular");
    assert!(of("c").in_use && !of("c").reclaimable);
    for (id, kind, reclaimable) in [
        ("context-v1/0123", "source.local", true),
        ("inflight/log", "internal", false),
        ("records-v1", "internal", false),
        ("snapshots-v1/d.active", "internal", false),
        (".", "internal", false),
    ] {
        assert_eq!((of(id).item.kind.word(), of(id).reclaimable), (kind, reclaimable), "{id}");
    }
    let logs = usage.rows.iter().filter(|row| row.item.description == "log of build app");
    assert_eq!(logs.map(|row| row.reclaimable).collect::<Vec<_>>(), [true]);

    // Locked as long as somebody writes it.
    let writes = fs::File::open(&part).unwrap();
    rustix::fs::flock(&writes, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let before = disk_usage(root);
    let all = Request { all: true, ..Request::default() };
    let report = state.collect(&all, &mut snapshots).unwrap();
    assert_eq!(before - disk_usage(root), report.freed);
    assert!(part.exists(), "somebody writes it");
    assert_eq!(snapshots.there(), ["c"]);
    drop((writes, held));
    let before = disk_usage(root);
    let report = state.collect(&Request::default(), &mut snapshots).unwrap();
    assert_eq!(before - disk_usage(root), report.freed);
    assert!(part.exists() && snapshots.there().is_empty(), "only with --all");
    state.collect(&all, &mut snapshots).unwrap();
    assert!(!part.exists());
    let left = state.usage(&mut snapshots).unwrap();
    assert!(left.rows.iter().all(|row| row.item.kind == Kind::State), "{left:?}");
}

#[test]
fn several_at_a_time_count_each_thing_once() {
    const COUNT: usize = 300;
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..COUNT).map(|n| format!("s{n}")).collect();
    let parent = |n: usize| (!n.is_multiple_of(3)).then(|| names[n - 1].as_str());
    let all: Vec<(&str, Option<&str>)> =
        names.iter().enumerate().map(|(n, name)| (name.as_str(), parent(n))).collect();
    Snapshots::new(&common::open(dir.path()), &all);
    let collect = || {
        let state = common::open(dir.path());
        let mut snapshots = Snapshots::new(&state, &[]);
        let known = all.iter().map(|(id, up)| ((*id).to_owned(), up.map(str::to_owned)));
        snapshots.parents = RefCell::new(known.collect());
        let report = state.collect(&Request::default(), &mut snapshots).unwrap();
        assert!(state.take_warnings().is_empty());
        report.removed.len()
    };
    let gone: usize = std::thread::scope(|scope| {
        let collectors: Vec<_> = (0..3).map(|_| scope.spawn(collect)).collect();
        collectors.into_iter().map(|c| c.join().unwrap()).sum()
    });
    assert_eq!(gone, COUNT);
}
