//! Groups of version 1: a hierarchy for each controller (Linux, Documentation/admin-guide/
//! cgroup-v1).

use std::fs;
use std::path::Path;

use super::limits::{Controller, CpuQuota, GroupLimits, Setting, Swap};
use super::list::NumberList;
use super::{CgroupError, write};

const CPUS: &str = "cpuset.cpus";
const MEMS: &str = "cpuset.mems";

/// What is written into a group's files, in this order.
pub(super) fn settings(controller: Controller, limits: &GroupLimits) -> Vec<Setting> {
    match controller {
        Controller::Memory => memory(limits),
        Controller::Cpu => {
            let mut all = Vec::new();
            if let Some(CpuQuota { quota_micros, period_micros }) = limits.cpu {
                let what = "processor time";
                all.push(Setting::new(what, "cpu.cfs_period_us", period_micros));
                all.push(Setting::new(what, "cpu.cfs_quota_us", quota_micros));
            }
            let shares = limits.cpu_shares;
            all.extend(
                shares.map(|n| Setting::new("the share of processor time", "cpu.shares", n)),
            );
            all
        }
        Controller::Cpuset => {
            let cpus = limits.cpus.as_ref().map(|l| Setting::new("the processors", CPUS, l));
            let mems = limits.mems.as_ref().map(|l| Setting::new("the memory nodes", MEMS, l));
            cpus.into_iter().chain(mems).collect()
        }
        Controller::Pids => {
            let max = limits.pids.map(|n| Setting::new("the number of processes", "pids.max", n));
            max.into_iter().collect()
        }
    }
}

/// The sum may not be smaller than memory alone, so that comes first.
fn memory(limits: &GroupLimits) -> Vec<Setting> {
    let Some(bytes) = limits.memory else { return Vec::new() };
    let total = match limits.swap {
        None => bytes.saturating_mul(2).to_string(),
        Some(Swap::Total(total)) => total.to_string(),
        Some(Swap::Unlimited) => "-1".to_owned(),
    };
    let swap = Setting {
        optional: !matches!(limits.swap, Some(Swap::Total(_))),
        ..Setting::new("memory and swap", "memory.memsw.limit_in_bytes", total)
    };
    vec![Setting::new("memory", "memory.limit_in_bytes", bytes), swap]
}

/// A new group of the cpuset controller is empty, and takes no process before it has both
/// processors and memory nodes: those of the group above it.
pub(super) fn inherit(group: &Path) -> Result<(), CgroupError> {
    let Some(above) = group.parent() else { return Ok(()) };
    for (what, file) in [("the processors", CPUS), ("the memory nodes", MEMS)] {
        let text = |dir: &Path| fs::read_to_string(dir.join(file)).unwrap_or_default();
        if text(group).trim().is_empty() {
            write(group, &Setting::new(what, file, text(above).trim()))?;
        }
    }
    Ok(())
}

/// Refuses processors and memory nodes that the group above has not: the kernel's own error
/// does not say which it has.
pub(super) fn check_sets(above: &Path, limits: &GroupLimits) -> Result<(), CgroupError> {
    offered(above, [CPUS, MEMS], limits)
}

/// The same for the files that tell what a group has.
pub(super) fn offered(
    above: &Path,
    files: [&str; 2],
    limits: &GroupLimits,
) -> Result<(), CgroupError> {
    let wanted = [("processors", &limits.cpus), ("memory nodes", &limits.mems)];
    for ((what, wanted), file) in wanted.into_iter().zip(files) {
        let Some(wanted) = wanted else { continue };
        let text = fs::read_to_string(above.join(file)).unwrap_or_default();
        // Where the host does not tell, the kernel decides.
        let Ok(offered) = text.parse::<NumberList>() else { continue };
        if !wanted.within(&offered) {
            let (wanted, offered) = (wanted.to_string(), offered.to_string());
            return Err(CgroupError::NotOffered { what, wanted, offered });
        }
    }
    Ok(())
}
