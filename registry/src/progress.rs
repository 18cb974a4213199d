//! Where bytes go and who is told: the traits that a caller implements.

use std::io::{self, Read};

/// Receives a blob. What it holds counts only once [`Client::blob`](crate::Client::blob) returned
/// `Ok`; after an error the caller keeps it (to resume later) or throws it away.
pub trait BlobSink {
    /// How many bytes are already there, from an earlier run that was interrupted.
    fn offset(&self) -> u64;

    /// Reads the first [`offset`](Self::offset) bytes again: they are digested before the transfer
    /// goes on behind them.
    ///
    /// # Errors
    /// If they cannot be read; the transfer then starts from the beginning.
    fn existing(&self) -> io::Result<Box<dyn Read>>;

    /// Appends `data`.
    ///
    /// # Errors
    /// Ends the transfer with [`ErrorKind::Sink`](crate::ErrorKind::Sink).
    fn write(&mut self, data: &[u8]) -> io::Result<()>;

    /// Throws away everything that was written, because the bytes come again from the first.
    ///
    /// # Errors
    /// Ends the transfer with [`ErrorKind::Sink`](crate::ErrorKind::Sink).
    fn restart(&mut self) -> io::Result<()>;
}

/// A blob in memory, for configs and other small ones.
impl BlobSink for Vec<u8> {
    fn offset(&self) -> u64 {
        self.len() as u64
    }

    fn existing(&self) -> io::Result<Box<dyn Read>> {
        Ok(Box::new(io::Cursor::new(self.clone())))
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.extend_from_slice(data);
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.clear();
        Ok(())
    }
}

/// Is told how a transfer goes.
pub trait Progress: Sync {
    /// `done` of `total` bytes have passed; `total` is 0 for a download without a known length.
    /// `done` falls when a transfer starts over.
    fn bytes(&self, done: u64, total: u64);

    /// `what` failed with `error` and is about to be tried again; `attempt` counts from 1 and is
    /// the attempt that failed.
    fn retrying(&self, what: &str, error: &str, attempt: u32);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn bytes(&self, _done: u64, _total: u64) {}

    fn retrying(&self, _what: &str, _error: &str, _attempt: u32) {}
}
