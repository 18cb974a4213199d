//! What a loss of power does to records: played by opening with another boot's identity.

use std::path::Path;
use std::time::Duration;

use super::*;

const ONE: Option<BootId> = Some(BootId([1; 16]));
const TWO: Option<BootId> = Some(BootId([2; 16]));

fn open(root: &Path, boot: Option<BootId>) -> State {
    let dialect = Dialect { whiteouts: "overlay-trusted".into(), owner_uid: 0 };
    State::open_in_boot(root, &dialect, boot).unwrap()
}

fn record(name: &str) -> Record {
    let id = KeyBuilder::new("test").part(name.as_bytes()).content_id();
    Record {
        key: ActionKey::from_bytes(*id.as_bytes()),
        content: id,
        payload: name.to_owned(),
        started: Timestamp::EPOCH,
        ended: Timestamp::EPOCH,
        duration: Duration::ZERO,
        name: name.to_owned(),
        inputs: Vec::new(),
    }
}

fn publish(state: &State, name: &str) {
    let record = record(name);
    let claim = state.claim(&record.key).unwrap().unwrap();
    state.publish(&*claim, &record).unwrap();
}

fn has(state: &State, name: &str) -> bool {
    state.get(&record(name).key, Timestamp::EPOCH).unwrap().is_some()
}

/// The files of a state directory as a loss of power would leave them: `state` never gets to its
/// end.
fn pull_the_plug(state: State, root: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["done", "records-v1"] {
        let Ok(entries) = fs::read_dir(root.join(name)) else { continue };
        fs::create_dir(copy.path().join(name)).unwrap();
        for entry in entries.flatten() {
            fs::copy(entry.path(), copy.path().join(name).join(entry.file_name())).unwrap();
        }
    }
    for name in ["watermark", "generation"] {
        let _ = fs::copy(root.join(name), copy.path().join(name));
    }
    drop(state);
    copy
}

#[test]
fn what_was_not_synced_is_gone_after_a_reboot() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path(), ONE);
    publish(&state, "synced");
    state.sync().unwrap();
    publish(&state, "not synced");
    state.put_fact("d", b"not synced", b"x").unwrap();
    assert!(has(&open(dir.path(), ONE), "not synced"), "a kill loses nothing");
    let left = pull_the_plug(state, dir.path());
    let next = open(left.path(), TWO);
    assert!(has(&next, "synced") && !has(&next, "not synced"));
    assert_eq!(next.get_fact("d", b"not synced"), None);
    next.finish().unwrap();
    assert_eq!(fs::read_dir(left.path().join("done")).unwrap().count(), 0);
    drop(next);
    // Not even the first boot's own identity brings it back.
    let again = open(left.path(), ONE);
    assert!(has(&again, "synced") && !has(&again, "not synced"));
}

#[test]
fn what_was_folded_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path(), ONE);
    publish(&state, "a");
    state.finish().unwrap();
    let left = pull_the_plug(state, dir.path());
    assert!(has(&open(left.path(), TWO), "a"));
}

#[test]
fn a_fold_takes_along_what_other_processes_published() {
    let dir = tempfile::tempdir().unwrap();
    let (state, other) = (open(dir.path(), ONE), open(dir.path(), ONE));
    publish(&other, "other");
    state.finish().unwrap();
    assert!(state.sync_count() >= 2, "it must sync for the other one");
    let left = pull_the_plug(other, dir.path());
    assert!(has(&open(left.path(), TWO), "other"));
}

#[test]
fn a_build_that_ends_early_still_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path(), ONE);
    publish(&state, "a");
    drop(state);
    assert!(has(&open(dir.path(), TWO), "a"));
}

#[test]
fn without_a_boot_identity_every_step_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path(), None);
    assert_eq!(state.warnings().len(), 1);
    publish(&state, "a");
    assert!(state.sync_count() >= 2);
    let left = pull_the_plug(state, dir.path());
    assert!(has(&open(left.path(), TWO), "a") && has(&open(left.path(), None), "a"));
}
