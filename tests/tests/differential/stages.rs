//! A Dockerfile in parts that can be changed, its text, and what each of its steps depends on.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::files::Files;

/// One instruction. The number of a RUN names the file that it writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Arg(&'static str),
    Env(&'static str, u64),
    User(&'static str),
    Workdir(&'static str),
    Copy {
        add: bool,
        link: bool,
        /// From the named context.
        extra: bool,
        flag: &'static str,
        sources: &'static [&'static str],
        dest: &'static str,
    },
    /// Reads all that is in the root file system, and its environment.
    Sum(u64),
    /// Reads what a bind mount shows of the context.
    Bind {
        number: u64,
        source: &'static str,
        extra: bool,
    },
    /// Reads it, and makes the same whatever it is.
    Same {
        number: u64,
        source: &'static str,
    },
    /// Reads what an earlier stage made.
    From {
        number: u64,
        stage: usize,
        whole: bool,
    },
    CopyFrom {
        stage: usize,
        whole: bool,
        link: bool,
    },
    /// Moves things about in the root file system.
    Move(u64),
    /// Sees a secret.
    Secret(u64),
    /// Writes to a cache.
    Cache {
        number: u64,
        id: &'static str,
    },
    /// A script of several lines, which reads its environment.
    Script(u64),
    /// A file that stands in the Dockerfile; with variables, if it is not quoted.
    Here {
        text: u64,
        quoted: bool,
    },
    /// Something of the config alone.
    Label(u64),
    /// Makes an empty directory.
    Empty(u64),
    Comment(u64),
}

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
    /// environment.
    pub(crate) image: usize,
    /// The stage that is built.
    pub(crate) target: usize,
    pub(crate) secret: u64,
    pub(crate) args: BTreeMap<&'static str, u64>,
}

/// What a stage has come to.
#[derive(Clone, Default)]
struct State {
    /// What its root file system is.
    root: String,
    /// What the file of its first RUN is.
    first: String,
    env: String,
    user: String,
    cwd: String,
}

/// What a build may read.
pub(crate) struct Contexts<'a> {
    pub(crate) main: &'a Files,
    pub(crate) extra: &'a Files,
    /// Of modes, only what git keeps.
    pub(crate) git: bool,
}

impl Contexts<'_> {
    fn at(&self, extra: bool, places: &[&str]) -> String {
        let mut text = if extra { self.extra } else { self.main }.at(places, self.git);
        // The named context's ignore file is one of its files.
        if extra && places.contains(&".") {
            text.push_str(&self.extra.ignore.join("\n"));
        }
        text
    }
}

/// Makes a long text short.
fn hash(text: &str) -> String {
    oci::Digest::of(text.as_bytes()).hex()[..24].to_owned()
}

impl Line {
    fn text(&self, stages: &Stages) -> String {
        let name = |stage: &usize| stages.stages[*stage].name;
        match self {
            Self::Arg(arg) => format!("ARG {arg}=none"),
            Self::Env(key, value) => format!("ENV {key}={value}"),
            Self::User(user) => format!("USER {user}"),
            Self::Workdir(path) => format!("WORKDIR {path}"),
            Self::Copy { add, link, extra, flag, sources, dest } => {
                let word = if *add && !extra { "ADD" } else { "COPY" };
                let link = if *link { " --link" } else { "" };
                let from = if *extra { " --from=extra" } else { "" };
                format!("{word}{link}{from}{flag} {} {dest}", sources.join(" "))
            }
            Self::Sum(number) => format!(
                "RUN s=`({}; echo $A $B $E $F; pwd; id) | sha256sum`; {}",
                read("/w"),
                write(*number)
            ),
            Self::Bind { number, source, extra } => format!(
                "RUN --mount=target=/m,source={source}{} s=`{} | sha256sum`; {}",
                if *extra { ",from=extra" } else { "" },
                read("/m"),
                write(*number)
            ),
            Self::Same { number, source } => format!(
                "RUN --mount=target=/m,source={source} {} > /dev/null; s=same; {}",
                read("/m"),
                write(*number)
            ),
            Self::From { number, stage, whole } => format!(
                "RUN --mount=from={},source=/w{},target=/m s=`{} | sha256sum`; {}",
                name(stage),
                if *whole { "" } else { "/o0" },
                read("/m"),
                write(*number)
            ),
            Self::CopyFrom { stage, whole, link } => format!(
                "COPY{} --from={} /w{} /got{stage}{}",
                if *link { " --link" } else { "" },
                name(stage),
                if *whole { "" } else { "/o0" },
                u8::from(*whole)
            ),
            Self::Move(number) => format!(
                "RUN mkdir -p /w/d{number}; ln -f /w/o0 /w/d{number}/l; rm -rf /w/c1; \
                 chmod 700 /w/d{number}; ln -s l /w/d{number}/s; true"
            ),
            Self::Secret(number) => format!(
                "RUN --mount=type=secret,id=s test -s /run/secrets/s; s=$?; {}",
                write(*number)
            ),
            Self::Cache { number, id } => format!(
                "RUN --mount=type=cache,target=/cache,id={id} echo $A >> /cache/f; s=cached; {}",
                write(*number)
            ),
            Self::Script(number) => {
                format!("RUN <<E\ns=\"$B $F\"\n{}\nE", write(*number))
            }
            Self::Here { text, quoted } => {
                let (open, other) = if *quoted { ("'E'", "F") } else { ("E", "E") };
                // Never a name that nothing has given a value.
                format!("COPY <<{open} <<F /here/\n{text} ${{{other}:-none}}\nE\n{text}\nF")
            }
            Self::Label(number) => format!("LABEL l={number}"),
            Self::Empty(number) => format!("RUN mkdir -p /w/e{number}"),
            Self::Comment(number) => format!("# {number}"),
        }
    }

    fn is_step(&self) -> bool {
        use Line::{Arg, Comment, Env, Label, User};
        !matches!(self, Arg(_) | Env(..) | User(_) | Comment(_) | Label(_))
    }
}

/// Keeps `$s`: what is read must have been read by then.
fn write(number: u64) -> String {
    format!("rm -f /w/o{number}; echo $s > /w/o{number}")
}

/// Prints what is at a path, whether a file or a directory; no times.
fn read(path: &str) -> String {
    format!(
        "(find {path} | sort | xargs stat -c '%A %u:%g %N'; find {path} -type f | sort | xargs stat -c %h; \
         find {path} -type f | sort | xargs cat)"
    )
}

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
            Line::CopyFrom { stage: 0, whole: true, link: false },
            Line::CopyFrom { stage: 1, whole: false, link: true },
        ];
        Self {
            stages: [stage("one", one), stage("two", two), stage("last", last)],
            swapped: false,
            base: None,
            image: 0,
            target: 2,
            secret: 0,
            args: BTreeMap::new(),
        }
    }

    fn order(&self) -> [usize; 3] {
        if self.swapped { [1, 0, 2] } else { [0, 1, 2] }
    }

    /// The Dockerfile.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for at in self.order() {
            let Stage { name, lines } = &self.stages[at];
            let base =
                self.base.filter(|_| at == 2).map_or("busybox", |base| self.stages[base].name);
            let _ = writeln!(text, "FROM {base} AS {name}\nRUN mkdir -p -m 777 /w");
            lines.iter().for_each(|line| text.push_str(&(line.text(self) + "\n")));
        }
        text
    }

    /// The stages that the target needs; the others are not even looked at.
    fn needed(&self) -> [bool; 3] {
        let from = |line: &Line| match line {
            Line::From { stage, .. } | Line::CopyFrom { stage, .. } => Some(*stage),
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

    /// What each step depends on, by its number as progress shows it: `one 2`. A step has to run
    /// only if no step before had the same. Two of a stage's makings are the same if they were
    /// made of the same, or are known to be the same whatever they were made of.
    pub(crate) fn keys(&self, contexts: &Contexts) -> BTreeMap<String, String> {
        let mut keys = BTreeMap::new();
        let mut done: [State; 3] = Default::default();
        let needed = self.needed();
        for at in self.order().into_iter().filter(|at| needed[*at]) {
            let base = self.base.filter(|_| at == 2);
            let mut state = base.map_or_else(|| self.start(), |base| done[base].clone());
            let mut number = if base.is_some() { 0 } else { 1 };
            let mkdir =
                hash(&format!("mkdir {} {} {} {}", state.root, state.env, state.user, state.cwd));
            number += 1;
            // It is there already where the stage rests on another, and then nothing is made.
            if base.is_none() {
                state.root.clone_from(&mkdir);
            }
            keys.insert(format!("{} {number}", self.stages[at].name), mkdir);
            for line in &self.stages[at].lines {
                if !line.is_step() {
                    self.set(line, &mut state);
                } else {
                    let key = self.line(line, contexts, &done, &mut state);
                    number += 1;
                    keys.insert(format!("{} {number}", self.stages[at].name), key);
                }
            }
            done[at] = state;
        }
        keys
    }

    /// What the base image is.
    fn start(&self) -> State {
        let (root, env) = [("a", ""), ("b", ""), ("a", " E=base")][self.image];
        State { root: root.to_owned(), env: env.to_owned(), ..State::default() }
    }

    /// Does what a line does that makes nothing.
    fn set(&self, line: &Line, state: &mut State) {
        match line {
            Line::Arg(arg) => {
                let value = self.args.get(arg).map_or("none".to_owned(), u64::to_string);
                state.env = format!("{} {arg}={value}", state.env);
            }
            Line::Env(key, value) => state.env = format!("{} {key}={value}", state.env),
            Line::User(name) => state.user = (*name).to_owned(),
            _ => {}
        }
    }

    /// What a step depends on; `state` becomes what it makes.
    fn line(
        &self,
        line: &Line,
        contexts: &Contexts,
        done: &[State; 3],
        state: &mut State,
    ) -> String {
        let State { root, env, user, cwd, .. } = &state.clone();
        let run = |reads: String| hash(&format!("{root}|{env}|{user}|{cwd}|{line:?}|{reads}"));
        let made = |stage: &usize, whole: bool| {
            let made = &done[*stage];
            if whole { made.root.clone() } else { made.first.clone() }
        };
        let mut same = None;
        let mut alone = false;
        let key = match line {
            Line::Workdir(path) => {
                let key = hash(&format!("workdir {root}|{user}|{path}"));
                state.cwd = (*path).to_owned();
                state.root.clone_from(&key);
                return key;
            }
            Line::Copy { link, flag, sources, extra, .. } => {
                // With a mode, a linked copy is an ordinary one.
                alone = *link && !flag.contains("chmod");
                let below = if alone { "" } else { root };
                hash(&format!("copy {below}|{line:?}|{}", contexts.at(*extra, sources)))
            }
            Line::Here { quoted, .. } => {
                let env = if *quoted { "" } else { env };
                hash(&format!("here {root}|{env}|{line:?}"))
            }
            Line::CopyFrom { stage, whole, link } => {
                alone = *link;
                let below = if alone { "" } else { root };
                hash(&format!("from {below}|{link}|{stage}{whole}|{}", made(stage, *whole)))
            }
            Line::From { stage, whole, .. } => run(made(stage, *whole)),
            Line::Bind { source, extra, .. } => run(contexts.at(*extra, &[source])),
            Line::Same { number, source } => {
                same = Some(hash(&format!("same {user} {number}")));
                run(contexts.at(false, &[source]))
            }
            // Which cache it is does not count.
            Line::Cache { number, .. } => {
                hash(&format!("{root}|{env}|{user}|{cwd}|cache {number}"))
            }
            _ => run(String::new()),
        };
        let makes = same.unwrap_or_else(|| key.clone());
        if matches!(
            line,
            Line::Sum(0) | Line::Bind { number: 0, .. } | Line::Same { number: 0, .. }
        ) {
            state.first.clone_from(&makes);
        }
        state.root =
            if makes == key && !alone { makes } else { hash(&format!("{root} and {makes}")) };
        key
    }
}
