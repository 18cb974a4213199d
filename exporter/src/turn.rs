//! Exports into one directory, one after the other.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::{ExportError, Report};

/// How often somebody who waits looks again.
const POLL: Duration = Duration::from_millis(20);

/// The right to write into a directory, as long as it lives. Exports of other builds wait, so that
/// the last one wins and none finds a half of another's tree.
#[derive(Debug)]
pub(crate) struct Turn {
    /// None where the directory cannot be locked: some network file systems know no such locks.
    _lock: Option<File>,
}

impl Turn {
    /// Makes the directory if need be, and waits until no other export writes into it. The lock is
    /// one on the directory itself (flock(2)): it leaves no file, and ends with its holder.
    ///
    /// # Errors
    /// If the directory cannot be made, or the export is cancelled.
    pub(crate) fn take(dest: &Path, report: &dyn Report) -> Result<Self, ExportError> {
        let waiting = format!("waiting for another export into {}", dest.display());
        let mut told = false;
        loop {
            fs::create_dir_all(dest)
                .map_err(|source| ExportError::File { path: dest.to_owned(), source })?;
            // A directory that may be written but not read cannot be locked.
            let Ok(lock) = File::open(dest) else { return Ok(Self { _lock: None }) };
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if !is_at(&lock, dest) => continue,
                Err(Errno::WOULDBLOCK) => {}
                Err(Errno::INTR) => continue,
                got => {
                    if told {
                        report.done(&waiting);
                    }
                    return Ok(Self { _lock: got.ok().map(|()| lock) });
                }
            }
            if report.cancelled() {
                return Err(ExportError::Cancelled);
            }
            if !told {
                told = true;
                report.progress(&waiting, 0, 0);
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Whether `path` still is the open directory: somebody may have put another one in its place.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}
