//! `drydock info`: what this host gives to builds, and what more would take. It changes nothing:
//! what takes a user namespace is found out in a copy of the process.

mod disk;
mod gather;
mod programs;
mod report;
mod settings;
mod text;

use worker::forked;

use super::Context;
use super::failure::Failure;
use crate::args::{InfoArgs, InfoFormat};
use crate::console;
use crate::request::RequestError;
use crate::rootless::Host;
use report::Report;

/// Tells. Status 0 also where nothing can be built: that is what was asked.
pub(crate) fn run(args: &InfoArgs, context: &Context) -> Result<(), Failure> {
    let environment = &context.environment;
    let root = environment
        .state_directory(context.global.root.as_deref(), context.is_root())
        .ok_or(RequestError::NoRoot)?;
    let state = disk::State::look(&root, context.uid);
    let host = Host::of_process(environment);
    let gathered = forked::run(|| {
        let report = gather::gather(&host, context.is_root(), &state);
        serde_json::to_vec(&report).unwrap_or_default()
    });
    let gathered = gathered.map_err(|errno| {
        Failure::error(format!("cannot look at this host in a copy of this process: {errno}"))
    })?;
    let mut report: Report = serde_json::from_slice(&gathered).map_err(|_| {
        Failure::error("cannot look at this host: a copy of this process ended before it had told")
    })?;
    programs::look(&mut report, environment);
    settings::look(&mut report, environment, &root);
    report.advise(&state);
    let text = match args.format {
        InfoFormat::Text => text::render(&report),
        InfoFormat::Json => format!("{:#}\n", serde_json::to_value(&report)?),
    };
    console::out(&text).map_err(Failure::output)
}
