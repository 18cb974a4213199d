//! Writing down what a build tells.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oci::Timestamp;
use solver::Stream;

use super::{End, Entry, LOG, Shared, frame};
use crate::error::{At, CacheError};

/// A build that is being kept. Steps write beside each other.
pub struct Recorder {
    id: String,
    dir: PathBuf,
    /// Holds the lock.
    journal: Mutex<File>,
    logs: Mutex<HashMap<u64, Shared<File>>>,
    numbers: AtomicU64,
}

impl Recorder {
    pub(super) fn new(id: String, dir: PathBuf, journal: File) -> Self {
        Self {
            id,
            dir,
            journal: Mutex::new(journal),
            logs: Mutex::default(),
            numbers: AtomicU64::new(1),
        }
    }

    /// The id of the build.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A number for another step.
    pub fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Keeps output of step `number`, which is called `name`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn log(
        &self,
        (number, name): (u64, &str),
        stream: Stream,
        at: Timestamp,
        data: &[u8],
    ) -> Result<(), CacheError> {
        let path = self.dir.join(format!("{number}{LOG}"));
        let file = self.file(number, name, &path, at)?;
        let mut file = lock(&file);
        for part in data.chunks(frame::MAX_DATA) {
            // One write for each: frames of a log never mix, and a kill leaves at most one half.
            file.write_all(&frame::encode(stream, at, part)).at("write", &path)?;
        }
        Ok(())
    }

    /// Keeps how a step ended; its log is complete.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn ended(&self, number: u64, end: End, at: Timestamp) -> Result<(), CacheError> {
        lock(&self.logs).remove(&number);
        self.note(&Entry::Ended { number, end, at })
    }

    /// Keeps how the build ended.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(&self, error: Option<String>) -> Result<(), CacheError> {
        self.note(&Entry::Finished { at: Timestamp::now(), error })
    }

    fn file(
        &self,
        number: u64,
        name: &str,
        path: &Path,
        at: Timestamp,
    ) -> Result<Shared<File>, CacheError> {
        let mut logs = lock(&self.logs);
        if let Some(file) = logs.get(&number) {
            return Ok(file.clone());
        }
        let known = path.exists();
        let file = File::options().append(true).create(true).mode(0o600).open(path);
        let file = Arc::new(Mutex::new(file.at("create", path)?));
        if !known {
            self.note(&Entry::Step { number, name: name.to_owned(), started: at })?;
        }
        logs.insert(number, file.clone());
        Ok(file)
    }

    pub(super) fn note(&self, entry: &Entry) -> Result<(), CacheError> {
        let encode = |source| CacheError::Encode { object: "an entry of a build's log", source };
        let mut line = serde_json::to_vec(entry).map_err(encode)?;
        line.push(b'\n');
        lock(&self.journal).write_all(&line).at("write into", &self.dir)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
