//! Records, facts and claims, within one process.

mod common;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{content, dialect, follow, get, key, open, publish, record};
use oci::Timestamp;
use solver::RecordStore;

fn files(dir: &std::path::Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name());
    let mut names: Vec<_> = names.map(|n| n.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_published_record_is_found_before_and_after_it_is_folded() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let other = open(dir.path());
    assert_eq!(get(&state, "a"), None);
    publish(&state, &record("a"));
    assert_eq!(files(&dir.path().join("done")).len(), 1);
    assert_eq!(get(&state, "a"), Some(record("a")));
    assert_eq!(get(&other, "a"), Some(record("a")));
    state.finish().unwrap();
    assert!(files(&dir.path().join("done")).is_empty());
    // `other` has seen no database yet; then it has an old view of it.
    for name in ["a", "b", "c"] {
        assert_eq!(get(&other, name).is_some(), name == "a");
    }
    publish(&state, &record("b"));
    state.finish().unwrap();
    assert_eq!(get(&other, "b"), Some(record("b")));
    assert_eq!(get(&open(dir.path()), "a"), Some(record("a")));
    assert!(state.take_warnings().is_empty() && other.take_warnings().is_empty());
}

#[test]
fn stale_records_are_not_acceptable_and_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    publish(&state, &record("a"));
    state.finish().unwrap();
    let at = |seconds| state.get(&key("a"), Timestamp::from_seconds(seconds)).unwrap();
    assert!(at(100).is_some() && at(101).is_none());
    let again = solver::Record { started: Timestamp::from_seconds(200), ..record("a") };
    publish(&state, &again);
    assert_eq!(at(150), Some(again.clone()));
    state.finish().unwrap();
    assert_eq!(at(150), Some(again));
}

#[test]
fn an_unchanged_build_writes_nothing_and_syncs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    publish(&state, &record("a"));
    state.finish().unwrap();
    assert!(state.sync_count() > 0);
    drop(state);
    let before = files(&dir.path().join("records-v1"));
    let state = open(dir.path());
    assert_eq!(get(&state, "a"), Some(record("a")));
    state.finish().unwrap();
    assert_eq!(state.sync_count(), 0);
    drop(state);
    assert_eq!(files(&dir.path().join("records-v1")), before);
    assert!(files(&dir.path().join("leases")).is_empty());
}

#[test]
fn a_claim_is_exclusive_and_wakes_who_waits() {
    let dir = tempfile::tempdir().unwrap();
    let (state, other) = (open(dir.path()), open(dir.path()));
    let held = state.claim(&key("a")).unwrap().unwrap();
    assert_eq!(held.key(), key("a"));
    assert!(state.claim(&key("a")).unwrap().is_none());
    assert!(other.claim(&key("a")).unwrap().is_none());
    assert!(other.claim(&key("b")).unwrap().is_some());
    assert!(!follow(&other, &key("a"), Duration::from_millis(5)).1);
    assert!(follow(&other, &key("b"), Duration::from_secs(5)).1);
    let freed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(follow(&other, &key("a"), Duration::from_secs(10)).1);
            assert!(freed.load(Ordering::SeqCst));
        });
        std::thread::sleep(Duration::from_millis(30));
        freed.store(true, Ordering::SeqCst);
        drop(held);
    });
    assert!(other.claim(&key("a")).unwrap().is_some());
}

#[test]
fn publishing_needs_the_claim() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let claim = state.claim(&key("b")).unwrap().unwrap();
    assert!(state.publish(&*claim, &record("a")).is_err());
}

#[test]
fn the_first_usable_making_of_a_content_is_adopted() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let adopt = |payload, usable| state.adopt(&content("x"), payload, &|_| usable).unwrap();
    assert_eq!(adopt("s1", true), "s1");
    assert_eq!(adopt("s2", true), "s1");
    state.finish().unwrap();
    assert_eq!(adopt("s2", true), "s1");
    assert_eq!(adopt("s3", false), "s3", "the first one is gone");
    assert_eq!(adopt("s4", true), "s3");
}

#[test]
fn facts_are_kept_apart_by_domain() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    state.put_fact("diff-id", b"s1", b"one").unwrap();
    state.put_fact("blob", b"s1", b"two").unwrap();
    for _ in 0..2 {
        assert_eq!(state.get_fact("diff-id", b"s1").unwrap(), b"one");
        assert_eq!(state.get_fact("blob", b"s1").unwrap(), b"two");
        assert_eq!(state.get_fact("blob", b"s2"), None);
        state.finish().unwrap();
    }
    state.put_fact("blob", b"s1", b"two").unwrap();
    assert!(files(&dir.path().join("done")).is_empty(), "it was known");
}

#[test]
fn damaged_published_records_are_misses() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    publish(&state, &record("a"));
    state.finish().unwrap();
    publish(&state, &record("b"));
    let done = dir.path().join("done");
    fs::write(done.join(key("b").to_string()), b"half").unwrap();
    fs::write(done.join(key("a").to_string()), b"").unwrap();
    fs::write(done.join("stranger"), b"").unwrap();
    assert_eq!(get(&state, "b"), None);
    assert_eq!(get(&state, "a"), Some(record("a")), "an older one is still good");
    state.finish().unwrap();
    assert_eq!(get(&state, "b"), None);
    assert_eq!(get(&state, "a"), Some(record("a")));
}

#[test]
fn what_the_power_took_before_a_sync_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let done = dir.path().join("done");
    for (name, left) in [("a", &b""[..]), ("b", &[0; 100]), ("c", b"half")] {
        publish(&state, &record(name));
        fs::write(done.join(key(name).to_string()), left).unwrap();
        assert_eq!(get(&state, name), None);
    }
    state.finish().unwrap();
    assert!(files(&done).is_empty());
    let told = state.take_warnings();
    assert!(told.len() == 2 && told.iter().all(|w| w.contains(&key("c").to_string())), "{told:?}");
}

#[test]
fn a_damaged_database_is_mended_or_starts_anew() {
    for damage in ["CURRENT", "MANIFEST", "tables"] {
        let dir = tempfile::tempdir().unwrap();
        let records = dir.path().join("records-v1");
        let state = open(dir.path());
        for name in ["a", "b"] {
            publish(&state, &record(name));
            state.finish().unwrap();
        }
        drop(state);
        for name in files(&records) {
            let hit = match damage {
                "tables" => name.ends_with(".sst") || name.ends_with(".log"),
                prefix => name.starts_with(prefix),
            };
            if hit {
                fs::write(records.join(&name), b"this is not what should be here\n").unwrap();
            }
        }
        let state = open(dir.path());
        // Tables that can be read are listed again; what was in others is a miss.
        let left = (damage != "tables").then(|| record("a"));
        assert_eq!(get(&state, "a"), left, "{damage}");
        publish(&state, &record("c"));
        state.finish().unwrap();
        assert_eq!(get(&state, "c"), Some(record("c")), "{damage}");
        assert_eq!(get(&open(dir.path()), "c"), Some(record("c")), "{damage}");
        assert!(!state.take_warnings().is_empty(), "{damage}");
        assert!(files(&dir.path().join("trash")).is_empty(), "{damage}");
    }
}

#[test]
fn a_removed_database_is_a_miss() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    publish(&state, &record("a"));
    state.finish().unwrap();
    drop(state);
    fs::remove_dir_all(dir.path().join("records-v1")).unwrap();
    let state = open(dir.path());
    assert_eq!(get(&state, "a"), None);
    publish(&state, &record("b"));
    state.finish().unwrap();
    assert_eq!(get(&state, "b"), Some(record("b")));
}

#[test]
fn damaged_small_files_stop_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    publish(&state, &record("a"));
    drop(state);
    for name in ["watermark", "generation", "leases/0123456789abcdef"] {
        fs::write(dir.path().join(name), b"\xff\xfe garbage \0\n\n").unwrap();
    }
    let state = open(dir.path());
    assert_eq!(get(&state, "a"), Some(record("a")));
    state.finish().unwrap();
    assert_eq!(get(&state, "a"), Some(record("a")));
}

#[test]
fn many_folds_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    for n in 0..40 {
        publish(&state, &record(&n.to_string()));
        state.finish().unwrap();
    }
    let tables = files(&dir.path().join("records-v1"));
    assert!(tables.iter().filter(|n| n.ends_with(".sst")).count() < 20, "{tables:?}");
    assert!(!tables.iter().any(|n| n.starts_with("LOG")), "{tables:?}");
    for n in 0..40 {
        assert!(get(&state, &n.to_string()).is_some());
    }
}

#[test]
fn the_group_commit_comes_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let start = Instant::now();
    publish(&state, &record("a"));
    publish(&state, &record("b"));
    common::eventually(|| dir.path().join("watermark").exists());
    assert!(start.elapsed() >= Duration::from_millis(150), "it waits for company");
}

#[test]
fn the_directory_is_private_and_not_for_others() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("a/b/state");
    let state = open(&root);
    assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(state.root(), root.canonicalize().unwrap());
    let other = cache::Dialect { owner_uid: 1000, ..dialect() };
    assert!(cache::State::open(&root, &other).is_err());
}
