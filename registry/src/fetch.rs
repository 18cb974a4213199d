//! Fetching blobs: streamed, verified as they pass, resumed where they broke off.

use std::io::Read;

use oci::{Descriptor, Hasher, Reference};
use ureq::http::header;

use crate::client::{Client, Session};
use crate::error::{ErrorKind, Operation, RegistryError};
use crate::progress::{BlobSink, Progress};
use crate::scope::Scopes;
use crate::transport::{Reply, Request};

/// How much is read and handed on at once, in bytes.
pub(crate) const CHUNK: usize = 128 << 10;
/// A connection that brought this many bytes before it broke starts the count of attempts anew:
/// a large layer over a bad line shall arrive, a server that sends a byte at a time shall not win.
pub(crate) const PROGRESS: u64 = 1 << 20;

impl Client {
    /// Fetches the blob that `descriptor` points to from `reference`'s repository into `sink`.
    /// Bytes that the sink has already are digested and not fetched again. `cancel` is asked
    /// between pieces of data.
    ///
    /// # Errors
    /// If the blob is not there or may not be had; if it has another size (more bytes than the
    /// descriptor says end the transfer at once) or digest; if the sink fails. What the sink holds
    /// is then the caller's to discard or, after a network error, to resume.
    pub fn blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        sink: &mut dyn BlobSink,
        progress: &dyn Progress,
        cancel: &dyn Fn() -> bool,
    ) -> Result<(), RegistryError> {
        let object = format!("{} of {}", descriptor.digest, reference.repository());
        let session = self.session(reference, Scopes::pull(reference.path()));
        let mut transfer = Transfer {
            client: self,
            session,
            descriptor,
            sink,
            progress,
            cancel,
            hasher: Hasher::new(),
            resumed: false,
            ranges: true,
        };
        transfer.run().map_err(|e| e.during(Operation::FetchBlob, object))
    }
}

struct Transfer<'a> {
    client: &'a Client,
    session: Session<'a>,
    descriptor: &'a Descriptor,
    sink: &'a mut dyn BlobSink,
    progress: &'a dyn Progress,
    cancel: &'a dyn Fn() -> bool,
    /// Over everything that the sink holds.
    hasher: Hasher,
    /// Whether bytes of an earlier run are in the sink: they may be bad, so a wrong digest is
    /// blamed on them first.
    resumed: bool,
    /// Whether the server is believed to serve ranges.
    ranges: bool,
}

impl Transfer<'_> {
    fn run(&mut self) -> Result<(), ErrorKind> {
        self.adopt()?;
        self.fetch()?;
        match self.verify() {
            Err(ErrorKind::DigestMismatch { .. }) if self.resumed => {
                self.restart()?;
                self.fetch()?;
                self.verify()
            }
            result => result,
        }
    }

    fn done(&self) -> u64 {
        self.hasher.size()
    }

    /// Digests what the sink has from an earlier run.
    fn adopt(&mut self) -> Result<(), ErrorKind> {
        let have = self.sink.offset();
        if have == 0 {
            return Ok(());
        }
        self.resumed = true;
        if have > self.descriptor.size {
            return self.restart();
        }
        let mut buffer = vec![0; CHUNK];
        let mut hasher = Hasher::new();
        let read = self.sink.existing().and_then(|existing| {
            let mut existing = existing.take(have);
            loop {
                let n = existing.read(&mut buffer)?;
                if n == 0 || (self.cancel)() {
                    return Ok(());
                }
                hasher.update(&buffer[..n]);
            }
        });
        if (self.cancel)() {
            return Err(ErrorKind::Cancelled);
        }
        if read.is_err() || hasher.size() != have {
            return self.restart();
        }
        self.hasher = hasher;
        self.progress.bytes(self.done(), self.descriptor.size);
        Ok(())
    }

    fn restart(&mut self) -> Result<(), ErrorKind> {
        self.sink.restart().map_err(ErrorKind::Sink)?;
        self.hasher = Hasher::new();
        self.resumed = false;
        self.progress.bytes(0, self.descriptor.size);
        Ok(())
    }

    fn verify(&self) -> Result<(), ErrorKind> {
        let (expected, actual) = (self.descriptor.digest, self.hasher.clone().finish());
        if expected != actual {
            return Err(ErrorKind::DigestMismatch { expected, actual });
        }
        Ok(())
    }

    /// Requests until everything is there or nothing helps.
    fn fetch(&mut self) -> Result<(), ErrorKind> {
        if self.done() == self.descriptor.size {
            return Ok(());
        }
        let client = self.client;
        let stop = || client.transport.is_closed() || (self.cancel)();
        let _permit = client.limiter.acquire(&self.session.endpoint.host, &stop)?;
        let mut count = 1;
        // The furthest point so far: going over old ground after a restart is no progress.
        let mut best = self.done();
        loop {
            let Err(error) = self.attempt() else {
                return Ok(());
            };
            if self.done() >= best + PROGRESS {
                best = self.done();
                count = 1;
            }
            let what = format!("fetch blob {}", self.descriptor.digest);
            let tell = |error: &str, count| self.progress.retrying(&what, error, count);
            self.client.pause(error, count, self.cancel, &tell)?;
            count += 1;
        }
    }

    /// One request, from where the sink ends.
    fn attempt(&mut self) -> Result<(), ErrorKind> {
        if !self.ranges && self.done() > 0 {
            self.restart()?;
        }
        let from = self.done();
        let url = self.session.url(&format!("blobs/{}", self.descriptor.digest))?;
        // A coding would be taken for the blob itself.
        let mut request = Request::get(url).header(header::ACCEPT_ENCODING, "identity");
        if from > 0 {
            request = request.header(header::RANGE, &format!("bytes={from}-"));
        }
        let mut reply = self.session.send(request)?;
        match reply.status {
            200 => {
                if from > 0 {
                    self.restart()?;
                }
            }
            206 if from > 0 && self.continues(&reply, from) => {}
            206 | 416 if from > 0 => {
                // It cannot be trusted with ranges: once more, from the first byte.
                reply.drain();
                self.ranges = false;
                return self.attempt();
            }
            _ => return Err(self.session.refused(reply)),
        }
        if let Some(length) = reply.length() {
            let actual = self.done().saturating_add(length);
            if actual != self.descriptor.size {
                return Err(self.wrong_size(actual, false));
            }
        }
        self.receive(&mut reply)
    }

    fn receive(&mut self, reply: &mut Reply) -> Result<(), ErrorKind> {
        let total = self.descriptor.size;
        let mut buffer = vec![0; CHUNK];
        loop {
            if (self.cancel)() {
                return Err(ErrorKind::Cancelled);
            }
            let n = reply.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            let sum = self.done() + n as u64;
            if sum > total {
                return Err(self.wrong_size(sum, true));
            }
            self.sink.write(&buffer[..n]).map_err(ErrorKind::Sink)?;
            self.hasher.update(&buffer[..n]);
            self.progress.bytes(sum, total);
        }
        if self.done() < total {
            // Without a length there is no telling an early end from a short blob; if it is the
            // latter, the next range is empty.
            let host = &self.session.endpoint.host;
            let kind = std::io::ErrorKind::UnexpectedEof;
            let message = format!("ended after {} of {total} bytes", self.done());
            return Err(ErrorKind::network(host, kind, &message));
        }
        Ok(())
    }

    fn wrong_size(&self, actual: u64, more: bool) -> ErrorKind {
        ErrorKind::SizeMismatch { expected: self.descriptor.size, actual, more }
    }

    /// Whether a 206 goes on at `from` and to the end.
    fn continues(&self, reply: &Reply, from: u64) -> bool {
        let range = reply.text(header::CONTENT_RANGE);
        range.as_deref().and_then(parse_range).is_some_and(|(first, last, total)| {
            first == from
                && last + 1 == self.descriptor.size
                && total.is_none_or(|t| t == self.descriptor.size)
        })
    }
}

/// `bytes FIRST-LAST/TOTAL`, where the total may be `*`. Source: RFC 9110 section 14.4.
pub(crate) fn parse_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let rest = text.trim().strip_prefix("bytes")?.trim_start();
    let (range, total) = rest.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let number = |t: &str| t.trim().parse::<u64>().ok();
    let total = if total.trim() == "*" { None } else { Some(number(total)?) };
    let (first, last) = (number(first)?, number(last)?);
    (first <= last && last < u64::MAX).then_some((first, last, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(parse_range("bytes 5-9/10"), Some((5, 9, Some(10))));
        assert_eq!(parse_range("bytes 5-9/*"), Some((5, 9, None)));
        let huge = format!("bytes 0-{}/*", u64::MAX);
        for bad in ["", "bytes", "bytes */10", "bytes 9-5/10", "5-9/10", "bytes 5-x/10", &huge] {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
    }
}
