//! Results that are elsewhere, and cannot be had when somebody needs them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

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
    /// Whether results are dropped when nothing needs them.
    lets_go: bool,
    /// Results, by the vertex that they were brought for.
    brought: Mutex<Vec<(usize, Weak<AtomicBool>)>>,
    /// Which of them were there when the last step began.
    left: Mutex<Vec<usize>>,
}

impl<'a> Remote<'a> {
    fn new(fake: &'a Fake) -> Self {
        Self {
            fake,
            known: HashMap::new(),
            gone: HashSet::new(),
            unsteady: HashSet::new(),
            peeks: HashSet::new(),
            needed: Mutex::default(),
            lets_go: false,
            brought: Mutex::default(),
            left: Mutex::default(),
        }
    }

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

    fn note(&self, vertex: VertexIndex, here: &Arc<AtomicBool>) {
        self.brought.lock().unwrap().push((vertex.0, Arc::downgrade(here)));
    }

    /// The vertices of which somebody has a result.
    fn alive(&self) -> Vec<usize> {
        let brought = self.brought.lock().unwrap();
        let alive = brought.iter().filter(|(_, it)| it.strong_count() > 0);
        let mut alive: Vec<usize> = alive.map(|(vertex, _)| *vertex).collect();
        alive.sort_unstable();
        alive
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

    fn load(&self, vertex: VertexIndex, _inputs: &[Far], record: &Record) -> Option<Far> {
        let here = Arc::new(AtomicBool::new(true));
        self.note(vertex, &here);
        Some(Far { content: record.content, key: Some(record.key), here })
    }

    fn import(
        &self,
        vertex: VertexIndex,
        _inputs: &[Far],
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
        self.note(vertex, &here);
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
        *self.left.lock().unwrap() = self.alive();
        assert!(inputs.iter().all(|far| far.here.load(Ordering::SeqCst)), "{}", vertex.0);
        let done = self.fake.run(vertex, &Self::trees(inputs), context)?;
        let content = match self.unsteady.contains(&vertex.0) {
            true => content(&["made here", &done.content.to_string()]),
            false => done.content,
        };
        let here = Arc::new(AtomicBool::new(true));
        self.note(vertex, &here);
        let output = Far { content, key: None, here };
        Ok(Done { content, payload: done.payload, output })
    }

    fn lets_go(&self, _output: &Far) -> bool {
        self.lets_go
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
    let remote = Remote {
        known: known[..3].iter().copied().collect(),
        gone: [known[1].1, known[2].1].into(),
        ..Remote::new(&bench.work)
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
        known: [known[0]].into(),
        gone: [known[0].1].into(),
        unsteady: [0].into(),
        peeks: [1].into(),
        ..Remote::new(&bench.work)
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

#[test]
fn what_nothing_needs_any_more_is_dropped() {
    let specs = vec![make("a", &[]), make("b", &[0]), make("c", &[0, 1]), make("d", &[2])];
    for (lets_go, left) in [(false, [0, 1, 2].to_vec()), (true, [1, 2].to_vec())] {
        let bench = Bench::new(specs.clone());
        let remote = Remote { lets_go, ..Remote::new(&bench.work) };
        let solution = solve_far(&bench, &remote, &[3, 1]);
        assert_eq!(*remote.left.lock().unwrap(), left);
        assert_eq!((remote.alive(), solution.outputs.len()), ([1, 3].to_vec(), 2));
        assert_eq!(bench.work.ran(), [0, 1, 2, 3]);
    }
}

#[test]
fn what_was_dropped_and_is_needed_after_all_is_brought_again() {
    let chain = ["a", "b", "c", "d", "e"];
    let below = |at: usize| if at == 0 { vec![] } else { vec![at - 1] };
    let specs = chain.iter().enumerate().map(|(at, name)| make(name, &below(at)));
    let specs: Vec<Spec> = specs.collect();
    let known = built(&specs);
    let bench = Bench::new(specs);
    // All but the last is known elsewhere, and the one that it needs cannot be had.
    let remote = Remote {
        known: known[..4].iter().copied().collect(),
        gone: known[1..4].iter().map(|it| it.1).collect(),
        lets_go: true,
        ..Remote::new(&bench.work)
    };
    let solution = solve_far(&bench, &remote, &[4]);
    assert_eq!(bench.work.ran(), [1, 2, 3, 4]);
    assert_eq!(*remote.left.lock().unwrap(), [3]);
    assert_eq!(solution.outputs[0].content, known[4].1);
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
            known: known.map(|(_, it)| *it).collect(),
            gone: lost.iter().map(|at| all[*at].1).collect(),
            unsteady: unsteady.into_iter().collect(),
            peeks: peeks.into_iter().collect(),
            lets_go: dice.one_in(2),
            ..Remote::new(&bench.work)
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
