//! Getting the blobs of an image into the blob store.

use std::fs::File;
use std::io::{self, Read, Seek, Write};

use cache::{BlobWriter, Held, Holding};
use oci::layer::{self, Compression, DETECT_BYTES};
use oci::{Descriptor, Digest, Timestamp};
use registry::BlobSink;
use solver::{Event, StepContext};

use crate::engine::Engine;
use crate::error::WorkerError;

use super::Origin;

/// How much is read at once from a layout, in bytes.
const CHUNK: usize = 256 << 10;

impl Engine {
    /// Makes sure that the blob is in the store and stays there as long as the result lives.
    /// Nothing is fetched that is there.
    ///
    /// # Errors
    /// If it cannot be fetched, or is not what its descriptor says.
    pub(crate) fn fetch_blob(
        &self,
        blob: &Descriptor,
        origin: &Origin,
        context: Option<&StepContext<'_>>,
    ) -> Result<Held, WorkerError> {
        // Held before it is looked for: no collection comes between.
        let held = self.state.lease().hold(Holding::Blob, &blob.digest.to_string())?;
        if self.state.blobs().has(blob) {
            return Ok(held);
        }
        let status = Status { blob, context, started: Timestamp::now() };
        let mut writer = self.state.blobs().writer(blob)?;
        match origin {
            Origin::Registry(reference) => {
                let mut sink = Sink(&mut writer);
                let cancelled = || context.is_some_and(|c| c.cancel.is_cancelled());
                self.client.blob(reference, blob, &mut sink, &status, &cancelled)?;
            }
            Origin::Layout(layout) => {
                writer.restart()?;
                let mut member = layout.blob(&blob.digest)?;
                copy(&mut member, &mut writer, &status).map_err(|source| WorkerError::Unpack {
                    image: "the image layout".to_owned(),
                    blob: blob.digest,
                    source: source.into(),
                })?;
            }
            Origin::Store => return Err(WorkerError::BlobGone { blob: blob.digest }),
        }
        writer.commit(blob)?;
        status.tell(blob.size, Some(Timestamp::now()));
        Ok(held)
    }

    /// Stores a small blob, which stays as long as the second result lives.
    pub(crate) fn put_blob(
        &self,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(Descriptor, Held), WorkerError> {
        let digest = Digest::of(bytes).to_string();
        let held = self.state.lease().hold(Holding::Blob, &digest)?;
        Ok((self.state.blobs().put(media_type, bytes)?, held))
    }

    /// Holds a blob that is there; `None` if it is not.
    pub(crate) fn hold_blob(&self, blob: &Descriptor) -> Result<Option<Held>, WorkerError> {
        let exists = || self.state.blobs().has(blob);
        Ok(self.state.lease().hold_if(Holding::Blob, &blob.digest.to_string(), exists)?)
    }

    /// The uncompressed bytes of a blob in the store, and what it is compressed with, whatever its
    /// media type says.
    pub(crate) fn decoded_blob(
        &self,
        blob: &Descriptor,
    ) -> Result<(Compression, Box<dyn Read + Send>), WorkerError> {
        let gone = || WorkerError::BlobGone { blob: blob.digest };
        let mut file = self.state.blobs().open_sized(blob)?.ok_or_else(gone)?;
        let compression = detect(&mut file).map_err(|source| WorkerError::Unpack {
            image: "an image".to_owned(),
            blob: blob.digest,
            source: source.into(),
        })?;
        Ok((compression, layer::decoder(compression, Box::new(file))))
    }
}

/// What `file` is compressed with, by its first bytes; leaves it at its start.
fn detect(file: &mut File) -> io::Result<Compression> {
    let mut head = Vec::new();
    Read::by_ref(file).take(DETECT_BYTES as u64).read_to_end(&mut head)?;
    file.rewind()?;
    Ok(layer::detect(&head))
}

fn copy(from: &mut dyn Read, to: &mut BlobWriter, status: &Status<'_>) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut done = 0;
    loop {
        let got = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(got) => got,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if status.context.is_some_and(|c| c.cancel.is_cancelled()) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        to.write_all(&buffer[..got])?;
        done += got as u64;
        if done > status.blob.size {
            return Err(io::Error::other("it is larger than its descriptor says"));
        }
        status.tell(done, None);
    }
}

/// A blob writer as the registry client wants it.
struct Sink<'a>(&'a mut BlobWriter);

impl BlobSink for Sink<'_> {
    fn offset(&self) -> u64 {
        self.0.position()
    }

    fn existing(&self) -> io::Result<Box<dyn Read>> {
        self.0.existing().map_err(io::Error::other)
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.0.write_all(data)
    }

    fn restart(&mut self) -> io::Result<()> {
        self.0.restart().map_err(io::Error::other)
    }
}

/// Tells how far a download is.
struct Status<'a> {
    blob: &'a Descriptor,
    context: Option<&'a StepContext<'a>>,
    started: Timestamp,
}

impl Status<'_> {
    fn tell(&self, current: u64, completed: Option<Timestamp>) {
        if let Some(context) = self.context {
            context.events.event(Event::Status {
                id: context.id,
                name: self.blob.digest.to_string(),
                current,
                total: self.blob.size,
                started: self.started,
                completed,
            });
        }
    }
}

impl registry::Progress for Status<'_> {
    fn bytes(&self, done: u64, _total: u64) {
        self.tell(done, None);
    }

    fn retrying(&self, what: &str, error: &str, attempt: u32) {
        if let Some(context) = self.context {
            let line = format!("{what} failed ({error}), trying again (attempt {attempt})\n");
            context.log(solver::Stream::Stderr, line.as_bytes());
        }
    }
}
