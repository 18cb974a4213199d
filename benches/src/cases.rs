//! What is measured, and the builds that are not in a file of their own.

use std::time::Duration;

use tests::context::Context;
use tests::drydock::{Drydock, Run};
use tests::random::Random;

use crate::part::{Part, grouped};
use crate::syncs;

/// How large a case is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Just enough to run every line.
    Small,
    /// What is measured.
    Large,
}

impl Size {
    pub(crate) fn pick<T>(self, small: T, large: T) -> T {
        match self {
            Self::Small => small,
            Self::Large => large,
        }
    }
}

/// Something that is measured.
pub trait Case {
    /// What the table calls it, with the size that is measured.
    fn name(&self) -> String;
    /// What its time should be at most.
    fn target(&self) -> Option<Duration> {
        None
    }
    /// Runs it once; what it takes to get ready does not count.
    fn run(&mut self) -> Duration;
    /// Counts the syncs of one run.
    fn syncs(&mut self) -> Option<u64>;
    /// What else there is to say after all runs.
    fn remark(&self) -> Option<String> {
        None
    }
}

/// Whole builds.
pub fn part(size: Size) -> Part {
    let how = "the program from its start to its end; cold: every step is new, in the state \
        directory of the build before";
    let runs = |place| -> Box<dyn Case> { Box::new(Runs::new(size, place)) };
    let export = |again| -> Box<dyn Case> { Box::new(Export::new(size, again)) };
    let cases: Vec<Box<dyn Case>> =
        vec![Box::new(Unchanged::new(size)), runs(true), runs(false), export(false), export(true)];
    Part { title: "builds", how, cases }
}

/// A state directory in which `base:1` is the base image.
pub(crate) fn with_base() -> Drydock {
    let drydock = Drydock::new();
    drydock.build(&Context::new("FROM busybox\nLABEL base=1\n")).args(["-t", "base:1"]).ok();
    drydock
}

/// Five steps and many files, nothing changed.
struct Unchanged {
    files: usize,
    drydock: Drydock,
    context: Context,
}

impl Unchanged {
    fn new(size: Size) -> Self {
        let text = "FROM base:1\nWORKDIR /app\nCOPY src src\nRUN ls src > list\nCOPY . .\nRUN wc -l list > count\nCMD [\"sh\"]\n";
        let files = size.pick(20, 200);
        let context = (0..files).fold(Context::new(text), |c, n| {
            c.file(&format!("src/{}/file{n}", n % 10), format!("content of {n}\n"))
        });
        let drydock = with_base();
        let context = context.settle();
        drydock.bare_build(&context).args(["-t", "app"]).ok();
        Self { files, drydock, context }
    }

    fn command(&self) -> Run {
        self.drydock.bare_build(&self.context).args(["-t", "app"])
    }
}

impl Case for Unchanged {
    fn name(&self) -> String {
        format!("unchanged build, 5 steps, {} files, -t", grouped(self.files))
    }

    fn target(&self) -> Option<Duration> {
        Some(Duration::from_millis(25))
    }

    fn run(&mut self) -> Duration {
        let output = self.command().ok();
        assert!(output.executed().is_empty(), "{output}");
        output.elapsed
    }

    fn syncs(&mut self) -> Option<u64> {
        syncs::count(self.command())
    }
}

/// Trivial steps in a row, none of them known.
struct Runs {
    steps: usize,
    /// Nothing but the steps is new; otherwise the base has to be unpacked too.
    base_is_there: bool,
    drydock: Drydock,
    rounds: u32,
}

impl Runs {
    fn new(size: Size, base_is_there: bool) -> Self {
        Self { steps: size.pick(3, 50), base_is_there, drydock: with_base(), rounds: 0 }
    }

    fn command(&mut self) -> (Context, Run) {
        self.rounds += 1;
        let base = if self.base_is_there { "base:1" } else { "busybox" };
        let mut text = format!("FROM {base}\nENV ROUND={}\n", self.rounds);
        for step in 0..self.steps {
            text.push_str(&format!("RUN echo {step} > /file\n"));
        }
        if !self.base_is_there {
            self.drydock = Drydock::new();
        }
        let context = Context::new(&text);
        let run = if self.base_is_there {
            self.drydock.bare_build(&context)
        } else {
            self.drydock.build(&context)
        };
        (context, run.args(["-t", "app"]))
    }
}

impl Case for Runs {
    fn name(&self) -> String {
        match self.base_is_there {
            true => format!("{} trivial RUN steps cold, -t", self.steps),
            false => "the same in an empty state directory".to_owned(),
        }
    }

    fn target(&self) -> Option<Duration> {
        self.base_is_there.then_some(Duration::from_secs(1))
    }

    fn run(&mut self) -> Duration {
        let (_context, run) = self.command();
        let output = run.ok();
        assert_eq!(output.executed().len(), self.steps, "{output}");
        output.elapsed
    }

    fn syncs(&mut self) -> Option<u64> {
        let (_context, run) = self.command();
        syncs::count(run)
    }
}

/// An OCI archive of an image with large layers: the first one, or another one.
struct Export {
    again: bool,
    drydock: Drydock,
    context: Context,
    megabytes: usize,
    rounds: u64,
}

impl Export {
    fn new(size: Size, again: bool) -> Self {
        let mut case = Self {
            again,
            drydock: with_base(),
            context: Context::empty(),
            megabytes: size.pick(1, 32),
            rounds: 0,
        };
        case.prepare();
        case
    }

    /// Builds an image that was never exported.
    fn prepare(&mut self) {
        self.rounds += 1;
        let text = "FROM base:1\nCOPY one /one\nCOPY two /two\n";
        let half = self.megabytes << 19;
        let mut random = Random::new(self.rounds);
        let words: Vec<u8> =
            random.bytes(half / 4).into_iter().flat_map(|b| [b'a' + b % 16; 4]).collect();
        self.context = Context::new(text).file("one", random.bytes(half)).file("two", words);
        self.drydock.bare_build(&self.context).args(["-t", "app"]).ok();
        if self.again {
            self.command().ok();
        }
    }

    fn command(&self) -> Run {
        let dest = self.drydock.place("app.tar");
        self.drydock
            .bare_build(&self.context)
            .arg("-o")
            .arg(format!("type=oci,dest={}", dest.display()))
    }
}

impl Case for Export {
    fn name(&self) -> String {
        match self.again {
            true => "the same once more".to_owned(),
            false => format!("first OCI archive, {} MiB in two layers", self.megabytes),
        }
    }

    fn run(&mut self) -> Duration {
        if !self.again && self.rounds > 0 {
            self.prepare();
        }
        self.command().ok().elapsed
    }

    fn syncs(&mut self) -> Option<u64> {
        if !self.again {
            self.prepare();
        }
        syncs::count(self.command())
    }
}
