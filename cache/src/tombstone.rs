//! Which steps' results were taken away by collection, when, and by what rule.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use oci::Timestamp;
use solver::ActionKey;

use crate::codec::{Decoder, Encoder};
use crate::durable::{self, Durability};
use crate::error::{At, CacheError};
use crate::gc::Request;
use crate::lock::{FileLock, Mode};

/// Grows when the encoding changes; a file of another version is none.
const VERSION: u32 = 2;

/// As the second, without a checksum at its end.
const UNSUMMED: u32 = 1;

/// The length of the checksum, in bytes.
const SUM: usize = 16;

/// Tombstones that are kept; the oldest go.
const MAX_TOMBSTONES: usize = 20_000;

/// The file is never longer, in bytes.
const MAX_FILE: u64 = 8 << 20;

/// A rule is never longer, in characters.
const MAX_RULE: usize = 200;

/// What became of the result of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// When it was taken away.
    pub at: Timestamp,
    /// By what, for people: `prune --all`.
    pub rule: String,
}

/// The tombstones of a state directory, read when the first one is asked for.
pub struct Tombstones {
    path: PathBuf,
    lock: PathBuf,
    read: OnceLock<HashMap<ActionKey, Tombstone>>,
}

impl Tombstones {
    pub(crate) fn new(path: PathBuf, lock: PathBuf) -> Self {
        Self { path, lock, read: OnceLock::new() }
    }

    /// What became of the result of a step, if it was taken away.
    pub fn get(&self, key: &ActionKey) -> Option<&Tombstone> {
        self.read.get_or_init(|| read(&self.path).into_iter().collect()).get(key)
    }

    /// Adds tombstones.
    pub(crate) fn add(&self, keys: &[ActionKey], stone: &Tombstone) -> Result<(), CacheError> {
        self.change(keys, Some(stone))
    }

    /// Removes the tombstones of results that were made again.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn remove(&self, keys: &[ActionKey]) -> Result<(), CacheError> {
        self.change(keys, None)
    }

    fn change(&self, keys: &[ActionKey], stone: Option<&Tombstone>) -> Result<(), CacheError> {
        if keys.is_empty() {
            return Ok(());
        }
        if let Some(dir) = self.path.parent() {
            fs::create_dir_all(dir).at("create", dir)?;
        }
        let _only_writer = FileLock::acquire(&self.lock, Mode::Exclusive)?;
        let mut all = read(&self.path);
        let changed: HashSet<&ActionKey> = keys.iter().collect();
        all.retain(|(key, _)| !changed.contains(key));
        let new = |stone: &Tombstone| keys.iter().map(|key| (*key, stone.clone())).collect();
        all.extend(stone.map_or_else(Vec::new, new));
        let first = all.len().saturating_sub(MAX_TOMBSTONES);
        durable::write_file(&self.path, &encode(&all[first..]), Durability::Grouped)
    }
}

/// What a collection is called after the request for it.
pub(crate) fn rule_of(request: &Request) -> String {
    if !request.name.is_empty() {
        return request.name.clone();
    }
    let mut rule = match request.keep_bytes {
        Some(bytes) => format!("collection down to {bytes} bytes"),
        None => "drydock prune".to_owned(),
    };
    if request.all {
        rule.push_str(" --all");
    }
    if request.unused_since.is_some() {
        rule.push_str(", not used for longer than its limit");
    }
    rule
}

fn encode(all: &[(ActionKey, Tombstone)]) -> Vec<u8> {
    let mut e = Encoder::default();
    e.u32(VERSION);
    for (key, stone) in all {
        let rule: String = stone.rule.chars().take(MAX_RULE).collect();
        e.raw(key.as_bytes()).time(stone.at).bytes(rule.as_bytes());
    }
    let mut bytes = e.finish();
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

fn checksum(bytes: &[u8]) -> [u8; SUM] {
    *blake3::hash(bytes).as_bytes().first_chunk().unwrap_or(&[0; SUM])
}

/// What the file is without its checksum; none where that does not fit. The version is part of it:
/// one that was damaged must not read as an earlier one.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (body, sum) = bytes.split_last_chunk::<SUM>()?;
    (checksum(body) == *sum).then_some(body)
}

/// Of a damaged file nothing counts: a wrong cause is worse than none. (Of one without a checksum,
/// what it has before the damage.)
fn read(path: &Path) -> Vec<(ActionKey, Tombstone)> {
    let mut bytes = Vec::new();
    let Ok(file) = File::open(path) else { return Vec::new() };
    if file.take(MAX_FILE).read_to_end(&mut bytes).is_err() {
        return Vec::new();
    }
    let wanted = if checked(&bytes).is_some() { VERSION } else { UNSUMMED };
    let mut d = Decoder::new(checked(&bytes).unwrap_or(&bytes));
    if d.u32() != Some(wanted) {
        return Vec::new();
    }
    std::iter::from_fn(|| {
        let key = ActionKey::from_bytes(d.array()?);
        Some((key, Tombstone { at: d.time()?, rule: d.text()? }))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> ActionKey {
        ActionKey::from_bytes([n; 32])
    }

    #[test]
    fn the_last_one_counts() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Tombstones::new(dir.path().join("evicted"), dir.path().join("lock"));
        let stone = |seconds, rule: &str| Tombstone {
            at: Timestamp { seconds, nanos: 0 },
            rule: rule.to_owned(),
        };
        assert_eq!(open().get(&key(1)), None);
        open().add(&[key(1), key(2)], &stone(1, "prune")).unwrap();
        open().add(&[key(2)], &stone(2, "prune --all")).unwrap();
        let all = open();
        assert_eq!(all.get(&key(1)), Some(&stone(1, "prune")));
        assert_eq!(all.get(&key(2)), Some(&stone(2, "prune --all")));
        assert_eq!(all.get(&key(3)), None);
        open().add(&[key(3)], &stone(3, "prune")).unwrap();
        open().remove(&[key(3)]).unwrap();
        assert_eq!(open().get(&key(3)), None);
    }

    #[test]
    fn what_is_damaged_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("evicted");
        let open = || Tombstones::new(path.clone(), dir.path().join("lock"));
        let stone = Tombstone { at: Timestamp::EPOCH, rule: "prune".to_owned() };
        open().add(&[key(1), key(2)], &stone).unwrap();
        let good = fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, bad).unwrap();
            assert_eq!(open().get(&key(1)), None, "bit {bit}");
        }
        // As earlier versions wrote it, cut off.
        let mut old = good[..good.len() - SUM - 1].to_vec();
        old[0] = 1;
        fs::write(&path, old).unwrap();
        assert_eq!((open().get(&key(1)), open().get(&key(2))), (Some(&stone), None));
    }

    #[test]
    fn rules_have_names() {
        let request = Request { all: true, ..Request::default() };
        assert_eq!(rule_of(&request), "drydock prune --all");
        let request = Request { keep_bytes: Some(9), ..Request::default() };
        assert_eq!(rule_of(&request), "collection down to 9 bytes");
    }
}
