//! `done/`: values published since the database was last written, one file each.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use solver::{ActionKey, ContentId};

use crate::durable::{self, Durability};
use crate::error::{At, CacheError};
use crate::lock::{FileLock, Mode};

/// A stored value is never larger; a file that is has been damaged.
pub(crate) const MAX_VALUE: u64 = 16 << 20;

/// How long to wait for those who publish, each for a moment, when values are removed.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a value is stored under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Name {
    /// The record of a step.
    Record(ActionKey),
    /// The making that was agreed on for a content.
    Content(ContentId),
    /// A fact, by the digest of its domain and key.
    Fact([u8; 32]),
}

impl Name {
    fn parts(&self) -> (&'static str, u8, &[u8; 32]) {
        match self {
            Self::Record(key) => ("", b'r', key.as_bytes()),
            Self::Content(id) => ("c-", b'c', id.as_bytes()),
            Self::Fact(hash) => ("f-", b'f', hash),
        }
    }

    /// The name of its file.
    pub(crate) fn file_name(&self) -> String {
        let (prefix, _, raw) = self.parts();
        format!("{prefix}{}", hex::encode(raw))
    }

    /// Its key in the database.
    pub(crate) fn database_key(&self) -> [u8; 33] {
        let (_, tag, raw) = self.parts();
        let mut key = [tag; 33];
        key[1..].copy_from_slice(raw);
        key
    }

    fn parse(file_name: &str) -> Option<Self> {
        let raw = |digits: &str| {
            let mut raw = [0; 32];
            hex::decode_to_slice(digits, &mut raw).ok().map(|()| raw)
        };
        if let Some(rest) = file_name.strip_prefix("c-") {
            Some(Self::Content(ContentId::from_bytes(raw(rest)?)))
        } else if let Some(rest) = file_name.strip_prefix("f-") {
            Some(Self::Fact(raw(rest)?))
        } else {
            Some(Self::Record(ActionKey::from_bytes(raw(file_name)?)))
        }
    }
}

/// The directory of published values.
pub(crate) struct Journal {
    dir: PathBuf,
    /// Held shared while a value is published, exclusively while folded ones are removed: a
    /// value that was replaced since it was read must not be removed.
    lock: PathBuf,
}

impl Journal {
    pub(crate) fn new(dir: PathBuf, lock: PathBuf) -> Self {
        Self { dir, lock }
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.dir.join(name.file_name())
    }

    /// The bytes published for `name`.
    pub(crate) fn read(&self, name: &Name) -> Result<Option<Vec<u8>>, CacheError> {
        read_small(&self.path(name))
    }

    /// Publishes `bytes`, replacing what was.
    pub(crate) fn write(
        &self,
        name: &Name,
        bytes: &[u8],
        durability: Durability,
    ) -> Result<(), CacheError> {
        let _publishing = FileLock::acquire(&self.lock, Mode::Shared)?;
        durable::write_file(&self.path(name), bytes, durability)
    }

    /// At most `limit` of the names that something is published for.
    pub(crate) fn list(&self, limit: usize) -> Result<Vec<Name>, CacheError> {
        let entries = fs::read_dir(&self.dir).at("list", &self.dir)?;
        let names = entries.filter_map(|e| Name::parse(e.ok()?.file_name().to_str()?));
        Ok(names.take(limit).collect())
    }

    /// Removes those whose bytes still are what was read. False if somebody published all the time,
    /// or was stopped while doing so: they can be removed as well another time.
    pub(crate) fn remove(&self, read: &[(Name, Vec<u8>)]) -> Result<bool, CacheError> {
        let locked = FileLock::acquire_within(&self.lock, Mode::Exclusive, PATIENCE)?;
        let Some(_nobody_publishes) = locked else { return Ok(false) };
        for (name, bytes) in read {
            let path = self.path(name);
            if read_small(&path)?.as_ref() == Some(bytes) {
                fs::remove_file(&path).at("remove", &path)?;
            }
        }
        Ok(true)
    }

    /// Removes temporary files that killed processes left.
    pub(crate) fn sweep(&self) {
        durable::sweep_abandoned(&self.dir);
    }
}

/// A whole file of at most [`MAX_VALUE`] bytes (a longer one is cut, which its checksum shows);
/// none where there is no file.
pub(crate) fn read_small(path: &Path) -> Result<Option<Vec<u8>>, CacheError> {
    let file = match File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.at("open", path)?,
    };
    let mut bytes = Vec::with_capacity(1024);
    file.take(MAX_VALUE).read_to_end(&mut bytes).at("read", path)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in [
            Name::Record(ActionKey::from_bytes([1; 32])),
            Name::Content(ContentId::from_bytes([2; 32])),
            Name::Fact([3; 32]),
        ] {
            assert_eq!(Name::parse(&name.file_name()), Some(name));
        }
        for other in ["", ".tmp-x", "c-", "c-00", "f-zz"] {
            assert_eq!(Name::parse(other), None);
        }
    }

    #[test]
    fn a_replaced_value_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let done = dir.path().join("done");
        fs::create_dir(&done).unwrap();
        let journal = Journal::new(done, dir.path().join("lock"));
        let (a, b) = (Name::Fact([1; 32]), Name::Fact([2; 32]));
        for name in [&a, &b] {
            journal.write(name, b"one", Durability::Grouped).unwrap();
        }
        journal.write(&b, b"two", Durability::Grouped).unwrap();
        let read = [(a, b"one".to_vec()), (b, b"one".to_vec())];
        // Somebody is stopped while it publishes: nobody waits for long.
        let publishing = FileLock::acquire(&journal.lock, Mode::Shared).unwrap();
        assert!(!journal.remove(&read).unwrap());
        assert_eq!(journal.list(9).unwrap().len(), 2);
        drop(publishing);
        assert!(journal.remove(&read).unwrap());
        assert_eq!(journal.read(&a).unwrap(), None);
        assert_eq!(journal.read(&b).unwrap(), Some(b"two".to_vec()));
        assert_eq!(journal.list(9).unwrap(), [b]);
    }
}
