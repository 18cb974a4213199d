//! Prints what the promises of speed are about. Started by hand:
//! `cargo test -p cache --test measure -- --ignored --nocapture`.

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use cache::Everything;
use oci::layer::TreePath;
use solver::RecordStore;

const ROUNDS: usize = 15;

fn median(mut run: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[ROUNDS / 2]
}

#[test]
#[ignore = "prints times"]
fn an_unchanged_build() {
    let dir = tempfile::tempdir().unwrap();
    let state = common::open(dir.path());
    for n in 0..100 {
        common::publish(&state, &common::record(&n.to_string()));
    }
    let start = Instant::now();
    state.finish().unwrap();
    println!("finish with 100 records: {:?}", start.elapsed());
    drop(state);
    let time = median(|| {
        let state = common::open(dir.path());
        for n in 0..100 {
            assert!(common::get(&state, &n.to_string()).is_some());
        }
        state.finish().unwrap();
    });
    println!("open, 100 gets, finish, close: {time:?}");
    println!("open, finish, close: {:?}", median(|| common::open(dir.path()).finish().unwrap()));
    let state = common::open(dir.path());
    let mut n = 100;
    let time = median(|| {
        common::publish(&state, &common::record(&n.to_string()));
        n += 1;
    });
    println!("claim and publish: {time:?}");
    let time = median(|| {
        common::publish(&state, &common::record(&n.to_string()));
        state.finish().unwrap();
        n += 1;
    });
    println!("claim, publish, finish: {time:?}");
}

#[test]
#[ignore = "prints times"]
fn handing_over() {
    let dir = tempfile::tempdir().unwrap();
    let (maker, waiter) = (common::open(dir.path()), common::open(dir.path()));
    let mut watch = waiter.watch().unwrap();
    let (freed, mut times) = (std::sync::Mutex::new(Instant::now()), Vec::new());
    for n in 0..ROUNDS {
        let record = common::record(&format!("step {n}"));
        let claim = maker.claim(&record.key).unwrap().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                assert!(common::follow_by(&mut *watch, &record.key, Duration::from_secs(10)).1);
                let found = waiter.get(&record.key, oci::Timestamp::EPOCH).unwrap();
                (found.is_some(), Instant::now())
            });
            common::eventually(|| claim.outlet().is_wanted());
            std::thread::sleep(Duration::from_millis(5));
            maker.publish(&*claim, &record).unwrap();
            *freed.lock().unwrap() = Instant::now();
            drop(claim);
            let (found, at) = waiting.join().unwrap();
            assert!(found);
            times.push(at.saturating_duration_since(*freed.lock().unwrap()));
        });
    }
    times.sort();
    println!(
        "from the end of a claim to the record elsewhere: {:?}, at most {:?}",
        times[ROUNDS / 2],
        times[ROUNDS - 1]
    );
}

fn tree(dir: &Path, directories: usize, files: usize) {
    for d in 0..directories {
        let dir = dir.join(format!("package{}/sub{d}", d % 37));
        fs::create_dir_all(&dir).unwrap();
        for f in 0..files {
            fs::write(dir.join(format!("file{f}.rs")), format!("{d} {f}").repeat(20)).unwrap();
        }
    }
}

#[test]
#[ignore = "prints times"]
fn known_contexts() {
    for (directories, files) in [(10, 20), (1000, 20)] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        tree(&root, directories, files);
        std::thread::sleep(Duration::from_millis(50));
        let state = common::open(&dir.path().join("state"));
        let scan = || {
            let context = state.contexts().open(&root).unwrap();
            context.walk(&TreePath::root(), &Everything).unwrap();
            context.save().unwrap();
            context.stats()
        };
        let start = Instant::now();
        let stats = scan();
        println!("first scan: {:?}, {stats:?}", start.elapsed());
        let time = median(|| assert_eq!(scan().hashed_files, 0));
        println!("known scan of {} files: {time:?}", directories * files);
    }
}

#[test]
#[ignore = "prints times"]
fn many_records() {
    let dir = tempfile::tempdir().unwrap();
    let state = common::open(dir.path());
    let begun = Instant::now();
    for n in 0..100_000u32 {
        state.put_fact("many", &n.to_le_bytes(), &[7; 300]).unwrap();
    }
    println!("publish 100,000: {:?}", begun.elapsed());
    let begun = Instant::now();
    state.finish().unwrap();
    println!("fold them: {:?}, {} bytes", begun.elapsed(), state.records_size());
    drop(state);
    let open = median(|| {
        let state = common::open(dir.path());
        assert!(state.get_fact("many", &5u32.to_le_bytes()).is_some());
    });
    println!("open, get, close with 100,000: {open:?}");
}
