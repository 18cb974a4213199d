//! What of /proc and /sys is hidden or read-only, and the capabilities: Docker's default lists
//! (moby, `daemon/pkg/oci/defaults.go` and `caps/defaults.go`).

use std::fs;

use sys::capability::Capabilities;

/// Hidden: they leak the host's memory, keys, timers or hardware.
pub(crate) const MASKED: [&str; 12] = [
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "proc/timer_stats",
    "sys/devices/virtual/powercap",
    "sys/firmware",
];

/// Read-only: writing there changes the host.
pub(crate) const READ_ONLY: [&str; 5] =
    ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];

/// Docker's default capabilities.
pub(crate) const CAPABILITIES: Capabilities = Capabilities::CHOWN
    .union(Capabilities::DAC_OVERRIDE)
    .union(Capabilities::FSETID)
    .union(Capabilities::FOWNER)
    .union(Capabilities::MKNOD)
    .union(Capabilities::NET_RAW)
    .union(Capabilities::SETGID)
    .union(Capabilities::SETUID)
    .union(Capabilities::SETFCAP)
    .union(Capabilities::SETPCAP)
    .union(Capabilities::NET_BIND_SERVICE)
    .union(Capabilities::SYS_CHROOT)
    .union(Capabilities::KILL)
    .union(Capabilities::AUDIT_WRITE);

/// [`MASKED`], with the thermal counters of each processor where there are any: they tell what
/// the neighbours do.
pub(crate) fn masked() -> Vec<String> {
    let mut all: Vec<String> = MASKED.iter().map(|&it| it.to_owned()).collect();
    let Ok(list) = fs::read_dir("/sys/devices/system/cpu") else { return all };
    for entry in list.flatten() {
        if entry.path().join("thermal_throttle").is_dir()
            && let Some(name) = entry.file_name().to_str()
        {
            all.push(format!("sys/devices/system/cpu/{name}/thermal_throttle"));
        }
    }
    all.sort();
    all
}
