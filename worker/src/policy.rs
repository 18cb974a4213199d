//! Keeping the cache small by rules, after builds.

use std::time::Duration;

use cache::gc::policy::Rule;
use cache::gc::{Request, before};
use oci::Timestamp;

use crate::engine::Engine;
use crate::error::WorkerError;

/// A rule with a name that people know it by: `gc rule 2 of config.json`.
#[derive(Clone, Debug)]
pub struct NamedRule {
    /// The name.
    pub name: String,
    /// The rule.
    pub rule: Rule,
}

/// What a rule removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The name of the rule.
    pub name: String,
    /// In bytes.
    pub freed: u64,
}

impl Engine {
    /// Applies `rules`, one after the other, if that was not done within `interval`. What they are
    /// about goes in the order of [`prune`](Self::prune); never what an image with a name or a
    /// running process needs.
    ///
    /// # Errors
    /// If the state directory cannot be read or changed.
    pub fn keep_small(
        &self,
        rules: &[NamedRule],
        interval: Duration,
    ) -> Result<Vec<Kept>, WorkerError> {
        let Some(turn) = self.state.turn(interval)? else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for NamedRule { name, rule } in rules {
            let (used, disk) = self.state.footprint()?;
            let Some(keep) = rule.keep(used, disk) else { continue };
            let now = Timestamp::now();
            let request = Request {
                all: rule.all,
                unused_since: rule.keep_duration.map(|age| before(now, age)),
                filters: rule.filters.clone(),
                now,
                keep_bytes: Some(keep),
                name: name.clone(),
            };
            let freed = self.prune(&request)?.freed;
            if freed > 0 {
                all.push(Kept { name: name.clone(), freed });
            }
        }
        turn.done(&self.state)?;
        Ok(all)
    }
}
