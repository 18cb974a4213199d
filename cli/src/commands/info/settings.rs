//! How large the cache may become: what the environment and the state directory say.

use std::path::Path;

use cache::ceiling::Ledger;

use super::report::Report;
use crate::environment::Environment;
use crate::settings::Settings;

/// Looks.
pub(super) fn look(report: &mut Report, environment: &Environment, root: &Path) {
    let settings = match Settings::read(root) {
        Ok(settings) => settings,
        Err(error) => {
            report.cache.problem = Some(error.to_string());
            return;
        }
    };
    let cache = &mut report.cache;
    cache.rules = settings.rules.iter().map(|rule| rule.name.clone()).collect();
    let worst = Ledger::of(root).worst;
    (cache.largest_excess, cache.looked_after) = (worst.bytes, worst.millis);
    let Some(limit) = settings.limit(None, environment) else { return };
    cache.ceiling = Some(limit.bytes);
    cache.ceiling_from = Some(limit.rule);
    cache.exact = file_system_size(root).is_some_and(|size| size <= limit.bytes);
}

/// The size of the file system of a directory that is there, in bytes.
fn file_system_size(root: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(root).ok()?;
    Some(stat.f_blocks.saturating_mul(stat.f_frsize))
}
