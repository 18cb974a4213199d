//! Why a device cannot be had.

use std::path::PathBuf;

/// A device that a step asks for and does not get.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CdiError {
    /// What is asked for is no name of a device.
    #[error("invalid device {name:?}: {reason}")]
    Name {
        /// As it was written.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No specification knows it.
    #[error("required device {name:?} is not registered: {known}")]
    NotRegistered {
        /// As it was asked for.
        name: String,
        /// What is there instead, and what could not be read.
        known: String,
    },
    /// It is known, but nobody allowed it (BuildKit: `solver/llbsolver/vertex.go`,
    /// `ValidateEntitlements`).
    #[error("{}", not_allowed(.0))]
    NotAllowed(Vec<String>),
    /// Using it needs something that steps are not given.
    #[error("device {device:?} cannot be given to a step: its specification {} {reason}", file.display())]
    Unsupported {
        /// Its full name.
        device: String,
        /// The specification.
        file: PathBuf,
        /// What it wants.
        reason: String,
    },
}

fn not_allowed(names: &[String]) -> String {
    match names {
        [one] => format!("device {one} is requested by the build but not allowed"),
        all => format!("devices {} are requested by the build but not allowed", all.join(", ")),
    }
}
