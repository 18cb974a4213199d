//! What kind of file system a directory is on.

use std::fs::File;

/// How far a file system keeps the promises of a local one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Locks, renames, syncs and times are the kernel's own.
    Local,
    /// They are somebody else's: the name of the file system.
    Foreign(&'static str),
}

/// Magic numbers of statfs(2) (`linux/magic.h` and the file systems' own headers).
const FOREIGN: [(u64, &str); 11] = [
    (0x6969, "NFS"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB2"),
    (0x00C3_6400, "Ceph"),
    (0x5346_414F, "AFS"),
    (0x0BD0_0BD0, "Lustre"),
    (0x786F_4256, "vboxsf"),
    (0x6163_6673, "ACFS"),
];

/// The kind of file system that `file` is on.
pub(crate) fn kind_of(file: &File) -> Kind {
    // The field's type differs between architectures; magic numbers have 32 bits.
    let Ok(stat) = rustix::fs::fstatfs(file) else { return Kind::Foreign("unknown") };
    let magic = (stat.f_type as u64) & 0xFFFF_FFFF;
    match FOREIGN.iter().find(|(number, _)| *number == magic) {
        Some((_, name)) => Kind::Foreign(name),
        None => Kind::Local,
    }
}
