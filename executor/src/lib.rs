//! Runs one process in a root file system: namespaces, mounts, user lookup, limits, a system call
//! filter, and an init of its own that reaps and takes everything with it when it ends.
//!
//! ```text
//! ProcessSpec ─ user, command, private files ─ plan: detached mounts, stubs, steps ─ launch
//!                                                                                     │
//!        Outcome ─ stubs removed ─ all processes gone ─ output carried, cancel heard ─┘
//! ```
//!
//! It knows no snapshots and no cache: it is handed mounts. It does not decide what is run.

pub mod brake;
mod cancel;
pub mod cdi;
mod command;
mod devices;
mod error;
mod explain;
mod host_devices;
mod hosts;
mod ids;
mod masks;
mod network;
mod nodes;
mod outcome;
mod output;
pub mod passwd;
mod plan;
mod private;
mod probe;
mod resolv;
pub mod rlimit;
mod run;
mod seccomp;
mod spec;
mod stubs;
mod tree;
pub mod user;

pub use brake::Brake;
pub use cancel::CancelToken;
pub use command::DEFAULT_PATH;
pub use error::{ExecError, Unsupported};
pub use network::NetworkError;
pub use outcome::{ExitStatus, Outcome};
pub use output::{Output, Stream};
pub use run::{Executor, ExecutorConfig};
pub use spec::{
    CpuQuota, DeviceNode, Devices, Dns, GroupLimits, InjectedFile, Limits, ListError, Network,
    NodeKind, NumberList, Parent, ProcessSpec, Security, Swap, Volume,
};
pub use sys::cgroup::Exhausted;
pub use sys::program::ResourceLimit;
