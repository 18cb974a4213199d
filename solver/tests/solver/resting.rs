//! Steps that wait for something that others hold, and let others have their job slots.

use std::sync::atomic::Ordering;
use std::time::Duration;

use solver::SolveError;

use crate::fake::{Act, Bench, acts, make};

#[test]
fn what_rests_keeps_nobody_from_running() {
    for jobs in 1..4 {
        // Three that rest, of the lowest indexes, and a chain whose end they wait for.
        let rest = |at: &str| acts(at, Act::Rest, &[]);
        let chain = [make("one", &[]), make("two", &[3]), acts("open", Act::Open, &[4])];
        let last = make("top", &[0, 1, 2, 5]);
        let specs = [rest("a"), rest("b"), rest("c")].into_iter().chain(chain).chain([last]);
        let bench = Bench::new(specs.collect()).jobs(jobs);
        let solution = bench.solve_last().unwrap();
        assert_eq!(solution.counts.ran, 7);
        let most = bench.work.most_running.load(Ordering::SeqCst);
        assert!(most <= jobs, "{most} of {jobs}");
        assert!(bench.store.nothing_claimed());
    }
}

#[test]
fn cancelling_stops_what_rests() {
    for jobs in 1..3 {
        let specs = vec![
            acts("rests", Act::Rest, &[]),
            acts("occupies", Act::Occupy(1), &[]),
            make("top", &[0, 1]),
        ];
        let bench = Bench::new(specs).jobs(jobs);
        std::thread::scope(|scope| {
            let solve = scope.spawn(|| bench.solve_last());
            // With one slot, the first has to let the second have it, which keeps it.
            while bench.work.ran().len() < 2 {
                std::thread::sleep(Duration::from_millis(1));
            }
            bench.options.cancel.cancel();
            assert!(matches!(solve.join().unwrap(), Err(SolveError::Cancelled)));
        });
        assert_eq!([0, 1, 2].map(|at| bench.story(at)), ["VSX", "VSX", ""]);
        assert!(bench.store.nothing_claimed());
    }
}

#[test]
fn a_failure_stops_what_rests() {
    let specs =
        vec![acts("rests", Act::Rest, &[]), acts("bad", Act::Fail, &[]), make("top", &[0, 1])];
    let bench = Bench::new(specs).jobs(1);
    let error = bench.solve_last().unwrap_err().to_string();
    assert!(error.starts_with("1: bad exited"), "{error}");
    assert_eq!([0, 1, 2].map(|at| bench.story(at)), ["VSX", "VSF", ""]);
}

#[test]
fn what_rests_and_is_wanted_goes_on_when_the_build_is_stopped() {
    let specs = vec![
        acts("rests", Act::Rest, &[]),
        acts("occupies", Act::Occupy(1), &[]),
        make("top", &[0, 1]),
    ];
    let bench = Bench::new(specs).jobs(1);
    let key = bench.work.key(0, &[]);
    std::thread::scope(|scope| {
        let solve = scope.spawn(|| bench.solve_last());
        while bench.work.ran().len() < 2 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let wants = bench.store.want(&key);
        bench.options.cancel.cancel();
        while bench.seen.story_count('N') == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        bench.work.gate.store(true, Ordering::SeqCst);
        assert!(matches!(solve.join().unwrap(), Err(SolveError::Cancelled)));
        drop(wants);
    });
    assert_eq!([0, 1, 2].map(|at| bench.story(at)), ["VSND", "VSX", ""]);
    assert_eq!(bench.store.records().len(), 1);
}
