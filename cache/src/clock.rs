//! The clocks and the identity of the running kernel.

use std::fmt;

use oci::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// The kernel's random identity of one boot.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BootId(pub(crate) [u8; 16]);

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl BootId {
    /// That of the running kernel; none where /proc does not show it (proc(5)).
    pub(crate) fn current() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut raw = [0; 16];
        hex::decode_to_slice(text.trim().replace('-', ""), &mut raw).ok()?;
        Some(Self(raw))
    }
}

/// Nanoseconds since the machine was started, the same count for every process.
pub(crate) fn boottime_nanos() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    (now.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64)
}

/// The time that the kernel would write into a file changed now: the clock of its last tick.
pub(crate) fn coarse_now() -> Timestamp {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    Timestamp { seconds: now.tv_sec, nanos: now.tv_nsec as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_ids_are_uuids() {
        let text = "491973b2-3b5a-48d8-b774-eeca844b30ad\n";
        assert_eq!(
            format!("{:?}", BootId::parse(text).unwrap()),
            "491973b23b5a48d8b774eeca844b30ad"
        );
        assert!(BootId::parse("").is_none() && BootId::parse("xyz").is_none());
    }
}
