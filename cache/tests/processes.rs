//! Several processes on one state directory, and processes that are killed.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::Child;
use std::time::{Duration, Instant};

use cache::Holding;
use common::{content, follow, get, key, open, publish, record, role, spawn};
use oci::Timestamp;
use solver::RecordStore;

const PROCESSES: usize = 8;
const WRITES: usize = 20;

/// Waits until the child says `word`.
fn await_word(child: &mut Child, word: &str) {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|l| l.unwrap().contains(word)), "the child ended");
    child.stdout = None;
}

#[test]
#[ignore = "a role that other tests start"]
fn writer() {
    let Some((root, id)) = role() else { return };
    let state = open(&root);
    for n in 0..WRITES {
        publish(&state, &record(&format!("{id}-{n}")));
        state.finish().unwrap();
    }
}

#[test]
fn no_write_of_many_processes_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let children: Vec<Child> =
        (0..PROCESSES).map(|id| spawn("writer", dir.path(), &id.to_string())).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let state = open(dir.path());
    for id in 0..PROCESSES {
        for n in 0..WRITES {
            let name = format!("{id}-{n}");
            assert_eq!(get(&state, &name), Some(record(&name)), "{name}");
        }
    }
}

#[test]
#[ignore = "a role that other tests start"]
fn solver() {
    let Some((root, id)) = role() else { return };
    let state = open(&root);
    for n in 0..WRITES {
        let name = n.to_string();
        loop {
            if let Some(record) = get(&state, &name) {
                println!("\nmade {n} {}", record.payload);
                break;
            }
            let Some(claim) = state.claim(&key(&name)).unwrap() else {
                follow(&state, &key(&name), Duration::from_secs(10));
                continue;
            };
            if get(&state, &name).is_none() {
                let payload = state.adopt(&content(&name), &id, &|_| true).unwrap();
                assert_eq!(payload, id, "somebody else made it, too");
                std::thread::sleep(Duration::from_millis(2));
                let record = solver::Record { payload, ..record(&name) };
                state.publish(&*claim, &record).unwrap();
            }
        }
        if n % 5 == 0 {
            state.finish().unwrap();
        }
    }
}

#[test]
fn each_step_is_run_by_one_process_only() {
    let dir = tempfile::tempdir().unwrap();
    let children: Vec<Child> =
        (0..4).map(|id| spawn("solver", dir.path(), &format!("p{id}"))).collect();
    let outputs: Vec<String> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            let text = String::from_utf8(output.stdout).unwrap();
            text.lines().filter(|l| l.starts_with("made ")).map(|l| format!("{l}\n")).collect()
        })
        .collect();
    assert!(!outputs[0].is_empty());
    for other in &outputs {
        assert_eq!(*other, outputs[0], "all saw the same makers");
    }
}

#[test]
#[ignore = "a role that other tests start"]
fn holder() {
    let Some((root, _)) = role() else { return };
    let state = open(&root);
    publish(&state, &record("done"));
    let _claim = state.claim(&key("held")).unwrap().unwrap();
    let _held = state.lease().hold(Holding::InProgress, "half-made").unwrap();
    println!("ready {}", state.lease().name());
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn what_a_killed_process_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = spawn("holder", dir.path(), "");
    await_word(&mut child, "ready");
    let state = open(dir.path());
    assert!(state.take_dead_leases().is_empty(), "it lives");
    assert!(state.claim(&key("held")).unwrap().is_none());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let (_, freed) = follow(&state, &key("held"), Duration::from_secs(20));
            (freed, Instant::now())
        });
        std::thread::sleep(Duration::from_millis(20));
        let killed = Instant::now();
        child.kill().unwrap();
        child.wait().unwrap();
        let (freed, at) = waiting.join().unwrap();
        assert!(freed && at > killed);
    });
    assert!(state.claim(&key("held")).unwrap().is_some());
    assert_eq!(get(&state, "done"), Some(record("done")), "what was published stays");
    let next = open(dir.path());
    let dead = next.take_dead_leases();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].held(Holding::InProgress).collect::<Vec<_>>(), ["half-made"]);
    for lease in dead {
        lease.clear().unwrap();
    }
    // The record moves into the database at the end of whatever build comes next.
    next.finish().unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("done")).unwrap().count(), 0);
    assert_eq!(next.get(&key("done"), Timestamp::EPOCH).unwrap(), Some(record("done")));
}

#[test]
#[ignore = "a role that other tests start"]
fn steps() {
    let Some((root, id)) = role() else { return };
    let state = open(&root);
    for n in 0.. {
        let name = format!("{id}-{n}");
        publish(&state, &record(&name));
        println!("\nDONE {name}");
        if n % 3 == 0 {
            state.finish().unwrap();
        }
    }
}

#[test]
fn a_step_that_was_shown_as_done_survives_any_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut done = Vec::new();
    for round in 0..24 {
        let mut child = spawn("steps", dir.path(), &round.to_string());
        let mut shown = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        // All but every eighth have shown something before they are killed.
        while round % 8 != 0 && !text.contains("DONE") {
            assert_ne!(shown.read_line(&mut text).unwrap(), 0, "the child ended");
        }
        std::thread::sleep(Duration::from_millis(2 + 7 * (round % 8)));
        child.kill().unwrap();
        child.wait().unwrap();
        shown.read_to_string(&mut text).unwrap();
        // A last line without an end may not have been shown in full.
        let lines = text.split_inclusive('\n').filter_map(|l| l.strip_suffix('\n'));
        done.extend(lines.filter_map(|l| l.strip_prefix("DONE ")).map(str::to_owned));
        let state = open(dir.path());
        for name in &done {
            assert_eq!(get(&state, name), Some(record(name)), "{name}");
        }
        if round % 5 == 0 {
            state.finish().unwrap();
        }
        assert_eq!(state.take_warnings(), Vec::<String>::new());
    }
    assert!(done.len() >= 21, "{}", done.len());
    let state = open(dir.path());
    state.finish().unwrap();
    assert!(state.claim(&key("1-0")).unwrap().is_some());
    for name in &done {
        assert_eq!(get(&state, name), Some(record(name)), "{name}");
    }
}
