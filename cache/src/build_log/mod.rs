//! What builds told: the output of their steps, whole, and how they ended.
//!
//! A build that has something to keep has a directory `builds-v1/<id>/`: `journal`, lines of JSON
//! ([`Entry`]) in the order of events, and `<number>.log` for each step with output ([`frame`]). Whoever
//! writes holds a lock on `journal`: so a build that was killed is told from one that runs. Nothing here is
//! ever synced: a loss of power may take the end of a log, never a result.

mod entry;
mod frame;
mod kept;
mod recorder;

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::Timestamp;

use crate::ceiling::Ceiling;
use crate::durable;
use crate::error::{At, CacheError};
use crate::lock::{self, Mode};
use crate::trash::Trash;

pub use entry::{End, Entry};
pub use frame::{Frame, Frames};
pub use kept::{KeptBuild, KeptStep, Outcome};
pub use recorder::Recorder;

/// The bucket in the state directory.
pub(crate) const BUCKET: &str = "builds-v1";
/// The file with the events.
const JOURNAL: &str = "journal";
/// The same before it is locked.
const NEW: &str = "journal.new";
/// What the names of logs end with.
const LOG: &str = ".log";
/// Ended builds that are kept.
const MAX_BUILDS: usize = 100;
/// Bytes of ended builds that are kept, the newest build apart.
const MAX_BYTES: u64 = 1 << 30;
/// Hex digits after the time in an id.
const RANDOM: usize = 6;

/// The kept logs of a state directory.
pub struct BuildLogs {
    dir: PathBuf,
    /// Where what is written counts.
    ceiling: Option<Ceiling>,
}

impl BuildLogs {
    /// Those of the state directory `root`, which need not be there: this only looks.
    pub fn of(root: &Path) -> Self {
        Self { dir: root.join(BUCKET), ceiling: None }
    }

    /// Starts to keep what the build `title` tells.
    ///
    /// # Errors
    /// If nothing can be written.
    pub fn start(&self, title: &str) -> Result<Recorder, CacheError> {
        let started = Timestamp::now();
        let id = new_id(started);
        let dir = self.dir.join(&id);
        DirBuilder::new().mode(0o700).create(&dir).at("create", &dir)?;
        // Locked before anybody can see it: nobody takes it for that of a dead build.
        let path = dir.join(NEW);
        let mut options = File::options();
        let file = options.append(true).create_new(true).mode(0o600).open(&path);
        let file = file.at("create", &path)?;
        lock::try_lock(&file, Mode::Exclusive).at("lock", &path)?;
        fs::rename(&path, dir.join(JOURNAL)).at("rename", &path)?;
        if let Some(ceiling) = &self.ceiling {
            ceiling.count_logs(&dir);
        }
        let recorder = Recorder::new(id, dir, file);
        recorder.note(&Entry::Build { title: title.to_owned(), started })?;
        Ok(recorder)
    }

    /// The ids of all builds, the newest last.
    ///
    /// # Errors
    /// If they cannot be listed. A state directory that is not there has none.
    pub fn ids(&self) -> Result<Vec<String>, CacheError> {
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.at("list", &self.dir)?,
        };
        let names = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned());
        let begun = |id: &String| is_id(id) && self.dir.join(id).join(JOURNAL).exists();
        let mut ids: Vec<String> = names.filter(begun).collect();
        ids.sort();
        Ok(ids)
    }

    /// One build.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, id: &str) -> Result<KeptBuild, CacheError> {
        KeptBuild::read(&self.dir.join(id), id)
    }

    /// The output of one step, in the order in which it came; none where it told nothing.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn frames(&self, id: &str, step: u64) -> Result<Option<Frames>, CacheError> {
        Frames::open(&self.dir.join(id).join(format!("{step}{LOG}")))
    }

    /// What a build takes, in bytes.
    pub fn size(&self, id: &str) -> u64 {
        crate::space::disk_usage(&self.dir.join(id))
    }

    /// Removes the oldest ended builds, until what is kept is within its bounds.
    pub(crate) fn retain(&self, trash: &Trash) -> Result<(), CacheError> {
        let (mut count, mut bytes) = (0, 0);
        for id in self.ids()?.iter().rev() {
            count += 1;
            bytes += self.size(id);
            if count > MAX_BUILDS || (count > 1 && bytes > MAX_BYTES) {
                self.remove(id, trash)?;
            }
        }
        Ok(())
    }

    /// Whether a build still writes.
    pub(crate) fn is_running(&self, id: &str) -> bool {
        kept::is_running(&self.dir.join(id).join(JOURNAL))
    }

    /// Removes a build unless it runs.
    pub(crate) fn remove(&self, id: &str, trash: &Trash) -> Result<bool, CacheError> {
        let dir = self.dir.join(id);
        if self.is_running(id) {
            return Ok(false);
        }
        trash.take(&dir)?;
        Ok(true)
    }
}

impl crate::State {
    /// The kept logs of builds.
    pub fn build_logs(&self) -> BuildLogs {
        BuildLogs { ceiling: self.ceiling().cloned(), ..BuildLogs::of(self.root()) }
    }

    /// Lets go of the oldest logs of builds, so that they do not grow for ever. What cannot be removed stays,
    /// with a warning.
    pub fn retain_build_logs(&self) {
        match self.build_logs().retain(self.trash()) {
            Ok(()) => self.empty_unattended_trash(),
            Err(e) => self.store().warnings.add(e.to_string()),
        }
    }
}

/// A name that sorts by time: `20260102-030405-a1b2c3`.
pub(crate) fn new_id(at: Timestamp) -> String {
    let text = Timestamp::from_seconds(at.seconds).to_string();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let (date, time) = digits.split_at(digits.len().min(8));
    format!("{date}-{time}-{}", &durable::random_name()[..RANDOM])
}

/// Whether a name could be an id: then it leads nowhere else.
pub fn is_id(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'a'..=b'f'))
}

/// A file that may not be there.
fn open(path: &Path) -> Result<Option<File>, CacheError> {
    match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).at("open", path),
    }
}

/// Shared by those who write one build.
type Shared<T> = Arc<std::sync::Mutex<T>>;

#[cfg(test)]
mod tests;
