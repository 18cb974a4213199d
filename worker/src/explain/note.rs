//! What is kept of the steps of a build.

use oci::Timestamp;
use serde::{Deserialize, Serialize};

use super::cause::Cause;
use crate::output::Used;

/// A value longer than this is kept as its digest, in bytes.
const MAX_VALUE: usize = 16 << 10;

/// What is kept of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// The kind of op.
    pub(crate) kind: String,
    /// The stage it is in.
    pub(crate) stage: String,
    /// The instruction as it stands in the Dockerfile.
    pub(crate) text: String,
    /// Of an instruction with here-documents: what is in them, as a digest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) body: String,
    /// As people know it: its number and its instruction.
    pub(crate) title: String,
    /// Its key; empty if it was not reached.
    pub(crate) key: String,
    /// Whether it has a result.
    pub(crate) made: bool,
    /// How long its result took to make, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) millis: Option<u64>,
    /// What its key was made of, in order.
    pub(crate) parts: Vec<Part>,
    /// The image that it brings in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<ImageNote>,
    /// The list of what is left out of a context, as a digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ignore: Option<String>,
}

/// A part of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) value: String,
    /// The step whose result it tells of, by its position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<usize>,
    /// Whether it is the digest of a selection whose entries are kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) selection: bool,
    /// Of a bind mount: the path in its source, which is no part of a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
}

/// An image by name and digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageNote {
    pub(crate) name: String,
    pub(crate) digest: String,
}

/// The value of a part as it is kept: long ones by their digest.
pub(crate) fn kept(value: &str) -> String {
    match value.len() > MAX_VALUE {
        true => format!("blake3:{}", blake3::hash(value.as_bytes()).to_hex()),
        false => value.to_owned(),
    }
}

/// A step that ran, or would, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// As people know it.
    pub step: String,
    /// Why it ran.
    pub causes: Vec<Cause>,
    /// How long it took, in milliseconds; none if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub millis: Option<u64>,
    /// What its processes used; none of a step without any, or that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
}

/// The steps of a build that ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedBuild {
    /// What was built, for people.
    pub title: String,
    /// When it began.
    pub started: Timestamp,
    /// How many steps it has.
    pub steps: usize,
    /// Those that ran, in the order of the Dockerfile.
    pub ran: Vec<Explained>,
}
