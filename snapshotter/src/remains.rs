//! What is left of a snapshot that was condemned.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::damage::CONDEMNED;
use crate::meta::{self, META};
use crate::{SnapshotId, Snapshotter};

/// The most that is read of a file, in bytes.
const MAX_FILE: u64 = 4096;

/// The directory of a snapshot that does not exist any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// What it was made on, as far as that can still be read: whoever runs on it runs on that, too.
    pub parent: Option<SnapshotId>,
    /// Whose layer it had, likewise.
    pub layer: Option<SnapshotId>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Needs {
    parent: Option<String>,
    layer: Option<String>,
}

impl Snapshotter {
    /// What is left of `id`, of which [`Self::get`] says that it is damaged or not there; none if
    /// there is nothing.
    pub fn remains(&self, id: &SnapshotId) -> Option<Remains> {
        let dir = self.dir().join(id.to_string());
        fs::symlink_metadata(&dir).ok()?;
        let needs = [CONDEMNED, META].iter().find_map(|name| read(&dir.join(name)));
        let needs = needs.unwrap_or_default();
        let parse = |text: Option<String>| text?.parse().ok();
        Some(Remains { parent: parse(needs.parent), layer: parse(needs.layer) })
    }
}

fn read(path: &Path) -> Option<Needs> {
    let small = fs::metadata(path).ok()?.len() <= MAX_FILE;
    serde_json::from_slice(meta::first_line(&fs::read(path).ok().filter(|_| small)?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn what_can_still_be_read_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshotter::open(dir.path(), Kind::Copy).unwrap();
        let (id, parent) = (SnapshotId::random(), SnapshotId::random());
        assert_eq!(snapshots.remains(&id), None);
        let own = dir.path().join(id.to_string());
        fs::create_dir(&own).unwrap();
        assert_eq!(snapshots.remains(&id), Some(Remains::default()));
        fs::write(own.join(META), "noise").unwrap();
        assert_eq!(snapshots.remains(&id), Some(Remains::default()));
        fs::write(own.join(CONDEMNED), format!(r#"{{"version":1,"parent":"{parent}"}}"#)).unwrap();
        let made_on = Remains { parent: Some(parent), layer: None };
        assert_eq!(snapshots.remains(&id), Some(made_on));
    }
}
