//! `du` and `prune`.

use std::io::{BufRead, IsTerminal};

use cache::gc::{Request, tree};
use oci::Timestamp;

use super::Context;
use super::failure::Failure;
use super::session::Store;
use crate::args::{DuArgs, PruneArgs, usage::joined};
use crate::console;
use crate::records;

/// `drydock du`.
pub(crate) fn du(args: &DuArgs, context: &Context) -> Result<(), Failure> {
    let filter = joined(&args.filter).map_err(Failure::error)?;
    let engine = Store::open(context)?;
    let now = Timestamp::now();
    let usage = engine.usage()?.filtered(&filter, now);
    let text = match (args.tree, args.written()) {
        (false, format) => records::usage(&usage, format, now),
        (true, format) => records::tree(&tree::tree(&usage), &usage.totals, format),
    };
    console::out(&text).map_err(Failure::output)
}

/// `drydock prune`.
pub(crate) fn prune(args: &PruneArgs, context: &Context) -> Result<(), Failure> {
    let filter = joined(&args.filter).map_err(Failure::error)?;
    if !args.force {
        agreed(args, &filter.to_string())?;
    }
    let engine = Store::open(context)?;
    let mut request = Request {
        all: args.all,
        filters: if filter.is_empty() { Vec::new() } else { vec![filter] },
        now: Timestamp::now(),
        name: args.command(),
        ..Request::default()
    };
    if let Some(limits) = args.limits() {
        let (used, disk) = engine.state().footprint()?;
        request.keep_bytes = limits.keep(used, disk);
        if request.keep_bytes.is_none() {
            // Small enough as it is.
            return say(&records::pruned(&cache::gc::Report::default()));
        }
    }
    let mut told = Ok(());
    let mut first = !args.verbose;
    let report = engine.prune_telling(&request, &mut |item| {
        let head = if std::mem::take(&mut first) { records::removed_head() } else { String::new() };
        let line = records::removed(item, args.verbose, request.now);
        if told.is_ok() {
            told = say(&(head + &line));
        }
    })?;
    engine.state().finish()?;
    told?;
    say(&records::pruned(&report))
}

/// Asks whether to go on.
fn agreed(args: &PruneArgs, filter: &str) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let message = "prune asks first: give --force where nobody can answer";
        return Err(Failure::error(message));
    }
    say(&records::prune_question(args.all, filter, args.limits().is_some()))?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::error("nothing was removed")),
    }
}

fn say(text: &str) -> Result<(), Failure> {
    console::out(text).map_err(Failure::output)
}
