//! A single file of the blob store as a source of copies.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use oci::layer::{Entry, TreePath};
use solver::CancelToken;

use crate::copy::{Keep, SourceError, SourceTree};
use crate::engine::Engine;
use crate::error::WorkerError;

/// A tree of one file, whose content is a blob.
pub struct FileTree {
    name: String,
}

impl FileTree {
    /// The name of the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether its content is a tar archive, plain or compressed.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn is_archive(&self) -> Result<bool, WorkerError> {
        Ok(false)
    }

    /// Its content, if it is not longer than `limit` bytes.
    ///
    /// # Errors
    /// If it cannot be read or is longer.
    pub fn read(&self, limit: u64) -> Result<Vec<u8>, WorkerError> {
        let _ = limit;
        Err(WorkerError::Unsupported("files".to_owned()))
    }
}

impl Engine {
    /// Puts what `reader` gives into the blob store, as a file called `name`.
    ///
    /// # Errors
    /// If it cannot be read or stored, or `cancel` was set.
    pub fn store_file(
        &self,
        name: &str,
        reader: &mut dyn Read,
        cancel: &CancelToken,
    ) -> Result<Arc<FileTree>, WorkerError> {
        let _ = (reader, cancel);
        Err(WorkerError::Unsupported(name.to_owned()))
    }
}

impl SourceTree for FileTree {
    fn entry(&self, _path: &TreePath) -> Result<Option<Entry>, SourceError> {
        Ok(None)
    }

    fn list(&self, _path: &TreePath) -> Result<Vec<Entry>, SourceError> {
        Ok(Vec::new())
    }

    fn walk(
        &self,
        _path: &TreePath,
        _keep: &(dyn Fn(&TreePath, bool) -> Keep + Sync),
    ) -> Result<Vec<Entry>, SourceError> {
        Ok(Vec::new())
    }

    fn hashed(&self, entry: Entry) -> Result<Entry, SourceError> {
        Ok(entry)
    }

    fn open(&self, path: &TreePath) -> Result<File, SourceError> {
        Err(SourceError::read(path, std::io::Error::from(std::io::ErrorKind::NotFound)))
    }

    fn has_owners(&self) -> bool {
        true
    }
}
