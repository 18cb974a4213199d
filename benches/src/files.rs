//! How long contexts of many files take: unchanged builds, and the first look at all of them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tests::context::Context;
use tests::drydock::{Drydock, Run};

use crate::cases::{Case, Size, with_base};
use crate::part::{Part, grouped};
use crate::syncs;

/// Files in one directory of a context.
const EACH: usize = 50;

/// The cases of one size.
pub fn part(size: Size) -> Part {
    let unchanged =
        |small, large| -> Box<dyn Case> { Box::new(Unchanged::new(size.pick(small, large))) };
    let cases = vec![
        unchanged(10, 1000),
        unchanged(120, 20_000),
        unchanged(300, 100_000),
        Box::new(First::new(size.pick(300, 100_000))),
    ];
    let how = "COPY . and RUN, -t; the program from its start to its end; the first look reads and \
        hashes every file, out of the page cache";
    Part { title: "contexts of many files", how, cases }
}

/// A context of small files, as many as asked for, in directories two levels deep.
fn context(files: usize) -> Context {
    let context = Context::new("FROM base:1\nCOPY . /c/\nRUN true\n");
    for dir in 0..files.div_ceil(EACH) {
        let path = context.join(&format!("package{}/sub{dir}", dir % 37));
        fs::create_dir_all(&path).expect("the context can be written to");
        write(&path, dir, EACH.min(files - dir * EACH));
    }
    context.settle()
}

fn write(path: &Path, dir: usize, files: usize) {
    for file in 0..files {
        let text = format!("file {file} of {dir}\n").repeat(20);
        fs::write(path.join(format!("file{file}.rs")), text)
            .expect("the context can be written to");
    }
}

/// A build whose files are all known, and all the same.
struct Unchanged {
    files: usize,
    drydock: Drydock,
    context: Context,
}

impl Unchanged {
    fn new(files: usize) -> Self {
        let case = Self { files, drydock: with_base(), context: context(files) };
        case.command().ok();
        case
    }

    fn command(&self) -> Run {
        self.drydock.bare_build(&self.context).args(["-t", "app"])
    }
}

impl Case for Unchanged {
    fn name(&self) -> String {
        format!("unchanged build, {} files", grouped(self.files))
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

/// A plan of a build none of whose files is known: all are found and read, none is copied.
struct First {
    files: usize,
    drydock: Drydock,
    context: Context,
}

impl First {
    fn new(files: usize) -> Self {
        Self { files, drydock: with_base(), context: context(files) }
    }
}

impl Case for First {
    fn name(&self) -> String {
        format!("first look at {} files, --plan", grouped(self.files))
    }

    fn run(&mut self) -> Duration {
        self.drydock.bare_build(&self.context).args(["--plan", "--context-trust=none"]).ok().elapsed
    }

    fn syncs(&mut self) -> Option<u64> {
        None
    }
}
