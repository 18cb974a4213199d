//! Capability sets (capabilities(7)).

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

/// A set of capabilities.
pub type Capabilities = CapabilitySet;

/// Highest number that a 64-bit set can hold.
const NUMBERS: u32 = 64;

/// Drops everything but `keep` from the calling thread's bounding set. Does not allocate.
pub(crate) fn limit_bounding_set(keep: Capabilities) -> Result<(), Errno> {
    for number in 0..NUMBERS {
        if keep.bits() & (1 << number) != 0 {
            continue;
        }
        // SAFETY: PR_CAPBSET_DROP takes numbers only.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number)) };
        match crate::errno::check(result.into()) {
            Ok(_) => {}
            // The first number that the kernel does not know.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Makes the permitted and effective sets `keep`, the inheritable and ambient ones empty
/// (CVE-2022-24769: an inheritable set makes file capabilities effective for ordinary users).
pub(crate) fn keep_only(keep: Capabilities) -> Result<(), Errno> {
    let sets =
        CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)
}

/// The calling thread's effective set.
///
/// # Errors
/// The kernel's refusal.
pub fn effective() -> Result<Capabilities, Errno> {
    rustix::thread::capabilities(None).map(|sets| sets.effective)
}
