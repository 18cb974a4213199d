//! What this host gives to builds, found out without opening a state directory. Mounts are tried
//! and gone at once; nothing is left.

use std::path::Path;

use executor::Executor;
use snapshotter::Snapshotter;
use sys::cgroup::{CgroupError, Hierarchies, Offer, Version};
use sys::userns::Ids;

use crate::engine::KIND_FILE;

/// What was found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Why steps cannot be run, if so.
    pub steps: Option<String>,
    /// Whether this process is in another user namespace than the first one.
    pub user_namespace: bool,
    /// How many user ids there are.
    pub users: u64,
    /// How many group ids there are.
    pub groups: u64,
    /// Which control groups there are: `none`, `v1`, `v2` or `hybrid`.
    pub control_groups: &'static str,
    /// What can be limited by them.
    pub controllers: Vec<ControllerFacts>,
    /// Whether swap can be limited, where memory can.
    pub swap: bool,
    /// Whether resource limits can be raised above the builder's own.
    pub raise_limits: bool,
    /// Whether overlays take layers one by one (`lowerdir+`, Linux 6.5).
    pub appends_layers: bool,
    /// Whether the control group of a step can be frozen.
    pub freezes: bool,
}

impl Facts {
    /// Finds out. In the process, or a copy of it, that would build.
    pub fn gather() -> Self {
        let ids = Ids::of_process();
        let count = |map: &[sys::userns::Extent]| map.iter().map(|it| u64::from(it.count)).sum();
        let mut facts = Self {
            steps: Executor::probe().err().map(|error| error.to_string()),
            user_namespace: sys::userns::inside(),
            users: count(&ids.users),
            groups: count(&ids.groups),
            control_groups: "none",
            raise_limits: Executor::may_raise_limits(),
            appends_layers: sys::mount::appends_layers(),
            ..Self::default()
        };
        // Without /proc there are none to be found.
        let hierarchies = Hierarchies::detect().unwrap_or_default();
        facts.control_groups = match hierarchies.version() {
            Version::None => "none",
            Version::V1 => "v1",
            Version::V2 => "v2",
            Version::Hybrid => "hybrid",
        };
        facts.freezes = hierarchies.may_freeze(&sys::cgroup::Parent::default());
        for offer in hierarchies.offers() {
            facts.swap |= offer.swap;
            facts.controllers.push(ControllerFacts::new(offer));
        }
        facts
    }
}

/// A controller of control groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerFacts {
    /// As in cgroups(7).
    pub name: &'static str,
    /// Why nothing can be limited with it, if so.
    pub refusal: Option<String>,
    /// What to do about that.
    pub advice: Option<String>,
}

impl ControllerFacts {
    fn new(offer: Offer) -> Self {
        let name = offer.controller;
        let (refusal, advice) = match offer.refusal {
            None => (None, None),
            Some(CgroupError::Missing { .. }) => (
                Some(format!("this host offers no control groups with the controller {name}")),
                Some(format!(
                    "to limit more, switch the controller {name} on for this host (boot it with \
                     cgroup_enable={name}) or container"
                )),
            ),
            Some(CgroupError::NotDelegated { group, unified, .. }) => (
                Some(format!("this user may not make control groups in {}", group.display())),
                Some(if unified { DELEGATE } else { DELEGATE_OLD }.to_owned()),
            ),
            Some(other) => (Some(other.to_string()), None),
        };
        Self { name, refusal, advice }
    }
}

const DELEGATE: &str = "to limit steps, start the build in a control group of its own: `systemd-run \
                        --user --scope -p Delegate=yes drydock build …` (in a container: --privileged)";
const DELEGATE_OLD: &str = "to limit steps, have root give this user a control group of version 1, in \
                            the hierarchy of each controller (`mkdir GROUP && chown USER GROUP \
                            GROUP/cgroup.procs`), and start the build in it";

/// How snapshots would be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFacts {
    /// `overlay`, `user-overlay`, `copy`, …
    pub kind: String,
    /// Why it is not an overlay, if so.
    pub reason: Option<String>,
    /// Whether that is written down in the state directory already.
    pub decided: bool,
}

impl SnapshotFacts {
    /// Reads what the state directory `root` says; where it says nothing, tries in `dir`, which is
    /// `root` or the directory that it would be made in.
    pub fn gather(root: &Path, dir: &Path) -> Self {
        let snapshots = root.join(crate::facts::SNAPSHOTS);
        let written = std::fs::read_to_string(snapshots.join(KIND_FILE)).unwrap_or_default();
        if let Some(word) = written.split_whitespace().next() {
            return Self { kind: word.to_owned(), reason: None, decided: true };
        }
        if !rustix::process::geteuid().is_root() {
            let reason = Some("nothing can be mounted".to_owned());
            return Self { kind: crate::backend::COPY.to_owned(), reason, decided: false };
        }
        let probe = Snapshotter::probe(dir);
        let kind = crate::backend::word(probe.kind).to_owned();
        Self { kind, reason: probe.reason, decided: false }
    }
}

/// The snapshots in a state directory (docs/state-dir.md).
const SNAPSHOTS: &str = "snapshots-v1";
