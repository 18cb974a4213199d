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
        let text = format!("{VERSION}\nwhiteouts {}\nowner {}\n", self.whiteouts, self.owner_uid);
        let sum = checksum(&text);
        text + SUM + &sum + "\n"
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
/// users apart. One that is damaged is written again: what it said, only its owner can have said.
/// Returns what there is to tell about that.
pub(crate) fn check(
    root: &Path,
    dialect: &Dialect,
    lock: &Path,
) -> Result<Option<String>, CacheError> {
    let path = root.join("format");
    let mut text = read(&path)?;
    if text.is_empty() || is_damaged(&text) {
        let _held = FileLock::acquire(lock, Mode::Exclusive)?;
        text = read(&path)?;
        if text.is_empty() || is_damaged(&text) {
            durable::write_file(&path, dialect.encode().as_bytes(), Durability::Now)?;
            let told = || format!("{} was damaged and is written again", path.display());
            return Ok((!text.is_empty()).then(told));
        }
    }
    match Dialect::decode(&text) {
        Some(found) if found == *dialect => Ok(None),
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

/// What the last line begins with.
const SUM: &str = "sum ";

fn checksum(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

/// Whether it is neither ours nor of another version of the program, which it would say.
fn is_damaged(text: &str) -> bool {
    if let Some(at) = text.rfind(SUM) {
        let (body, sum) = text.split_at(at);
        return sum.trim_end().strip_prefix(SUM) != Some(&*checksum(body));
    }
    let name = VERSION.trim_end_matches(|c: char| c.is_ascii_digit());
    let other = text.lines().next().and_then(|line| line.strip_prefix(name));
    let other =
        other.is_some_and(|n| n.parse::<u32>().is_ok() && !VERSION.ends_with(&format!(" {n}")));
    !other && Dialect::decode(text).is_none()
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
        assert_eq!(check(dir.path(), &ours, &lock).unwrap(), None);
    }

    #[test]
    fn a_damaged_one_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let (lock, path) = (dir.path().join("lock"), dir.path().join("format"));
        let ours = Dialect { whiteouts: "trusted".into(), owner_uid: 0 };
        check(dir.path(), &ours, &lock).unwrap();
        let good = fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, bad).unwrap();
            check(dir.path(), &ours, &lock).unwrap();
        }
        for length in 1..good.len() - 1 {
            fs::write(&path, &good[..length]).unwrap();
            check(dir.path(), &ours, &lock).unwrap();
        }
        // As earlier builds wrote it.
        fs::write(&path, "drydock-state 1\nwhiteouts trusted\nowner 0\n").unwrap();
        assert_eq!(check(dir.path(), &ours, &lock).unwrap(), None);
    }
}
