//! `du` and `prune`.

use std::io::{BufRead, IsTerminal};

use cache::gc::{Request, before};
use oci::Timestamp;

use super::Context;
use super::failure::Failure;
use super::session::Store;
use crate::args::{DuArgs, PruneArgs};
use crate::console;
use crate::listing;

/// `drydock du`.
pub(crate) fn du(args: &DuArgs, context: &Context) -> Result<(), Failure> {
    let engine = Store::open(context)?;
    let usage = engine.usage()?;
    let text = match args.json {
        true => listing::usage_json(&usage),
        false => listing::usage(&usage, args.verbose, Timestamp::now()),
    };
    console::out(&text).map_err(Failure::output)
}

/// `drydock prune`.
pub(crate) fn prune(args: &PruneArgs, context: &Context) -> Result<(), Failure> {
    let age = args.filter.map(|until| until.0);
    if !args.force {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            let message = "prune asks first: give --force where nobody can answer";
            return Err(Failure::error(message));
        }
        console::out(&listing::prune_question(args.all, age)).map_err(Failure::output)?;
        let mut answer = String::new();
        stdin.lock().read_line(&mut answer)?;
        if !matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
            return Err(Failure::error("nothing was removed"));
        }
    }
    let engine = Store::open(context)?;
    let request = Request {
        all: args.all,
        unused_since: age.map(|age| before(Timestamp::now(), age)),
        ..Request::default()
    };
    let mut report = engine.prune(&request)?;
    if args.all {
        report.freed += engine.state().clear_build_logs(request.unused_since)?;
    }
    engine.state().finish()?;
    console::out(&listing::pruned(&report)).map_err(Failure::output)
}
