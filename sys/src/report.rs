//! What a launched child tells its parent, over a pipe: one message, the first one counts.

/// Bytes of a message; less than `PIPE_BUF`, so that one write is never torn.
pub(crate) const BYTES: usize = 40;

/// What the child was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `setsid(2)`.
    Session,
    /// Standard streams and inherited descriptors.
    Descriptors,
    /// `prctl(2)`: death signal, dumpability.
    Hardening,
    /// Signal dispositions, mask, signalfd.
    Signals,
    /// The step with this number in the program's list.
    Step(u32),
    /// `chdir(2)` into the working directory.
    Directory,
    /// The bounding set.
    BoundingSet,
    /// Loading the filter.
    Seccomp,
    /// The permitted, effective and inheritable sets.
    Capabilities,
    /// Cloning the payload.
    Clone,
    /// The resource limit with this number in the payload's list.
    Limit(u32),
    /// `setgroups(2)`.
    Groups,
    /// `setresgid(2)`.
    Group,
    /// `setresuid(2)`.
    User,
    /// `execve(2)` of the candidate with this number.
    Exec(u32),
    /// The candidate with this number exists, but not the interpreter or loader that it names.
    Interpreter(u32),
    /// Waiting for the payload.
    Wait,
}

impl Operation {
    fn encode(self) -> (u32, u32) {
        match self {
            Self::Session => (1, 0),
            Self::Descriptors => (2, 0),
            Self::Hardening => (3, 0),
            Self::Signals => (4, 0),
            Self::Step(index) => (5, index),
            Self::Directory => (6, 0),
            Self::BoundingSet => (7, 0),
            Self::Seccomp => (8, 0),
            Self::Capabilities => (9, 0),
            Self::Clone => (10, 0),
            Self::Limit(index) => (11, index),
            Self::Groups => (12, 0),
            Self::Group => (13, 0),
            Self::User => (14, 0),
            Self::Exec(index) => (15, index),
            Self::Interpreter(index) => (16, index),
            Self::Wait => (17, 0),
        }
    }

    fn decode(code: u32, index: u32) -> Option<Self> {
        Some(match code {
            1 => Self::Session,
            2 => Self::Descriptors,
            3 => Self::Hardening,
            4 => Self::Signals,
            5 => Self::Step(index),
            6 => Self::Directory,
            7 => Self::BoundingSet,
            8 => Self::Seccomp,
            9 => Self::Capabilities,
            10 => Self::Clone,
            11 => Self::Limit(index),
            12 => Self::Groups,
            13 => Self::Group,
            14 => Self::User,
            15 => Self::Exec(index),
            16 => Self::Interpreter(index),
            17 => Self::Wait,
            _ => return None,
        })
    }
}

/// How a payload ended and what it used, with everything that it waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// `wait(2)` status.
    pub status: i32,
    /// Processor time of user and system, in microseconds.
    pub cpu_micros: u64,
    /// Largest resident set of one process, in KiB.
    pub peak_kib: u64,
    /// The part of `peak_kib` that may be the child's own image from before exec.
    pub noise_kib: u64,
}

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// Setting up failed; the payload never ran.
    Failed { operation: Operation, errno: i32 },
    /// The payload ended.
    Ended(Usage),
}

impl Report {
    pub(crate) fn encode(&self) -> [u8; BYTES] {
        let words: [u64; 5] = match self {
            Self::Failed { operation, errno } => {
                let (code, index) = operation.encode();
                [0, code.into(), index.into(), u64::from(errno.cast_unsigned()), 0]
            }
            Self::Ended(usage) => [
                1,
                u64::from(usage.status.cast_unsigned()),
                usage.cpu_micros,
                usage.peak_kib,
                usage.noise_kib,
            ],
        };
        let mut bytes = [0; BYTES];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; BYTES]) -> Option<Self> {
        let mut words = [0_u64; 5];
        for (word, place) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(place.try_into().ok()?);
        }
        let small = |word: u64| u32::try_from(word).ok();
        match words[0] {
            0 => Some(Self::Failed {
                operation: Operation::decode(small(words[1])?, small(words[2])?)?,
                errno: small(words[3])?.cast_signed(),
            }),
            1 => Some(Self::Ended(Usage {
                status: small(words[1])?.cast_signed(),
                cpu_micros: words[2],
                peak_kib: words[3],
                noise_kib: words[4],
            })),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back() {
        let failed = Report::Failed { operation: Operation::Step(7), errno: 13 };
        assert_eq!(Report::decode(&failed.encode()), Some(failed));
        let usage = Usage { status: 9, cpu_micros: 1 << 40, peak_kib: 5, noise_kib: 6 };
        let ended = Report::Ended(usage);
        assert_eq!(Report::decode(&ended.encode()), Some(ended));
        for code in 1..=17 {
            let operation = Operation::decode(code, 0).unwrap();
            assert_eq!(operation.encode().0, code);
        }
        assert_eq!(Operation::decode(18, 0), None);
        assert_eq!(Report::decode(&[9; BYTES]), None);
    }
}
