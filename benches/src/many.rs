//! How long many builds take that are started at once, and what they need beside the work of their steps.

use std::fs;
use std::time::{Duration, Instant};

use tests::context::Context;
use tests::drydock::Drydock;

use crate::cases::{Case, Size, with_base};
use crate::part::Part;

/// Ticks of the processor time in /proc/PID/stat, per second (USER_HZ, time(7)).
const TICKS: u32 = 100;
/// Steps that are work, which the builds share: each is in several of them.
const STEPS: usize = 16;

/// The cases of one size.
pub fn part(size: Size) -> Part {
    let how = "each has three of 16 steps of the same work in stages of their own, and one that no other has; the \
        target: 1.3 times the work of all different steps, divided by the cores";
    let cases: Vec<Box<dyn Case>> =
        vec![Box::new(Many::new(size, false)), Box::new(Many::new(size, true))];
    Part { title: "many builds at once", how, cases }
}

/// Builds of overlapping Dockerfiles, on one state directory.
struct Many {
    builds: usize,
    /// How often the loop of a step goes round.
    loops: u32,
    /// Whether all steps are known, so that there is no work.
    known: bool,
    drydock: Drydock,
    rounds: u32,
    /// Of one step.
    work: Spent,
    /// What each round took.
    spent: Vec<Spent>,
}

/// Time that passed, and that of the processors.
#[derive(Clone, Copy, Default)]
struct Spent {
    time: Duration,
    processors: Duration,
}

impl Many {
    fn new(size: Size, known: bool) -> Self {
        let drydock = with_base();
        let (builds, loops) = (size.pick(4, 32), size.pick(1, 1_000_000));
        let (work, spent) = (Spent::default(), Vec::new());
        let mut many = Self { builds, loops, known, drydock, rounds: 0, work, spent };
        if !known {
            let (with, without) = (many.alone(loops), many.alone(0));
            many.work.time = with.time.saturating_sub(without.time);
            many.work.processors = with.processors.saturating_sub(without.processors);
        }
        many
    }

    /// A step that takes as long as the loop, and has a name of its own.
    fn step(&self, name: &str, loops: u32) -> String {
        let round = if self.known { 0 } else { self.rounds };
        format!(
            "RUN i=0; while [ $i -lt {loops} ]; do i=$((i+1)); done; echo {name} > /{name} # {round}\n"
        )
    }

    /// One build with one step.
    fn alone(&mut self, loops: u32) -> Spent {
        self.rounds += 1;
        let text = format!("FROM base:1\n{}", self.step("alone", loops));
        spent(|| {
            self.drydock.bare_build(&Context::new(&text)).ok();
        })
    }

    fn context(&self, number: usize) -> Context {
        let shared: Vec<usize> = (0..3).map(|at| (number + at * 5) % STEPS).collect();
        let stages = shared.iter().map(|step| {
            let name = format!("part{step}");
            format!("FROM base:1 AS {name}\n{}", self.step(&name, self.loops))
        });
        let copies = shared.iter().map(|step| format!("COPY --from=part{step} /part{step} /\n"));
        let text: String = stages.chain(["FROM base:1\n".to_owned()]).chain(copies).collect();
        Context::new(&format!("{text}{}", self.step(&format!("own{number}"), 0)))
    }

    /// All of them at once.
    fn all(&self) -> Spent {
        let contexts: Vec<Context> = (0..self.builds).map(|n| self.context(n)).collect();
        spent(|| {
            let start = |context| self.drydock.bare_build(context).start();
            let builds: Vec<_> = contexts.iter().map(start).collect();
            for build in builds {
                let output = build.finish();
                assert!(output.status.success(), "{output}");
            }
        })
    }

    /// Different steps that are work.
    fn steps(&self) -> u32 {
        STEPS.min(self.builds * 3) as u32
    }
}

impl Case for Many {
    fn name(&self) -> String {
        let what = if self.known { "all steps known" } else { "steps that take long" };
        format!("{} overlapping builds, {what}", self.builds)
    }

    fn target(&self) -> Option<Duration> {
        (!self.known).then(|| (self.work.time * self.steps() / cores()).mul_f64(1.3))
    }

    fn run(&mut self) -> Duration {
        if self.known && self.rounds == 0 {
            self.all();
        }
        self.rounds += 1;
        let spent = self.all();
        self.spent.push(spent);
        spent.time
    }

    fn syncs(&mut self) -> Option<u64> {
        // Each process would have to be traced.
        None
    }

    fn remark(&self) -> Option<String> {
        let last = self.spent.last()?;
        let work = self.work.processors * self.steps();
        let besides = last.processors.saturating_sub(work) / self.builds as u32;
        let besides = format!("processor time of a build besides: {} ms", besides.as_millis());
        let ideal = (self.work.time * self.steps() / cores()).as_secs_f64();
        if self.known || ideal == 0.0 {
            return Some(besides);
        }
        let mut times: Vec<Duration> = self.spent.iter().map(|spent| spent.time).collect();
        times.sort_unstable();
        let ratio = times[times.len() / 2].as_secs_f64() / ideal;
        Some(format!("{ratio:.2} of the work / {} cores; {besides}", cores()))
    }
}

fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32)
}

/// What `work` takes, with all processes that it starts and waits for.
fn spent(work: impl FnOnce()) -> Spent {
    let (before, began) = (processors(), Instant::now());
    work();
    Spent { time: began.elapsed(), processors: processors().saturating_sub(before) }
}

/// The processor time of children that have ended, with theirs (proc_pid_stat(5), cutime and cstime).
fn processors() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: u32 = fields.skip(13).take(2).filter_map(|ticks| ticks.parse::<u32>().ok()).sum();
    Duration::from_secs(1) * ticks / TICKS
}
