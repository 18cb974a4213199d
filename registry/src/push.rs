//! Pushing blobs: only what is not there, by mount where possible, else in one stream.

use std::cell::Cell;
use std::io::{self, Read};

use oci::{Descriptor, Reference};
use ureq::http::{Method, Uri, header};

use crate::client::{Client, Session};
use crate::error::{ErrorKind, Operation, RegistryError};
use crate::progress::Progress;
use crate::scope::Scopes;
use crate::transport::{Payload, Reply, Request};
use crate::url;

/// How a blob came to be in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was there already.
    Existed,
    /// The registry took it from another of its repositories.
    Mounted,
    /// Its bytes were sent.
    Uploaded,
}

/// What is to be pushed, and who is told.
struct Upload<'a> {
    client: &'a Client,
    session: Session<'a>,
    descriptor: &'a Descriptor,
    mount_from: Option<&'a Reference>,
    open: &'a dyn Fn() -> io::Result<Box<dyn Read + Send>>,
    progress: &'a dyn Progress,
    cancel: &'a dyn Fn() -> bool,
}

impl Client {
    /// Makes sure that the blob of `descriptor` is in `reference`'s repository. `mount_from` is a
    /// repository that has it, which counts where it is of the same registry. `open` gives the
    /// bytes, and is called again for each attempt.
    ///
    /// # Errors
    /// If the registry refuses it, or if its source cannot be read or does not have the
    /// descriptor's size.
    pub fn push_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        mount_from: Option<&Reference>,
        open: &dyn Fn() -> io::Result<Box<dyn Read + Send>>,
        progress: &dyn Progress,
        cancel: &dyn Fn() -> bool,
    ) -> Result<Pushed, RegistryError> {
        let mount_from =
            mount_from.filter(|m| m.domain() == reference.domain() && m.path() != reference.path());
        let mut scopes = Scopes::push(reference.path());
        if let Some(from) = mount_from {
            scopes = scopes.union(&Scopes::pull(from.path()));
        }
        let session = self.session(reference, scopes);
        let upload =
            Upload { client: self, session, descriptor, mount_from, open, progress, cancel };
        upload.run().map_err(|e| {
            let object = format!("{} to {}", descriptor.digest, reference.repository());
            e.during(Operation::PushBlob, object)
        })
    }
}

impl Upload<'_> {
    fn run(&self) -> Result<Pushed, ErrorKind> {
        let stop = || self.client.transport.is_closed() || (self.cancel)();
        let _permit = self.client.limiter.acquire(&self.session.endpoint.host, &stop)?;
        let mut count = 1;
        loop {
            let error = match self.attempt() {
                Ok(pushed) => {
                    self.progress.bytes(self.descriptor.size, self.descriptor.size);
                    return Ok(pushed);
                }
                Err(error) => error,
            };
            let what = format!("push blob {}", self.descriptor.digest);
            let tell = |error: &str, count| self.progress.retrying(&what, error, count);
            self.client.pause(error, count, self.cancel, &tell)?;
            count += 1;
        }
    }

    /// From the question whether it is there. A failed upload is begun anew: what became of its
    /// session cannot be known, and after a broken connection the blob may even be there.
    fn attempt(&self) -> Result<Pushed, ErrorKind> {
        if self.exists()? {
            return Ok(Pushed::Existed);
        }
        let place = match self.begin()? {
            Begun::Mounted => return Ok(Pushed::Mounted),
            Begun::At(place) => place,
        };
        self.send(&place)?;
        Ok(Pushed::Uploaded)
    }

    fn exists(&self) -> Result<bool, ErrorKind> {
        let url = self.session.url(&format!("blobs/{}", self.descriptor.digest))?;
        let home = url.clone();
        let reply = self.session.send(Request::new(Method::HEAD, url, Payload::None))?;
        match reply.status {
            200 => Ok(true),
            404 => Ok(false),
            // Storage behind a registry signs its links for GET alone: its refusal says nothing.
            _ if !url::same_origin(&home, &reply.url) => Ok(false),
            _ => Err(self.session.refused(reply)),
        }
    }

    /// Asks for a mount, then for a place to upload to. OCI distribution-spec: a registry that
    /// does not mount answers 202 as to any upload; some answer an error instead.
    fn begin(&self) -> Result<Begun, ErrorKind> {
        let start = self.session.url("blobs/uploads/")?;
        let post =
            |url: Uri| self.session.send(Request::new(Method::POST, url, Payload::Bytes(b"")));
        if let Some(from) = self.mount_from {
            let digest = self.descriptor.digest.to_string();
            let pairs = [("mount", digest.as_str()), ("from", from.path())];
            let reply = post(url::with_query(&start, &pairs)?)?;
            match reply.status {
                201 => return Ok(Begun::Mounted),
                202 => return self.place(&reply),
                400..=499 if reply.status != 429 => {}
                _ => return Err(self.session.refused(reply)),
            }
        }
        let reply = post(start)?;
        if reply.status != 202 {
            return Err(self.session.refused(reply));
        }
        self.place(&reply)
    }

    /// Where the registry wants the bytes.
    fn place(&self, reply: &Reply) -> Result<Begun, ErrorKind> {
        let location = reply.text(header::LOCATION).ok_or_else(|| {
            ErrorKind::Protocol("an upload was accepted without a Location".into())
        })?;
        let place = url::join(&reply.url, &location)?;
        if url::is_https(&reply.url) && self.client.transport.is_exposed(&place) {
            return Err(ErrorKind::Protocol(format!(
                "{} sends an upload from https to http ({})",
                url::origin(&reply.url),
                url::origin(&place)
            )));
        }
        Ok(Begun::At(place))
    }

    /// OCI distribution-spec, "POST then PUT": the whole blob in one request.
    fn send(&self, place: &Uri) -> Result<(), ErrorKind> {
        let size = self.descriptor.size;
        let url = url::with_query(place, &[("digest", &self.descriptor.digest.to_string())])?;
        let cancelled = Cell::new(false);
        let open = || -> io::Result<Box<dyn Read + '_>> {
            self.progress.bytes(0, size);
            Ok(Box::new(Watched {
                inner: (self.open)()?,
                done: 0,
                total: size,
                progress: self.progress,
                cancel: self.cancel,
                cancelled: &cancelled,
            }))
        };
        let payload = match size {
            0 => Payload::Bytes(b""),
            _ => Payload::Stream { open: &open, size },
        };
        let request = Request::new(Method::PUT, url, payload)
            .header(header::CONTENT_TYPE, "application/octet-stream");
        match self.session.expect(request, &[200, 201, 204]) {
            _ if cancelled.get() => Err(ErrorKind::Cancelled),
            result => result.map(|_| ()),
        }
    }
}

enum Begun {
    Mounted,
    At(Uri),
}

/// Counts the bytes that are sent, and stops when it is told to.
struct Watched<'a> {
    inner: Box<dyn Read + Send>,
    done: u64,
    total: u64,
    progress: &'a dyn Progress,
    cancel: &'a dyn Fn() -> bool,
    cancelled: &'a Cell<bool>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.cancel)() {
            self.cancelled.set(true);
            return Err(io::Error::other("cancelled"));
        }
        let n = self.inner.read(buffer)?;
        self.done += n as u64;
        self.progress.bytes(self.done.min(self.total), self.total);
        Ok(n)
    }
}
