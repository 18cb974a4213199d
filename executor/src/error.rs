//! Why a process could not be run, or not to its end.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;
use sys::cgroup::CgroupError;
use sys::launch::LaunchError;
use sys::mount::MountError;

use crate::network::NetworkError;
use crate::user::UserError;

/// A run that did not come to an exit status.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The caller asked for it.
    #[error("cancelled")]
    Cancelled,
    /// No arguments.
    #[error("there is no command to run")]
    NoCommand,
    /// A string of the specification holds a NUL byte, or a variable's name is empty or has `=`.
    #[error("{what} {value:?} cannot be passed to a process")]
    Unpassable {
        /// What kind of string.
        what: &'static str,
        /// The string.
        value: String,
    },
    /// A path of the specification is not absolute.
    #[error("{what} {path:?} is not an absolute path")]
    Relative {
        /// What kind of path.
        what: &'static str,
        /// The path.
        path: String,
    },
    /// The user or group is unknown in the root file system.
    #[error(transparent)]
    User(#[from] UserError),
    /// The process is to run as somebody whom the user namespace does not have.
    #[error("cannot run a process as {what}: this build does not have that id")]
    NoSuchId {
        /// Whom.
        what: String,
    },
    /// The program does not exist, or nowhere in PATH.
    #[error(
        "exec {name:?}: {}",
        if name.contains('/') { "no such file or directory" } else { "executable file not found in $PATH" }
    )]
    NotFound {
        /// As it was given.
        name: String,
    },
    /// The program exists but cannot be started: no permission, or no format that the kernel
    /// knows (another architecture, a script without `#!`).
    #[error("exec {path:?}: {}", not_executable(*errno))]
    NotExecutable {
        /// Its path.
        path: String,
        /// Cause.
        errno: Errno,
    },
    /// The program exists, but not what it needs to start.
    #[error("exec {path:?}: the interpreter or loader that it names does not exist")]
    NoInterpreter {
        /// Its path.
        path: String,
    },
    /// The working directory cannot be made or entered.
    #[error("working directory {path:?}: {errno}")]
    Directory {
        /// As it was given.
        path: String,
        /// Cause.
        errno: Errno,
    },
    /// A mount could not be made.
    #[error("mount of {}: {source}", target.display())]
    Mount {
        /// Where it belongs.
        target: PathBuf,
        /// Cause.
        source: MountError,
    },
    /// There is no place for a mount.
    #[error("no mount point at {}: {reason}", target.display())]
    MountPoint {
        /// Where.
        target: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A private file or device could not be made.
    #[error("cannot create {}: {errno}", path.display())]
    Create {
        /// Where the process would see it.
        path: PathBuf,
        /// Cause.
        errno: Errno,
    },
    /// A device of the host cannot be given to the process.
    #[error("device {}: {reason}", path.display())]
    Device {
        /// Its path on the host.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A step of the sandbox failed before the program started.
    #[error("sandbox: cannot {operation} {object}: {errno}")]
    Sandbox {
        /// What was done.
        operation: &'static str,
        /// To what.
        object: String,
        /// Cause.
        errno: Errno,
    },
    /// The process could not be cloned or waited for.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A limit was asked for that this host cannot give.
    #[error("limits: {0}")]
    Limit(#[from] CgroupError),
    /// A resource limit was asked for that this builder may not give.
    #[error("limits: the resource limit {limit} cannot be set: {reason}")]
    ResourceLimit {
        /// As Docker writes it: `nofile=1024:2048`.
        limit: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// There is no network of the process's own.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The sandbox's process was killed from outside.
    #[error("the process was killed from outside")]
    Killed,
    /// A file of the builder.
    #[error("{operation}: {source}")]
    Io {
        /// What was done.
        operation: &'static str,
        /// Cause.
        source: io::Error,
    },
}

/// What a host lacks for running steps.
#[derive(Debug, thiserror::Error)]
pub enum Unsupported {
    /// Not user 0.
    #[error("RUN needs root, or a user namespace with a range of ids")]
    NotRoot,
    /// Inside a container that hides parts of /proc: the kernel gives no fresh one then, which
    /// would show them.
    #[error(
        "RUN needs a /proc of its own, which the kernel refuses where parts of /proc are hidden, as \
         {path} is here; in a container, start it with --security-opt systempaths=unconfined \
         (docker) or --security-opt unmask=ALL (podman)"
    )]
    MaskedProc {
        /// What is mounted there.
        path: String,
    },
    /// Root without the rights of root, as in an unprivileged container.
    #[error(
        "RUN needs the capability {name}, which was taken from this process; in a container, \
         start it with --privileged"
    )]
    Capability {
        /// As in capabilities(7).
        name: &'static str,
    },
    /// Namespaces are refused or not compiled in.
    #[error(
        "this host refuses new namespaces ({errno}); a kernel with mount, pid, ipc, uts, cgroup and \
         network namespaces is needed, and in a container --privileged"
    )]
    Namespaces {
        /// Cause.
        errno: Errno,
    },
    /// The mount calls of Linux 5.12 are missing.
    #[error("this kernel cannot make detached mounts ({source}); Linux 5.12 or newer is needed")]
    Mounts {
        /// Cause.
        source: MountError,
    },
    /// An architecture without a system call table.
    #[error("there is no system call filter for this machine's architecture")]
    Architecture,
}

fn not_executable(errno: Errno) -> String {
    let machine = std::env::consts::ARCH;
    match errno {
        Errno::ACCESS => {
            "permission denied: it is no file that the user of the step may execute".into()
        }
        Errno::NOEXEC => format!(
            "exec format error: it is neither a program for this machine ({machine}) nor a script \
             that begins with #! and its interpreter"
        ),
        errno => errno.to_string(),
    }
}
