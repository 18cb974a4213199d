//! How a process ended.

use std::time::Duration;

use sys::cgroup::Exhausted;
use sys::report::Usage;

/// What a finished run was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How the process ended.
    pub status: ExitStatus,
    /// User and system time of the process and everything that was waited for.
    pub cpu_time: Duration,
    /// Largest memory use in bytes: of the whole group where a limit was set, else of the largest
    /// single process; `None` where that is too small to be told from the builder's own image
    /// before exec.
    pub peak_memory: Option<u64>,
    /// From the call to the end of the last process.
    pub duration: Duration,
    /// Whose memory was used up, where the status says that some was.
    pub exhausted: Option<Exhausted>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// A signal with this number ended it.
    Signal(i32),
    /// It failed, and the kernel had killed for want of memory.
    OutOfMemory {
        /// Largest use, in bytes.
        peak: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The same, while its own limit, if it has one, was not reached: [`Outcome::exhausted`] tells
    /// what was.
    OutOfMemoryAbove {
        /// Largest use, in bytes.
        peak: u64,
    },
}

impl ExitStatus {
    /// Whether the process exited with 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }

    /// The shell's number for it: the exit code, or 128 and the signal's number.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(number) => 128 + number,
            Self::OutOfMemory { .. } | Self::OutOfMemoryAbove { .. } => 137,
        }
    }

    /// Of a status as wait(2) gives it.
    pub(crate) fn from_wait(status: i32) -> Self {
        match status & 0x7f {
            0 => Self::Code((status >> 8) & 0xff),
            signal => Self::Signal(signal),
        }
    }
}

/// Bytes of the largest process, unless that may have been the child's own image.
pub(crate) fn peak_of(usage: &Usage) -> Option<u64> {
    (usage.peak_kib > usage.noise_kib).then(|| usage.peak_kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        assert_eq!(ExitStatus::from_wait(0), ExitStatus::Code(0));
        assert_eq!(ExitStatus::from_wait(7 << 8), ExitStatus::Code(7));
        assert_eq!(ExitStatus::from_wait(9), ExitStatus::Signal(9));
        assert_eq!(ExitStatus::from_wait(11 | 0x80), ExitStatus::Signal(11), "with a core dump");
        assert_eq!(ExitStatus::Signal(15).code(), 143);
    }
}
