//! A Dockerfile in parts that can be changed, its text, and what each of its steps depends on.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::files::{Entries, Files};
use super::line::{Line, on_build, value_of};

/// A stage; the first two stand for themselves, the last one may rest on another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stage {
    pub(crate) name: &'static str,
    pub(crate) lines: Vec<Line>,
}

/// A Dockerfile and the arguments of the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stages {
    /// Two that can change their places, and the target.
    pub(crate) stages: [Stage; 3],
    pub(crate) swapped: bool,
    /// The stage that the target rests on; the base image otherwise.
    pub(crate) base: Option<usize>,
    /// Which base image it is: the second one has other files than the first, the third one another
    /// environment, the fourth one triggers.
    pub(crate) image: usize,
    /// Whether the base image goes by another name, which an argument gives.
    pub(crate) alias: bool,
    /// The stage that is built.
    pub(crate) target: usize,
    pub(crate) secret: u64,
    /// What is at the web server.
    pub(crate) page: u64,
    pub(crate) args: BTreeMap<&'static str, u64>,
}

/// What one step is, and what it depends on.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Equal for steps that need not run twice.
    pub(crate) key: String,
    /// What its root file system is afterwards.
    pub(crate) made: String,
    pub(crate) stage: usize,
    /// As it stands in the Dockerfile, but for the names of stages.
    pub(crate) text: String,
    /// Of a RUN: its variables, and the lines that set them, in order.
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) order: String,
    pub(crate) user: String,
    pub(crate) cwd: String,
    pub(crate) shell: String,
    /// What it takes of a context.
    pub(crate) reads: Option<Entries>,
    /// Whether it can be told what of that changed.
    pub(crate) listed: bool,
    /// The steps whose results it works on, by place.
    pub(crate) inputs: Vec<String>,
    /// Whether it works on an image.
    pub(crate) image: bool,
}

/// What a stage has come to.
#[derive(Clone, Default)]
struct State {
    /// What its root file system is.
    root: String,
    /// What the file of its first RUN is.
    first: String,
    env: String,
    vars: BTreeMap<String, String>,
    user: String,
    cwd: String,
    shell: String,
    /// The step that made its root file system, by place; none if that is an image's.
    last: Option<String>,
    /// What runs first where another stage rests on it.
    triggers: Vec<u64>,
}

impl State {
    fn set(&mut self, name: &str, value: String) {
        self.env = format!("{} {name}={value}", self.env);
        self.vars.insert(name.to_owned(), value);
    }
}

/// What a build may read.
pub(crate) struct Contexts<'a> {
    pub(crate) main: &'a Files,
    pub(crate) extra: &'a Files,
    /// Of modes, only what git keeps.
    pub(crate) git: bool,
    /// Whether the list of what is ignored stands beside the Dockerfile, not in the context.
    pub(crate) beside: bool,
}

impl Contexts<'_> {
    fn at(&self, extra: bool, places: &[&str]) -> Entries {
        let files = if extra { self.extra } else { self.main };
        // An ignore file in a context is one of its files.
        files.entries(places, self.git, extra || !self.beside)
    }
}

/// Makes a long text short.
fn hash(text: &str) -> String {
    oci::Digest::of(text.as_bytes()).hex()[..24].to_owned()
}

/// The first instruction of each stage.
const FIRST: &str = "RUN mkdir -p -m 777 /w";
/// What the fourth base image runs in every stage that rests on it.
pub(crate) const TRIGGERS: [&str; 2] = ["RUN echo $A $T > /on", "COPY a /onbuild/"];

impl Stages {
    pub(crate) fn new() -> Self {
        let copy = |sources, dest| Line::Copy {
            add: false,
            link: false,
            extra: false,
            flag: "",
            sources,
            dest,
        };
        let stage = |name, lines| Stage { name, lines };
        let bind = Line::Bind { number: 0, source: "sub", extra: false };
        let one = vec![bind, Line::Arg("A"), copy(&["."], "/w/c0/")];
        let two = vec![
            Line::Same { number: 0, source: "." },
            copy(&["a", "sub"], "/w/c0/"),
            Line::Sum(1),
        ];
        let last = vec![
            Line::Sum(0),
            Line::CopyFrom { stage: 0, whole: true, link: false, flag: "" },
            Line::CopyFrom { stage: 1, whole: false, link: true, flag: "" },
        ];
        Self {
            stages: [stage("one", one), stage("two", two), stage("last", last)],
            swapped: false,
            base: None,
            image: 0,
            alias: false,
            target: 2,
            secret: 0,
            page: 0,
            args: BTreeMap::new(),
        }
    }

    fn order(&self) -> [usize; 3] {
        if self.swapped { [1, 0, 2] } else { [0, 1, 2] }
    }

    /// The Dockerfile.
    pub(crate) fn text(&self) -> String {
        let mut text = "ARG BASE=busybox\nARG G=global\n".to_owned();
        for at in self.order() {
            let Stage { name, lines } = &self.stages[at];
            let base =
                self.base.filter(|_| at == 2).map_or("${BASE}", |base| self.stages[base].name);
            let _ = writeln!(text, "FROM {base} AS {name}\n{FIRST}");
            lines.iter().for_each(|line| text.push_str(&(line.text(self) + "\n")));
        }
        text
    }

    /// The stages that the target needs; the others are not even looked at.
    pub(crate) fn needed(&self) -> [bool; 3] {
        let from = |line: &Line| match line {
            Line::From { stage, .. }
            | Line::CopyFrom { stage, .. }
            | Line::Seeded { stage, .. } => Some(*stage),
            _ => None,
        };
        let mut needed = [false; 3];
        needed[self.target] = true;
        if self.target == 2 {
            for stage in self.stages[2].lines.iter().filter_map(from).chain(self.base) {
                needed[stage] = true;
            }
        }
        needed
    }

    /// The steps, by their number as progress shows it: `one 2`. A step has to run only if none
    /// before had the same key. Two of a stage's makings are the same if they were made of the
    /// same, or are known to be the same whatever they were made of.
    pub(crate) fn steps(&self, contexts: &Contexts) -> BTreeMap<String, Step> {
        let mut named = self.clone();
        for (stage, name) in named.stages.iter_mut().zip(["0", "1", "2"]) {
            stage.name = name;
        }
        let (done, at, number) = (Default::default(), 0, 0);
        let mut walk = Walk { stages: self, named: &named, contexts, done, at, number };
        let mut steps = BTreeMap::new();
        let needed = self.needed();
        for at in self.order().into_iter().filter(|at| needed[*at]) {
            let base = self.base.filter(|_| at == 2);
            let mut state = base.map_or_else(|| self.start(), |base| walk.done[base].clone());
            (walk.at, walk.number) = (at, if base.is_some() { 0 } else { 1 });
            let triggers = std::mem::take(&mut state.triggers);
            let mut add = |walk: &mut Walk, mut step: Step, state: &mut State| {
                step.made.clone_from(&state.root);
                walk.number += 1;
                let place = format!("{} {}", self.stages[at].name, walk.number);
                state.last = Some(place.clone());
                steps.insert(place, step);
            };
            if base.is_none() && self.image == 3 {
                for step in walk.base_triggers(&mut state) {
                    add(&mut walk, step, &mut state);
                }
            }
            for number in triggers {
                let text = on_build(number);
                let mut step = walk.step(&state, text.clone());
                step.key = hash(&format!("{}|{text}", walk.run(&state)));
                state.root.clone_from(&step.key);
                add(&mut walk, step, &mut state);
            }
            let mut step = walk.step(&state, FIRST.to_owned());
            step.key = hash(&format!("mkdir {}", walk.run(&state)));
            // It is there already where the stage rests on another, and then nothing is made.
            if base.is_none() {
                state.root.clone_from(&step.key);
            }
            add(&mut walk, step, &mut state);
            for line in &self.stages[at].lines {
                if line.is_step() {
                    let step = walk.line(line, &mut state);
                    add(&mut walk, step, &mut state);
                } else {
                    self.set(line, &mut state);
                }
            }
            walk.done[at] = state;
        }
        steps
    }

    /// What the base image is.
    fn start(&self) -> State {
        let root = if self.image == 1 { "b" } else { "a" };
        let mut state = State { root: root.to_owned(), ..State::default() };
        if self.image == 2 {
            state.set("E", "base".to_owned());
        }
        state
    }

    /// Does what a line does that makes nothing.
    fn set(&self, line: &Line, state: &mut State) {
        match line {
            Line::Arg(arg) => {
                let default = match *arg {
                    "G" => "global",
                    "TARGETARCH" => &oci::Platform::host().architecture,
                    _ => "none",
                };
                let value = self.args.get(arg).map_or(default.to_owned(), u64::to_string);
                state.set(arg, value);
            }
            Line::Env(key, value) => state.set(key, value_of(key, *value)),
            Line::User(name) => state.user = (*name).to_owned(),
            Line::Shell(shell) => state.shell = (*shell).to_owned(),
            Line::OnBuild(number) => state.triggers.push(*number),
            _ => {}
        }
    }
}

/// Goes through the steps.
struct Walk<'a> {
    stages: &'a Stages,
    /// With names that never change.
    named: &'a Stages,
    contexts: &'a Contexts<'a>,
    done: [State; 3],
    /// The stage.
    at: usize,
    /// The number of the last step.
    number: usize,
}

impl Walk<'_> {
    /// What every command depends on.
    fn run(&self, state: &State) -> String {
        let State { root, env, user, cwd, shell, .. } = state;
        format!("{root}|{env}|{user}|{cwd}|{shell}")
    }

    /// A step on what there is.
    fn step(&self, state: &State, text: String) -> Step {
        Step {
            key: String::new(),
            made: String::new(),
            stage: self.at,
            text,
            env: state.vars.clone(),
            order: state.env.clone(),
            user: state.user.clone(),
            cwd: state.cwd.clone(),
            shell: state.shell.clone(),
            reads: None,
            listed: true,
            inputs: state.last.clone().into_iter().collect(),
            image: state.last.is_none(),
        }
    }

    fn base_triggers(&self, state: &mut State) -> [Step; 2] {
        state.set("T", "trigger".to_owned());
        let [run, copy] = TRIGGERS;
        let mut first = self.step(state, run.to_owned());
        first.key = hash(&format!("trigger {}", self.run(state)));
        let mut second = self.step(state, copy.to_owned());
        let entries = self.contexts.at(false, &["a"]);
        second.key = hash(&format!("trigger {}|{entries:?}", first.key));
        second.reads = Some(entries);
        second.image = false;
        second.inputs = vec![format!("{} {}", self.stages.stages[self.at].name, self.number + 1)];
        state.root.clone_from(&second.key);
        [first, second]
    }

    /// What a step depends on; `state` becomes what it makes.
    fn line(&self, line: &Line, state: &mut State) -> Step {
        let mut step = self.step(state, line.text(self.named));
        if let Line::From { stage, .. }
        | Line::CopyFrom { stage, .. }
        | Line::Seeded { stage, .. } = line
        {
            step.inputs.extend(self.done[*stage].last.clone());
        }
        step.image |= matches!(line, Line::Image { .. });
        let (extra, places): (bool, &[&str]) = match line {
            Line::Copy { sources, extra, .. } => (*extra, sources),
            Line::Bind { source, extra, .. } => (*extra, std::slice::from_ref(source)),
            Line::Same { source, .. } => (false, std::slice::from_ref(source)),
            // All of it counts, as all of it can be seen.
            Line::Scratch { .. } => (false, &["."]),
            Line::Tar(_) => (false, &["bundle.tar"]),
            _ => (false, &[]),
        };
        step.listed = !matches!(line, Line::Scratch { .. });
        step.reads = (!places.is_empty()).then(|| self.contexts.at(extra, places));
        let reads = format!("{:?}", step.reads);
        step.key = self.key(line, state, &reads);
        if let Line::Workdir(path) = line {
            state.cwd = (*path).to_owned();
        }
        let same = match line {
            Line::Same { number, .. } => Some(hash(&format!("same {} {number}", state.user))),
            _ => None,
        };
        let makes = same.unwrap_or_else(|| step.key.clone());
        let first = match line {
            Line::Sum(0) | Line::Bind { number: 0, .. } | Line::Same { number: 0, .. } => true,
            Line::Change { what, .. } => what.contains("/w/o0"),
            _ => false,
        };
        if first {
            state.first.clone_from(&makes);
        }
        let on_its_own = line.is_alone() || makes != step.key;
        let root = format!("{} and {makes}", state.root);
        state.root = if on_its_own { hash(&root) } else { makes };
        step
    }

    /// Equal for steps that make the same; `reads` is what it takes of a context.
    fn key(&self, line: &Line, state: &State, reads: &str) -> String {
        let root = &state.root;
        let run = |reads: &str| hash(&format!("{}|{line:?}|{reads}", self.run(state)));
        let made = |stage: &usize, whole: bool| {
            let made = &self.done[*stage];
            if whole { made.root.clone() } else { made.first.clone() }
        };
        let below = if line.is_alone() { "" } else { root };
        match line {
            Line::Workdir(path) => hash(&format!("workdir {root}|{}|{path}", state.user)),
            Line::Copy { .. } => hash(&format!("copy {below}|{line:?}|{reads}")),
            Line::Tar(_) => hash(&format!("tar {below}|{line:?}|{reads}")),
            Line::Web(_) => hash(&format!("web {below}|{line:?}|{}", self.stages.page)),
            Line::Here { quoted, .. } => {
                let env = if *quoted { "" } else { &state.env };
                hash(&format!("here {root}|{env}|{line:?}"))
            }
            Line::CopyFrom { stage, whole, link, flag } => {
                let made = made(stage, *whole);
                hash(&format!("from {below}|{link}|{flag}|{stage}{whole}|{made}"))
            }
            Line::Image { copy: true, .. } => {
                hash(&format!("image {root}|{}", self.stages.start().root))
            }
            Line::Image { copy: false, .. } => run(&self.stages.start().root),
            Line::From { stage, whole, .. } => run(&made(stage, *whole)),
            // Which cache it is does not count.
            Line::Cache { number, .. } => hash(&format!("{}|cache {number}", self.run(state))),
            Line::Seeded { number, stage, .. } => {
                let made = made(stage, true);
                hash(&format!("{}|seeded {number}|{stage}|{made}", self.run(state)))
            }
            _ => run(reads),
        }
    }
}
