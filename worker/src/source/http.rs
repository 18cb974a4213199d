//! Files behind URLs.
//!
//! What a URL gave is remembered by its entity tag and its time; the server is asked whether it is
//! still that, and the body comes only if it is not. Facts hold digests, never what was sent to be
//! let in, and the URL only as part of a hash.

use std::sync::Arc;

use cache::{Holding, State};
use graph::HttpSource;
use oci::layer::ContentHash;
use oci::{Digest, Timestamp};
use registry::{Client, Download, Get, Progress, RemoteFile, Silent};
use serde::{Deserialize, Serialize};
use solver::{CancelToken, Event, StepContext, Stream};

use super::file::{Inscription, Refill};
use super::intake::{Intake, Stored};
use super::{FileTree, Secrets};
use crate::engine::Engine;
use crate::error::WorkerError;

/// The domain of facts that tell what a URL was when it was last asked.
const LATEST_FACT: &str = "http";
/// The domain of facts that tell what a URL with a certain content was.
const PINNED_FACT: &str = "http-pinned";
/// The version of [`Known`]; others are not read.
const VERSION: u32 = 1;
/// The permissions of a downloaded file (BuildKit: `source/http`).
const MODE: u32 = 0o600;
/// The ids of secrets that are sent as `Authorization`: a whole value, and a bearer token. The
/// host follows.
const HEADER_SECRET: &str = "HTTP_AUTH_HEADER_";
const TOKEN_SECRET: &str = "HTTP_AUTH_TOKEN_";

/// What a URL gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    version: u32,
    etag: Option<String>,
    last_modified: Option<String>,
    /// Whether `last_modified` tells this content from any later one.
    settled: bool,
    modified: Option<Timestamp>,
    name: String,
    digest: Digest,
    content: String,
    size: u64,
}

impl Known {
    fn new(file: RemoteFile, stored: &Stored) -> Self {
        Self {
            version: VERSION,
            etag: file.etag,
            last_modified: file.last_modified,
            settled: file.settled,
            modified: file.modified,
            name: file.name,
            digest: stored.digest,
            content: blake3::Hash::from(stored.content.0).to_hex().to_string(),
            size: stored.size,
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let known: Self = serde_json::from_slice(bytes).ok()?;
        (known.version == VERSION && known.content().is_some()).then_some(known)
    }

    fn content(&self) -> Option<ContentHash> {
        blake3::Hash::from_hex(&self.content).ok().map(|hash| ContentHash(hash.into()))
    }

    fn is_there(&self, state: &State) -> bool {
        state.blobs().size(&self.digest) == Some(self.size)
    }

    /// Keeps the blob, whether it is there or comes yet.
    fn hold(&self, state: &State) -> Result<Stored, WorkerError> {
        let held = state.lease().hold(Holding::Blob, &self.digest.to_string())?;
        let content = self.content().unwrap_or(ContentHash([0; 32]));
        Ok(Stored { digest: self.digest, content, size: self.size, held })
    }

    /// Whether `file` is the same content by its entity tag: weak or strong, it names what a
    /// server takes for the same.
    fn is_still(&self, file: &RemoteFile) -> bool {
        let bare = |tag: &Option<String>| {
            tag.as_deref().map(|t| t.strip_prefix("W/").unwrap_or(t).to_owned())
        };
        self.etag.is_some() && bare(&self.etag) == bare(&file.etag)
    }
}

/// A URL and how to be let in.
struct Remote {
    client: Arc<Client>,
    url: String,
    authorization: Option<Vec<u8>>,
    cancel: CancelToken,
}

impl Remote {
    fn ask(
        &self,
        known: Option<&Known>,
        progress: &dyn Progress,
    ) -> Result<Download<'_>, WorkerError> {
        let get = Get {
            url: &self.url,
            etag: known.and_then(|k| k.etag.as_deref()),
            last_modified: known.filter(|k| k.settled).and_then(|k| k.last_modified.as_deref()),
            authorization: self.authorization.as_deref(),
        };
        let cancelled = || self.cancel.is_cancelled();
        self.client.download(&get, progress, &cancelled).map_err(|e| self.failed(e))
    }

    /// Receives a body, and stores it if it is `expected`.
    fn receive(
        &self,
        answer: Download<'_>,
        state: &State,
        expected: Option<&Digest>,
        progress: &dyn Progress,
    ) -> Result<(RemoteFile, Stored), WorkerError> {
        let mut intake = Intake::into_store(state)?;
        let cancelled = || self.cancel.is_cancelled();
        let received = answer.receive(&mut intake, progress, &cancelled);
        let (file, _) = received.map_err(|e| self.failed(e))?;
        self.check(expected, &intake.digest())?;
        Ok((file, intake.finish(state)?))
    }

    fn check(&self, expected: Option<&Digest>, actual: &Digest) -> Result<(), WorkerError> {
        match expected.filter(|expected| *expected != actual) {
            None => Ok(()),
            Some(expected) => Err(WorkerError::Checksum {
                url: registry::masked(&self.url),
                expected: *expected,
                actual: *actual,
            }),
        }
    }

    fn failed(&self, error: registry::RegistryError) -> WorkerError {
        match error.kind {
            registry::ErrorKind::Cancelled => WorkerError::Cancelled,
            _ => error.into(),
        }
    }
}

impl Refill for Remote {
    fn refill(&self, state: &State, digest: &Digest) -> Result<Stored, WorkerError> {
        let answer = self.ask(None, &Silent)?;
        Ok(self.receive(answer, state, Some(digest), &Silent)?.1)
    }
}

impl Engine {
    /// The file that `source` names, as it is today. It is asked for again only if it may have
    /// changed: one with a checksum cannot have.
    ///
    /// # Errors
    /// If the server cannot be asked or refuses, if the content is not that of the checksum, or if
    /// it cannot be stored. A file of an earlier build never stands in.
    pub(crate) fn http_file(
        &self,
        source: &HttpSource,
        secrets: &dyn Secrets,
        context: &StepContext<'_>,
    ) -> Result<Arc<FileTree>, WorkerError> {
        let remote = Remote {
            client: self.client.clone(),
            url: source.url.clone(),
            authorization: authorization(&source.url, secrets)?,
            cancel: context.cancel.clone(),
        };
        let pinned = source.checksum.as_ref().and_then(|checksum| {
            let key = pinned_key(&source.url, checksum);
            let known = Known::read(&self.state.get_fact(PINNED_FACT, &key)?)?;
            (known.digest == *checksum).then_some(known)
        });
        let (known, stored) = match pinned {
            Some(known) => {
                let stored = known.hold(&self.state)?;
                (known, stored)
            }
            None => self.ask_today(&remote, source.checksum.as_ref(), context)?,
        };
        let name = source.filename.clone().unwrap_or(known.name);
        let mtime = known.modified.unwrap_or(Timestamp::EPOCH);
        let inscription = Inscription { name, mode: MODE, mtime };
        let refill = Some(Box::new(remote) as Box<dyn Refill>);
        Ok(Arc::new(FileTree::new(self.state.clone(), inscription, stored, refill)))
    }

    /// What the server says that the URL is, and its content in the store.
    fn ask_today(
        &self,
        remote: &Remote,
        checksum: Option<&Digest>,
        context: &StepContext<'_>,
    ) -> Result<(Known, Stored), WorkerError> {
        let url = remote.url.as_bytes();
        let known = self.state.get_fact(LATEST_FACT, url).and_then(|f| Known::read(&f));
        // Held before it is looked for: no collection comes between.
        let kept = match &known {
            Some(known) => Some((known.clone(), known.hold(&self.state)?)),
            None => None,
        };
        let there = kept.filter(|(known, _)| known.is_there(&self.state));
        let status = Status::new(context, remote);
        let answer = remote.ask(known.as_ref(), &status)?;
        let unchanged = known.is_some_and(|k| !answer.is_modified() || k.is_still(answer.file()));
        let (answer, there) = match (answer.is_modified(), there) {
            (_, Some((known, stored))) if unchanged => {
                remote.check(checksum, &known.digest)?;
                self.remember(&remote.url, &known)?;
                return Ok((known, stored));
            }
            (true, there) => (answer, there),
            (false, there) => {
                // It is what it was, and that is gone.
                drop(answer);
                (remote.ask(None, &status)?, there)
            }
        };
        drop(there);
        let (file, stored) = remote.receive(answer, &self.state, checksum, &status)?;
        status.end(stored.size);
        let known = Known::new(file, &stored);
        self.remember(&remote.url, &known)?;
        Ok((known, stored))
    }

    fn remember(&self, url: &str, known: &Known) -> Result<(), WorkerError> {
        let value = serde_json::to_vec(known).expect("it has only plain fields");
        self.state.put_fact(LATEST_FACT, url.as_bytes(), &value)?;
        Ok(self.state.put_fact(PINNED_FACT, &pinned_key(url, &known.digest), &value)?)
    }
}

/// No URL has a line break.
fn pinned_key(url: &str, digest: &Digest) -> Vec<u8> {
    format!("{digest}\n{url}").into_bytes()
}

/// The `Authorization` that the secrets of the build have for the host of `url`: with its port if
/// it has one, else for the host alone.
fn authorization(url: &str, secrets: &dyn Secrets) -> Result<Option<Vec<u8>>, WorkerError> {
    let Some(host) = registry::authority(url) else { return Ok(None) };
    let bare = match host.rsplit_once(':') {
        // A colon inside the brackets of an IPv6 address is none before a port.
        Some((bare, port)) if port.bytes().all(|b| b.is_ascii_digit()) => Some(bare),
        _ => None,
    };
    for host in std::iter::once(host.as_str()).chain(bare) {
        for (prefix, scheme) in [(HEADER_SECRET, ""), (TOKEN_SECRET, "Bearer ")] {
            let id = format!("{prefix}{host}");
            let secret = secrets.get(&id);
            let Some(value) =
                secret.map_err(|e| WorkerError::Secret { id, reason: e.to_string() })?
            else {
                continue;
            };
            // Files and variables tend to end with a line break.
            return Ok(Some([scheme.as_bytes(), value.trim_ascii_end()].concat()));
        }
    }
    Ok(None)
}

/// Tells how far a download is.
struct Status<'a> {
    context: &'a StepContext<'a>,
    name: String,
    started: Timestamp,
}

impl<'a> Status<'a> {
    fn new(context: &'a StepContext<'a>, remote: &Remote) -> Self {
        let name = format!("downloading {}", registry::masked(&remote.url));
        Self { context, name, started: Timestamp::now() }
    }

    fn tell(&self, current: u64, total: u64, completed: Option<Timestamp>) {
        self.context.events.event(Event::Status {
            id: self.context.id,
            name: self.name.clone(),
            current,
            total,
            started: self.started,
            completed,
        });
    }

    fn end(&self, size: u64) {
        self.tell(size, size, Some(Timestamp::now()));
    }
}

impl Progress for Status<'_> {
    fn bytes(&self, done: u64, total: u64) {
        self.tell(done, total, None);
    }

    fn retrying(&self, what: &str, error: &str, attempt: u32) {
        let line = format!("{what} failed ({error}), trying again (attempt {attempt})\n");
        self.context.log(Stream::Stderr, line.as_bytes());
    }
}
