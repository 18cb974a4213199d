//! Groups of version 2: one hierarchy, whose groups hand controllers down (Linux,
//! Documentation/admin-guide/cgroup-v2.rst).

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::limits::{Controller, CpuQuota, GroupLimits, Setting, Swap};
use super::{CgroupError, Parent, make_dir, v1};

const SUBTREE: &str = "cgroup.subtree_control";
/// Where the builder goes that sits in a group which is to hand controllers down. It stays there,
/// and its group goes with the one that it is in (systemd removes a scope when its last process
/// has ended).
const ASIDE: &str = "drydock-builder";

/// What is written into a group's files, in this order.
pub(super) fn settings(controller: Controller, limits: &GroupLimits) -> Vec<Setting> {
    match controller {
        Controller::Memory => memory(limits),
        Controller::Cpu => {
            let quota = limits.cpu.map(|CpuQuota { quota_micros, period_micros }| {
                Setting::new("processor time", "cpu.max", format!("{quota_micros} {period_micros}"))
            });
            let shares = limits.cpu_shares.map(|shares| {
                Setting::new("the share of processor time", "cpu.weight", weight(shares))
            });
            quota.into_iter().chain(shares).collect()
        }
        // The same files as in version 1.
        Controller::Cpuset | Controller::Pids => v1::settings(controller, limits),
    }
}

/// Swap has a limit of its own here.
fn memory(limits: &GroupLimits) -> Vec<Setting> {
    let Some(bytes) = limits.memory else { return Vec::new() };
    let swap = match limits.swap {
        None => bytes.to_string(),
        Some(Swap::Total(total)) => total.saturating_sub(bytes).to_string(),
        Some(Swap::Unlimited) => "max".to_owned(),
    };
    let swap = Setting {
        optional: !matches!(limits.swap, Some(Swap::Total(_))),
        ..Setting::new("swap", "memory.swap.max", swap)
    };
    vec![Setting::new("memory", "memory.max", bytes), swap]
}

/// Shares of 2 to 262,144 on the scale of weights, 1 to 10,000: the curve that also makes the
/// 1,024 shares of a group without a limit its weight of 100 (runc's since 1.3.2).
fn weight(shares: u64) -> u64 {
    #[allow(clippy::cast_precision_loss)]
    let log = (shares.clamp(2, 262_144) as f64).log2();
    let weight = 10f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (weight.round() as u64).clamp(1, 10_000)
}

/// Hands `controller` down from the top to the groups in `parent`, which is made if it is not
/// there.
pub(super) fn hand_down(
    root: &Path,
    parent: &Parent,
    controller: Controller,
    what: &'static str,
) -> Result<(), CgroupError> {
    let name = controller.name();
    if !lists(&root.join("cgroup.controllers"), name) {
        return Err(CgroupError::Missing { what, controller: name });
    }
    enable(root, name, what)?;
    for group in parent.levels(root) {
        make_dir(&group)?;
        enable(&group, name, what)?;
    }
    Ok(())
}

/// Moves the builder out of a group that is to hand controllers down, which a group with processes
/// cannot. The top of all, which has no type, is excepted.
fn step_aside(group: &Path, pid: u32) -> io::Result<()> {
    let members = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let pid = pid.to_string();
    if !group.join("cgroup.type").exists() || !members.lines().any(|it| it == pid) {
        return Ok(());
    }
    let aside = group.join(ASIDE);
    match fs::create_dir(&aside) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::write(aside.join("cgroup.procs"), pid)
}

/// What is switched on already may be in a file that only others may write.
fn enable(group: &Path, controller: &'static str, what: &'static str) -> Result<(), CgroupError> {
    let path = group.join(SUBTREE);
    if lists(&path, controller) {
        return Ok(());
    }
    step_aside(group, std::process::id())
        .map_err(|source| CgroupError::Join { path: group.join(ASIDE), source })?;
    fs::write(&path, format!("+{controller}")).map_err(|source: io::Error| match source.kind() {
        // Groups that hand controllers down have no processes of their own, but for the top.
        ErrorKind::ResourceBusy => CgroupError::Occupied { what, path: group.into(), controller },
        _ => CgroupError::Write { what, path, value: format!("+{controller}"), source },
    })
}

fn lists(file: &Path, name: &str) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split_ascii_whitespace().any(|it| it == name)
}

/// Version 2 takes any processors and gives those that there are: a limit would be weakened
/// without a word.
pub(super) fn check_sets(above: &Path, limits: &GroupLimits) -> Result<(), CgroupError> {
    v1::offered(above, ["cpuset.cpus.effective", "cpuset.mems.effective"], limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights() {
        assert_eq!([0, 2, 1024, 262_144, 1 << 40].map(weight), [1, 1, 100, 10_000, 10_000]);
    }

    #[test]
    fn swap() {
        let values = |memory, swap| {
            let limits = GroupLimits { memory, swap, ..GroupLimits::default() };
            let all = settings(Controller::Memory, &limits).into_iter();
            all.map(|it| (it.value, it.optional)).collect::<Vec<_>>()
        };
        let setting = |value: &str, optional| (value.to_owned(), optional);
        assert_eq!(values(None, None), []);
        assert_eq!(values(Some(5), None)[1], setting("5", true));
        assert_eq!(values(Some(5), Some(Swap::Total(8)))[1], setting("3", false));
        assert_eq!(values(Some(5), Some(Swap::Unlimited))[1], setting("max", true));
    }
}
