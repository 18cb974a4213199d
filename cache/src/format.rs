//! The `format` file: which version of the program and which host can use a state directory.

use std::fs;
use std::path::Path;

use crate::durable::{self, Durability};
use crate::error::{At, CacheError};
use crate::lock::{FileLock, Mode};

const VERSION: &str = "drydock-state 1";

/// How snapshots are stored: a state directory is used in one way only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// How a deletion is written into a snapshot, such as `overlay-trusted`. One word.
    pub whiteouts: String,
    /// The user id, as the host sees it, that owns files of the container's root user.
    pub owner_uid: u32,
}

impl Dialect {
    fn describe(&self) -> String {
        format!("whiteouts {} and owner {}", self.whiteouts, self.owner_uid)
    }

    fn encode(&self) -> String {
        format!("{VERSION}\nwhiteouts {}\nowner {}\n", self.whiteouts, self.owner_uid)
    }

    fn decode(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != VERSION {
            return None;
        }
        let whiteouts = lines.next()?.strip_prefix("whiteouts ")?.to_owned();
        let owner_uid = lines.next()?.strip_prefix("owner ")?.parse().ok()?;
        Some(Self { whiteouts, owner_uid })
    }
}

/// Checks the `format` file of `root`, writing it where there is none. `lock` keeps two first
/// users apart.
pub(crate) fn check(root: &Path, dialect: &Dialect, lock: &Path) -> Result<(), CacheError> {
    let path = root.join("format");
    let mut text = read(&path)?;
    if text.is_empty() {
        let _held = FileLock::acquire(lock, Mode::Exclusive)?;
        text = read(&path)?;
        if text.is_empty() {
            return durable::write_file(&path, dialect.encode().as_bytes(), Durability::Now);
        }
    }
    match Dialect::decode(&text) {
        Some(found) if found == *dialect => Ok(()),
        Some(found) => Err(CacheError::Dialect {
            root: root.to_owned(),
            found: found.describe(),
            wanted: dialect.describe(),
        }),
        None => Err(CacheError::Format {
            root: root.to_owned(),
            found: text.lines().next().unwrap_or_default().chars().take(80).collect(),
        }),
    }
}

/// The text; empty where there is no file (or one that a power loss left empty).
fn read(path: &Path) -> Result<String, CacheError> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(e).at("read", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_other_dialects_and_versions() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("lock");
        let ours = Dialect { whiteouts: "overlay-trusted".into(), owner_uid: 0 };
        check(dir.path(), &ours, &lock).unwrap();
        check(dir.path(), &ours, &lock).unwrap();
        let other = Dialect { whiteouts: "overlay-user".into(), owner_uid: 1000 };
        let text = check(dir.path(), &other, &lock).unwrap_err().to_string();
        assert!(text.contains("overlay-user and owner 1000"), "{text}");
        fs::write(dir.path().join("format"), "drydock-state 9\n").unwrap();
        assert!(matches!(check(dir.path(), &ours, &lock), Err(CacheError::Format { .. })));
        fs::write(dir.path().join("format"), "").unwrap();
        check(dir.path(), &ours, &lock).unwrap();
    }
}
