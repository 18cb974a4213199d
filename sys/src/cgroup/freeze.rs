//! Freezing a group: the kernel stops all of its processes where they are (cgroups(7),
//! `cgroup.freeze`; Linux 5.2). Version 2 only: what version 1 has frozen cannot even be killed, so
//! that nobody would end what a killed builder left frozen.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Group, Hierarchies, Parent};

/// The file that freezes a group.
const FILE: &str = "cgroup.freeze";

/// How long a group may take to freeze: who is in the middle of a system call ends it first.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(1);

/// A group that can be frozen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freezer {
    dir: PathBuf,
}

impl Hierarchies {
    /// Makes `group` one that can be frozen, where this process may make groups of version 2. No
    /// controller is needed for that. Whether it is one now.
    pub fn add_freezer(&self, group: &mut Group, parent: &Parent, name: &str) -> bool {
        if group.freezer().is_some() {
            return true;
        }
        let Some(top) = self.unified.as_deref() else { return false };
        let Ok(root) = self.base(top, parent, "a step", true) else { return false };
        group.dir(&root, parent, name).is_ok() && group.freezer().is_some()
    }

    /// Whether this process may make groups that can be frozen, as far as can be seen without
    /// making one.
    #[must_use]
    pub fn may_freeze(&self, parent: &Parent) -> bool {
        let top = self.unified.as_deref();
        top.is_some_and(|top| self.base(top, parent, "a step", true).is_ok())
    }
}

impl Group {
    /// What freezes it, if it can be frozen.
    #[must_use]
    pub fn freezer(&self) -> Option<Freezer> {
        let dirs = self.dirs.iter().map(|(_, dir)| dir);
        let dir = dirs.into_iter().find(|dir| dir.join(FILE).exists())?;
        Some(Freezer { dir: dir.clone() })
    }
}

impl Freezer {
    /// Freezes, and waits until all is frozen, or nearly: what does not stop within a second is in
    /// a system call of the kernel and stops at its end.
    ///
    /// # Errors
    /// The group is gone, or may not be frozen.
    pub fn freeze(&self) -> io::Result<()> {
        fs::write(self.dir.join(FILE), "1")?;
        let end = Instant::now() + PATIENCE;
        while !is_frozen(&self.dir) && Instant::now() < end {
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// The group is gone.
    pub fn thaw(&self) -> io::Result<()> {
        fs::write(self.dir.join(FILE), "0")
    }
}

/// Whether all processes of a group have stopped.
fn is_frozen(dir: &Path) -> bool {
    let events = fs::read_to_string(dir.join("cgroup.events")).unwrap_or_default();
    events.lines().any(|line| line == "frozen 1")
}
