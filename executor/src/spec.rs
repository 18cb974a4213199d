//! What to run: plain data.

use std::net::IpAddr;
use std::path::PathBuf;

use sys::mount::Mount;
use sys::program::ResourceLimit;

pub use sys::cgroup::{CpuQuota, GroupLimits, ListError, NumberList, Parent, Swap};

/// One process in a root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessSpec {
    /// The root file system; its target is `/`.
    pub rootfs: Mount,
    /// Arguments; the first names the program and is looked up in the PATH of `env`, inside the
    /// root, when it has no `/`.
    pub args: Vec<String>,
    /// Variables in order; of equal names the last one counts. PATH and HOME are added when they
    /// are missing.
    pub env: Vec<(String, String)>,
    /// Working directory, absolute; created when missing.
    pub cwd: String,
    /// `""` (user 0), `name`, `uid`, `name:group`, `uid:gid`.
    pub user: String,
    /// Network access.
    pub network: Network,
    /// Name servers.
    pub dns: Dns,
    /// How far the process is confined.
    pub security: Security,
    /// Host name.
    pub hostname: String,
    /// Further lines of /etc/hosts: name and address, or `host-gateway` for the address of this
    /// host as the process reaches it.
    pub extra_hosts: Vec<(String, String)>,
    /// Further mounts, parents before children. Mount points that are missing are created, and
    /// removed again after the run.
    pub mounts: Vec<Volume>,
    /// Read-only files in memory, mounted last.
    pub files: Vec<InjectedFile>,
    /// Devices of the host.
    pub devices: Devices,
    /// Limits.
    pub limits: Limits,
}

/// Devices that a process is given besides those that every process has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices {
    /// Device nodes, each at another path.
    pub nodes: Vec<DeviceNode>,
    /// What else of the host they need: mounts among those of the process, by their depth. Unlike
    /// others these may show devices.
    pub mounts: Vec<Mount>,
    /// Groups that the process is in besides those of its user.
    pub groups: Vec<u32>,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    /// Where the process sees it: absolute.
    pub path: PathBuf,
    /// The host's node. In a user namespace it is what the process sees; elsewhere it tells what
    /// is not said here.
    pub host_path: PathBuf,
    /// What it is; as the host's is when not given.
    pub kind: Option<NodeKind>,
    /// Major and minor number; the host's when not given.
    pub number: Option<(u32, u32)>,
    /// Permission bits; 0666 when not given.
    pub mode: Option<u32>,
    /// Owner; the user of the process when not given.
    pub uid: Option<u32>,
    /// Group; that of the process when not given.
    pub gid: Option<u32>,
}

/// What a device node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A named pipe.
    Fifo,
}

/// Something that the caller mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The mount; its target is where the process sees it, or a part of it.
    pub mount: Mount,
    /// What of the mount appears: a path from its root without links; empty for all of it.
    pub part: PathBuf,
}

impl From<Mount> for Volume {
    fn from(mount: Mount) -> Self {
        Self { mount, part: PathBuf::new() }
    }
}

/// Network access of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Network {
    /// The host's network.
    #[default]
    Host,
    /// A network of its own with nothing but the loopback device, which is up.
    None,
    /// A network of its own from which it can reach others, but not the loopback addresses of the
    /// host, and no one reaches it.
    Isolated,
}

/// What stands in /etc/resolv.conf instead of what the host has there; an empty part is the host's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// Addresses of name servers.
    pub servers: Vec<IpAddr>,
    /// Search domains; `.` alone for none.
    pub search: Vec<String>,
    /// Options of the resolver.
    pub options: Vec<String>,
}

/// How far a process is confined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Security {
    /// Docker's default capabilities, system calls, masked and read-only paths.
    #[default]
    Sandbox,
    /// Everything that the builder may do: all of its capabilities and of the host's devices, no
    /// filter of system calls, nothing of /proc and /sys hidden or read-only (BuildKit:
    /// `util/entitlements/security`). Namespaces, mounts and the end of the step's processes
    /// stay the same.
    Insecure,
}

/// A file that only exists while the process runs and never enters a layer.
#[derive(Clone, PartialEq, Eq)]
pub struct InjectedFile {
    /// Absolute path inside the root.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Content.
    pub data: Vec<u8>,
}

/// The content may be a secret.
impl std::fmt::Debug for InjectedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InjectedFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Limits of a process with all that it starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// What is limited for all processes together, by a control group.
    pub group: GroupLimits,
    /// Where the control group stands; its limits count too. Without it, and without limits, no
    /// group is made.
    pub group_parent: Option<Parent>,
    /// Size of /dev/shm in bytes; 64 MiB when not given.
    pub shm_size: Option<u64>,
    /// Resource limits; what is not named is inherited.
    pub rlimits: Vec<ResourceLimit>,
}

impl Limits {
    /// Whether they need a control group.
    #[must_use]
    pub fn needs_group(&self) -> bool {
        self.group_parent.is_some() || self.group != GroupLimits::default()
    }
}
