//! How long chains of steps take: all of them known, and all of them new.

use std::fmt::Write;
use std::time::Duration;

use tests::context::Context;
use tests::drydock::{Drydock, Run};

use crate::cases::{Case, Size, with_base};
use crate::syncs;

/// A build of a thousand steps may take longer than a test.
const LIMIT: Duration = Duration::from_secs(1800);

/// The cases of one size.
pub fn cases(size: Size) -> Vec<Box<dyn Case>> {
    let mut cases: Vec<Box<dyn Case>> = Vec::new();
    for (known, new, steps) in [
        ("10 known steps", "10 cheap steps, all new", size.pick(3, 10)),
        ("100 known steps", "100 cheap steps, all new", size.pick(6, 100)),
        ("1,000 known steps", "1,000 cheap steps, all new", size.pick(9, 1000)),
    ] {
        cases.push(Box::new(Known::new(known, steps)));
        cases.push(Box::new(New { name: new, steps, drydock: with_base(), round: 0 }));
    }
    cases
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
    name: &'static str,
    drydock: Drydock,
    context: Context,
}

impl Known {
    fn new(name: &'static str, steps: usize) -> Self {
        let case = Self { name, drydock: with_base(), context: context(steps, 0) };
        command(&case.drydock, &case.context).ok();
        case
    }
}

impl Case for Known {
    fn name(&self) -> &'static str {
        self.name
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
    name: &'static str,
    steps: usize,
    drydock: Drydock,
    round: u32,
}

impl Case for New {
    fn name(&self) -> &'static str {
        self.name
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
