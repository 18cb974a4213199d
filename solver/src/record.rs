//! What is known of a step that was done.

use std::time::Duration;

use oci::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ActionKey, ContentId};

/// A step that was done: its key, what came out, and what it was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The key it is found by.
    pub key: ActionKey,
    /// What came out.
    pub content: ContentId,
    /// How the worker finds the result again (its own encoding, such as a snapshot's id).
    pub payload: String,
    /// When the step started: a result that started before it was asked to be fresh is stale.
    pub started: Timestamp,
    /// When the step ended; the `created` of its history entry.
    pub ended: Timestamp,
    /// How long it took to make.
    #[serde(with = "nanos")]
    pub duration: Duration,
    /// The vertex's name when it ran.
    pub name: String,
    /// What the key was made of, readable: name and value, in the key's order.
    pub inputs: Vec<(String, String)>,
}

mod nanos {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        Ok(Duration::from_nanos(u64::deserialize(d)?))
    }
}
