//! Where a group stands, and what it is called.

use std::path::{Path, PathBuf};

use super::CgroupError;

/// The directory at the top of each hierarchy that groups stand in when nothing else is said.
const DEFAULT: &str = "drydock";
/// The longest path, in bytes (PATH_MAX, less what comes before and after it).
const MAX_LENGTH: usize = 3072;

/// The group that groups are made in, in each hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Relative to the top, of plain names only.
    path: PathBuf,
    /// Whether its own limits are meant to count.
    chosen: bool,
}

impl Default for Parent {
    fn default() -> Self {
        Self { path: DEFAULT.into(), chosen: false }
    }
}

impl Parent {
    /// A group of the caller's choice, by its path from the top of a hierarchy. `..` does not
    /// lead above that, and a path without a leading `/` is meant from the top too (as Docker
    /// does without systemd).
    ///
    /// # Errors
    /// [`CgroupError::Parent`] for the top itself, and for what no directory can be called.
    pub fn new(text: &str) -> Result<Self, CgroupError> {
        let refuse = |reason| CgroupError::Parent { path: text.to_owned(), reason };
        let mut names: Vec<&str> = Vec::new();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    names.pop();
                }
                name if name.len() > 255 => return Err(refuse("a name in it is too long")),
                name => names.push(name),
            }
        }
        if names.is_empty() {
            return Err(refuse(
                "it names the top, whose limits cannot be set; name a group below it",
            ));
        }
        if text.contains(['\0', '\n']) {
            return Err(refuse("it has a character that no group's name has"));
        }
        if text.len() > MAX_LENGTH {
            return Err(refuse("it is too long"));
        }
        Ok(Self { path: names.iter().collect(), chosen: true })
    }

    /// Its path below the top.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was chosen, so that its limits should count in every hierarchy.
    pub(super) fn is_chosen(&self) -> bool {
        self.chosen
    }

    /// It and the groups above it, below `root`; the outermost first.
    pub(super) fn levels(&self, root: &Path) -> Vec<PathBuf> {
        let mut at = root.to_owned();
        let step = |name| {
            at.push(name);
            at.clone()
        };
        self.path.iter().map(step).collect()
    }
}

/// Refuses a name that is none.
pub(super) fn check(name: &str) -> Result<(), CgroupError> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0', '\n']) {
        return Err(CgroupError::Name { name: name.into() });
    }
    Ok(())
}

/// Whether `name` is `owner`, a dash and a number.
pub(super) fn is_owned(name: &str, owner: &str) -> bool {
    let number = name.strip_prefix(owner).and_then(|it| it.strip_prefix('-'));
    number.is_some_and(|it| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_stay_below_the_top() {
        for (text, path) in [
            ("/a", "a"),
            ("a/b", "a/b"),
            ("/a//./b/", "a/b"),
            ("/../../a/../b", "b"),
            ("../../etc", "etc"),
        ] {
            assert_eq!(Parent::new(text).unwrap().path(), Path::new(path), "{text}");
        }
        let long = "x".repeat(256);
        for text in ["", "/", "..", "/a/..", "a\nb", "a\0", &long] {
            assert!(matches!(Parent::new(text), Err(CgroupError::Parent { .. })), "{text:?}");
        }
        let levels = Parent::new("/a/b").unwrap().levels(Path::new("/top"));
        assert_eq!(levels, [Path::new("/top/a"), Path::new("/top/a/b")]);
    }

    #[test]
    fn names_and_owners() {
        assert!(check("lease-1").is_ok());
        assert!(["", ".x", "a/b", "a\n"].iter().all(|name| check(name).is_err()));
        assert!(is_owned("lease-12", "lease"));
        assert!(
            ["lease", "lease-", "lease-1x", "leased-1", "x-1"]
                .iter()
                .all(|n| !is_owned(n, "lease"))
        );
    }
}
