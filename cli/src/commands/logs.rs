//! `drydock logs`: what the steps of builds told, whole.

use std::io::{self, Write};

use cache::build_log::{BuildLogs, End, Frames, KeptBuild, KeptStep, Outcome};
use oci::Timestamp;

use super::Context;
use super::failure::Failure;
use crate::args::LogsArgs;
use crate::console::{self, Terminals};
use crate::progress::text;
use crate::request::RequestError;
use crate::table::{Table, ago};

/// The name of the newest build.
const LAST: &str = "last";
/// Names that an error lists at most.
const LISTED: usize = 10;

/// Shows or lists.
pub(crate) fn run(args: &LogsArgs, context: &Context) -> Result<(), Failure> {
    let environment = &context.environment;
    let root = environment
        .state_directory(context.global.root.as_deref(), context.is_root())
        .ok_or(RequestError::NoRoot)?;
    let logs = BuildLogs::of(&root);
    let ids = logs.ids()?;
    if args.list && args.build.is_none() {
        return console::out(&builds(&logs, &ids, Timestamp::now())).map_err(Failure::output);
    }
    if ids.is_empty() {
        let message = format!("{} keeps no logs of builds", root.display());
        let hint = "logs are kept of builds whose steps said something; --root or DRYDOCK_ROOT \
                    name another state directory";
        return Err(Failure::error(message).hint(hint));
    }
    let id = find(&ids, args.build.as_deref().unwrap_or(LAST))?;
    let build = logs.read(&id)?;
    let chosen = match &args.step {
        Some(step) => vec![choose(&build, step)?],
        None => build.steps.iter().collect(),
    };
    if args.list {
        return console::out(&steps(&chosen)).map_err(Failure::output);
    }
    let terminal = Terminals::of_process().stdout;
    let mut writer = Writer { out: io::stdout().lock(), timestamps: args.timestamps, terminal };
    match writer.all(&logs, &build, &chosen, args.step.is_some()) {
        // Whoever reads may stop whenever they like.
        Err(Problem::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(Problem::Output(error)) => Err(Failure::output(error)),
        Err(Problem::Log(error)) => Err(error.into()),
        Ok(()) => Ok(()),
    }
}

/// The build that is meant.
fn find(ids: &[String], wanted: &str) -> Result<String, Failure> {
    let newest = || ids.iter().rev().take(LISTED).cloned().collect::<Vec<_>>().join(", ");
    if wanted == LAST {
        return Ok(ids.last().cloned().unwrap_or_default());
    }
    let fitting: Vec<&String> = ids.iter().filter(|id| id.starts_with(wanted)).collect();
    match fitting[..] {
        [id] => Ok(id.clone()),
        [] => {
            let message = format!("no log is kept of a build {wanted:?}");
            Err(Failure::error(message).hint(format!("the newest builds: {}", newest())))
        }
        _ => {
            let names: Vec<&str> = fitting.iter().take(LISTED).map(|id| id.as_str()).collect();
            let message = format!("{wanted:?} is the beginning of several builds");
            Err(Failure::error(message).hint(format!("they are: {}", names.join(", "))))
        }
    }
}

/// The step that is meant.
fn choose<'a>(build: &'a KeptBuild, wanted: &str) -> Result<&'a KeptStep, Failure> {
    if let Ok(number) = wanted.parse::<u64>()
        && let Some(step) = build.steps.iter().find(|step| step.number == number)
    {
        return Ok(step);
    }
    let fitting: Vec<&KeptStep> =
        build.steps.iter().filter(|step| step.name.contains(wanted)).collect();
    let listed = |steps: &[&KeptStep]| {
        let lines = steps.iter().take(LISTED).map(|step| format!("{} {}", step.number, step.name));
        lines.collect::<Vec<_>>().join("; ")
    };
    match fitting[..] {
        [step] => Ok(step),
        [] => {
            let message = format!("build {} has no step {wanted:?} that told something", build.id);
            let all: Vec<&KeptStep> = build.steps.iter().collect();
            Err(Failure::error(message).hint(format!("these did: {}", listed(&all))))
        }
        _ => {
            let message = format!("{wanted:?} is in the names of several steps");
            Err(Failure::error(message).hint(format!("say a number: {}", listed(&fitting))))
        }
    }
}

/// The output of `logs --list`.
fn builds(logs: &BuildLogs, ids: &[String], now: Timestamp) -> String {
    let mut table = Table::new(&["BUILD", "STARTED", "OUTCOME", "STEPS", "SIZE", "WHAT"]);
    // One that was removed meanwhile is none.
    for build in ids.iter().rev().filter_map(|id| logs.read(id).ok()) {
        table.row([
            build.id.clone(),
            ago(now.seconds - build.started.seconds),
            outcome(&build.outcome).to_owned(),
            build.steps.len().to_string(),
            text::bytes(logs.size(&build.id)),
            build.title,
        ]);
    }
    table.to_string()
}

fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Running => "running",
        Outcome::Interrupted => "interrupted",
        Outcome::Succeeded(_) => "done",
        Outcome::Failed(..) => "failed",
    }
}

/// The output of `logs --list BUILD`.
fn steps(steps: &[&KeptStep]) -> String {
    let mut table = Table::new(&["STEP", "ENDED", "NAME"]);
    for step in steps {
        let end = match &step.end {
            None => "-",
            Some((End::Done, _)) => "done",
            Some((End::Failed(_), _)) => "failed",
            Some((End::Cancelled, _)) => "canceled",
        };
        table.row([step.number.to_string(), end.to_owned(), step.name.clone()]);
    }
    table.to_string()
}

/// Why showing ended early.
enum Problem {
    Output(io::Error),
    Log(cache::CacheError),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<cache::CacheError> for Problem {
    fn from(error: cache::CacheError) -> Self {
        Self::Log(error)
    }
}

/// Writes logs, byte for byte as they were told; to a terminal without what would move its cursor.
struct Writer<W> {
    out: W,
    timestamps: bool,
    /// Whether a terminal would do what a step tells it to.
    terminal: bool,
}

impl<W: Write> Writer<W> {
    /// One step by itself, or each under its name.
    fn all(
        &mut self,
        logs: &BuildLogs,
        build: &KeptBuild,
        steps: &[&KeptStep],
        alone: bool,
    ) -> Result<(), Problem> {
        for (at, step) in steps.iter().enumerate() {
            if !alone {
                let gap = if at == 0 { "" } else { "\n" };
                writeln!(self.out, "{gap}#{} {}", step.number, step.name)?;
            }
            let whole_lines = match logs.frames(&build.id, step.number)? {
                Some(frames) => self.step(frames)?,
                None => true,
            };
            if alone {
                continue;
            }
            if !whole_lines {
                writeln!(self.out)?;
            }
            if let Some((End::Failed(error), _)) = &step.end {
                writeln!(self.out, "#{} ERROR: {}", step.number, text::clean(error, false))?;
            }
        }
        Ok(self.out.flush()?)
    }

    /// The output of a step; whether it ended with a whole line.
    fn step(&mut self, frames: Frames) -> Result<bool, Problem> {
        let mut line_begins = true;
        for frame in frames {
            let frame = frame?;
            if !self.timestamps && !self.terminal {
                self.out.write_all(&frame.data)?;
                line_begins = frame.data.last().map_or(line_begins, |last| *last == b'\n');
                continue;
            }
            for line in frame.data.split_inclusive(|byte| *byte == b'\n') {
                if line_begins && self.timestamps {
                    write!(self.out, "{} ", frame.at)?;
                }
                if self.terminal {
                    let text = String::from_utf8_lossy(line);
                    let end = if line.ends_with(b"\n") { "\n" } else { "" };
                    write!(self.out, "{}{end}", text::clean(text.trim_end_matches('\n'), true))?;
                } else {
                    self.out.write_all(line)?;
                }
                line_begins = line.ends_with(b"\n");
            }
        }
        Ok(line_begins)
    }
}
