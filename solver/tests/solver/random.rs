//! Random graphs with random records, failures and claims held elsewhere.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use graph::Freshness;
use oci::Timestamp;
use proptest::prelude::*;
use solver::SolveError;

use crate::fake::{Act, Bench, Spec, make, record};

#[derive(Clone, Debug)]
struct Plan {
    specs: Vec<Spec>,
    jobs: usize,
    targets: Vec<usize>,
    /// Vertices without inputs whose key another process holds for a while; whether it
    /// publishes.
    held: Vec<(usize, bool)>,
    /// Cancel after so many milliseconds.
    cancel: Option<u64>,
    /// Solve a part of it before, so that there are records.
    warm: Option<usize>,
}

fn any_act(failures: bool) -> impl Strategy<Value = Act> {
    let bad = u32::from(failures);
    prop_oneof![
        20 => Just(Act::Make),
        4 => Just(Act::MakeFixed("one")),
        3 => Just(Act::Ready),
        bad => Just(Act::Fail),
        bad => Just(Act::FailDescribe),
    ]
}

fn any_specs(failures: bool) -> impl Strategy<Value = Vec<Spec>> {
    let one = (
        any_act(failures),
        prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        0u64..3,
        prop::bool::weighted(0.1),
        // Few labels: equal keys are frequent.
        0..6,
    );
    prop::collection::vec(one, 1..25).prop_map(|list| {
        let spec = |(at, (act, inputs, sleep, fresh, label)): (
            usize,
            (Act, Vec<prop::sample::Index>, u64, bool, i32),
        )| Spec {
            act,
            sleep: Duration::from_millis(sleep),
            freshness: if fresh { Freshness::Build } else { Freshness::Any },
            inputs: if at == 0 { vec![] } else { inputs.iter().map(|i| i.index(at)).collect() },
            ..make(&label.to_string(), &[])
        };
        list.into_iter().enumerate().map(spec).collect()
    })
}

fn any_plan() -> impl Strategy<Value = Plan> {
    (any::<bool>().prop_flat_map(any_specs), 1usize..5).prop_flat_map(|(specs, jobs)| {
        let vertices = 0..specs.len();
        (
            Just(specs),
            Just(jobs),
            prop::collection::vec(vertices.clone(), 1..4),
            prop::collection::vec((vertices.clone(), any::<bool>()), 0..3),
            prop::option::weighted(0.2, 0u64..10),
            prop::option::of(vertices),
        )
            .prop_map(|(specs, jobs, targets, held, cancel, warm)| Plan {
                specs,
                jobs,
                targets,
                held,
                cancel,
                warm,
            })
    })
}

/// Solves a plan while somebody else holds keys and somebody cancels.
fn play(bench: &Bench, plan: &Plan) -> Result<(), TestCaseError> {
    let mut keys = HashSet::new();
    let holding: Vec<_> = plan
        .held
        .iter()
        .filter(|(at, _)| plan.specs[*at].inputs.is_empty())
        .map(|(at, publishes)| (bench.work.key(*at, &[]), *publishes))
        .filter(|(key, _)| keys.insert(*key))
        .map(|(key, publishes)| (bench.store.hold(key), key, publishes))
        .collect();
    let solved = std::thread::scope(|scope| {
        let solve = scope.spawn(|| bench.solve(&plan.targets));
        std::thread::sleep(Duration::from_millis(2));
        for (held, key, publishes) in holding {
            if publishes {
                bench.store.put(record(key, "elsewhere", Timestamp::now()));
            }
            drop(held);
        }
        if let Some(after) = plan.cancel {
            std::thread::sleep(Duration::from_millis(after));
            bench.options.cancel.cancel();
        }
        solve.join().expect("the solver does not panic")
    });
    let failed = bench.seen.stories().values().any(|story| story.ends_with('F'));
    match solved {
        Ok(solution) => {
            prop_assert!(!failed);
            prop_assert_eq!(solution.outputs.len(), plan.targets.len());
            let ends = bench.seen.stories();
            prop_assert_eq!(ends.len(), solution.steps.len());
            prop_assert!(ends.values().all(|story| story == "VC" || story == "VSD"));
        }
        Err(SolveError::Failed { .. }) => prop_assert!(failed),
        Err(SolveError::Cancelled) => prop_assert!(plan.cancel.is_some() && !failed),
        Err(other) => prop_assert!(false, "{}", other),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_graph_comes_to_an_end(plan in any_plan()) {
        let mut bench = Bench::new(plan.specs.clone()).jobs(plan.jobs);
        if let Some(target) = plan.warm {
            let _ = bench.solve(&[target]);
            bench = bench.next(plan.specs.clone()).jobs(plan.jobs);
        }
        play(&bench, &plan)?;
        let runs = bench.work.runs.lock().unwrap().clone();
        let different: HashSet<_> = runs.iter().collect();
        prop_assert_eq!(different.len(), runs.len(), "no vertex runs twice");
        prop_assert!(bench.work.most_running.load(Ordering::SeqCst) <= plan.jobs);
        prop_assert!(bench.work.describes.load(Ordering::SeqCst) <= plan.specs.len());
        prop_assert!(bench.store.nothing_claimed());
    }
}
