//! What can be limited, in the same words for v1 and v2.

use super::list::NumberList;

/// Limits of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupLimits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Memory and swap together, where `memory` is limited. Without it as much swap as memory,
    /// on kernels that account for it (Docker's default).
    pub swap: Option<Swap>,
    /// Processor time.
    pub cpu: Option<CpuQuota>,
    /// Share of processor time when it is scarce: 2 to 262,144, where 1,024 is that of a group
    /// without this limit.
    pub cpu_shares: Option<u64>,
    /// Processors.
    pub cpus: Option<NumberList>,
    /// Memory nodes.
    pub mems: Option<NumberList>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// A limit of memory and swap together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// Bytes, not fewer than those of memory.
    Total(u64),
    /// As much swap as there is.
    Unlimited,
}

/// Processor time in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuQuota {
    /// Microseconds that all processes together may run in a period (at least 1,000).
    pub quota_micros: u64,
    /// Length of a period in microseconds (the kernel takes 1,000 to 1,000,000).
    pub period_micros: u64,
}

/// What the kernel calls a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    Memory,
    Cpu,
    Cpuset,
    Pids,
}

impl Controller {
    pub(super) const ALL: [Self; 4] = [Self::Memory, Self::Cpu, Self::Cpuset, Self::Pids];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Cpuset => "cpuset",
            Self::Pids => "pids",
        }
    }
}

/// One value for one file of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// What is limited, in words.
    pub(super) what: &'static str,
    pub(super) file: &'static str,
    pub(super) value: String,
    /// Whether a kernel that lacks the file is good enough.
    pub(super) optional: bool,
}

impl Setting {
    pub(super) fn new(what: &'static str, file: &'static str, value: impl ToString) -> Self {
        Self { what, file, value: value.to_string(), optional: false }
    }
}

impl GroupLimits {
    /// What needs `controller`, in words.
    pub(super) fn needs(&self, controller: Controller) -> Option<&'static str> {
        let (needed, what) = match controller {
            Controller::Memory => (self.memory.is_some() || self.swap.is_some(), "memory"),
            Controller::Cpu if self.cpu.is_some() => (true, "processor time"),
            Controller::Cpu => (self.cpu_shares.is_some(), "the share of processor time"),
            Controller::Cpuset if self.cpus.is_some() => (true, "the processors"),
            Controller::Cpuset => (self.mems.is_some(), "the memory nodes"),
            Controller::Pids => (self.pids.is_some(), "the number of processes"),
        };
        needed.then_some(what)
    }
}
