//! Why steps ran: `drydock explain`, and what a build is compared with.

use std::path::Path;

use cache::StoredBuild;
use oci::{Digest, Timestamp};
use serde_json::json;
use worker::explain::{self, Explain, Explained, ExplainedBuild, sentence};

use super::Context;
use super::failure::Failure;
use super::session::Store;
use crate::args::ExplainArgs;
use crate::console;
use crate::contexts::{ContextSource, DockerfileSource};
use crate::progress::text;
use crate::request::BuildRequest;
use crate::table::{Table, ago};

/// Digits of the names of families and variants.
const DIGITS: usize = 32;

/// `drydock explain`.
pub(crate) fn run(args: &ExplainArgs, context: &Context) -> Result<(), Failure> {
    let engine = Store::open(context)?;
    let builds = explain::builds(engine.state());
    let text = match args.list {
        true => list(&builds, args.json)?,
        false => {
            let (stored, build) = find(&builds, args.build.as_deref())?;
            if args.json { document(&[(stored, build)])? } else { causes(stored, build) }
        }
    };
    console::out(&text).map_err(Failure::output)
}

type Known = (StoredBuild, ExplainedBuild);

fn find<'a>(
    builds: &'a [Known],
    wanted: Option<&str>,
) -> Result<(&'a StoredBuild, &'a ExplainedBuild), Failure> {
    let wanted = wanted.unwrap_or_default();
    let mut found = builds.iter().filter(|(stored, _)| stored.id.starts_with(wanted));
    let Some((stored, build)) = found.next() else {
        return Err(match wanted {
            "" => Failure::error("no step of a build ran yet"),
            _ => Failure::error(format!("nothing is known of a build {wanted:?}"))
                .hint("`drydock explain --list` lists the builds"),
        });
    };
    if !wanted.is_empty() && found.next().is_some() {
        let message = format!("{wanted:?} is the beginning of several builds");
        return Err(Failure::error(message).hint("`drydock explain --list` lists them"));
    }
    Ok((stored, build))
}

fn causes(stored: &StoredBuild, build: &ExplainedBuild) -> String {
    let age = ago(Timestamp::now().seconds - build.started.seconds);
    let count = build.ran.len();
    let steps = if count == 1 { "step" } else { "steps" };
    let mut text = format!("{}: {}, {age}: {count} {steps} ran\n", stored.id, build.title);
    for step in &build.ran {
        text.push_str(&format!("{}\n    {}\n", step.step, sentence(&step.causes)));
        if let Some(numbers) = numbers(step) {
            text.push_str(&format!("    {numbers}\n"));
        }
    }
    text
}

/// What a step took: time, processor time, memory.
fn numbers(step: &Explained) -> Option<String> {
    let seconds = |millis: u64| format!("{}.{}s", millis / 1000, millis % 1000 / 100);
    let mut text = format!("took {}", seconds(step.millis?));
    if let Some(used) = step.used {
        text.push_str(&format!("; {} of processor time", seconds(used.cpu_micros / 1000)));
        if let Some(peak) = used.peak_memory {
            text.push_str(&format!(", at most {} of memory", text::bytes(peak)));
        }
    }
    Some(text)
}

fn list(builds: &[Known], json: bool) -> Result<String, Failure> {
    if json {
        let all: Vec<_> = builds.iter().map(|(stored, build)| (stored, build)).collect();
        return document(&all);
    }
    let mut table = Table::new(&["BUILD", "STARTED", "RAN", "WHAT"]);
    let now = Timestamp::now();
    for (stored, build) in builds {
        table.row([
            stored.id.clone(),
            ago(now.seconds - build.started.seconds),
            build.ran.len().to_string(),
            build.title.clone(),
        ]);
    }
    Ok(table.to_string())
}

/// A JSON document per build.
fn document(builds: &[(&StoredBuild, &ExplainedBuild)]) -> Result<String, Failure> {
    let mut text = String::new();
    for (stored, build) in builds {
        let steps: Vec<_> = build
            .ran
            .iter()
            .map(|it| {
                json!({
                    "step": it.step, "why": sentence(&it.causes), "causes": it.causes,
                    "millis": it.millis, "used": it.used,
                })
            })
            .collect();
        let started = build.started.to_string();
        let value = json!({
            "build": stored.id, "title": build.title, "started": started, "ran": steps,
        });
        text.push_str(&serde_json::to_string(&value)?);
        text.push('\n');
    }
    Ok(text)
}

/// What builds a build is compared with: those of the same Dockerfile in the same context, best of the
/// same target and platform.
pub(crate) fn comparison<'a>(
    request: &BuildRequest,
    title: &str,
    show: bool,
    id: &'a (dyn Fn() -> Option<String> + Sync),
) -> Explain<'a> {
    let place = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let context = match &request.context {
        ContextSource::Directory(path) => place(path).display().to_string(),
        other => other.to_string(),
    };
    let dockerfile = match &request.dockerfile {
        DockerfileSource::File(path) => format!("{:?}", DockerfileSource::File(place(path))),
        other => format!("{other:?}"),
    };
    let lower = &request.lower;
    let target = lower.target.as_deref().unwrap_or_default();
    Explain {
        family: name(&[&context, &dockerfile]),
        variant: name(&[target, &lower.platform.to_string()]),
        title: title.to_owned(),
        id: Some(id),
        no_cache: lower.no_cache,
        show,
    }
}

fn name(parts: &[&str]) -> String {
    let text = serde_json::to_string(parts).unwrap_or_default();
    Digest::of(text.as_bytes()).hex().chars().take(DIGITS).collect()
}
