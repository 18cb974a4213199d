//! One step that another process runs: its news, from the first to the last.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::PathBuf;
use std::sync::Arc;

use solver::{Follow, Followed, StoreError};

use super::news::Decoder;
use super::want::Want;
use super::watch::{Events, Mark};
use crate::error::{At, CacheError};
use crate::lock::{self, Mode};

/// How much is read at once, in bytes.
const PIECE: usize = 64 << 10;

/// One run of a step, which is as long as its lock is held.
pub(super) struct Run {
    path: PathBuf,
    /// None where nobody ran it any more.
    file: Option<File>,
    decoder: Decoder,
    /// Whether the lock was seen free: what there is to read is all.
    over: bool,
    want: Option<Want>,
    /// Goes before the watched file is closed.
    mark: Option<Mark>,
    /// Counts what is followed.
    _followed: Arc<()>,
}

impl Run {
    /// Follows whoever holds the lock `path` now, wanting the result.
    pub(super) fn new(
        path: PathBuf,
        want: PathBuf,
        events: Option<&Arc<Events>>,
        followed: Arc<()>,
    ) -> Result<Self, CacheError> {
        let mut run = Self {
            path,
            file: None,
            decoder: Decoder::default(),
            over: true,
            want: None,
            mark: None,
            _followed: followed,
        };
        let file = match File::open(&run.path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(run),
            other => other.at("open", &run.path)?,
        };
        if is_free(&file).at("lock", &run.path)? {
            // What a killed one told is nobody's news.
            return Ok(run);
        }
        run.want = Want::new(want)?;
        // Before the first look: what happens after that look is seen here.
        run.mark = events.and_then(|events| events.mark(&run.path, &file));
        run.file = Some(file);
        run.over = false;
        Ok(run)
    }

    fn advance(&mut self) -> Result<Followed, CacheError> {
        let Some(file) = &mut self.file else { return Ok(Followed::Over) };
        let mut piece = [0; PIECE];
        loop {
            if let Some(news) = self.decoder.next() {
                return Ok(Followed::News(news));
            }
            match file.read(&mut piece) {
                Ok(0) if self.over => return Ok(Followed::Over),
                Ok(0) => {
                    // What was told before it was freed is read after this look.
                    self.over = is_free(file).at("lock", &self.path)?;
                    if !self.over {
                        return Ok(Followed::Nothing);
                    }
                }
                Ok(count) => self.decoder.feed(&piece[..count]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e).at("read", &self.path),
            }
        }
    }
}

/// Whether nobody holds the lock exclusively. Takes nothing.
fn is_free(file: &File) -> Result<bool, rustix::io::Errno> {
    let free = lock::try_lock(file, Mode::Shared)?;
    if free {
        lock::unlock(file);
    }
    Ok(free)
}

impl Follow for Run {
    fn next(&mut self) -> Result<Followed, StoreError> {
        self.advance().map_err(|e| StoreError::new("follow a step of another build", e))
    }

    fn decline(&mut self) {
        self.want = None;
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.mark = None;
    }
}
