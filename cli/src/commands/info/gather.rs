//! What has to be tried, in a copy of the process that goes the way of a build.

use std::path::Path;

use worker::facts::{Facts, SnapshotFacts};

use super::disk::State;
use super::report::{Ability, Builds, ControlGroups, Kernel, Report, Snapshots, Tier};
use crate::rootless::{self, Entered, Host, Unavailable};
use crate::version;

/// Goes into the user namespace that a build would go into, and looks around there.
pub(super) fn gather(host: &Host, is_root: bool, state: &State) -> Report {
    let (tier, missing) = match is_root {
        true => (Tier::Root, None),
        false => match rootless::enter(host) {
            Ok(Entered::Ranges) => (Tier::Ranges, None),
            Ok(Entered::One(missing)) => (Tier::OneId, Some(missing)),
            Ok(Entered::Outside(missing)) | Err(missing) => (Tier::None, Some(missing)),
        },
    };
    let facts = Facts::gather();
    let tier = if is_root && facts.user_namespace { Tier::RootInUserNamespace } else { tier };
    let mut report = Report {
        version: version::text().trim().to_owned(),
        kernel: kernel(&facts),
        builds: builds(tier, missing.as_ref(), &facts),
        networks: networks(&facts),
        ..Report::default()
    };
    report.hints.extend(missing.iter().flat_map(Unavailable::hints));
    limits(&mut report, &facts);
    report.snapshots = snapshots(state, tier);
    report.cache.steps_held_by = if facts.freezes { "freezer" } else { "signals" }.to_owned();
    report
}

fn kernel(facts: &Facts) -> Kernel {
    let name = rustix::system::uname();
    let systems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    Kernel {
        release: name.release().to_string_lossy().into_owned(),
        architecture: name.machine().to_string_lossy().into_owned(),
        seccomp: Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
        user_namespaces: Path::new("/proc/self/ns/user").exists(),
        // As a module it is not listed before it is used for the first time.
        overlay: facts.appends_layers || systems.lines().any(|it| it.ends_with("\toverlay")),
        overlay_appends_layers: facts.appends_layers,
    }
}

fn builds(tier: Tier, missing: Option<&Unavailable>, facts: &Facts) -> Builds {
    let none = tier == Tier::None;
    let run_reason = match none {
        true => missing.map(ToString::to_string),
        false => facts.steps.clone(),
    };
    Builds {
        tier,
        tier_reason: missing.map(Unavailable::reasons),
        run: run_reason.is_none(),
        run_reason,
        users: if none { 0 } else { facts.users },
        groups: if none { 0 } else { facts.groups },
    }
}

/// What RUN may have; `isolated` is up to programs, too.
fn networks(facts: &Facts) -> Vec<Ability> {
    let steps = || facts.steps.as_ref().map(|_| "RUN is not possible here".to_owned());
    ["host", "none", "isolated"].map(|name| Ability::new(name, steps())).into()
}

/// The limits, by the option that sets them.
fn limits(report: &mut Report, facts: &Facts) {
    let refused = |controller: &str| {
        let found = facts.controllers.iter().find(|it| it.name == controller);
        found.and_then(|it| it.refusal.clone())
    };
    let swap = match (refused("memory"), facts.swap) {
        (Some(reason), _) => Some(reason),
        (None, true) => None,
        (None, false) => {
            Some("this kernel does not count swap (boot it with swapaccount=1)".to_owned())
        }
    };
    let raise = "no CAP_SYS_RESOURCE: limits up to the builder's own work, higher ones do not";
    let raise = (!facts.raise_limits).then(|| raise.to_owned());
    report.limits = vec![
        Ability::new("memory", refused("memory")),
        Ability::new("swap", swap),
        Ability::new("cpu", refused("cpu")),
        Ability::new("cpuset", refused("cpuset")),
        Ability::new("pids", refused("pids")),
        Ability::new("ulimits above the builder's own", raise),
        Ability::new("shm-size", None),
    ];
    let names = |usable: bool| {
        let those = facts.controllers.iter().filter(|it| it.refusal.is_none() == usable);
        those.map(|it| it.name.to_owned()).collect()
    };
    report.control_groups = ControlGroups {
        version: facts.control_groups.to_owned(),
        usable: names(true),
        unusable: names(false),
    };
    report.hints.extend(facts.controllers.iter().filter_map(|it| it.advice.clone()));
    report.hints.extend((!facts.raise_limits).then(|| {
        "to raise resource limits, start it with higher ones (`ulimit -Hn 65536`, LimitNOFILE=), or \
         as root with CAP_SYS_RESOURCE (in a container: --cap-add SYS_RESOURCE)"
            .to_owned()
    }));
    report.hints.extend(facts.steps.clone());
}

fn snapshots(state: &State, tier: Tier) -> Snapshots {
    if !state.is_usable() || tier == Tier::None {
        return Snapshots { kind: "unknown".to_owned(), ..Snapshots::default() };
    }
    let SnapshotFacts { kind, reason, decided } = SnapshotFacts::gather(&state.root, &state.near);
    Snapshots { kind, reason, decided }
}
