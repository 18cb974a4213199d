//! What `--call` asks of a Dockerfile instead of an image.

mod check;
mod describe;
mod ignore;
mod location;
mod outline;
mod question;
mod targets;

use super::Context;
use super::failure::Failure;
use crate::args::{BuildArgs, Call, CallFormat, CallSpec};
use crate::console;
use question::Question;

/// Answers `spec.call`.
///
/// # Errors
/// If there is no answer, or the answer is that something is wrong.
pub(crate) fn run(spec: CallSpec, args: &BuildArgs, context: &Context) -> Result<(), Failure> {
    match spec.call {
        // A build is no question, and does not come here.
        Call::Build => Ok(()),
        Call::Check => check(spec, args, context),
        Call::Outline => outline(spec, args, context),
        Call::Targets => targets(spec, args, context),
        Call::Ignore => ignore::run(spec.format, args),
        Call::Describe => print(&match spec.format {
            CallFormat::Text => describe::text(),
            CallFormat::Json => describe::json()?,
        }),
    }
}

fn print(text: &str) -> Result<(), Failure> {
    console::out(text).map_err(Failure::output)
}

/// All stages are looked at where no target is named (BuildKit: `DockerfileLint`). Warnings are
/// status 1, too.
fn check(spec: CallSpec, args: &BuildArgs, context: &Context) -> Result<(), Failure> {
    let mut question = Question::new(args, context)?;
    let mut warnings = Vec::new();
    let checked = question.read().map(|parsed| {
        let options = question.options();
        options.all_stages = options.target.is_none();
        let options = options.clone();
        let lowered = frontend::lower_with_warnings(&parsed, &options, &question, &mut warnings);
        (parsed, lowered.err())
    });
    let answer = checked.and_then(|(parsed, error)| {
        let text = match spec.format {
            CallFormat::Text => check::text(&parsed, &warnings, error.is_some()),
            CallFormat::Json => check::json(&parsed, &warnings, error.as_ref())?,
        };
        Ok((text, error.map(|error| question.failure(&parsed, error))))
    });
    let (text, failure) = question.end(answer)?;
    print(&text)?;
    match failure {
        Some(failure) => Err(failure),
        None if warnings.is_empty() || spec.ignore_status => Ok(()),
        None => Err(Failure::silent()),
    }
}

fn outline(spec: CallSpec, args: &BuildArgs, context: &Context) -> Result<(), Failure> {
    let mut question = Question::new(args, context)?;
    let answer = question.read().and_then(|parsed| {
        let options = question.options().clone();
        let outline = frontend::outline(&parsed, &options, &question)
            .map_err(|error| question.failure(&parsed, error))?;
        Ok(match spec.format {
            CallFormat::Text => outline::text(&outline),
            CallFormat::Json => outline::json(&outline, &parsed.source)?,
        })
    });
    print(&question.end(answer)?)
}

fn targets(spec: CallSpec, args: &BuildArgs, context: &Context) -> Result<(), Failure> {
    let mut question = Question::new(args, context)?;
    let answer = question.read().and_then(|parsed| {
        let options = question.options().clone();
        let targets = frontend::targets(&parsed, &options)
            .map_err(|error| question.failure(&parsed, error))?;
        Ok(match spec.format {
            CallFormat::Text => targets::text(&targets),
            CallFormat::Json => targets::json(&targets, &parsed.source)?,
        })
    });
    print(&question.end(answer)?)
}
