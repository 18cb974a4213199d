//! Instructions of a Dockerfile that changes, and their text.

use super::stages::Stages;

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
    /// Writes to what a bind mount shows of the context.
    Scratch {
        number: u64,
        source: &'static str,
    },
    /// Writes to a file system in memory.
    Memory(u64),
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
        flag: &'static str,
    },
    /// Takes a file of an image, or reads it.
    Image {
        number: u64,
        copy: bool,
    },
    /// Moves things about in the root file system.
    Move(u64),
    /// Does something else there.
    Change {
        number: u64,
        what: &'static str,
    },
    /// Sees a secret.
    Secret {
        number: u64,
        how: &'static str,
    },
    /// Writes to a cache.
    Cache {
        number: u64,
        id: &'static str,
    },
    /// Writes to one that begins as what a stage made.
    Seeded {
        number: u64,
        id: &'static str,
        stage: usize,
    },
    /// Unpacks an archive of the context.
    Tar(&'static str),
    /// Takes a file from a web server.
    Web(&'static str),
    /// What runs in a stage that rests on this one.
    OnBuild(u64),
    /// What runs commands.
    Shell(&'static str),
    /// A script of several lines, which reads its environment.
    Script(u64),
    /// A file that stands in the Dockerfile; with variables, if it is not quoted.
    Here {
        text: u64,
        quoted: bool,
    },
    /// Something of the config alone.
    Label(u64),
    /// The same.
    Config(&'static str, u64),
    /// Makes an empty directory.
    Empty(u64),
    Comment(u64),
}

/// Of each, the text is followed by a number.
pub(crate) const CONFIGS: [&str; 8] = [
    "HEALTHCHECK CMD true ",
    "CMD echo ",
    "ENTRYPOINT echo ",
    "EXPOSE 80",
    "VOLUME /v",
    "STOPSIGNAL 1",
    "MAINTAINER m",
    "LABEL m=",
];

/// Where the port of the web server comes to stand.
pub(crate) const WEB: &str = "WEB";

impl Line {
    pub(crate) fn text(&self, stages: &Stages) -> String {
        let name = |stage: &usize| stages.stages[*stage].name;
        match self {
            Self::Arg(arg @ ("A" | "B")) => format!("ARG {arg}=none"),
            Self::Arg(arg) => format!("ARG {arg}"),
            Self::Env(key, value) => format!("ENV {key}={}", value_of(key, *value)),
            Self::User(user) => format!("USER {user}"),
            Self::Workdir(path) => format!("WORKDIR {path}"),
            Self::Shell(shell) => format!("SHELL {shell}"),
            Self::Label(number) => format!("LABEL l={number}"),
            Self::Config(what, number) => format!("{what}{number}"),
            Self::Comment(number) => format!("# {number}"),
            Self::OnBuild(number) => format!("ONBUILD {}", on_build(*number)),
            Self::Copy { add, link, extra, flag, sources, dest } => {
                let only_copy = *extra || flag.contains("parents");
                let word = if *add && !only_copy { "ADD" } else { "COPY" };
                let link = if *link { " --link" } else { "" };
                let from = if *extra { " --from=extra" } else { "" };
                format!("{word}{link}{from}{flag} {} {dest}", sources.join(" "))
            }
            Self::CopyFrom { stage, whole, link, flag } => format!(
                "COPY{}{flag} --from={} /w{} /got{stage}{}",
                if *link { " --link" } else { "" },
                name(stage),
                if *whole { "" } else { "/o0" },
                u8::from(*whole)
            ),
            Self::Tar(flag) => format!("ADD{flag} bundle.tar /w/t/"),
            Self::Web(flag) => format!("ADD{flag} http://{WEB}/f /w/h/"),
            Self::Image { copy: true, .. } => "COPY --from=busybox /etc /w/etc".to_owned(),
            Self::Here { text, quoted } => {
                let (open, other) = if *quoted { ("'E'", "F") } else { ("E", "E") };
                // Never a name that nothing has given a value.
                format!("COPY <<{open} <<F /here/\n{text} ${{{other}:-none}}\nE\n{text}\nF")
            }
            _ => format!("RUN {}", self.command(name)),
        }
    }

    /// What a RUN has.
    fn command<'a>(&self, name: impl Fn(&usize) -> &'a str) -> String {
        match self {
            Self::Sum(number) => format!(
                "s=`({}; echo $A $B $E $F $G $TARGETARCH; pwd; id) | sha256sum`; {}",
                read("/w"),
                write(*number)
            ),
            Self::Bind { number, source, extra } => format!(
                "--mount=target=/m,source={source}{} s=`{} | sha256sum`; {}",
                if *extra { ",from=extra" } else { "" },
                read("/m"),
                write(*number)
            ),
            Self::Scratch { number, source } => format!(
                "--mount=target=/m,source={source},rw s=`{} | sha256sum`; \
                 (echo x >> /m; echo x > /m/new) 2> /dev/null; {}",
                read("/m"),
                write(*number)
            ),
            Self::Memory(number) => format!(
                "--mount=type=tmpfs,target=/t s=`find /t`; echo x > /t/f; {}",
                write(*number)
            ),
            Self::Same { number, source } => format!(
                "--mount=target=/m,source={source} {} > /dev/null; s=same; {}",
                read("/m"),
                write(*number)
            ),
            Self::From { number, stage, whole } => format!(
                "--mount=from={},source=/w{},target=/m s=`{} | sha256sum`; {}",
                name(stage),
                if *whole { "" } else { "/o0" },
                read("/m"),
                write(*number)
            ),
            Self::Image { number, .. } => format!(
                "--mount=from=busybox,source=/etc,target=/m s=`{} | sha256sum`; {}",
                read("/m"),
                write(*number)
            ),
            Self::Move(number) => format!(
                "mkdir -p /w/d{number}; ln -f /w/o0 /w/d{number}/l; rm -rf /w/c1; \
                 chmod 700 /w/d{number}; ln -s l /w/d{number}/s; true"
            ),
            Self::Change { number, what } => {
                format!("{}; true", what.replace("%", &number.to_string()))
            }
            Self::Secret { number, how } => format!(
                "--mount=type=secret,id=s{how} test -s /run/secrets/s; s=$?; {}",
                write(*number)
            ),
            Self::Cache { number, id } => format!(
                "--mount=type=cache,target=/cache,id={id} echo $A >> /cache/f; s=cached; {}",
                write(*number)
            ),
            Self::Seeded { number, id, stage } => format!(
                "--mount=type=cache,target=/cache,id=from-{id},from={},source=/w \
                 (ls /cache; echo x >> /cache/f) > /dev/null 2>&1; s=seeded; {}",
                name(stage),
                write(*number)
            ),
            Self::Script(number) => format!("<<E\ns=\"$B $F\"\n{}\nE", write(*number)),
            Self::Empty(number) => format!("mkdir -p /w/e{number}"),
            _ => String::new(),
        }
    }

    /// Whether its layer is made without what is below.
    pub(crate) fn is_alone(&self) -> bool {
        match self {
            // With a mode, a linked copy is an ordinary one.
            Self::Copy { link, flag, .. } | Self::CopyFrom { link, flag, .. } => {
                *link && !flag.contains("chmod")
            }
            Self::Tar(flag) | Self::Web(flag) => flag.contains("link"),
            _ => false,
        }
    }

    pub(crate) fn is_step(&self) -> bool {
        use Line::{Arg, Comment, Config, Env, Label, OnBuild, Shell, User};
        !matches!(
            self,
            Arg(_) | Env(..) | User(_) | Comment(_) | Label(_) | Config(..) | OnBuild(_) | Shell(_)
        )
    }
}

/// The trigger of a stage.
pub(crate) fn on_build(number: u64) -> String {
    format!("RUN echo $A $E > /w/on{number}")
}

/// What a variable is set to. Of one it must not be told.
pub(crate) fn value_of(variable: &str, number: u64) -> String {
    if variable == HIDDEN { format!("{HUSH}{number}") } else { number.to_string() }
}

/// A variable whose value is a secret, by its name.
pub(crate) const HIDDEN: &str = "API_TOKEN";
/// How its values begin.
pub(crate) const HUSH: &str = "hush";

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
