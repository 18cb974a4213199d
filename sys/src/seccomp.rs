//! System call filters: classic BPF programs and their loading (seccomp(2)).

use rustix::io::Errno;

/// `SECCOMP_RET_ALLOW`.
pub const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
/// `SECCOMP_RET_ERRNO`; the errno goes into the low 16 bits.
pub const ERRNO: u32 = libc::SECCOMP_RET_ERRNO;
/// `SECCOMP_RET_KILL_PROCESS`.
pub const KILL_PROCESS: u32 = libc::SECCOMP_RET_KILL_PROCESS;

/// Offsets in `struct seccomp_data`.
pub mod offset {
    /// The system call's number.
    pub const NUMBER: u32 = 0;
    /// The architecture, `AUDIT_ARCH_*`.
    pub const ARCH: u32 = 4;

    /// The low 32 bits of argument `index` on a little-endian machine.
    #[must_use]
    pub const fn argument(index: u32) -> u32 {
        16 + 8 * index
    }
}

/// One instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when a condition holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

impl Instruction {
    const fn new(code: u32, jt: u8, jf: u8, k: u32) -> Self {
        // BPF operation codes fit 16 bits by definition of `struct sock_filter`.
        Self { code: code as u16, jt, jf, k }
    }

    /// Loads the word at `offset` of `struct seccomp_data`.
    #[must_use]
    pub const fn load(offset: u32) -> Self {
        Self::new(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
    }

    /// Ends with a verdict.
    #[must_use]
    pub const fn ret(verdict: u32) -> Self {
        Self::new(libc::BPF_RET | libc::BPF_K, 0, 0, verdict)
    }

    /// Skips `distance` instructions.
    #[must_use]
    pub const fn jump(distance: u32) -> Self {
        Self::new(libc::BPF_JMP | libc::BPF_JA, 0, 0, distance)
    }

    /// Skips `jt` instructions when the loaded word is at least `k`, else `jf`.
    #[must_use]
    pub const fn at_least(k: u32, jt: u8, jf: u8) -> Self {
        Self::new(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, jt, jf, k)
    }

    /// Skips `jt` instructions when the loaded word is `k`, else `jf`.
    #[must_use]
    pub const fn equal(k: u32, jt: u8, jf: u8) -> Self {
        Self::new(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jt, jf, k)
    }

    /// Skips `jt` instructions when the loaded word has a bit of `k`, else `jf`.
    #[must_use]
    pub const fn any_bit(k: u32, jt: u8, jf: u8) -> Self {
        Self::new(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, jt, jf, k)
    }
}

/// A program that is ready to be loaded; cheap to clone.
#[derive(Clone)]
pub struct Filter {
    code: std::sync::Arc<[libc::sock_filter]>,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Filter({} instructions)", self.code.len())
    }
}

impl Filter {
    /// A filter of these instructions, which the kernel checks when it is loaded. `None` when
    /// there are more than the kernel takes (`BPF_MAXINSNS`, 4096) or none.
    #[must_use]
    pub fn new(instructions: &[Instruction]) -> Option<Self> {
        if instructions.is_empty() || instructions.len() > libc::BPF_MAXINSNS as usize {
            return None;
        }
        let code = instructions
            .iter()
            .map(|it| libc::sock_filter { code: it.code, jt: it.jt, jf: it.jf, k: it.k })
            .collect();
        Some(Self { code })
    }

    /// Number of instructions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.code.len()
    }

    /// Never: see [`Filter::new`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.code.is_empty()
    }

    /// Puts the calling thread under the filter, for good. Without no_new_privs the kernel wants
    /// CAP_SYS_ADMIN. Does not allocate.
    pub(crate) fn load(&self) -> Result<(), Errno> {
        let program = libc::sock_fprog {
            // At most BPF_MAXINSNS, checked when made.
            len: self.code.len() as libc::c_ushort,
            filter: self.code.as_ptr().cast_mut(),
        };
        // SAFETY: `program` and the instructions outlive the call; the kernel only reads them.
        let result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                0_u32,
                &raw const program,
            )
        };
        crate::errno::check(result).map(drop)
    }
}
