//! Steps that several processes want: their news, their failures, and who goes on for whom.

use std::time::{Duration, Instant};

use graph::Freshness;
use oci::Timestamp;
use solver::{Claim, Event, News, ProgressId, RecordStore, SolveError, Stream};

use crate::fake::{Act, Bench, PATIENCE, Spec, acts, make, record};

/// Waits until `seen` is true.
fn until(what: &str, seen: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !seen() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn output(text: &str, at: Timestamp) -> News<'static> {
    News::Output { stream: Stream::Stdout, at, data: text.as_bytes().to_vec().into() }
}

/// A time that is so many seconds after the start of the build.
fn after(bench: &Bench, seconds: i64) -> Timestamp {
    let since = bench.options.fresh_since;
    Timestamp { seconds: since.seconds + seconds, ..since }
}

/// The output of a vertex, and when it started and ended.
fn told(bench: &Bench, vertex: usize) -> (String, Option<Timestamp>, Option<Timestamp>) {
    let events = bench.seen.events.lock().unwrap();
    let own = |event: &Event| match event {
        Event::Vertex { id, name, .. } if *name == vertex.to_string() => Some(*id),
        _ => None,
    };
    let id: ProgressId = events.iter().find_map(own).unwrap();
    let (mut text, mut started, mut ended) = (String::new(), None, None);
    for event in events.iter() {
        match event {
            Event::Log { id: of, data, .. } if *of == id => {
                text.push_str(std::str::from_utf8(data).unwrap());
            }
            Event::Started { id: of, at } if *of == id => started = Some(*at),
            Event::Done { id: of, at } | Event::Failed { id: of, at, .. } if *of == id => {
                ended = Some(*at);
            }
            _ => {}
        }
    }
    (text, started, ended)
}

#[test]
fn what_another_process_tells_is_shown_from_the_start() {
    let bench = Bench::new(vec![make("shared", &[]), make("top", &[0])]);
    let key = bench.work.key(0, &[]);
    let held = bench.store.hold(key);
    let outlet = held.outlet();
    outlet.tell(&News::Started(after(&bench, 0)));
    outlet.tell(&output("one\n", after(&bench, 1)));
    std::thread::scope(|scope| {
        let solve = scope.spawn(|| bench.solve_last());
        until("the first line", || {
            bench.seen.story_count('S') == 1 && !told(&bench, 0).0.is_empty()
        });
        assert!(outlet.is_wanted());
        // The rest comes at once with the end.
        outlet.tell(&output("two\n", after(&bench, 2)));
        bench.store.publish(&held, &record(key, "made elsewhere", after(&bench, 3))).unwrap();
        drop(held);
        assert_eq!(solve.join().unwrap().unwrap().counts.cached, 1);
    });
    let (text, started, ended) = told(&bench, 0);
    assert_eq!(text, "one\ntwo\n");
    assert_eq!((started, ended), (Some(after(&bench, 0)), Some(after(&bench, 3))));
    assert_eq!((bench.story(0).as_str(), bench.work.ran()), ("VSD", vec![1]));
    assert!(!outlet.is_wanted());
}

#[test]
fn a_maker_that_dies_is_followed_by_one_of_those_who_wait() {
    let bench = Bench::new(vec![make("shared", &[])]);
    let held = bench.store.hold(bench.work.key(0, &[]));
    held.outlet().tell(&News::Started(after(&bench, 0)));
    held.outlet().tell(&output("half of it\n", after(&bench, 1)));
    std::thread::scope(|scope| {
        let solve = scope.spawn(|| bench.solve_last());
        until("its output", || bench.seen.story_count('S') == 1 && !told(&bench, 0).0.is_empty());
        drop(held);
        assert_eq!(solve.join().unwrap().unwrap().counts.ran, 1);
    });
    let (text, started, _) = told(&bench, 0);
    assert_eq!(text, "half of it\nthe other build could not finish it: it is run again\n");
    assert_eq!(started, Some(after(&bench, 0)), "people have waited since then");
    assert_eq!((bench.story(0).as_str(), bench.work.ran()), ("VSD", vec![0]));
}

#[test]
fn a_failure_counts_for_those_who_wait_if_they_say_so() {
    for (text, ran) in [("as there: no", vec![]), ("only there", vec![0])] {
        let bench = Bench::new(vec![make("shared", &[])]);
        let held = bench.store.hold(bench.work.key(0, &[]));
        let outlet = held.outlet();
        outlet.tell(&News::Started(after(&bench, 0)));
        outlet.tell(&output("on its way\n", after(&bench, 0)));
        outlet.tell(&News::Failed { at: after(&bench, 1), text: text.into() });
        std::thread::scope(|scope| {
            let solve = scope.spawn(|| bench.solve_last());
            until("its output", || {
                bench.seen.story_count('S') == 1 && !told(&bench, 0).0.is_empty()
            });
            drop(held);
            let solved = solve.join().unwrap();
            assert_eq!(solved.is_ok(), !ran.is_empty());
        });
        assert_eq!(bench.work.ran(), ran);
        let story = if ran.is_empty() { "VSF" } else { "VSD" };
        assert_eq!(bench.story(0), story);
        if ran.is_empty() {
            assert_eq!(told(&bench, 0).2, Some(after(&bench, 1)));
        }
    }
}

#[test]
fn a_run_that_is_too_old_is_neither_shown_nor_wanted() {
    let fresh = Spec { freshness: Freshness::Build, ..make("shared", &[]) };
    let bench = Bench::new(vec![fresh, make("other", &[])]);
    let held = bench.store.hold(bench.work.key(0, &[]));
    let outlet = held.outlet();
    outlet.tell(&output("early\n", after(&bench, -2)));
    outlet.tell(&News::Started(after(&bench, -1)));
    outlet.tell(&output("old\n", after(&bench, 0)));
    outlet.tell(&News::Failed { at: after(&bench, 0), text: "as there: old".into() });
    std::thread::scope(|scope| {
        let solve = scope.spawn(|| bench.solve(&[0, 1]));
        until("the other one", || bench.work.ran() == [1]);
        until("nobody wants it", || !outlet.is_wanted());
        drop(held);
        solve.join().unwrap().unwrap();
    });
    let (text, started, _) = told(&bench, 0);
    assert_eq!((text.as_str(), bench.work.ran()), ("", vec![0, 1]));
    assert!(started >= Some(bench.options.fresh_since));
}

#[test]
fn a_stopped_build_finishes_what_another_wants() {
    let bench = Bench::new(vec![
        acts("wanted", Act::Gate, &[]),
        acts("unwanted", Act::Gate, &[]),
        make("top", &[0, 1]),
    ]);
    let keys = [0, 1].map(|at| bench.work.key(at, &[]));
    std::thread::scope(|scope| {
        let solve = scope.spawn(|| bench.solve_last());
        until("both run", || bench.work.ran() == [0, 1]);
        let _other = bench.store.want(&keys[0]);
        bench.options.cancel.cancel();
        until("it says so", || bench.seen.story_count('N') == 1);
        bench.work.gate.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(matches!(solve.join().unwrap(), Err(SolveError::Cancelled)));
    });
    assert_eq!([0, 1, 2].map(|at| bench.story(at)), ["VSND", "VSX", ""]);
    let known = keys.map(|key| bench.store.get(&key, Timestamp::EPOCH).unwrap().is_some());
    assert_eq!(known, [true, false]);
}

#[test]
fn it_stops_when_the_last_one_has_gone() {
    let bench = Bench::new(vec![acts("wanted", Act::Gate, &[])]);
    let key = bench.work.key(0, &[]);
    std::thread::scope(|scope| {
        let solve = scope.spawn(|| bench.solve_last());
        until("it runs", || bench.work.ran() == [0]);
        let others = [bench.store.want(&key), bench.store.want(&key)];
        bench.options.cancel.cancel();
        until("it says so", || bench.seen.story_count('N') == 1);
        drop(others);
        assert!(matches!(solve.join().unwrap(), Err(SolveError::Cancelled)));
    });
    assert_eq!(bench.story(0), "VSNX");
    assert!(bench.store.nothing_claimed());
}

#[test]
fn a_failed_build_finishes_what_another_wants_until_it_is_asked_to_stop() {
    for ask in [false, true] {
        let bench = Bench::new(vec![
            acts("wanted", Act::Gate, &[]),
            Spec { sleep: Duration::from_millis(20), ..acts("bad", Act::Fail, &[]) },
        ]);
        let _other = bench.store.want(&bench.work.key(0, &[]));
        std::thread::scope(|scope| {
            let solve = scope.spawn(|| bench.solve(&[0, 1]));
            until("it says so", || bench.seen.story_count('N') == 1);
            match ask {
                true => bench.options.cancel.cancel(),
                false => bench.work.gate.store(true, std::sync::atomic::Ordering::SeqCst),
            }
            let error = solve.join().unwrap().unwrap_err();
            assert_eq!(error.to_string(), "1: bad exited\nwith 1");
        });
        assert_eq!(bench.story(0), if ask { "VSNX" } else { "VSND" });
        let asked = |event: &Event| matches!(event, Event::Finishing { asked: true, .. });
        assert!(!bench.seen.events.lock().unwrap().iter().any(asked));
    }
}

#[test]
fn what_goes_on_for_others_and_fails_is_not_at_fault() {
    let bench = Bench::new(vec![acts("wanted", Act::GateFail, &[])]);
    let mut other = None;
    std::thread::scope(|scope| {
        let solve = scope.spawn(|| bench.solve_last());
        until("it runs", || bench.work.ran() == [0]);
        other = Some(bench.store.want(&bench.work.key(0, &[])));
        bench.options.cancel.cancel();
        until("it says so", || bench.seen.story_count('N') == 1);
        bench.work.gate.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(matches!(solve.join().unwrap(), Err(SolveError::Cancelled)));
    });
    assert_eq!(bench.story(0), "VSNX");
    let failed = std::iter::from_fn(|| match other.as_mut()?.next() {
        Ok(solver::Followed::News(news)) => Some(news),
        _ => None,
    });
    assert!(failed.last().is_some_and(|news| matches!(news, News::Failed { .. })));
}

#[test]
fn who_follows_ends_with_its_build() {
    let bench = Bench::new(vec![make("shared", &[])]);
    let key = bench.work.key(0, &[]);
    let held = bench.store.hold(key);
    held.outlet().tell(&News::Started(after(&bench, 0)));
    std::thread::scope(|scope| {
        let solve = scope.spawn(|| bench.solve_last());
        until("it is shown", || bench.seen.story_count('S') == 1);
        bench.options.cancel.cancel();
        solve.join().unwrap().unwrap_err();
    });
    assert_eq!((bench.story(0).as_str(), bench.store.wanted(&key)), ("VSX", 0));
}
