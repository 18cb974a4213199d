//! The syntax tree of a Dockerfile: typed instructions, every node with its span. Words are kept
//! as written; variables in them are expanded when the tree is lowered.

mod mount;
mod print;
mod same;

use graph::Span;

pub use crate::syntax::{Check, Directives, Heredoc, Pair, Word};
pub use mount::{Mount, MountField, MountOptions, MountType};

/// A Dockerfile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dockerfile {
    /// The parser directives.
    pub directives: Directives,
    /// All instructions, in order.
    pub instructions: Vec<Instruction>,
}

/// One stage: a FROM and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct Stage<'a> {
    /// Its FROM.
    pub from: &'a From,
    /// The instruction that holds the FROM.
    pub head: &'a Instruction,
    /// The instructions after the FROM.
    pub body: &'a [Instruction],
}

impl Dockerfile {
    /// The instructions before the first FROM.
    pub fn globals(&self) -> &[Instruction] {
        let first = self.instructions.iter().position(Instruction::is_from);
        &self.instructions[..first.unwrap_or(self.instructions.len())]
    }

    /// The stages, in order.
    pub fn stages(&self) -> Vec<Stage<'_>> {
        let starts: Vec<usize> =
            (0..self.instructions.len()).filter(|at| self.instructions[*at].is_from()).collect();
        let ends = starts.iter().skip(1).copied().chain([self.instructions.len()]);
        let stage = |(start, end): (&usize, usize)| {
            let head = &self.instructions[*start];
            let Kind::From(from) = &head.kind else { return None };
            Some(Stage { from, head, body: &self.instructions[*start + 1..end] })
        };
        starts.iter().zip(ends).filter_map(stage).collect()
    }
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// The keyword as written.
    pub keyword: Word,
    /// What it says.
    pub kind: Kind,
    /// The instruction as one line: continuations joined, comments left out.
    pub text: String,
    /// From the keyword to the end of the last line, here-documents included.
    pub span: Span,
    /// From the keyword to the end of the arguments.
    pub line_span: Span,
    /// The comment lines directly above, without `#`.
    pub comments: Vec<Word>,
    /// The here-documents that follow the line.
    pub heredocs: Vec<Heredoc>,
}

impl Instruction {
    fn is_from(&self) -> bool {
        matches!(self.kind, Kind::From(_))
    }
}

/// What an instruction says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ADD.
    Add(Transfer),
    /// ARG.
    Arg(Vec<ArgItem>),
    /// CMD.
    Cmd(Command),
    /// COPY.
    Copy(Transfer),
    /// ENTRYPOINT.
    Entrypoint(Command),
    /// ENV.
    Env(Vec<Pair>),
    /// EXPOSE.
    Expose(Vec<Word>),
    /// FROM.
    From(From),
    /// HEALTHCHECK.
    Healthcheck(Healthcheck),
    /// LABEL.
    Label(Vec<Pair>),
    /// MAINTAINER.
    Maintainer(Word),
    /// ONBUILD.
    Onbuild(Onbuild),
    /// RUN.
    Run(Run),
    /// SHELL.
    Shell(Vec<Word>),
    /// STOPSIGNAL.
    StopSignal(Word),
    /// USER.
    User(Word),
    /// VOLUME.
    Volume(Vec<Word>),
    /// WORKDIR.
    Workdir(Word),
    /// Malformed or unknown; there is an error among the diagnostics.
    Invalid,
}

/// `FROM [--platform=…] base [AS name]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// An image, an earlier stage, or `scratch`.
    pub base: Word,
    /// `--platform`.
    pub platform: Option<Word>,
    /// The stage's name as written; lower case is what counts.
    pub name: Option<Word>,
}

/// One item of `ARG name[=default] …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgItem {
    /// The name.
    pub name: Word,
    /// The default.
    pub default: Option<Word>,
}

/// A command in shell or exec form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The words of an exec form; a shell form is one text, or none.
    pub args: Vec<Word>,
    /// Whether it is in shell form.
    pub shell: bool,
}

/// A flag that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Whether it is on.
    pub on: bool,
    /// Where it stands.
    pub span: Span,
}

/// COPY and ADD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Paths, wildcards, URLs.
    pub sources: Vec<Word>,
    /// Here-documents among the sources.
    pub inline: Vec<Heredoc>,
    /// The destination.
    pub dest: Word,
    /// `--from` (COPY).
    pub from: Option<Word>,
    /// `--chown`.
    pub chown: Option<Word>,
    /// `--chmod`.
    pub chmod: Option<Word>,
    /// `--exclude`.
    pub exclude: Vec<Word>,
    /// `--link`.
    pub link: Option<Switch>,
    /// `--parents` (COPY).
    pub parents: Option<Switch>,
    /// `--checksum` (ADD).
    pub checksum: Option<Word>,
    /// `--keep-git-dir` (ADD).
    pub keep_git_dir: Option<Switch>,
    /// `--unpack` (ADD).
    pub unpack: Option<Switch>,
}

/// RUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What is run.
    pub command: Command,
    /// `--mount`.
    pub mounts: Vec<Mount>,
    /// `--network`: `default`, `none` or `host`.
    pub network: Option<Word>,
    /// `--security`: `sandbox` or `insecure`.
    pub security: Option<Word>,
    /// `--device`.
    pub devices: Vec<Word>,
    /// `--ttl`: how old its result may be. Drydock's own.
    pub ttl: Option<Word>,
}

/// HEALTHCHECK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healthcheck {
    /// `NONE`.
    None,
    /// `CMD`.
    Check {
        /// What is run.
        command: Command,
        /// `--interval`, in nanoseconds; 0 inherits.
        interval: u64,
        /// `--timeout`, in nanoseconds; 0 inherits.
        timeout: u64,
        /// `--start-period`, in nanoseconds; 0 inherits.
        start_period: u64,
        /// `--start-interval`, in nanoseconds; 0 inherits.
        start_interval: u64,
        /// `--retries`; 0 inherits.
        retries: u64,
    },
}

/// ONBUILD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onbuild {
    /// The instruction as text, here-documents appended.
    pub expression: String,
    /// The instruction.
    pub trigger: Box<Instruction>,
}
