//! Bytes on their way into the blob store, digested as they pass.

use std::io::{self, Read, Write};

use cache::{BlobWriter, Held, Holding};
use oci::Digest;
use oci::layer::ContentHash;
use registry::BlobSink;

use crate::engine::Engine;
use crate::error::WorkerError;

/// What the store calls a blob that no image has. It is written down nowhere.
const MEDIA_TYPE: &str = "application/octet-stream";

/// A file that is being stored; dropped before its end, nothing of it stays.
pub(super) struct Intake {
    writer: BlobWriter,
    hasher: blake3::Hasher,
}

/// A file in the store.
pub(super) struct Stored {
    pub(super) digest: Digest,
    pub(super) content: ContentHash,
    /// In bytes.
    pub(super) size: u64,
    /// Keeps it.
    pub(super) held: Held,
}

impl Intake {
    pub(super) fn new(engine: &Engine) -> Result<Self, WorkerError> {
        Self::into_store(&engine.state)
    }

    pub(super) fn into_store(state: &cache::State) -> Result<Self, WorkerError> {
        Ok(Self { writer: state.blobs().create()?, hasher: blake3::Hasher::new() })
    }

    /// The digest of what came so far.
    pub(super) fn digest(&self) -> Digest {
        self.writer.digest()
    }

    /// Puts the file into the store.
    pub(super) fn finish(self, state: &cache::State) -> Result<Stored, WorkerError> {
        let digest = self.writer.digest();
        // Held before it is there: no collection comes between.
        let held = state.lease().hold(Holding::Blob, &digest.to_string())?;
        let content = ContentHash(*self.hasher.finalize().as_bytes());
        let size = self.writer.finish(MEDIA_TYPE)?.size;
        Ok(Stored { digest, content, size, held })
    }
}

impl Write for Intake {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.writer.write(data)?;
        self.hasher.update(&data[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl BlobSink for Intake {
    fn offset(&self) -> u64 {
        self.writer.position()
    }

    fn existing(&self) -> io::Result<Box<dyn Read>> {
        self.writer.existing().map_err(io::Error::other)
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.write_all(data)
    }

    fn restart(&mut self) -> io::Result<()> {
        self.hasher = blake3::Hasher::new();
        self.writer.restart().map_err(io::Error::other)
    }
}
