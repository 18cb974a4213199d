//! Results that are elsewhere, and cannot be had when somebody needs them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use graph::VertexIndex;
use oci::Timestamp;
use solver::work::WorkError;
use solver::{
    ActionKey, ContentId, Description, Done, Gathered, Outcome, Record, Solution, StepContext,
    Work, solve,
};

use crate::fake::{Bench, Fake, Spec, Tree, content, make};

/// How many random graphs are solved.
const GRAPHS: u64 = 400;

/// A result: what it is, and whether its bytes are here.
#[derive(Clone)]
struct Far {
    content: ContentId,
    key: Option<ActionKey>,
    here: Arc<AtomicBool>,
}

/// A worker with the records of another machine.
struct Remote<'a> {
    fake: &'a Fake,
    /// What another machine made.
    known: HashMap<ActionKey, ContentId>,
    /// Whose bytes cannot be had.
    gone: HashSet<ContentId>,
    /// Steps that make something else each time.
    unsteady: HashSet<usize>,
    /// Steps whose key is made of bytes.
    peeks: HashSet<usize>,
    /// Steps whose result is of use only with its bytes.
    needed: Mutex<HashSet<ActionKey>>,
}

impl Remote<'_> {
    fn bring(&self, inputs: &[Far]) -> Vec<usize> {
        let lost = |(at, far): (usize, &Far)| {
            if far.here.load(Ordering::SeqCst) || !self.gone.contains(&far.content) {
                far.here.store(true, Ordering::SeqCst);
                return None;
            }
            self.needed.lock().unwrap().extend(far.key);
            Some(at)
        };
        inputs.iter().enumerate().filter_map(lost).collect()
    }

    fn trees(inputs: &[Far]) -> Vec<Tree> {
        inputs.iter().map(|far| Tree(far.content)).collect()
    }
}

impl Work for Remote<'_> {
    type Output = Far;

    fn describe(
        &self,
        vertex: VertexIndex,
        inputs: &[Far],
        _context: &StepContext<'_>,
    ) -> Result<Description<Far>, WorkError> {
        assert_eq!(inputs.len(), self.fake.specs[vertex.0].inputs.len());
        if self.peeks.contains(&vertex.0) {
            let lost = self.bring(inputs);
            if !lost.is_empty() {
                return Ok(Description::Lost(lost));
            }
        }
        let key = self.fake.key(vertex.0, &Self::trees(inputs));
        Ok(Description::Keyed { key, inputs: Vec::new() })
    }

    fn load(&self, _vertex: VertexIndex, _inputs: &[Far], record: &Record) -> Option<Far> {
        let here = Arc::new(AtomicBool::new(true));
        Some(Far { content: record.content, key: Some(record.key), here })
    }

    fn import(
        &self,
        _vertex: VertexIndex,
        key: &ActionKey,
        _not_before: Timestamp,
        _context: &StepContext<'_>,
    ) -> Option<(Record, Far)> {
        let content = *self.known.get(key)?;
        if self.needed.lock().unwrap().contains(key) && self.gone.contains(&content) {
            return None;
        }
        let record =
            Record { key: *key, content, ..crate::fake::record(*key, "", Timestamp::EPOCH) };
        let here = Arc::new(AtomicBool::new(false));
        Some((record, Far { content, key: Some(*key), here }))
    }

    fn gather(
        &self,
        _vertex: VertexIndex,
        inputs: &[Far],
        _context: &StepContext<'_>,
    ) -> Result<Gathered, WorkError> {
        let lost = self.bring(inputs);
        Ok(if lost.is_empty() { Gathered::Here } else { Gathered::Lost(lost) })
    }

    fn run(
        &self,
        vertex: VertexIndex,
        inputs: &[Far],
        context: &StepContext<'_>,
    ) -> Result<Done<Far>, WorkError> {
        assert!(inputs.iter().all(|far| far.here.load(Ordering::SeqCst)), "{}", vertex.0);
        let done = self.fake.run(vertex, &Self::trees(inputs), context)?;
        let content = match self.unsteady.contains(&vertex.0) {
            true => content(&["made here", &done.content.to_string()]),
            false => done.content,
        };
        let here = Arc::new(AtomicBool::new(true));
        let output = Far { content, key: None, here };
        Ok(Done { content, payload: done.payload, output })
    }
}

/// What another machine knows after it built `specs`: of each vertex key and content.
fn built(specs: &[Spec]) -> Vec<(ActionKey, ContentId)> {
    let bench = Bench::new(specs.to_vec());
    let all: Vec<usize> = (0..specs.len()).collect();
    let solution = bench.solve(&all).unwrap();
    let step = |at: usize| solution.steps.iter().find(|it| it.vertex.0 == at).unwrap();
    all.iter().map(|at| (step(*at).key.unwrap(), step(*at).content.unwrap())).collect()
}

fn solve_far(bench: &Bench, remote: &Remote<'_>, targets: &[usize]) -> Solution<Far> {
    let targets: Vec<_> = targets.iter().copied().map(VertexIndex).collect();
    let solved =
        solve(&bench.definition, &targets, remote, &bench.store, &bench.seen, &bench.options);
    assert!(bench.store.nothing_claimed());
    solved.unwrap_or_else(|error| panic!("{error}"))
}

/// What happened to a vertex, told again for each time that it was brought to a result.
fn is_story(story: &str) -> bool {
    story.replace("VC", "").replace("VSD", "").is_empty()
}

#[test]
fn a_chain_is_made_again_from_where_it_broke() {
    let specs = vec![make("a", &[]), make("b", &[0]), make("c", &[1]), make("d", &[2])];
    let known = built(&specs);
    let bench = Bench::new(specs);
    let (unsteady, peeks, needed) = Default::default();
    let remote = Remote {
        fake: &bench.work,
        known: known[..3].iter().copied().collect(),
        gone: [known[1].1, known[2].1].into(),
        unsteady,
        peeks,
        needed,
    };
    let solution = solve_far(&bench, &remote, &[3]);
    assert_eq!(bench.work.ran(), [1, 2, 3]);
    let stories = bench.seen.stories();
    assert_eq!(stories["0"], "VC");
    assert_eq!((stories["1"].as_str(), stories["2"].as_str()), ("VCVSD", "VCVSD"));
    assert_eq!(stories["3"], "VSD", "it waited, and is told of once");
    assert_eq!((solution.counts.ran, solution.counts.cached), (3, 1));
    assert_eq!(solution.outputs[0].content, known[3].1);
}

#[test]
fn what_is_made_again_may_be_something_else() {
    // Two need the lost one: both get what it is now, and their keys with it.
    let specs = vec![make("a", &[]), make("b", &[0]), make("c", &[0]), make("d", &[1, 2])];
    let known = built(&specs);
    let bench = Bench::new(specs);
    let remote = Remote {
        fake: &bench.work,
        known: [known[0]].into(),
        gone: [known[0].1].into(),
        unsteady: [0].into(),
        peeks: [1].into(),
        needed: Mutex::default(),
    };
    let solution = solve_far(&bench, &remote, &[3]);
    assert_eq!(bench.work.ran(), [0, 1, 2, 3]);
    assert_ne!(solution.outputs[0].content, known[3].1);
    let now = solution.steps[0].content.unwrap();
    let key = bench.work.key(1, &[Tree(now)]);
    let of = |at: usize| solution.steps.iter().find(|it| it.vertex.0 == at).unwrap();
    assert_eq!(of(1).key, Some(key));
    assert_eq!(of(2).key, Some(bench.work.key(2, &[Tree(now)])));
}

/// Numbers that look random (Knuth, MMIX).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end.max(1)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

#[test]
fn random_graphs_with_random_losses_come_to_an_end() {
    let mut runs = 0;
    for seed in 0..GRAPHS {
        let mut dice = Dice(seed);
        let count = 2 + dice.below(12);
        let specs: Vec<Spec> = (0..count)
            .map(|at| {
                let inputs: Vec<usize> =
                    (0..dice.below(4).min(at)).map(|_| dice.below(at)).collect();
                // Few labels: equal keys are frequent.
                make(&dice.below(8).to_string(), &inputs)
            })
            .collect();
        let all = built(&specs);
        let jobs = 1 + dice.below(4);
        let bench = Bench::new(specs).jobs(jobs);
        let mut some = |n| (0..count).filter(|_| dice.one_in(n)).collect::<Vec<_>>();
        let (lost, unsteady, peeks, unknown) = (some(3), some(4), some(3), some(4));
        let known = all.iter().enumerate().filter(|(at, _)| !unknown.contains(at));
        let remote = Remote {
            fake: &bench.work,
            known: known.map(|(_, it)| *it).collect(),
            gone: lost.iter().map(|at| all[*at].1).collect(),
            unsteady: unsteady.into_iter().collect(),
            peeks: peeks.into_iter().collect(),
            needed: Mutex::default(),
        };
        let solution = solve_far(&bench, &remote, &[count - 1]);
        for (name, story) in bench.seen.stories() {
            assert!(is_story(&story), "seed {seed}: {name}: {story}");
        }
        // One run for each key, and none for what was known and at hand.
        let ran = bench.work.ran();
        runs += ran.len();
        let counted = solution.steps.iter();
        let counted = counted.filter(|it| matches!(it.outcome, Outcome::Ran { .. })).count();
        assert_eq!(counted, solution.counts.ran, "seed {seed}");
        let records = bench.store.records().len();
        assert_eq!(records, ran.len(), "seed {seed}: no key runs twice");
    }
    assert!(runs > 0);
}
