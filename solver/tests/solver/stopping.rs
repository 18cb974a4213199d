//! Failures, panics and cancelling.

use std::time::Duration;

use graph::VertexIndex;
use solver::{Event, SolveError};

use crate::fake::{Act, Bench, Memory, Spec, acts, make};

#[test]
fn the_first_failure_stops_the_rest_and_is_the_cause() {
    let fail = Spec { sleep: Duration::from_millis(20), ..acts("bad", Act::Fail, &[]) };
    let bench = Bench::new(vec![
        acts("hangs", Act::Hang, &[]),
        fail,
        make("after", &[1]),
        make("top", &[0, 2]),
    ]);
    let error = bench.solve_last().unwrap_err();
    match &error {
        SolveError::Failed { vertex, name, source } => {
            assert_eq!((*vertex, name.as_str()), (VertexIndex(1), "1"));
            assert_eq!(source.to_string(), "bad exited\nwith 1");
        }
        other => panic!("{other:?}"),
    }
    let stories = [0, 1, 2, 3].map(|at| bench.story(at));
    assert_eq!(stories, ["VSX", "VSF", "", ""]);
    assert!(bench.store.records().is_empty() && bench.store.nothing_claimed());
    assert!(!bench.options.cancel.is_cancelled(), "the caller's token is the caller's");
}

#[test]
fn a_queued_step_is_not_started_after_a_failure() {
    let specs = (0..8).map(|at| acts(&at.to_string(), Act::Fail, &[]));
    let bench = Bench::new(specs.collect()).jobs(1);
    bench.solve(&(0..8).collect::<Vec<_>>()).unwrap_err();
    assert_eq!(bench.work.runs.lock().unwrap().len(), 1);
}

#[test]
fn what_cannot_be_described_fails() {
    let bench = Bench::new(vec![acts("missing", Act::FailDescribe, &[]), make("top", &[0])]);
    let error = bench.solve_last().unwrap_err();
    assert_eq!(error.to_string(), "0: no such file");
    assert_eq!((bench.story(0).as_str(), bench.story(1).as_str()), ("VSF", ""));
}

#[test]
fn cancelling_stops_what_runs() {
    let bench = Bench::new(vec![acts("hangs", Act::Hang, &[]), make("top", &[0])]);
    std::thread::scope(|scope| {
        let solve = scope.spawn(|| bench.solve_last());
        while bench.work.ran().is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        bench.options.cancel.cancel();
        assert!(matches!(solve.join().unwrap(), Err(SolveError::Cancelled)));
    });
    assert_eq!((bench.story(0).as_str(), bench.story(1).as_str()), ("VSX", ""));
}

#[test]
fn cancelled_before_it_began() {
    let bench = Bench::new(vec![make("base", &[]), make("top", &[0])]);
    bench.options.cancel.cancel();
    assert!(matches!(bench.solve_last(), Err(SolveError::Cancelled)));
    assert!(bench.work.ran().is_empty() && bench.seen.events.lock().unwrap().is_empty());
}

#[test]
fn a_panic_is_a_failure_of_its_step() {
    for act in [Act::Panic, Act::PanicDescribe] {
        let bench = Bench::new(vec![acts("bug", act, &[]), make("top", &[0])]);
        let error = bench.solve_last().unwrap_err().to_string();
        assert!(error.starts_with("0: internal error, please report it: bad index in"), "{error}");
        assert_eq!(bench.story(0), "VSF");
        assert!(bench.store.nothing_claimed(), "the claim went with the panic");
    }
}

#[test]
fn a_record_that_cannot_be_written_fails_the_build() {
    let bench = Bench::with(vec![make("base", &[]), make("top", &[0])], Memory::unwritable());
    let error = bench.solve_last().unwrap_err();
    assert!(matches!(error, SolveError::Store(_)), "{error:?}");
    assert_eq!((bench.story(0).as_str(), bench.work.ran()), ("VSF", vec![0]));
    let events = bench.seen.events.lock().unwrap();
    let shown = |event: &Event| match event {
        Event::Failed { error, .. } => Some(error.clone()),
        _ => None,
    };
    let text = events.iter().find_map(shown).unwrap();
    assert_eq!(text, "cannot write a record in the build cache: disk is full");
}

#[test]
fn a_store_that_cannot_be_read_fails_the_build() {
    let bench = Bench::with(vec![make("base", &[])], Memory::unreadable());
    assert!(matches!(bench.solve_last(), Err(SolveError::Store(_))));
    assert!(bench.work.ran().is_empty());
}
