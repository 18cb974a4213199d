//! How long many builds take that are started at once, and what they need beside the work of their steps.

use std::fs;
use std::time::{Duration, Instant};

use tests::context::Context;
use tests::drydock::{Drydock, Running};

use crate::cases::{Case, Size, with_base};
use crate::part::Part;

/// Ticks of the processor time in /proc/PID/stat, per second (USER_HZ, time(7)).
const TICKS: u32 = 100;
/// Steps that are work, which the builds share: each is in several of them.
const STEPS: usize = 16;

/// The cases of one size.
pub fn part(size: Size) -> Part {
    let how = "each has three of 16 steps of the same work in stages of their own, and one that no other has; the \
        target: 1.3 times the processor time of the work of all different steps, divided by the cores";
    let all = [Way::AtOnce, Way::NoWork, Way::InARow, Way::Known];
    let cases = all.into_iter().map(|way| -> Box<dyn Case> { Box::new(Many::new(size, way)) });
    Part { title: "many builds at once", how, cases: cases.collect() }
}

/// How they are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// At once, with steps that take long.
    AtOnce,
    /// At once, with steps that do next to nothing.
    NoWork,
    /// The same, one build after the other.
    InARow,
    /// At once, with all steps known.
    Known,
}

/// Builds of overlapping Dockerfiles, on one state directory.
struct Many {
    builds: usize,
    /// How often the loop of a step goes round.
    loops: u32,
    way: Way,
    drydock: Drydock,
    rounds: u32,
    /// The processor time of one step's loop.
    work: Duration,
    /// What each round took.
    spent: Vec<Spent>,
}

/// Time that passed, and that of the processors.
#[derive(Clone, Copy)]
struct Spent {
    time: Duration,
    processors: Duration,
}

impl Many {
    fn new(size: Size, way: Way) -> Self {
        let (builds, work) = (size.pick(4, 32), Duration::ZERO);
        let loops = if way == Way::AtOnce { size.pick(1, 1_000_000) } else { 0 };
        let drydock = with_base();
        let mut many = Self { builds, loops, way, drydock, rounds: 0, work, spent: Vec::new() };
        match way {
            Way::AtOnce => {
                let (with, without) = (many.alone(loops), many.alone(0));
                many.work = with.processors.saturating_sub(without.processors);
            }
            Way::Known => drop(many.all()),
            Way::NoWork | Way::InARow => {}
        }
        many
    }

    /// A step that takes as long as the loop, and has a name of its own.
    fn step(&self, name: &str, loops: u32) -> String {
        let round = self.rounds;
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

    /// All of them.
    fn all(&self) -> Spent {
        let contexts: Vec<Context> = (0..self.builds).map(|n| self.context(n)).collect();
        let start = |context| self.drydock.bare_build(context).start();
        let finish = |build: Running| {
            let output = build.finish();
            assert!(output.status.success(), "{output}");
        };
        spent(|| match self.way {
            Way::InARow => contexts.iter().map(start).for_each(finish),
            _ => {
                let builds: Vec<Running> = contexts.iter().map(start).collect();
                builds.into_iter().for_each(finish);
            }
        })
    }

    /// The work of all different steps, divided by the cores.
    fn ideal(&self) -> Duration {
        self.work * STEPS.min(self.builds * 3) as u32 / cores()
    }

    /// The median of what the rounds took.
    fn median(&self, of: impl Fn(&Spent) -> Duration) -> Option<Duration> {
        let mut all: Vec<Duration> = self.spent.iter().map(of).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied()
    }
}

impl Case for Many {
    fn name(&self) -> String {
        let builds = self.builds;
        match self.way {
            Way::AtOnce => format!("{builds} overlapping builds at once"),
            Way::NoWork => format!("{builds} builds at once, steps without work"),
            Way::InARow => format!("{builds} of them, one after the other"),
            Way::Known => format!("{builds} builds at once, all steps known"),
        }
    }

    fn target(&self) -> Option<Duration> {
        (self.way == Way::AtOnce).then(|| self.ideal().mul_f64(1.3))
    }

    fn run(&mut self) -> Duration {
        if self.way != Way::Known {
            self.rounds += 1;
        }
        let spent = self.all();
        self.spent.push(spent);
        spent.time
    }

    fn syncs(&mut self) -> Option<u64> {
        // Each process would have to be traced.
        None
    }

    fn remark(&self) -> Option<String> {
        if self.way == Way::AtOnce {
            let (time, ideal) = (self.median(|spent| spent.time)?, self.ideal());
            let ratio = (!ideal.is_zero()).then(|| time.as_secs_f64() / ideal.as_secs_f64())?;
            return Some(format!("{ratio:.2} of the work / {} cores", cores()));
        }
        let each = self.median(|spent| spent.processors)? / self.builds as u32;
        Some(format!("processor time of a build: {:.1} ms", each.as_secs_f64() * 1000.0))
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
