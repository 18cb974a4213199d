//! How long chains of steps take: all of them known, and all of them new.

use std::fmt::Write;
use std::time::Duration;

use tests::context::Context;
use tests::drydock::{Drydock, Run};

use crate::cases::{Case, Size};
use crate::part::{Part, grouped};
use crate::syncs;

/// A build of a thousand steps may take longer than a test.
const LIMIT: Duration = Duration::from_secs(1800);

/// The cases of one size.
pub fn part(size: Size) -> Part {
    let mut cases: Vec<Box<dyn Case>> = Vec::new();
    for steps in [size.pick(3, 10), size.pick(6, 100), size.pick(9, 1000)] {
        cases.push(Box::new(Known::new(steps)));
        cases.push(Box::new(New { steps, drydock: Drydock::new(), round: 0 }));
    }
    let how = "COPY of a small file each, on nothing, -t; the program from its start to its end";
    Part { title: "chains of steps", how, cases }
}

/// Steps that copy one small file, every one another.
fn context(steps: usize, round: u32) -> Context {
    let mut text = "FROM scratch\n".to_owned();
    for step in 0..steps {
        let _ = writeln!(text, "COPY file{} /dir{}/file{step}", step % 10, step % 7);
    }
    let context = Context::new(&text);
    let all = (0..10).fold(context, |context, file| {
        context.file(&format!("file{file}"), format!("{file} in round {round}\n"))
    });
    all.settle()
}

fn command(drydock: &Drydock, context: &Context) -> Run {
    drydock.bare_build(context).args(["-t", "app"]).limit(LIMIT)
}

/// All steps are known.
struct Known {
    steps: usize,
    drydock: Drydock,
    context: Context,
}

impl Known {
    fn new(steps: usize) -> Self {
        let case = Self { steps, drydock: Drydock::new(), context: context(steps, 0) };
        command(&case.drydock, &case.context).ok();
        case
    }
}

impl Case for Known {
    fn name(&self) -> String {
        format!("{} steps, all known", grouped(self.steps))
    }

    fn run(&mut self) -> Duration {
        let output = command(&self.drydock, &self.context).ok();
        assert!(output.executed().is_empty(), "{output}");
        output.elapsed
    }

    fn syncs(&mut self) -> Option<u64> {
        syncs::count(command(&self.drydock, &self.context))
    }
}

/// All steps are new.
struct New {
    steps: usize,
    drydock: Drydock,
    round: u32,
}

impl Case for New {
    fn name(&self) -> String {
        format!("{} steps, all new", grouped(self.steps))
    }

    fn run(&mut self) -> Duration {
        self.round += 1;
        let context = context(self.steps, self.round);
        let output = command(&self.drydock, &context).ok();
        assert_eq!(output.executed().len(), self.steps, "{output}");
        output.elapsed
    }

    fn syncs(&mut self) -> Option<u64> {
        self.round += 1;
        syncs::count(command(&self.drydock, &context(self.steps, self.round)))
    }
}
