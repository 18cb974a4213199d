//! Garbage collection and usage: what is there, who needs it, what can go.
//!
//! The snapshots are told by the caller (a [`Collector`]), because only the snapshotter knows
//! them; images, leases and blobs are known here. What is to go is decided by a pure
//! [`plan`](plan::plan) and renamed away under the GC lock; deleting comes afterwards.

mod collect;
mod evict;
pub mod filter;
mod inventory;
mod keep;
mod leaves;
pub mod plan;
pub mod policy;
pub mod room;
pub mod tree;
pub mod usage;

use std::collections::BTreeSet;
use std::time::Duration;

use oci::{Digest, Timestamp};

pub use crate::space::disk_usage;
pub use collect::{Collector, Report};
pub use evict::Eviction;
pub use filter::{Filter, FilterError};
pub use keep::Turn;
pub use plan::{Plan, Request};
pub use usage::{Totals, Usage, UsageRow};

/// What kind of record an item is, as `du` and the `type==` filter name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The result of a step.
    Regular,
    /// A layer of a base image, unpacked.
    Image,
    /// A build context, or part of one.
    Local,
    /// What was fetched of a git repository.
    Git,
    /// The directory of a cache mount.
    CacheMount,
    /// A compressed layer or a document of an image: made or fetched again when it is needed.
    Blob,
    /// Not needed by any build, but of use to people (logs), or the beginning of something.
    Internal,
    /// Part of the state directory itself; never collected.
    State,
}

impl Kind {
    /// The word for it. As in BuildKit, a layer of a base image is a regular record; its
    /// description tells where it is from.
    pub fn word(self) -> &'static str {
        match self {
            Self::Regular | Self::Image | Self::Blob => "regular",
            Self::Local => "source.local",
            Self::Git => "source.git.checkout",
            Self::CacheMount => "exec.cachemount",
            Self::Internal | Self::State => "internal",
        }
    }

    /// Whether builds change it in place.
    pub fn is_mutable(self) -> bool {
        !matches!(self, Self::Regular | Self::Image | Self::Blob)
    }
}

/// What an item is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ItemId {
    /// A snapshot.
    Snapshot(String),
    /// A blob.
    Blob(Digest),
    /// What was fetched of a git repository.
    Repository(String),
    /// A copy of a cache mount.
    Mount(String),
    /// Something else, by its path in the state directory.
    Place(String),
}

impl std::fmt::Display for ItemId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Snapshot(id) | Self::Repository(id) | Self::Mount(id) | Self::Place(id) => {
                f.write_str(id)
            }
            Self::Blob(digest) => digest.fmt(f),
        }
    }
}

/// Something that takes space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub id: ItemId,
    /// The snapshot that it is made on; it stays as long as this item does.
    pub parent: Option<String>,
    /// Another snapshot that it needs: the one whose layer it has (`COPY --link`).
    pub uses: Option<String>,
    /// In bytes, without what it needs.
    pub size: u64,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last of use.
    pub last_used: Timestamp,
    /// What kind of record it is.
    pub kind: Kind,
    /// For people.
    pub description: String,
}

impl Item {
    /// The snapshots that stay as long as this item does.
    pub(crate) fn needs(&self) -> impl Iterator<Item = &str> {
        [&self.parent, &self.uses].into_iter().filter_map(|id| id.as_deref())
    }
}

/// What must stay, and for whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    /// Items that an image names, directly.
    pub images: BTreeSet<ItemId>,
    /// Items that a running process holds, directly.
    pub leases: BTreeSet<ItemId>,
}

/// `now` less `age`.
pub fn before(now: Timestamp, age: Duration) -> Timestamp {
    let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
    Timestamp { seconds: now.seconds.saturating_sub(seconds), nanos: now.nanos }
}
