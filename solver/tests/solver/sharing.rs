//! Equal keys: inside one build, and between processes.

use std::time::Duration;

use graph::Freshness;
use oci::Timestamp;
use solver::{Counts, RecordStore};

use crate::fake::{Act, Bench, Spec, acts, content, make, record};

fn slowly(spec: Spec) -> Spec {
    Spec { sleep: Duration::from_millis(40), ..spec }
}

#[test]
fn equal_keys_run_once() {
    let bench = Bench::new(vec![
        slowly(make("same", &[])),
        slowly(make("same", &[])),
        slowly(make("same", &[])),
        make("all", &[0, 1, 2]),
    ]);
    let solution = bench.solve_last().unwrap();
    assert_eq!(solution.counts, Counts { ran: 2, cached: 2, ready: 0 });
    assert_eq!(bench.work.runs.lock().unwrap().len(), 2);
    let ends: Vec<_> = solution.steps[..3].iter().map(|s| (s.key, s.content, s.ended)).collect();
    assert!(ends.iter().all(|end| *end == ends[0]));
}

#[test]
fn a_follower_of_a_failed_step_does_not_start() {
    let bench = Bench::new(vec![
        slowly(acts("same", Act::Fail, &[])),
        slowly(acts("same", Act::Fail, &[])),
    ]);
    bench.solve(&[0, 1]).unwrap_err();
    assert_eq!(bench.work.runs.lock().unwrap().len(), 1);
    let mut stories = [bench.story(0), bench.story(1)];
    stories.sort();
    assert_eq!(stories, ["V", "VSF"]);
}

#[test]
fn a_key_held_elsewhere_is_awaited_and_hit() {
    let bench = Bench::new(vec![make("shared", &[]), make("other", &[]), make("top", &[0, 1])]);
    let bench = bench.jobs(1);
    let key = bench.work.key(0, &[]);
    let held = bench.store.hold(key);
    let solution = std::thread::scope(|scope| {
        let solve = scope.spawn(|| bench.solve_last());
        // The only job slot is free for the other vertex meanwhile.
        while bench.work.ran() != [1] {
            std::thread::sleep(Duration::from_millis(1));
        }
        let made = record(key, "made elsewhere", Timestamp::now());
        bench.store.publish(&held, &made).unwrap();
        drop(held);
        solve.join().unwrap().unwrap()
    });
    assert_eq!(solution.steps[0].content, Some(content(&["made elsewhere"])));
    assert_eq!(bench.work.ran(), [1, 2]);
    assert_eq!(bench.story(0), "VC");
}

#[test]
fn a_record_published_between_look_and_claim_is_hit() {
    let bench = Bench::new(vec![make("shared", &[])]);
    let late = record(bench.work.key(0, &[]), "made elsewhere", Timestamp::now());
    *bench.store.late.lock().unwrap() = Some(late);
    assert_eq!(bench.solve_last().unwrap().counts, Counts { ran: 0, cached: 1, ready: 0 });
    assert_eq!(bench.story(0), "VC");
    assert!(bench.store.nothing_claimed());
}

#[test]
fn a_holder_that_dies_leaves_the_step_to_us() {
    let bench = Bench::new(vec![make("shared", &[]), make("other", &[]), make("top", &[0, 1])]);
    let held = bench.store.hold(bench.work.key(0, &[]));
    std::thread::scope(|scope| {
        let solve = scope.spawn(|| bench.solve_last());
        while bench.work.ran() != [1] {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(held);
        assert_eq!(solve.join().unwrap().unwrap().counts.ran, 3);
    });
    assert_eq!((bench.work.ran(), bench.story(0).as_str()), (vec![0, 1, 2], "VSD"));
}

#[test]
fn waiting_for_another_process_ends_with_the_build() {
    let bench = Bench::new(vec![make("shared", &[]), make("other", &[])]);
    let _held = bench.store.hold(bench.work.key(0, &[]));
    std::thread::scope(|scope| {
        let solve = scope.spawn(|| bench.solve(&[0, 1]));
        while bench.work.ran() != [1] {
            std::thread::sleep(Duration::from_millis(1));
        }
        bench.options.cancel.cancel();
        solve.join().unwrap().unwrap_err();
    });
    assert_eq!(bench.story(0), "V");
}

#[test]
fn ignoring_the_cache_means_ignoring_what_is_older() {
    let fresh = |label: &str| Spec { freshness: Freshness::Build, ..make(label, &[]) };
    let bench = Bench::new(vec![fresh("old"), fresh("new"), make("old", &[])]);
    let since = bench.options.fresh_since;
    let old = Timestamp { seconds: since.seconds - 1, ..since };
    bench.store.put(record(bench.work.key(0, &[]), "old", old));
    bench.store.put(record(bench.work.key(1, &[]), "new", since));
    let solution = bench.solve(&[0, 1]).unwrap();
    assert_eq!(bench.work.ran(), [0]);
    assert_eq!(solution.steps[1].content, Some(content(&["new"])));
    // It replaced the old record.
    let key = bench.work.key(0, &[]);
    assert!(bench.store.get(&key, since).unwrap().is_some());
}

#[test]
fn a_result_may_be_as_old_as_its_vertex_allows() {
    let aged = |label: &str, seconds: u64| Spec {
        freshness: Freshness::MaxAge(Duration::from_secs(seconds)),
        ..make(label, &[])
    };
    let specs = vec![
        aged("exactly as old", 60),
        aged("older", 60),
        aged("of this build", 0),
        aged("from before it", 0),
        aged("younger than the clock", u64::MAX),
    ];
    let bench = Bench::new(specs);
    let since = bench.options.fresh_since;
    let ago = |seconds: u64, nanos| {
        Timestamp::from(since.to_system_time().unwrap() - Duration::new(seconds, nanos))
    };
    let times = [ago(60, 0), ago(60, 1), since, ago(0, 1), Timestamp::EPOCH];
    for (at, started) in times.into_iter().enumerate() {
        bench.store.put(record(bench.work.key(at, &[]), &format!("{at}"), started));
    }
    bench.solve(&[0, 1, 2, 3, 4]).unwrap();
    let mut ran = bench.work.ran();
    ran.sort_unstable();
    assert_eq!(ran, [1, 3]);
    // What ran replaced its record.
    for at in [1, 3] {
        assert!(bench.store.get(&bench.work.key(at, &[]), since).unwrap().is_some());
    }
}

#[test]
fn a_refresh_that_changes_nothing_costs_only_itself() {
    let specs = |freshness| {
        vec![
            Spec { freshness, ..acts("list", Act::MakeFixed("list"), &[]) },
            make("use", &[0]),
            make("more", &[1]),
        ]
    };
    let bench = Bench::new(specs(Freshness::Any));
    bench.solve(&[2]).unwrap();
    let next = bench.next(specs(Freshness::MaxAge(Duration::ZERO)));
    next.solve(&[2]).unwrap();
    assert_eq!(next.work.ran(), [0]);
}

#[test]
fn a_follower_does_not_accept_a_result_that_is_too_old_for_it() {
    // The leader, a plain vertex, waits for a key that is held elsewhere; an equal vertex that
    // wants it fresh follows. What comes out is older than that.
    let specs = vec![
        make("same", &[]),
        slowly(make("gate", &[])),
        Spec { freshness: Freshness::Build, inputs: vec![], ..make("same", &[]) },
    ];
    let bench = Bench::new(specs).jobs(2);
    let key = bench.work.key(0, &[]);
    let held = bench.store.hold(key);
    let since = bench.options.fresh_since;
    let old = Timestamp { seconds: since.seconds - 5, ..since };
    std::thread::scope(|scope| {
        let solve = scope.spawn(|| bench.solve(&[0, 1, 2]));
        while bench.seen.story_count('D') == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        bench.store.put(record(key, "old", old));
        drop(held);
        solve.join().unwrap().unwrap();
    });
    assert_eq!(bench.work.ran(), [1, 2]);
    assert_eq!((bench.story(0).as_str(), bench.story(2).as_str()), ("VC", "VSD"));
}
