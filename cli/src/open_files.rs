//! How many descriptors the builder may have open: each step that runs takes about fifteen, and
//! the usual soft limit of 1,024 is there for programs that use select(2).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use worker::{Limits, ResourceLimit, rlimit};

/// Raises the builder's own soft limit as far as it goes. Steps keep the one that was, unless
/// `limits` says otherwise: some programs close every descriptor that they might have, one by one.
pub fn raise(limits: &mut Limits) {
    let was = getrlimit(Resource::Nofile);
    let (Some(soft), Some(resource)) = (was.current, rlimit::number("nofile")) else { return };
    let most = Rlimit { current: was.maximum, maximum: was.maximum };
    // Where it cannot be raised, many steps at once may come to its end, and say so.
    if was.current == was.maximum || setrlimit(Resource::Nofile, most).is_err() {
        return;
    }
    if limits.rlimits.iter().all(|it| it.resource != resource) {
        let hard = was.maximum.unwrap_or(rlimit::UNLIMITED);
        limits.rlimits.push(ResourceLimit { resource, soft, hard });
    }
}
