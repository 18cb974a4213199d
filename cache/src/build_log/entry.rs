//! The lines of a build's journal.

use oci::Timestamp;
use serde::{Deserialize, Serialize};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// The build began.
    Build {
        /// What people know it by: its context and target.
        title: String,
        /// When.
        started: Timestamp,
    },
    /// A step told something for the first time.
    Step {
        /// Its number, from 1 on in the order of first words.
        number: u64,
        /// Its name.
        name: String,
        /// When it started, or told its first line.
        started: Timestamp,
    },
    /// A step ended that had told something, or that failed.
    Ended {
        /// Its number.
        number: u64,
        /// How.
        end: End,
        /// When.
        at: Timestamp,
    },
    /// The build ended.
    Finished {
        /// When.
        at: Timestamp,
        /// Why it failed, if it did.
        error: Option<String>,
    },
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Well.
    Done,
    /// It failed, and why.
    Failed(String),
    /// It was stopped.
    Cancelled,
}
