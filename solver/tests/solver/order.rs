//! What runs, in which order, how much at once, and what need not run.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use oci::Timestamp;
use solver::{Counts, Event, Outcome};

use crate::fake::{Act, Bench, Spec, acts, make};

#[test]
fn inputs_come_first_and_the_rest_does_not_come() {
    let bench = Bench::new(vec![
        make("base", &[]),
        make("left", &[0]),
        make("right", &[0]),
        acts("unneeded", Act::Fail, &[0]),
        make("join", &[1, 2, 1]),
    ]);
    let solution = bench.solve(&[4, 1]).unwrap();
    assert_eq!(solution.outputs.len(), 2);
    assert_eq!(solution.counts, Counts { ran: 4, cached: 0, ready: 0 });
    let vertices: Vec<_> = solution.steps.iter().map(|step| step.vertex.0).collect();
    assert_eq!(vertices, [0, 1, 2, 4]);
    assert_eq!(solution.steps[3].content, Some(solution.outputs[0].0));
    let runs = bench.work.runs.lock().unwrap().clone();
    assert_eq!((runs[0], runs[3]), (0, 4));
    let announced = bench.seen.announced();
    assert_eq!((announced[0].as_str(), announced[3].as_str()), ("0", "4"));
    assert!(bench.store.nothing_claimed());
}

#[test]
fn records_tell_what_was_done() {
    let before = Timestamp::now();
    let bench = Bench::new(vec![make("base", &[]), make("top", &[0])]);
    let solution = bench.solve_last().unwrap();
    let records = bench.store.records();
    let step = &solution.steps[1];
    let record = records.iter().find(|record| Some(record.key) == step.key).unwrap();
    assert_eq!((record.name.as_str(), record.ended), ("1", step.ended));
    assert_eq!(record.inputs, [("label".to_owned(), "top".to_owned())]);
    assert!(before <= record.started && record.started <= record.ended);

    let again = Bench::with(bench.work.specs.clone(), bench.store);
    let cached = again.solve_last().unwrap();
    assert_eq!(cached.steps[1].ended, step.ended, "the time of the making");
    assert_eq!(cached.counts, Counts { ran: 0, cached: 2, ready: 0 });
    assert_eq!(cached.outputs, solution.outputs);
    assert_eq!(again.story(1), "VC");
}

#[test]
fn done_is_told_after_the_record_exists() {
    let bench = Bench::new(vec![make("only", &[])]);
    let solution = bench.solve_last().unwrap();
    assert_eq!(bench.story(0), "VSD");
    let events = bench.seen.events.lock().unwrap();
    let done = events.iter().find_map(|event| match event {
        Event::Done { at, .. } => Some(*at),
        _ => None,
    });
    assert!(done.unwrap() >= solution.steps[0].ended);
    assert!(matches!(solution.steps[0].outcome, Outcome::Ran { .. }));
}

#[test]
fn what_is_at_hand_needs_no_record() {
    let bench = Bench::new(vec![acts("context", Act::Ready, &[]), make("copy", &[0])]);
    let solution = bench.solve_last().unwrap();
    assert_eq!(solution.steps[0].outcome, Outcome::Ready);
    assert_eq!((solution.steps[0].content, solution.steps[0].key), (None, None));
    assert_eq!((bench.story(0).as_str(), bench.work.ran()), ("VSD", vec![1]));
}

#[test]
fn no_more_run_at_once_than_allowed() {
    for jobs in [1, 3] {
        let sleep = Duration::from_millis(5);
        let specs = (0..9).map(|at| Spec { sleep, ..make(&at.to_string(), &[]) });
        let bench = Bench::new(specs.collect()).jobs(jobs);
        bench.solve(&(0..9).collect::<Vec<_>>()).unwrap();
        assert!(bench.work.most_running.load(Ordering::SeqCst) <= jobs);
    }
}

#[test]
fn as_many_run_at_once_as_allowed() {
    let specs = (0..5).map(|at| acts(&at.to_string(), Act::Meet(3), &[]));
    let bench = Bench::new(specs.collect()).jobs(3);
    assert_eq!(bench.solve(&[0, 1, 2, 3, 4]).unwrap().counts.ran, 5);
    assert_eq!(bench.work.most_running.load(Ordering::SeqCst), 3);
}

#[test]
fn one_job_is_enough_for_any_graph() {
    let specs = (0..40).map(|at| match at {
        0 => make("0", &[]),
        _ => make(&at.to_string(), &[at - 1, at / 2]),
    });
    let bench = Bench::new(specs.collect()).jobs(1);
    assert_eq!(bench.solve_last().unwrap().counts.ran, 40);
}

#[test]
fn equal_results_cut_a_rebuild_off() {
    let specs =
        |label: &str| vec![acts(label, Act::MakeFixed("the same"), &[]), make("after", &[0])];
    let first = Bench::new(specs("one"));
    first.solve_last().unwrap();
    let second = first.next(specs("two"));
    assert_eq!(second.solve_last().unwrap().counts, Counts { ran: 1, cached: 1, ready: 0 });
    assert_eq!(second.work.ran(), [0]);
}

#[test]
fn vanished_data_is_a_miss() {
    let specs = vec![make("base", &[]), make("top", &[0])];
    let first = Bench::new(specs.clone());
    let outputs = first.solve_last().unwrap().outputs;
    let base = first.store.records().into_iter().find(|r| r.name == "0").unwrap();
    let second = first.next(specs);
    second.work.vanished.lock().unwrap().insert(base.payload);
    assert_eq!(second.solve_last().unwrap().outputs, outputs);
    assert_eq!(second.work.ran(), [0]);
}

#[test]
fn nothing_to_do_is_done() {
    let bench = Bench::new(vec![make("unneeded", &[])]);
    let solution = bench.solve(&[]).unwrap();
    assert!(solution.outputs.is_empty() && solution.steps.is_empty());
}

#[test]
fn a_long_chain() {
    let specs: Vec<_> = (0..1000usize)
        .map(|at| make(&at.to_string(), &at.checked_sub(1).into_iter().collect::<Vec<_>>()))
        .collect();
    let cold = Bench::new(specs.clone());
    let clock = Instant::now();
    assert_eq!(cold.solve_last().unwrap().counts.ran, 1000);
    println!("1,000 steps in a chain, run: {:?}", clock.elapsed());
    let warm = cold.next(specs);
    let clock = Instant::now();
    assert_eq!(warm.solve_last().unwrap().counts.cached, 1000);
    println!("1,000 steps in a chain, cached: {:?}", clock.elapsed());
}

#[test]
fn a_wide_graph() {
    let mut specs: Vec<_> = (0..1000).map(|at| make(&at.to_string(), &[])).collect();
    specs.push(make("all", &(0..1000).collect::<Vec<_>>()));
    let cold = Bench::new(specs.clone());
    assert_eq!(cold.solve_last().unwrap().counts.ran, 1001);
    let warm = cold.next(specs);
    let clock = Instant::now();
    assert_eq!(warm.solve_last().unwrap().counts.cached, 1001);
    println!("1,000 steps side by side, cached: {:?}", clock.elapsed());
}
