//! What can be limited here, found out without making a group.

use std::path::Path;

use super::limits::Controller;
use super::{CgroupError, Hierarchies, Parent};

/// Which control groups there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// None.
    None,
    /// A hierarchy for each controller.
    V1,
    /// One hierarchy.
    V2,
    /// Both: controllers of version 1, and the hierarchy of version 2 beside them.
    Hybrid,
}

/// What a host gives of one controller.
#[derive(Debug)]
pub struct Offer {
    /// As in cgroups(7).
    pub controller: &'static str,
    /// Why groups with its limits cannot be made, if so.
    pub refusal: Option<CgroupError>,
    /// Whether memory and swap can be limited apart; of memory only.
    pub swap: bool,
}

impl Hierarchies {
    /// Which control groups there are.
    #[must_use]
    pub fn version(&self) -> Version {
        let old = Controller::ALL.into_iter().any(|it| self.v1(it).is_some());
        match (old, self.unified.is_some()) {
            (false, false) => Version::None,
            (true, false) => Version::V1,
            (false, true) => Version::V2,
            (true, true) => Version::Hybrid,
        }
    }

    /// What groups could be made with. Nothing is made: a limit may still be refused by its
    /// value, and by a group that has processes in it.
    #[must_use]
    pub fn offers(&self) -> Vec<Offer> {
        Controller::ALL.into_iter().map(|controller| self.offer(controller)).collect()
    }

    fn offer(&self, controller: Controller) -> Offer {
        let what = match controller {
            Controller::Memory => "memory",
            Controller::Cpu => "processor time",
            Controller::Cpuset => "the processors",
            Controller::Pids => "the number of processes",
        };
        let name = controller.name();
        let v1 = self.v1(controller);
        let missing = || CgroupError::Missing { what, controller: name };
        let base = v1.or(self.unified.as_deref()).ok_or_else(missing).and_then(|top| {
            let base = self.base(top, &Parent::default(), what, v1.is_none())?;
            if v1.is_none() && !lists(&base.join("cgroup.controllers"), name) {
                return Err(missing());
            }
            Ok(base)
        });
        let swap = match &base {
            Ok(base) if controller == Controller::Memory => counts_swap(base, v1.is_some()),
            _ => false,
        };
        Offer { controller: name, refusal: base.err(), swap }
    }
}

fn lists(file: &Path, name: &str) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.split_ascii_whitespace().any(|it| it == name)
}

/// The top of version 2 has no limits itself: a group in it tells.
fn counts_swap(base: &Path, old: bool) -> bool {
    const SWAP: &str = "memory.swap.max";
    if old {
        return base.join("memory.memsw.limit_in_bytes").exists();
    }
    let groups = std::fs::read_dir(base).into_iter().flatten().flatten();
    base.join(SWAP).exists() || groups.into_iter().any(|it| it.path().join(SWAP).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tree_offers() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        std::fs::write(root.join("cgroup.controllers"), "memory pids\n").unwrap();
        let all = Hierarchies { unified: Some(root.into()), ..Hierarchies::default() };
        assert_eq!(all.version(), Version::V2);
        let given = |all: &Hierarchies| -> Vec<_> {
            let offers = all.offers().into_iter().filter(|it| it.refusal.is_none());
            offers.map(|it| (it.controller, it.swap)).collect()
        };
        assert_eq!(given(&all), [("memory", false), ("pids", false)]);
        std::fs::create_dir(root.join("group")).unwrap();
        std::fs::write(root.join("group/memory.swap.max"), "max\n").unwrap();
        let mixed = Hierarchies { cpu: Some(root.join("group")), ..all };
        assert_eq!(mixed.version(), Version::Hybrid);
        assert_eq!(given(&mixed), [("memory", true), ("cpu", false), ("pids", false)]);
        let none = Hierarchies::default();
        assert_eq!((none.version(), given(&none)), (Version::None, Vec::new()));
        let why = none.offers().swap_remove(3).refusal.unwrap().to_string();
        assert!(why.contains("number of processes"), "{why}");
    }
}
