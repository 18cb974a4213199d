//! `--chmod`: what a mode change makes of a file's permissions.
//!
//! Symbolic changes are those of setmode(3) of the BSDs, as in BuildKit, with an umask of 0: `u=`
//! and `g=` clear setuid and setgid of directories too, only `t` itself touches the sticky bit,
//! and `X` asks for the permissions before the whole change.

use graph::ModeChange;

/// A mode change, parsed once and applied to many files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chmod(Vec<Clause>);

/// One `who op permissions` of a symbolic mode; an octal mode is one that sets everything.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Clause {
    Set(u32),
    Git,
    Change { who: u32, op: Op, perms: Perms },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Add,
    Remove,
    Assign,
}

/// The right side of a symbolic clause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Perms {
    /// `r`, `w`, `x`, `X`, `s`, `t`: bits for every class, `X` apart.
    Bits { bits: u32, conditional_execute: bool },
    /// `u`, `g` or `o`: the bits that this class has by then, as a shift.
    CopyOf(u32),
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHER: u32 = 0o0007;
const STICKY: u32 = 0o1000;
const EXECUTE: u32 = 0o0111;
const OWNER_EXECUTE: u32 = 0o0100;
const READ_WRITE_EXECUTE: u32 = 0o0777;
const ALL: u32 = 0o7777;

/// Why a mode is not understood.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "invalid mode {0:?} for --chmod (expected octal digits up to 7777, or a list such as u=rwX,go=rX)"
)]
pub struct ModeError(String);

impl Chmod {
    /// Parses a mode change.
    ///
    /// # Errors
    /// If a symbolic mode does not follow chmod(1), with an umask of 0.
    pub fn new(change: &ModeChange) -> Result<Self, ModeError> {
        match change {
            ModeChange::Octal(mode) if *mode <= ALL => Ok(Self(vec![Clause::Set(*mode)])),
            ModeChange::Octal(mode) => Err(ModeError(format!("{mode:o}"))),
            ModeChange::Symbolic(text) => {
                parse_symbolic(text).map(Self).ok_or_else(|| ModeError(text.clone()))
            }
            ModeChange::Git => Ok(Self(vec![Clause::Git])),
        }
    }

    /// The permissions that an entry with `mode` gets.
    pub fn apply(&self, mode: u32, directory: bool) -> u32 {
        let executable = directory || mode & EXECUTE != 0;
        self.0.iter().fold(mode & ALL, |mode, clause| clause.apply(mode, directory, executable))
    }

    /// Whether it counts for what is in an archive, too.
    pub(super) fn reaches_into_archives(&self) -> bool {
        self.0.contains(&Clause::Git)
    }
}

/// What git keeps of the mode of a file or a directory (git: `read-cache-ll.h`,
/// `create_ce_mode`, and a umask of 022).
pub(crate) fn kept_by_git(mode: u32, directory: bool) -> u32 {
    if directory || mode & OWNER_EXECUTE != 0 { 0o755 } else { 0o644 }
}

impl Clause {
    /// `executable`: whether `X` is an `x`.
    fn apply(&self, mode: u32, directory: bool, executable: bool) -> u32 {
        let (who, op, perms) = match self {
            Self::Set(mode) => return *mode,
            Self::Git => return kept_by_git(mode, directory),
            Self::Change { who, op, perms } => (who, op, perms),
        };
        let (who, bits) = match perms {
            Perms::Bits { bits, conditional_execute } => {
                // A sticky bit is nobody's; `o+t` means nothing.
                let who = if bits & STICKY != 0 && *who != OTHER { who | STICKY } else { *who };
                let added = if *conditional_execute && executable { EXECUTE } else { 0 };
                // Taking `X` away means nothing either.
                (who, if *op == Op::Remove { *bits } else { bits | added })
            }
            Perms::CopyOf(shift) => {
                let class = (mode >> shift) & 0o7;
                (who & READ_WRITE_EXECUTE, class << 6 | class << 3 | class)
            }
        };
        match op {
            Op::Add => mode | (bits & who),
            Op::Remove => mode & !(bits & who),
            Op::Assign => (mode & !who) | (bits & who),
        }
    }
}

fn parse_symbolic(text: &str) -> Option<Vec<Clause>> {
    let mut clauses = Vec::new();
    for part in text.split(',') {
        let split = part.find(['+', '-', '='])?;
        let (classes, mut rest) = part.split_at(split);
        let mut who = 0;
        for class in classes.chars() {
            who |= match class {
                'u' => USER,
                'g' => GROUP,
                'o' => OTHER,
                'a' => USER | GROUP | OTHER,
                _ => return None,
            };
        }
        if classes.is_empty() {
            who = USER | GROUP | OTHER;
        }
        while !rest.is_empty() {
            let op = match rest.as_bytes()[0] {
                b'+' => Op::Add,
                b'-' => Op::Remove,
                b'=' => Op::Assign,
                _ => return None,
            };
            let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |at| at + 1);
            clauses.push(Clause::Change { who, op, perms: parse_perms(&rest[1..end])? });
            rest = &rest[end..];
        }
    }
    Some(clauses)
}

fn parse_perms(text: &str) -> Option<Perms> {
    match text {
        "u" => return Some(Perms::CopyOf(6)),
        "g" => return Some(Perms::CopyOf(3)),
        "o" => return Some(Perms::CopyOf(0)),
        _ => {}
    }
    let mut bits = 0;
    let mut conditional_execute = false;
    for c in text.chars() {
        match c {
            'r' => bits |= 0o444,
            'w' => bits |= 0o222,
            'x' => bits |= 0o111,
            'X' => conditional_execute = true,
            's' => bits |= 0o6000,
            't' => bits |= 0o1000,
            _ => return None,
        }
    }
    Some(Perms::Bits { bits, conditional_execute })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbolic_modes() {
        for (text, mode, directory, want) in [
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("g=u", 0o740, false, 0o770),
            ("u+s,g-r", 0o755, false, 0o4715),
            ("o=", 0o777, false, 0o770),
            ("+t", 0o755, true, 0o1755),
            ("ug+rw-x", 0o711, false, 0o661),
            ("=rw,+X", 0o711, false, 0o777),
            ("-x,+X", 0o755, false, 0o755),
            ("a-x,u+X", 0o644, false, 0o644),
            ("-X", 0o755, true, 0o755),
            ("g=u", 0o2740, false, 0o2770),
            ("u=rwx,g=rx", 0o6700, true, 0o750),
            ("a=rwx", 0o7000, true, 0o1777),
            ("o+t", 0o755, true, 0o755),
            ("o=rx", 0o1777, true, 0o1775),
            ("go=u-w", 0o750, false, 0o755),
            ("u+s,g+s,+t", 0o755, false, 0o7755),
        ] {
            let chmod = Chmod::new(&ModeChange::Symbolic(text.into())).unwrap();
            assert_eq!(chmod.apply(mode, directory), want, "{text} on {mode:o}");
        }
        for bad in ["", "x", "u", "z+r", "u+q", "u=rw,", "755"] {
            assert!(Chmod::new(&ModeChange::Symbolic(bad.into())).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn octal_modes() {
        let chmod = Chmod::new(&ModeChange::Octal(0o4750)).unwrap();
        assert_eq!(chmod.apply(0o644, false), 0o4750);
        assert_eq!(chmod.apply(0o644, true), 0o4750);
        assert!(Chmod::new(&ModeChange::Octal(0o10000)).is_err());
    }

    #[test]
    fn git_keeps_one_bit() {
        let chmod = Chmod::new(&ModeChange::Git).unwrap();
        for (mode, directory, expected) in [
            (0o600, false, 0o644),
            (0o666, false, 0o644),
            (0o654, false, 0o644),
            (0o700, false, 0o755),
            (0o4777, false, 0o755),
            (0o1777, true, 0o755),
            (0o600, true, 0o755),
        ] {
            assert_eq!(chmod.apply(mode, directory), expected, "{mode:o}");
        }
    }
}
