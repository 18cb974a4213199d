//! Getting the blobs of an image into the blob store.

use std::io::{self, Read, Write};

use cache::BlobWriter;
use oci::{Descriptor, Timestamp};
use registry::BlobSink;
use solver::{Event, StepContext};

use crate::engine::Engine;
use crate::error::WorkerError;

use super::Origin;

/// How much is read at once from a layout, in bytes.
const CHUNK: usize = 256 << 10;

impl Engine {
    /// Makes sure that the blob is in the store: nothing is fetched that is there.
    ///
    /// # Errors
    /// If it cannot be fetched, or is not what its descriptor says.
    pub(crate) fn fetch_blob(
        &self,
        blob: &Descriptor,
        origin: &Origin,
        context: Option<&StepContext<'_>>,
    ) -> Result<(), WorkerError> {
        if self.state.blobs().has(blob) {
            return Ok(());
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
        Ok(())
    }
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
