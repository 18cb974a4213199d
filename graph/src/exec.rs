//! Running a process.

use oci::Platform;
use serde::{Deserialize, Serialize};

/// Runs a process on the root file system of input 0 (an empty one where there is none) and
/// keeps what it changed.
///
/// Everything in it is part of the action key but the fields that say otherwise (limits are not
/// even here: they belong to the build, not to the graph).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOp {
    /// Position in the vertex's inputs of the root file system; none for an empty one.
    pub root: Option<usize>,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The environment, in order.
    pub env: Vec<(String, String)>,
    /// Proxy variables that no ARG declared: in the environment, never in a key or a history.
    pub proxy_env: Vec<(String, String)>,
    /// The working directory, absolute.
    pub cwd: String,
    /// `user`, `uid`, `user:group`, …; empty for root. Looked up inside the root file system.
    pub user: String,
    /// The network it sees.
    pub network: NetworkMode,
    /// Whether it is confined.
    pub security: SecurityMode,
    /// The host name it sees.
    pub hostname: String,
    /// Names and addresses for its `/etc/hosts`; of these only the names are part of the key.
    pub extra_hosts: Vec<(String, String)>,
    /// What it runs on.
    pub platform: Platform,
    /// Mounts besides the root, in mount order.
    pub mounts: Vec<ExecMount>,
    /// Read-only files that it finds and that never enter a layer (here-documents with a
    /// shebang).
    pub files: Vec<ExecFile>,
    /// Devices of the host that it may use.
    pub devices: Vec<ExecDevice>,
}

/// `RUN --device`: a device by its CDI name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecDevice {
    /// `vendor.com/class`, `vendor.com/class=name`, `vendor.com/class=*`, or a class annotation.
    pub name: String,
    /// Whether the build fails without it.
    pub required: bool,
}

/// The network of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// What the build is configured for: the host's unless configured otherwise.
    #[default]
    Default,
    /// A loopback interface and nothing else.
    None,
    /// The host's.
    Host,
    /// One of its own, from which others can be reached. Dockerfiles cannot ask for it.
    Isolated,
}

/// How far a process is confined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecurityMode {
    /// Docker's default capabilities and system call filter.
    #[default]
    Sandbox,
    /// Everything that root may do.
    Insecure,
}

/// A file that a process finds, made for it alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecFile {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Content.
    pub data: String,
}

/// `RUN --mount`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecMount {
    /// Absolute path where it appears.
    pub target: String,
    /// What appears there.
    pub kind: MountKind,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum MountKind {
    /// Files of another result or of a context.
    Bind {
        /// Position in the vertex's inputs; none for an empty directory (scratch).
        input: Option<usize>,
        /// Path inside the input.
        source: String,
        /// Whether the process may write (what it writes is discarded).
        writable: bool,
    },
    /// A directory that outlives the build.
    Cache {
        /// Its identity.
        id: String,
        /// What happens when two steps want it.
        sharing: Sharing,
        /// When what the process writes is kept.
        #[serde(default, skip_serializing_if = "Commit::is_always")]
        commit: Commit,
        /// Position in the vertex's inputs of its first content.
        input: Option<usize>,
        /// Path inside the input.
        source: String,
        /// Permission bits of a new, empty one.
        mode: Option<u32>,
        /// Owner of a new, empty one.
        uid: u32,
        /// Group of a new, empty one.
        gid: u32,
        /// Whether the process may only read.
        read_only: bool,
    },
    /// An empty directory in memory.
    Tmpfs {
        /// Limit in bytes.
        size: Option<u64>,
        /// Whether it stays empty.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        read_only: bool,
    },
    /// A secret as a file, an environment variable, or both.
    Secret {
        /// Its name in `--secret`.
        id: String,
        /// The variable to set.
        env: Option<String>,
        /// Whether there is a file at the target.
        file: bool,
        /// Whether the build fails without it.
        required: bool,
        /// Permission bits of the file.
        mode: u32,
        /// Owner of the file.
        uid: u32,
        /// Group of the file.
        gid: u32,
    },
    /// A forwarded ssh agent.
    Ssh {
        /// Its name in `--ssh`.
        id: String,
        /// Whether the build fails without it.
        required: bool,
        /// Permission bits of the socket.
        mode: u32,
        /// Owner of the socket.
        uid: u32,
        /// Group of the socket.
        gid: u32,
    },
}

/// When what a process writes to a cache mount is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Commit {
    /// At once, and also when the process fails.
    #[default]
    Always,
    /// When the process succeeds, all of it or nothing.
    OnSuccess,
}

impl Commit {
    /// Whether it is the default, which is not written out: older graphs do not know the field.
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde calls it
    fn is_always(&self) -> bool {
        *self == Self::Always
    }
}

/// What happens when two steps want one cache mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// Both use it.
    #[default]
    Shared,
    /// The second gets one of its own.
    Private,
    /// The second waits.
    Locked,
}
