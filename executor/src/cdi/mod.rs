//! Devices by their CDI names (Container Device Interface, SPEC.md 1.1): what specification files
//! of this host say a container needs to use a device.
//!
//! ```text
//! directories ─ read ─ Registry: devices by name ─ grant: what a step asks for ∩ what is allowed
//!                                                    │
//!                    ProcessSpec: nodes, mounts, variables, groups ─ edits ─┘
//! ```
//!
//! Reading is bounded: who writes such a file decides about steps, but not about the builder.

mod edits;
mod error;
mod grant;
mod name;
mod registry;
mod spec;
mod yaml;

pub use edits::Edits;
pub use error::CdiError;
pub use grant::{Grant, Granted, Grants, Wanted};
pub use registry::{Problem, Registry};

/// Where specifications are when nothing else is said; those of a later directory win (SPEC.md,
/// "CDI JSON Specification").
pub const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
