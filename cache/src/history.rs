//! `history-v1/`: what the last builds were made of, so that the next one can say what changed.
//!
//! Nothing in it is needed to build: whatever is missing or damaged only makes an explanation
//! shorter. So nothing in it is synced, and no lock is taken for it but that of the tombstones.
//! What the bytes mean is the caller's.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use oci::Timestamp;

use crate::build_log;
use crate::durable::{self, Durability};
use crate::error::{At, CacheError};
use crate::tombstone::Tombstones;

/// Compression of what is kept: little work for each build, and the text is repetitive.
const LEVEL: i32 = 3;

/// No stored file is longer, in bytes.
const MAX_FILE: u64 = 64 << 20;

/// Nor longer when it is decompressed.
const MAX_TEXT: u64 = 512 << 20;

/// Builds of different lines that are remembered; the oldest goes.
const MAX_LINES: usize = 256;

/// Builds whose causes are kept; the oldest goes.
const MAX_BUILDS: usize = 100;

/// A selection younger than this may belong to a build that has not written its line yet, which it
/// does next.
const YOUNG: Duration = Duration::from_secs(60);

/// What is in front of a line's text, in bytes.
pub const MARK: usize = 32;

/// The history.
pub struct History {
    dir: PathBuf,
    tombstones: Tombstones,
}

/// The kinds of files.
#[derive(Clone, Copy)]
enum Shelf {
    Lines,
    Selections,
    Builds,
}

impl Shelf {
    fn name(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Selections => "selections",
            Self::Builds => "builds",
        }
    }
}

/// A build whose causes were kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBuild {
    /// Its name.
    pub id: String,
    /// When it ended.
    pub stored: SystemTime,
}

impl History {
    pub(crate) fn new(dir: PathBuf, lock: PathBuf) -> Self {
        let tombstones = Tombstones::new(dir.join("evicted"), lock);
        Self { dir, tombstones }
    }

    /// What collection took away.
    pub fn tombstones(&self) -> &Tombstones {
        &self.tombstones
    }

    /// The mark of a line's last build: equal marks are equal builds. `family` and `variant` are
    /// plain names.
    pub fn mark(&self, family: &str, variant: &str) -> Option<[u8; MARK]> {
        let mut mark = [0; MARK];
        let path = self.path(Shelf::Lines, &format!("{family}-{variant}")).ok()?;
        File::open(path).ok()?.read_exact(&mut mark).ok()?;
        Some(mark)
    }

    /// What was kept of the last build of a line; without one, of the last build of its family.
    pub fn line(&self, family: &str, variant: &str) -> Option<Vec<u8>> {
        let read = |name: &str| {
            let bytes = read(&self.path(Shelf::Lines, name).ok()?)?;
            unpack(bytes.get(MARK..)?)
        };
        read(&format!("{family}-{variant}")).or_else(|| {
            let prefix = format!("{family}-");
            let mut all = self.list(Shelf::Lines);
            all.retain(|found| found.id.starts_with(&prefix));
            read(&all.first()?.id)
        })
    }

    /// Keeps what a build was made of.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn put_line(
        &self,
        family: &str,
        variant: &str,
        mark: &[u8; MARK],
        text: &[u8],
    ) -> Result<(), CacheError> {
        let path = self.path(Shelf::Lines, &format!("{family}-{variant}"))?;
        let mut bytes = mark.to_vec();
        bytes.extend(pack(text, &path)?);
        self.make(Shelf::Lines)?;
        durable::write_file(&path, &bytes, Durability::Grouped)?;
        self.trim(Shelf::Lines, MAX_LINES);
        Ok(())
    }

    /// The texts of all lines.
    pub fn lines(&self) -> Vec<Vec<u8>> {
        let all = self.list(Shelf::Lines).into_iter();
        all.filter_map(|line| {
            let bytes = read(&self.path(Shelf::Lines, &line.id).ok()?)?;
            unpack(bytes.get(MARK..)?)
        })
        .collect()
    }

    /// Whether the entries of a selection are kept.
    pub fn has_selection(&self, digest: &str) -> bool {
        self.path(Shelf::Selections, digest).is_ok_and(|path| path.exists())
    }

    /// The entries of a selection, by its digest.
    pub fn selection(&self, digest: &str) -> Option<Vec<u8>> {
        unpack(&read(&self.path(Shelf::Selections, digest).ok()?)?)
    }

    /// Keeps the entries of a selection.
    ///
    /// # Errors
    /// If it cannot be written, or `digest` is not a plain name.
    pub fn put_selection(&self, digest: &str, text: &[u8]) -> Result<(), CacheError> {
        let path = self.path(Shelf::Selections, digest)?;
        self.make(Shelf::Selections)?;
        durable::write_file(&path, &pack(text, &path)?, Durability::Grouped)
    }

    /// How many selections are kept, and how many bytes they are.
    pub fn selections(&self) -> (usize, u64) {
        let entries = fs::read_dir(self.dir.join(Shelf::Selections.name()));
        let sizes = entries.into_iter().flatten().flatten().filter_map(|e| e.metadata().ok());
        sizes.fold((0, 0), |(count, bytes), meta| (count + 1, bytes + meta.len()))
    }

    /// Removes the selections that `keep` does not want, but for young ones.
    pub fn sweep_selections(&self, keep: &dyn Fn(&str) -> bool) {
        for found in self.list(Shelf::Selections) {
            let old = SystemTime::now().duration_since(found.stored).is_ok_and(|age| age > YOUNG);
            if old && !keep(&found.id) {
                self.remove(Shelf::Selections, &found.id);
            }
        }
        for shelf in [Shelf::Lines, Shelf::Selections, Shelf::Builds] {
            durable::sweep_abandoned(&self.dir.join(shelf.name()));
        }
    }

    /// The builds whose causes are kept, the latest first.
    pub fn builds(&self) -> Vec<StoredBuild> {
        self.list(Shelf::Builds)
    }

    /// The causes of one build.
    pub fn build(&self, id: &str) -> Option<Vec<u8>> {
        unpack(&read(&self.path(Shelf::Builds, id).ok()?)?)
    }

    /// Keeps the causes of a build, under a new name if it has none.
    ///
    /// # Errors
    /// If they cannot be written, or `id` is not a plain name.
    pub fn put_build(&self, id: Option<&str>, text: &[u8]) -> Result<(), CacheError> {
        let new = || build_log::new_id(Timestamp::now());
        let path = self.path(Shelf::Builds, &id.map_or_else(new, str::to_owned))?;
        self.make(Shelf::Builds)?;
        durable::write_file(&path, &pack(text, &path)?, Durability::Grouped)?;
        self.trim(Shelf::Builds, MAX_BUILDS);
        Ok(())
    }

    fn path(&self, shelf: Shelf, name: &str) -> Result<PathBuf, CacheError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if name.is_empty() || name.len() > 200 || !name.bytes().all(plain) {
            return Err(CacheError::Identity(name.to_owned()));
        }
        Ok(self.dir.join(shelf.name()).join(name))
    }

    fn make(&self, shelf: Shelf) -> Result<(), CacheError> {
        let dir = self.dir.join(shelf.name());
        fs::create_dir_all(&dir).at("create", &dir)
    }

    /// What is on a shelf, the latest first.
    fn list(&self, shelf: Shelf) -> Vec<StoredBuild> {
        let entries = fs::read_dir(self.dir.join(shelf.name())).into_iter().flatten().flatten();
        let mut all: Vec<StoredBuild> = entries
            .filter_map(|entry| {
                let id = entry.file_name().into_string().ok()?;
                let stored = entry.metadata().ok()?.modified().ok()?;
                (!id.starts_with(durable::TEMPORARY)).then_some(StoredBuild { id, stored })
            })
            .collect();
        all.sort_by(|a, b| b.stored.cmp(&a.stored).then_with(|| a.id.cmp(&b.id)));
        all
    }

    fn trim(&self, shelf: Shelf, most: usize) {
        for found in self.list(shelf).into_iter().skip(most) {
            self.remove(shelf, &found.id);
        }
    }

    fn remove(&self, shelf: Shelf, name: &str) {
        if let Ok(path) = self.path(shelf, name) {
            // Whoever removed it meanwhile did what is wanted.
            let _ = fs::remove_file(path);
        }
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_FILE + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= MAX_FILE).then_some(bytes)
}

fn pack(text: &[u8], path: &Path) -> Result<Vec<u8>, CacheError> {
    let pack = || {
        let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL)?;
        // What is damaged must not explain anything.
        encoder.include_checksum(true)?;
        encoder.write_all(text)?;
        encoder.finish()
    };
    pack().at("compress", path)
}

fn unpack(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    zstd::Decoder::new(bytes).ok()?.take(MAX_TEXT + 1).read_to_end(&mut text).ok()?;
    (text.len() as u64 <= MAX_TEXT).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> (tempfile::TempDir, History) {
        let dir = tempfile::tempdir().unwrap();
        let history = History::new(dir.path().join("history"), dir.path().join("lock"));
        (dir, history)
    }

    #[test]
    fn lines_of_their_own_and_of_their_family() {
        let (_dir, history) = history();
        assert_eq!(history.line("f", "a"), None);
        history.put_line("f", "a", &[1; MARK], b"one").unwrap();
        assert_eq!(history.mark("f", "a"), Some([1; MARK]));
        assert_eq!((history.mark("f", "b"), history.mark("g", "a")), (None, None));
        assert_eq!(history.line("f", "b").as_deref(), Some(&b"one"[..]));
        assert_eq!(history.line("g", "a"), None);
        history.put_line("f", "b", &[2; MARK], b"two").unwrap();
        assert_eq!(history.line("f", "a").as_deref(), Some(&b"one"[..]));
        assert_eq!(history.lines().len(), 2);
        assert!(history.put_line("../x", "a", &[0; MARK], b"").is_err());
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (dir, history) = history();
        history.put_selection("aa", b"entries of a selection").unwrap();
        let path = dir.path().join("history/selections/aa");
        let good = fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, bad).unwrap();
            let found = history.selection("aa");
            // A few bits of the frame's head mean nothing.
            assert!(found.is_none_or(|text| text == b"entries of a selection"), "bit {bit}");
        }
    }

    #[test]
    fn selections_and_builds() {
        let (dir, history) = history();
        assert!(!history.has_selection("aa") && history.selection("aa").is_none());
        history.put_selection("aa", b"entries").unwrap();
        history.put_selection("bb", b"entries").unwrap();
        let old = File::open(dir.path().join("history/selections/aa")).unwrap();
        old.set_modified(SystemTime::now() - 2 * YOUNG).unwrap();
        history.sweep_selections(&|_| false);
        assert_eq!((history.has_selection("aa"), history.selections().0), (false, 1));
        assert_eq!(history.selection("bb").as_deref(), Some(&b"entries"[..]));
        fs::write(dir.path().join("history/selections/bb"), b"noise").unwrap();
        assert_eq!(history.selection("bb"), None);
        history.put_build(Some("id"), b"causes").unwrap();
        history.put_build(None, b"others").unwrap();
        assert_eq!(history.build("id").as_deref(), Some(&b"causes"[..]));
        assert_eq!(history.builds().len(), 2);
        assert_eq!(history.build("../lock"), None);
    }
}
