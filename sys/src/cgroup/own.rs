//! The groups that this process is in itself. Who may not make groups at the top of a hierarchy
//! may be given a part of it: a group that belongs to them (cgroups(7), "delegation"; systemd's
//! `Delegate=yes`).

use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, access};

use super::limits::Controller;

/// Where this process is in a hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Own {
    /// The mount point of the hierarchy.
    pub(super) top: PathBuf,
    /// The group, below the mount point.
    pub(super) group: PathBuf,
}

/// A hierarchy among the mounts: its point, what of the hierarchy is mounted there, and its
/// controllers; none for version 2.
pub(super) struct Mounted<'a> {
    pub(super) point: &'a str,
    pub(super) root: &'a str,
    pub(super) controller: Option<Controller>,
}

impl Mounted<'_> {
    /// The own group in this hierarchy, from the text of /proc/self/cgroup. None where it is not
    /// below what is mounted.
    pub(super) fn own(&self, groups: &str) -> Option<Own> {
        let path = groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let found = match self.controller {
                Some(controller) => controllers.split(',').any(|it| it == controller.name()),
                None => number == "0" && controllers.is_empty(),
            };
            found.then_some(path)
        })?;
        let below = Path::new(path).strip_prefix(self.root).ok()?;
        let plain = below.components().all(|it| matches!(it, Component::Normal(_)));
        let top = PathBuf::from(self.point);
        plain.then(|| Own { group: top.join(below), top })
    }
}

/// Whether groups can be made in a group. Of version 2 its processes must be ours to move, too.
pub(super) fn is_ours(group: &Path, unified: bool) -> bool {
    let files: &[&str] =
        if unified { &["", "cgroup.procs", "cgroup.subtree_control"] } else { &[""] };
    files.iter().all(|file| access(group.join(file), Access::WRITE_OK).is_ok())
}
