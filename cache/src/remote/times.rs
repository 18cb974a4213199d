//! What becomes of the times of a layer.

use serde::{Deserialize, Serialize};

/// What becomes of the times of a layer where they are rewritten; part of what a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Times {
    /// They stay.
    Never,
    /// Later ones than SOURCE_DATE_EPOCH become it.
    Clamp,
    /// All become it.
    Set,
}
