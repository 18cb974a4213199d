//! Resource limits (setrlimit(2)) of steps: what they are called, and whether this builder may
//! give them.

use std::fs;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use sys::program::ResourceLimit;

use crate::error::ExecError;

/// No limit (`RLIM_INFINITY`).
pub const UNLIMITED: u64 = u64::MAX;

/// The names that Docker gives them, the kernel's numbers (asm-generic/resource.h), and what
/// these mean to rustix.
const LIMITS: [(&str, u32, Resource); 15] = [
    ("core", 4, Resource::Core),
    ("cpu", 0, Resource::Cpu),
    ("data", 2, Resource::Data),
    ("fsize", 1, Resource::Fsize),
    ("locks", 10, Resource::Locks),
    ("memlock", 8, Resource::Memlock),
    ("msgqueue", 12, Resource::Msgqueue),
    ("nice", 13, Resource::Nice),
    ("nofile", 7, Resource::Nofile),
    ("nproc", 6, Resource::Nproc),
    ("rss", 5, Resource::Rss),
    ("rtprio", 14, Resource::Rtprio),
    ("rttime", 15, Resource::Rttime),
    ("sigpending", 11, Resource::Sigpending),
    ("stack", 3, Resource::Stack),
];

/// The names of all resource limits, sorted.
#[must_use]
pub fn names() -> Vec<&'static str> {
    LIMITS.iter().map(|(name, ..)| *name).collect()
}

/// The number (`RLIMIT_*`) of a limit by its name, such as `nofile`.
#[must_use]
pub fn number(name: &str) -> Option<u32> {
    LIMITS.iter().find(|(it, ..)| *it == name).map(|(_, number, _)| *number)
}

/// `nofile=1024:2048`.
pub(crate) fn show(limit: ResourceLimit) -> String {
    let value = |n: u64| if n == UNLIMITED { "-1".to_owned() } else { n.to_string() };
    let name = LIMITS.iter().find(|(_, number, _)| *number == limit.resource);
    let name = name.map_or_else(|| limit.resource.to_string(), |(name, ..)| (*name).to_owned());
    format!("{name}={}:{}", value(limit.soft), value(limit.hard))
}

fn resource(limit: ResourceLimit) -> Option<Resource> {
    LIMITS.iter().find(|(_, number, _)| *number == limit.resource).map(|(.., resource)| *resource)
}

/// The builder's own hard limit.
fn own_hard(resource: Resource) -> u64 {
    getrlimit(resource).maximum.unwrap_or(UNLIMITED)
}

/// The limits that are above the builder's own: steps cannot raise them themselves.
pub(crate) fn raised(limits: &[ResourceLimit]) -> Vec<ResourceLimit> {
    let above = |it: &&ResourceLimit| resource(**it).is_some_and(|r| it.hard > own_hard(r));
    limits.iter().filter(above).copied().collect()
}

/// Refuses limits that this builder may not give.
pub(crate) fn check(limits: &[ResourceLimit]) -> Result<(), ExecError> {
    let refuse = |limit, reason| Err(ExecError::ResourceLimit { limit: show(limit), reason });
    for limit in limits {
        let most = (limit.resource == Resource::Nofile as u32).then(most_files).flatten();
        if let Some(most) = most.filter(|most| limit.hard > *most) {
            let reason = format!("this kernel gives at most {most} (/proc/sys/fs/nr_open)");
            return refuse(*limit, reason);
        }
    }
    for limit in raised(limits) {
        if !crate::probe::may_raise_limits() {
            let own = resource(limit).map_or(0, own_hard);
            let reason = format!(
                "the builder's own hard limit is {own}, and it lacks the capability \
                 CAP_SYS_RESOURCE that raising it takes; ask for at most {own}, or start the \
                 builder with a higher limit or with that capability"
            );
            return refuse(limit, reason);
        }
    }
    Ok(())
}

fn most_files() -> Option<u64> {
    fs::read_to_string("/proc/sys/fs/nr_open").ok()?.trim().parse().ok()
}

/// Raises what [`raised`] told in a child that has not begun yet: later it has no right to.
pub(crate) fn raise(pid: i32, limits: &[ResourceLimit]) -> Result<(), ExecError> {
    for limit in limits {
        let (Some(resource), Some(pid)) = (resource(*limit), Pid::from_raw(pid)) else { continue };
        let now = getrlimit(resource);
        let maximum = (limit.hard != UNLIMITED).then_some(limit.hard);
        let new = Rlimit { current: now.current, maximum };
        prlimit(Some(pid), resource, new).map_err(|errno| ExecError::ResourceLimit {
            limit: show(*limit),
            reason: format!("the kernel refuses to raise the hard limit: {errno}"),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert!(names().is_sorted());
        for (name, number, resource) in LIMITS {
            assert_eq!(number, resource as u32, "{name}");
        }
        assert_eq!((super::number("nofile"), super::number("nofiles")), (Some(7), None));
        let limit = ResourceLimit { resource: 7, soft: 5, hard: UNLIMITED };
        assert_eq!(show(limit), "nofile=5:-1");
    }

    #[test]
    fn what_can_be_given() {
        let own = own_hard(Resource::Nofile);
        let limit = |hard| ResourceLimit { resource: 7, soft: 1, hard };
        assert!(check(&[limit(own), limit(1)]).is_ok());
        assert!(raised(&[limit(own), limit(1)]).is_empty());
        let error = check(&[limit(1 << 40)]).unwrap_err().to_string();
        assert!(error.contains("nofile=1:1099511627776") && error.contains("nr_open"), "{error}");
    }
}
