//! What a launched child does, as data.
//!
//! A child that was cloned from a process with threads may not allocate: another thread may have
//! held the allocator's lock at that moment. So the parent writes down every step with all its
//! strings and descriptors, and the child only reads (see [`crate::launch`]).

use std::ffi::CString;
use std::os::fd::OwnedFd;

use crate::capability::Capabilities;
use crate::mount::MountFlags;
use crate::seccomp::Filter;

/// Namespaces that the child gets of its own (namespaces(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Mounts.
    pub mount: bool,
    /// Process ids; the child becomes process 1 and everything in it dies with it.
    pub pid: bool,
    /// System V IPC and POSIX message queues.
    pub ipc: bool,
    /// Host name.
    pub uts: bool,
    /// Network devices, addresses, sockets.
    pub network: bool,
    /// The visible root of the control groups. A child that is put in a group first takes
    /// [`Step::EnterCgroupNamespace`] instead.
    pub cgroup: bool,
}

/// Index of a descriptor in [`Program::fds`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FdIndex(pub usize);

/// One thing that the child does before the payload starts, in the order of the list. Targets
/// are relative to the new root (no leading slash), already free of symbolic links: a link that
/// appears in one meanwhile is an error, never followed.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Waits for [`crate::launch::Child::start`].
    AwaitStart,
    /// Makes the child's present control groups the visible root of all.
    EnterCgroupNamespace,
    /// Enters a network namespace.
    EnterNetwork(FdIndex),
    /// Makes every mount of the own mount namespace private.
    PrivateMounts,
    /// Attaches a detached mount at a path of the host, seen only by this child.
    AttachHost {
        /// The mount.
        mount: FdIndex,
        /// Absolute path of an existing directory of the host.
        at: CString,
    },
    /// Attaches a detached mount below the new root.
    Attach {
        /// The mount.
        mount: FdIndex,
        /// Where.
        target: CString,
    },
    /// Binds something inside a mount that was attached with [`Step::AttachHost`].
    AttachPart {
        /// That mount.
        mount: FdIndex,
        /// Where it is in the mount: relative, without links.
        name: CString,
        /// Where.
        target: CString,
        /// Restrictions.
        flags: MountFlags,
    },
    /// Makes and attaches a file system that shows the child's namespaces.
    MountNew {
        /// Its type, as in /proc/filesystems.
        fs: CString,
        /// Where.
        target: CString,
        /// Restrictions.
        flags: MountFlags,
        /// Whether a refusal is passed over.
        optional: bool,
    },
    /// Makes what exists at the target, and all below, read-only; passed over where nothing is.
    ReadOnly {
        /// What.
        target: CString,
    },
    /// Hides what exists at the target: a file under the null device, a directory under an empty
    /// one; passed over where nothing is.
    Mask {
        /// What.
        target: CString,
        /// The null device, relative to the new root.
        null: CString,
        /// A mount that was attached with [`Step::AttachHost`].
        mount: FdIndex,
        /// An empty directory in it.
        empty: CString,
    },
    /// Makes the new root the root directory and detaches the old one (`pivot_root(2)`).
    Pivot,
    /// Sets the host name.
    Hostname(CString),
    /// Brings the loopback device up.
    LoopbackUp,
    /// Joins a new, anonymous session keyring, if the kernel has keyrings.
    SessionKeyring,
}

/// What is taken away before the payload starts, from the child too.
#[derive(Debug)]
pub struct Confinement {
    /// The bounding set and, for uid 0, the permitted and effective sets.
    pub capabilities: Capabilities,
    /// The system call filter.
    pub filter: Option<Filter>,
}

/// A resource limit (setrlimit(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceLimit {
    /// `RLIMIT_*`.
    pub resource: u32,
    /// The limit in force.
    pub soft: u64,
    /// How far it may be raised.
    pub hard: u64,
}

/// The program that the child starts as process 2 and waits for.
#[derive(Debug)]
pub struct Payload {
    /// Paths that are tried in turn, as execvp(3) does with PATH.
    pub candidates: Vec<CString>,
    /// Arguments, with the name.
    pub args: Vec<CString>,
    /// `NAME=value`.
    pub env: Vec<CString>,
    /// Working directory, an absolute path inside the new root.
    pub directory: CString,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups; none leaves those that the builder has.
    pub groups: Vec<u32>,
    /// Limits, set before the user changes.
    pub limits: Vec<ResourceLimit>,
    /// Standard input.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

/// All that a child does.
#[derive(Debug)]
pub struct Program {
    /// Namespaces.
    pub namespaces: Namespaces,
    /// The new root: a detached mount, attached by the first [`Step::AttachHost`] that names it.
    pub root: FdIndex,
    /// Descriptors that the steps use.
    pub fds: Vec<OwnedFd>,
    /// Steps before the payload.
    pub steps: Vec<Step>,
    /// Limits of what the payload may do.
    pub confinement: Confinement,
    /// The payload.
    pub payload: Payload,
}

impl Step {
    /// What the step does, for a message: the operation and its object.
    #[must_use]
    pub fn describe(&self) -> (&'static str, String) {
        let inside = |target: &CString| format!("/{}", target.to_string_lossy());
        match self {
            Self::AwaitStart => ("wait for", "the builder's start signal".into()),
            Self::EnterCgroupNamespace => ("enter", "a cgroup namespace".into()),
            Self::EnterNetwork(_) => ("enter", "a network namespace".into()),
            Self::PrivateMounts => ("make private", "the mounts".into()),
            Self::AttachHost { at, .. } => ("mount at", at.to_string_lossy().into_owned()),
            Self::Attach { target, .. } | Self::AttachPart { target, .. } => {
                ("mount at", inside(target))
            }
            Self::MountNew { fs, target, .. } => {
                ("mount", format!("{} at {}", fs.to_string_lossy(), inside(target)))
            }
            Self::ReadOnly { target } => ("make read-only", inside(target)),
            Self::Mask { target, .. } => ("mask", inside(target)),
            Self::Pivot => ("pivot into", "the root file system".into()),
            Self::Hostname(name) => ("set", format!("the host name {}", name.to_string_lossy())),
            Self::LoopbackUp => ("bring up", "the loopback device".into()),
            Self::SessionKeyring => ("join", "a session keyring".into()),
        }
    }
}
