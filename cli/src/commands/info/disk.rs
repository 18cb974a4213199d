//! Where the state directory is, or would be, and what it says of itself. It is only looked at.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::report::StateReport;

/// A state directory from outside.
pub(super) struct State {
    /// Where it is, or would be.
    pub(super) root: PathBuf,
    /// It, or the nearest directory above it that there is.
    pub(super) near: PathBuf,
    exists: bool,
    whiteouts: Option<String>,
    owner: Option<u32>,
    problem: Option<String>,
}

impl State {
    /// Looks at `root` for the user `uid`.
    pub(super) fn look(root: &Path, uid: u32) -> Self {
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        let near = root.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
        let exists = near == root;
        let format = fs::read_to_string(root.join("format")).unwrap_or_default();
        let value = |key: &str| {
            let mut lines = format.lines();
            lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(' ').map(str::to_owned))
        };
        let owner = value("owner").and_then(|it| it.parse().ok());
        let problem = match owner {
            Some(owner) if owner != uid => {
                Some(format!("the state directory {} belongs to user {owner}", root.display()))
            }
            _ if access(near, Access::WRITE_OK | Access::EXEC_OK).is_err() => Some(format!(
                "the state directory {} cannot be {}: {} is not writable",
                root.display(),
                if exists { "used" } else { "made" },
                near.display()
            )),
            _ => None,
        };
        let whiteouts = value("whiteouts");
        Self { near: near.to_owned(), root, exists, whiteouts, owner, problem }
    }

    /// Whether something can be tried in it.
    pub(super) fn is_usable(&self) -> bool {
        self.problem.is_none()
    }

    pub(super) fn report(&self) -> StateReport {
        let space = rustix::fs::statvfs(&self.near).ok();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let place = self.near.canonicalize().unwrap_or_else(|_| self.near.clone());
        StateReport {
            path: self.root.display().to_string(),
            exists: self.exists,
            file_system: file_system(&mounts, &place),
            free_bytes: space.map(|it| it.f_bavail.saturating_mul(it.f_frsize)),
            whiteouts: self.whiteouts.clone(),
            owner: self.owner,
            problem: self.problem.clone(),
        }
    }
}

/// The kind of the file system that `place` is on, from the text of a mountinfo file
/// (proc_pid_mountinfo(5)): of the mounts above it the last one of the longest.
fn file_system(mounts: &str, place: &Path) -> Option<String> {
    let mut found: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let Some((mount, kind)) = line.split_once(" - ") else { continue };
        let Some(point) = mount.split(' ').nth(4) else { continue };
        let point = PathBuf::from(unescape(point));
        let depth = point.components().count();
        if place.starts_with(&point) && found.is_none_or(|(most, _)| depth >= most) {
            found = kind.split(' ').next().map(|kind| (depth, kind));
        }
    }
    found.map(|(_, kind)| kind.to_owned())
}

/// Blanks and such are written as three octal digits.
fn unescape(text: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_file_systems() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / /var rw shared:1 - tmpfs t rw\n\
                      3 1 0:6 / /var rw - xfs /dev/b rw\n4 1 0:7 / /var/a\\040b rw - btrfs c rw\n";
        let kind = |place| file_system(mounts, Path::new(place));
        assert_eq!(kind("/variable").as_deref(), Some("ext4"));
        assert_eq!(kind("/var/lib").as_deref(), Some("xfs"));
        assert_eq!(kind("/var/a b/c").as_deref(), Some("btrfs"));
        assert_eq!(file_system("", Path::new("/")), None);
    }

    #[test]
    fn what_a_directory_says() {
        let temp = tempfile::tempdir().unwrap();
        let state = State::look(&temp.path().join("a/b"), 5);
        assert_eq!((state.near.as_path(), state.exists), (temp.path(), false));
        fs::write(temp.path().join("format"), "drydock-state 1\nwhiteouts user\nowner 7\n")
            .unwrap();
        let report = State::look(temp.path(), 7).report();
        assert_eq!((report.whiteouts.as_deref(), report.owner), (Some("user"), Some(7)));
        assert!(report.exists && report.problem.is_none() && report.free_bytes.is_some());
        let problem = State::look(temp.path(), 5).problem.unwrap();
        assert!(problem.contains("belongs to user 7"), "{problem}");
    }
}
