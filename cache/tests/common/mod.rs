//! What the tests of the state directory share.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cache::{Dialect, State};
use oci::Timestamp;
use solver::{ActionKey, ContentId, Followed, KeyBuilder, News, Record, RecordStore, Watch};

pub(crate) fn dialect() -> Dialect {
    Dialect { whiteouts: "overlay-trusted".into(), owner_uid: 0 }
}

pub(crate) fn open(root: &Path) -> State {
    State::open(root, &dialect()).unwrap()
}

pub(crate) fn key(name: &str) -> ActionKey {
    KeyBuilder::new("test").part(name.as_bytes()).action_key()
}

pub(crate) fn content(name: &str) -> ContentId {
    KeyBuilder::new("test-content").part(name.as_bytes()).content_id()
}

pub(crate) fn record(name: &str) -> Record {
    Record {
        key: key(name),
        content: content(name),
        payload: format!("snapshot-{name}"),
        started: Timestamp::from_seconds(100),
        ended: Timestamp::from_seconds(101),
        duration: Duration::from_millis(1500),
        name: format!("RUN {name}"),
        inputs: vec![("argv".into(), name.into()), ("cwd".into(), "/".into())],
    }
}

pub(crate) fn publish(state: &State, record: &Record) {
    let claim = state.claim(&record.key).unwrap().expect("nobody else has the key");
    state.publish(&*claim, record).unwrap();
}

pub(crate) fn get(state: &State, name: &str) -> Option<Record> {
    state.get(&key(name), Timestamp::EPOCH).unwrap()
}

/// Follows `key` until nobody holds it, at most `limit`: what was told, and whether it is free.
pub(crate) fn follow(
    state: &State,
    key: &ActionKey,
    limit: Duration,
) -> (Vec<News<'static>>, bool) {
    follow_by(&mut *state.watch().unwrap(), key, limit)
}

/// The same by somebody who goes on to watch.
pub(crate) fn follow_by(
    watch: &mut dyn Watch,
    key: &ActionKey,
    limit: Duration,
) -> (Vec<News<'static>>, bool) {
    let mut run = watch.follow(key).unwrap();
    let (mut news, end) = (Vec::new(), Instant::now() + limit);
    loop {
        match run.next().unwrap() {
            Followed::News(one) => news.push(one),
            Followed::Over => return (news, true),
            Followed::Nothing if Instant::now() >= end => return (news, false),
            Followed::Nothing => watch.sleep(end.saturating_duration_since(Instant::now())),
        }
    }
}

/// Starts this test program again as one that only plays `role`, an ignored test of that name.
pub(crate) fn spawn(role: &str, root: &Path, argument: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", role, "--ignored", "--nocapture", "--test-threads=1"])
        .env("CACHE_TEST_ROOT", root)
        .env("CACHE_TEST_ARGUMENT", argument)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// In a role: where, and with what argument. None if the test was started by hand.
pub(crate) fn role() -> Option<(std::path::PathBuf, String)> {
    let root = std::env::var_os("CACHE_TEST_ROOT")?;
    Some((root.into(), std::env::var("CACHE_TEST_ARGUMENT").ok()?))
}

/// Waits until `done`, at most ten seconds.
pub(crate) fn eventually(mut done: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it did not happen within ten seconds");
}
