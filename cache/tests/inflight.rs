//! Steps that run in one process and are wanted by others.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Child;
use std::sync::Barrier;
use std::time::Duration;

use common::{eventually, follow, get, key, open, record, role, spawn};
use oci::Timestamp;
use solver::{News, RecordStore, Stream};

/// Longer than any test should take.
const PATIENCE: Duration = Duration::from_secs(60);
const FOLLOWERS: usize = 5;
/// Lines that a maker tells, 1 MB of them.
const LINES: usize = 40_000;

fn line(n: usize) -> String {
    format!("line {n:>8} of the output\n")
}

fn output(text: String) -> News<'static> {
    News::Output {
        stream: Stream::Stdout,
        at: Timestamp::from_seconds(7),
        data: text.into_bytes().into(),
    }
}

/// What was told of output, in one piece.
fn text(news: &[News<'_>]) -> String {
    let output = |news: &News<'_>| match news {
        News::Output { data, .. } => String::from_utf8_lossy(data).into_owned(),
        _ => String::new(),
    };
    news.iter().map(output).collect()
}

fn entries(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().flatten();
    let names = entries.map(|e| e.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.len() >= 64).collect()
}

/// Starts a process that makes the step `key("step")`, and waits until it has claimed it.
fn maker(root: &Path, how: &str) -> Child {
    let mut child = spawn("making", root, how);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|l| l.unwrap().contains("claimed")), "the child ended");
    // Else it could not write any more.
    std::thread::spawn(move || lines.count());
    child
}

#[test]
#[ignore = "a role that other tests start"]
fn making() {
    let Some((root, how)) = role() else { return };
    let state = open(&root);
    let claim = state.claim(&key("step")).unwrap().unwrap();
    let outlet = claim.outlet();
    outlet.tell(&News::Started(Timestamp::from_seconds(5)));
    println!("\nclaimed");
    eventually(|| outlet.is_wanted());
    for n in 0..LINES {
        outlet.tell(&output(line(n)));
    }
    if how == "hangs" {
        println!("told");
        std::thread::sleep(PATIENCE);
    }
    state.publish(&*claim, &record("step")).unwrap();
}

#[test]
fn everybody_gets_all_of_it_at_full_speed() {
    let dir = tempfile::tempdir().unwrap();
    let whole: String = (0..LINES).map(line).collect();
    assert!(whole.len() > 1 << 20);
    let mut child = maker(dir.path(), "ends");
    std::thread::scope(|scope| {
        for _ in 0..FOLLOWERS {
            scope.spawn(|| {
                let state = open(dir.path());
                let (news, over) = follow(&state, &key("step"), PATIENCE);
                assert!(over);
                assert_eq!(news[0], News::Started(Timestamp::from_seconds(5)));
                assert!(text(&news) == whole, "{} bytes", text(&news).len());
                assert_eq!(get(&state, "step"), Some(record("step")));
            });
        }
    });
    assert!(child.wait().unwrap().success());
    for bucket in ["locks", "inflight"] {
        assert_eq!(entries(&dir.path().join(bucket)), Vec::<String>::new(), "{bucket}");
    }
}

#[test]
fn of_a_killed_maker_one_takes_over_and_the_others_follow_that() {
    let dir = tempfile::tempdir().unwrap();
    let whole: String = (0..LINES).map(line).collect();
    let mut child = maker(dir.path(), "hangs");
    let all_heard = Barrier::new(FOLLOWERS + 1);
    let claimed = Barrier::new(FOLLOWERS);
    std::thread::scope(|scope| {
        let follower = || {
            let state = open(dir.path());
            let mut watch = state.watch().unwrap();
            let mut run = watch.follow(&key("step")).unwrap();
            let mut heard = String::new();
            while heard.len() < whole.len() {
                match run.next().unwrap() {
                    solver::Followed::News(news) => heard.push_str(&text(&[news])),
                    solver::Followed::Nothing => watch.sleep(PATIENCE),
                    solver::Followed::Over => panic!("it lives"),
                }
            }
            all_heard.wait();
            loop {
                match run.next().unwrap() {
                    solver::Followed::News(news) => panic!("{news:?}"),
                    solver::Followed::Nothing => watch.sleep(PATIENCE),
                    solver::Followed::Over => break,
                }
            }
            assert!(heard == whole && get(&state, "step").is_none());
            let claim = state.claim(&key("step")).unwrap();
            claimed.wait();
            match claim {
                Some(claim) => {
                    let outlet = claim.outlet();
                    outlet.tell(&News::Started(Timestamp::from_seconds(6)));
                    outlet.tell(&output("again\n".to_owned()));
                    eventually(|| outlet.is_wanted());
                    state.publish(&*claim, &record("step")).unwrap();
                    true
                }
                None => {
                    let (news, over) = follow(&state, &key("step"), PATIENCE);
                    // Whoever came after its end has nothing to follow.
                    assert!(over && ["again\n", ""].contains(&text(&news).as_str()));
                    assert_eq!(get(&state, "step"), Some(record("step")));
                    false
                }
            }
        };
        let followers: Vec<_> = (0..FOLLOWERS).map(|_| scope.spawn(follower)).collect();
        all_heard.wait();
        child.kill().unwrap();
        child.wait().unwrap();
        let took_over = followers.into_iter().map(|f| f.join().unwrap());
        assert_eq!(took_over.filter(|took| *took).count(), 1);
    });
    for bucket in ["locks", "inflight"] {
        assert_eq!(entries(&dir.path().join(bucket)), Vec::<String>::new(), "{bucket}");
    }
}

#[test]
fn wanting_is_seen_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (state, other) = (open(dir.path()), open(dir.path()));
    let claim = state.claim(&key("a")).unwrap().unwrap();
    let outlet = claim.outlet();
    assert!(!outlet.is_wanted());
    let mut watch = other.watch().unwrap();
    let mut runs = [watch.follow(&key("a")).unwrap(), watch.follow(&key("a")).unwrap()];
    assert!(outlet.is_wanted());
    runs[0].decline();
    assert!(outlet.is_wanted());
    drop(runs);
    assert!(!outlet.is_wanted());
    // What nobody runs is not wanted of anybody.
    drop(watch.follow(&key("b")).unwrap());
    assert_eq!(entries(&dir.path().join("inflight")), Vec::<String>::new());
    drop(claim);
    outlet.tell(&output("too late".to_owned()));
    assert_eq!(follow(&other, &key("a"), PATIENCE), (Vec::new(), true));
}

#[test]
fn a_sleep_can_be_ended() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let mut watch = state.watch().unwrap();
    let waker = watch.waker();
    waker();
    watch.sleep(PATIENCE);
    std::thread::scope(|scope| {
        scope.spawn(|| watch.sleep(PATIENCE));
        waker();
    });
}
