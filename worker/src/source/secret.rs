//! Secrets that a source needs: tokens of servers.

use std::io;

/// The secrets of one build, by their ids (`--secret`). They are in no key and no record.
pub trait Secrets: Send + Sync {
    /// The value of the secret `id`; none if the build has none of that name.
    ///
    /// # Errors
    /// If it cannot be read.
    fn get(&self, id: &str) -> io::Result<Option<Vec<u8>>>;
}

/// A build without secrets.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSecrets;

impl Secrets for NoSecrets {
    fn get(&self, _id: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }
}
