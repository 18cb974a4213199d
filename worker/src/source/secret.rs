//! Secrets that a source needs: tokens of servers.

use std::io;
use std::path::PathBuf;

/// The secrets of one build, by their ids (`--secret`). They are in no key and no record.
pub trait Secrets: Send + Sync {
    /// The value of the secret `id`; none if the build has none of that name.
    ///
    /// # Errors
    /// If it cannot be read.
    fn get(&self, id: &str) -> io::Result<Option<Vec<u8>>>;

    /// The socket of the ssh agent that the build lends to its steps as `id` (`--ssh`); none if
    /// it lends none of that name.
    fn agent(&self, id: &str) -> Option<PathBuf> {
        let _ = id;
        None
    }
}

/// A build without secrets.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSecrets;

impl Secrets for NoSecrets {
    fn get(&self, _id: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }
}
