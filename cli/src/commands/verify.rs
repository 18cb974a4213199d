//! `drydock verify`.

use super::Context;
use super::failure::Failure;
use super::session::Store;
use crate::console;

/// Reads all of the cache. What is damaged is told as a warning, and fails the command.
pub(crate) fn run(context: &Context) -> Result<(), Failure> {
    let engine = Store::open(context)?;
    let verified = engine.verify()?;
    engine.state().finish()?;
    let good = format!(
        "{} snapshots, {} blobs and {} records are good\n",
        verified.snapshots, verified.blobs, verified.records
    );
    console::out(&good).map_err(Failure::output)?;
    match verified.damaged {
        0 => Ok(()),
        damaged => Err(Failure::error(format!(
            "{damaged} damaged; none of it is used any more, and builds make it again"
        ))),
    }
}
