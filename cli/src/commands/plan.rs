//! `drydock build --plan`: which steps would run, why, and how long they took last time.

use cache::shadow;
use serde_json::json;
use solver::CancelToken;
use worker::explain::sentence;
use worker::plan::{Fate, PlannedStep};

use super::build::Build;
use super::failure::Failure;
use super::{Context, dockerfile, kept, session};
use crate::agents::Agents;
use crate::args::{BuildArgs, CallFormat, ProgressMode};
use crate::console::{self, Terminals};
use crate::contexts::ContextSource;
use crate::open_files;
use crate::progress::{Progress, View};
use crate::request::BuildRequest;
use crate::secrets::SecretStore;
use crate::signals;

/// Tells what a build would do. All that is written on the way goes into a directory beside the state
/// directory's, and away with it.
///
/// # Errors
/// If the build would fail before its first step, or the context is not on this machine.
pub(super) fn run(format: CallFormat, args: &BuildArgs, context: &Context) -> Result<(), Failure> {
    let environment = &context.environment;
    environment.check()?;
    let docker = session::docker_config(environment)?;
    let request =
        BuildRequest::new(args, &context.global, environment, &docker, context.is_root())?;
    if !matches!(request.context, ContextSource::Directory(_)) {
        let message = "--plan needs a context that is a directory of this machine";
        return Err(Failure::error(message).hint("bringing in any other would write it down"));
    }
    let (view, notes) =
        View::choose(args.progress, args.quiet, environment, Terminals::of_process());
    dockerfile::check_contexts(&request)?;
    let agents = Agents::new(&args.ssh, environment)?;
    let secrets = SecretStore::new(&args.secrets, environment)?.with_agents(agents);
    let progress = Progress::start(&view)?;
    if view.mode != ProgressMode::Quiet {
        let ignored = args.ignored.warnings();
        ignored.iter().chain(secrets.notes()).chain(&notes).for_each(|note| progress.note(note));
    }
    let cancel = CancelToken::new();
    let _signals = signals::install(cancel.clone(), |_| {})?;
    let scratch = tempfile::tempdir()?;
    shadow::cast(&request.root, scratch.path())?;
    let mut build = Build {
        title: kept::title(args, &request),
        request,
        secrets,
        iidfile: None,
        metadata_file: None,
        progress,
        cancel,
        mode: view.mode,
        colours: view.colours,
        explain: false,
        settings: crate::settings::Settings::default(),
        root_option: None,
    };
    open_files::raise(&mut build.request.limits);
    let backend = build.request.snapshotter;
    let engine = session::open(scratch.path(), context, backend, &build.cancel)?;
    let wake = {
        let engine = engine.clone();
        build.cancel.on_cancel(move || engine.client().shutdown())
    };
    let steps = build.plan(&engine);
    drop((wake, engine));
    build.progress.finish();
    let steps = steps.map_err(|failure| match build.cancel.is_cancelled() {
        true => Failure::error("cancelled"),
        false => failure,
    })?;
    let text = match format {
        CallFormat::Text => lines(&steps),
        CallFormat::Json => json(&steps)?,
    };
    console::out(&text).map_err(Failure::output)
}

fn count(steps: &[PlannedStep], fate: Fate) -> usize {
    steps.iter().filter(|step| step.fate == fate).count()
}

fn lines(steps: &[PlannedStep]) -> String {
    let (run, maybe) = (count(steps, Fate::Run), count(steps, Fate::Maybe));
    let mut text = match (run, maybe) {
        (0, 0) => "nothing would run".to_owned(),
        (run, 0) => format!("{run} of {} steps would run", steps.len()),
        (run, maybe) => format!("{run} of {} steps would run, and {maybe} may", steps.len()),
    };
    let taken: u64 = steps
        .iter()
        .filter(|step| step.fate != Fate::Cached)
        .filter_map(|step| step.last_millis)
        .sum();
    if taken > 0 {
        text.push_str(&format!(" (last time: {})", seconds(taken)));
    }
    text.push('\n');
    for step in steps {
        let word = match step.fate {
            Fate::Cached => "cached",
            Fate::Run => "run",
            Fate::Maybe => "maybe",
        };
        text.push_str(&format!("{word:7} {}", step.step));
        if let (Some(millis), true) = (step.last_millis, step.fate != Fate::Cached) {
            text.push_str(&format!(" ({})", seconds(millis)));
        }
        if let Some(from) = &step.from {
            text.push_str(&format!(" (from {from})"));
        }
        text.push('\n');
        if let Some(why) = why(step) {
            text.push_str(&format!("        {why}\n"));
        }
    }
    text
}

/// Why a step would run; none for one that would not.
fn why(step: &PlannedStep) -> Option<String> {
    match step.fate {
        Fate::Cached => None,
        Fate::Run => Some(sentence(&step.causes)),
        Fate::Maybe => Some(format!("if the result of {} changes", step.after.join(", or of "))),
    }
}

fn seconds(millis: u64) -> String {
    format!("{}.{}s", millis / 1000, millis % 1000 / 100)
}

fn json(steps: &[PlannedStep]) -> Result<String, Failure> {
    let all: Vec<_> = steps
        .iter()
        .map(|step| {
            json!({
                "step": step.step, "fate": step.fate, "why": why(step), "causes": step.causes,
                "after": step.after, "last_millis": step.last_millis, "from": step.from,
            })
        })
        .collect();
    let document = json!({
        "run": count(steps, Fate::Run), "maybe": count(steps, Fate::Maybe),
        "cached": count(steps, Fate::Cached), "steps": all,
    });
    Ok(format!("{}\n", serde_json::to_string_pretty(&document)?))
}
