//! Files behind any URL: ADD, contexts, archives.
//!
//! What differs from a registry's blobs: nothing is known beforehand, neither size nor digest; the
//! answer may be that nothing changed (RFC 9110 section 13); and a plain `http://` URL is taken at
//! its word. A transfer that breaks off goes on where it was if the server named the content by a
//! strong entity tag, and starts over otherwise: two halves of two versions are no file.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci::Timestamp;
use ureq::http::{HeaderValue, Uri, header};

use crate::client::Client;
use crate::error::{ErrorKind, Operation, RegistryError};
use crate::fetch::{CHUNK, PROGRESS, parse_range};
use crate::limiter::Permit;
use crate::progress::{BlobSink, Progress};
use crate::transport::{Reply, Request};
use crate::{date, filename, url};

/// A `Last-Modified` that was this many seconds old when it was sent names one content: a younger
/// one may be followed by another change within its second. Source: RFC 9110 section 8.8.2.2, with
/// the minute of RFC 7232 for clocks that differ.
const SETTLED: i64 = 60;

/// What is asked for.
#[derive(Clone, Copy, Default)]
pub struct Get<'a> {
    /// The URL, `http` or `https`. What stands before an `@` is sent as basic authorization.
    pub url: &'a str,
    /// The entity tag of the content at hand, as the server wrote it.
    pub etag: Option<&'a str>,
    /// The `Last-Modified` of the content at hand, as the server wrote it.
    pub last_modified: Option<&'a str>,
    /// The value of the `Authorization` header. It is sent to the URL's own origin alone, wherever
    /// redirects lead. Instead of the one in the URL.
    pub authorization: Option<&'a [u8]>,
}

/// What a server says of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteFile {
    /// The entity tag, as written: `"…"` or `W/"…"`.
    pub etag: Option<String>,
    /// When it was last changed, as written.
    pub last_modified: Option<String>,
    /// The same as a time; none if it is not one.
    pub modified: Option<Timestamp>,
    /// Whether `last_modified` tells this content from any later one.
    pub settled: bool,
    /// What it is called: by `Content-Disposition`, else the last part of the URL that redirects
    /// led to, else `download`. One path component without control characters.
    pub name: String,
    /// Its size in bytes, where that was announced.
    pub length: Option<u64>,
}

/// An answer; its body, if it has one, is still to be received.
pub struct Download<'a> {
    place: Place<'a>,
    /// The body; none if there is none, or after it was read or broke off.
    reply: Option<Reply>,
    file: RemoteFile,
    modified: bool,
    _permit: Permit<'a>,
}

/// Where a file is, and who asks for it.
struct Place<'a> {
    client: &'a Client,
    url: Uri,
    authorization: Option<HeaderValue>,
    shown: String,
}

impl Client {
    /// Asks for the file that `get` names, unless it is still the one that its conditions name.
    /// `cancel` is asked between attempts.
    ///
    /// # Errors
    /// If no answer comes, or one with another status than 2xx (or 304, if that was asked for).
    pub fn download<'a>(
        &'a self,
        get: &Get<'_>,
        progress: &dyn Progress,
        cancel: &dyn Fn() -> bool,
    ) -> Result<Download<'a>, RegistryError> {
        let shown = masked(get.url);
        let fail = |kind: ErrorKind| kind.during(Operation::Download, &shown);
        let place = Place::new(self, get, shown.clone()).map_err(fail)?;
        let stop = || self.transport.is_closed() || cancel();
        let host = url::origin(&place.url);
        let permit = self.limiter.acquire(&host, &stop).map_err(fail)?;
        let mut count = 1;
        loop {
            let error = match place.ask(get) {
                Ok((reply, file)) => {
                    let modified = reply.status != NOT_MODIFIED;
                    let reply = modified.then_some(reply);
                    return Ok(Download { place, reply, file, modified, _permit: permit });
                }
                Err(error) => error,
            };
            let what = format!("download {shown}");
            let tell = |error: &str, count| progress.retrying(&what, error, count);
            self.pause(error, count, cancel, &tell).map_err(fail)?;
            count += 1;
        }
    }
}

const NOT_MODIFIED: u16 = 304;
const PARTIAL: u16 = 206;

impl<'a> Place<'a> {
    fn new(client: &'a Client, get: &Get<'_>, shown: String) -> Result<Self, ErrorKind> {
        let (bare, user) = split_user(get.url);
        let given = get.authorization.map(<[u8]>::to_vec);
        let basic = || user.map(|u| format!("Basic {}", STANDARD.encode(filename::decode(u))));
        let value = given.or_else(|| basic().map(String::into_bytes));
        let value = value.map(|bytes| HeaderValue::from_bytes(&bytes)).transpose();
        let mut authorization = value.map_err(|_| {
            ErrorKind::Credentials("the authorization has characters that no header has".to_owned())
        })?;
        authorization.iter_mut().for_each(|value| value.set_sensitive(true));
        Ok(Self { client, url: url::parse(&bare)?, authorization, shown })
    }

    fn request(&self) -> Request<'_> {
        // A coding would be taken for the file itself.
        let mut request =
            Request::get(self.url.clone()).header(header::ACCEPT_ENCODING, "identity");
        request.authorization = self.authorization.clone();
        request
    }

    fn ask(&self, get: &Get<'_>) -> Result<(Reply, RemoteFile), ErrorKind> {
        let mut request = self.request();
        if let Some(etag) = get.etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        if let Some(time) = get.last_modified {
            request = request.header(header::IF_MODIFIED_SINCE, time);
        }
        let conditional = get.etag.is_some() || get.last_modified.is_some();
        let reply = self.client.transport.send(&request)?;
        match reply.status {
            PARTIAL => Err(ErrorKind::Protocol("a part came that was not asked for".to_owned())),
            200..=299 => Ok(described(reply)),
            NOT_MODIFIED if conditional => Ok(described(reply)),
            _ => Err(self.refused(reply)),
        }
    }

    fn refused(&self, reply: Reply) -> ErrorKind {
        reply.answer().into_kind(self.authorization.is_some())
    }
}

fn described(reply: Reply) -> (Reply, RemoteFile) {
    let text = |name| reply.text(name).map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
    let last_modified = text(header::LAST_MODIFIED);
    let modified = last_modified.as_deref().and_then(date::parse);
    let sent = text(header::DATE).as_deref().and_then(date::parse).unwrap_or_else(Timestamp::now);
    let disposition = reply.text(header::CONTENT_DISPOSITION);
    let file = RemoteFile {
        etag: text(header::ETAG),
        settled: modified.is_some_and(|m| sent.seconds.saturating_sub(m.seconds) >= SETTLED),
        last_modified,
        modified,
        name: filename::choose(disposition.as_deref(), reply.url.path()),
        length: reply.length(),
    };
    (reply, file)
}

impl Download<'_> {
    /// Whether there is a body: false if the content is the one that the conditions named.
    pub fn is_modified(&self) -> bool {
        self.modified
    }

    /// What the server says of the file. A body that had to be started over may have changed it.
    pub fn file(&self) -> &RemoteFile {
        &self.file
    }

    /// Receives the whole body into `sink`, which is empty; tries again when it breaks off.
    /// Returns its size in bytes.
    ///
    /// # Errors
    /// If it breaks off too often, the sink fails, or `cancel` says to stop. What the sink holds
    /// is of no use then.
    pub fn receive(
        mut self,
        sink: &mut dyn BlobSink,
        progress: &dyn Progress,
        cancel: &dyn Fn() -> bool,
    ) -> Result<(RemoteFile, u64), RegistryError> {
        let shown = self.place.shown.clone();
        let fail = |kind: ErrorKind| kind.during(Operation::Download, &shown);
        let mut transfer = Transfer { sink, progress, cancel, done: 0 };
        let mut count = 1;
        // The furthest point so far: going over old ground after a restart is no progress.
        let mut best = 0;
        loop {
            let Err(error) = self.attempt(&mut transfer) else {
                return Ok((self.file, transfer.done));
            };
            if transfer.done >= best + PROGRESS {
                best = transfer.done;
                count = 1;
            }
            let what = format!("download {shown}");
            let tell = |error: &str, count| progress.retrying(&what, error, count);
            self.place.client.pause(error, count, cancel, &tell).map_err(fail)?;
            count += 1;
        }
    }

    fn attempt(&mut self, transfer: &mut Transfer<'_>) -> Result<(), ErrorKind> {
        let mut reply = match self.reply.take() {
            Some(reply) => reply,
            None => self.again(transfer)?,
        };
        let total = self.file.length;
        let mut buffer = vec![0; CHUNK];
        loop {
            if (transfer.cancel)() {
                return Err(ErrorKind::Cancelled);
            }
            let got = reply.read(&mut buffer)?;
            if got == 0 {
                break;
            }
            transfer.sink.write(&buffer[..got]).map_err(ErrorKind::Sink)?;
            transfer.done += got as u64;
            transfer.progress.bytes(transfer.done, total.unwrap_or(0));
        }
        match total {
            Some(total) if transfer.done != total => {
                let kind = std::io::ErrorKind::UnexpectedEof;
                let message = format!("ended after {} of {total} bytes", transfer.done);
                Err(ErrorKind::network(&url::origin(&reply.url), kind, &message))
            }
            _ => Ok(()),
        }
    }

    /// Asks for the rest of what is known to be the same content, else for all of it.
    fn again(&mut self, transfer: &mut Transfer<'_>) -> Result<Reply, ErrorKind> {
        let strong = self.file.etag.clone().filter(|tag| tag.starts_with('"'));
        if let Some(tag) = strong.filter(|_| transfer.done > 0) {
            let from = transfer.done;
            let request = self.place.request();
            let request = request.header(header::RANGE, &format!("bytes={from}-"));
            let reply =
                self.place.client.transport.send(&request.header(header::IF_RANGE, &tag))?;
            match reply.status {
                PARTIAL if self.continues(&reply, from, &tag) => return Ok(reply),
                // It cannot be trusted with ranges: once more, from the first byte.
                PARTIAL | 416 => drop(reply),
                200 => return self.adopt(reply, transfer),
                _ => return Err(self.place.refused(reply)),
            }
        }
        let reply = self.place.client.transport.send(&self.place.request())?;
        match reply.status {
            200..=299 if reply.status != PARTIAL => self.adopt(reply, transfer),
            _ => Err(self.place.refused(reply)),
        }
    }

    /// Starts over with an answer that has everything.
    fn adopt(&mut self, reply: Reply, transfer: &mut Transfer<'_>) -> Result<Reply, ErrorKind> {
        transfer.sink.restart().map_err(ErrorKind::Sink)?;
        transfer.done = 0;
        let (reply, file) = described(reply);
        self.file = file;
        Ok(reply)
    }

    /// Whether a part goes on at `from`, to the end, with the content of `tag`.
    fn continues(&self, reply: &Reply, from: u64, tag: &str) -> bool {
        let range = reply.text(header::CONTENT_RANGE);
        let Some((first, last, total)) = range.as_deref().and_then(parse_range) else {
            return false;
        };
        let same = reply.text(header::ETAG).is_none_or(|found| found.trim() == tag);
        let end = total.or(self.file.length);
        same && first == from
            && end.is_some_and(|end| last + 1 == end)
            && self.file.length.is_none_or(|known| Some(known) == end)
    }
}

struct Transfer<'a> {
    sink: &'a mut dyn BlobSink,
    progress: &'a dyn Progress,
    cancel: &'a dyn Fn() -> bool,
    /// Bytes that are in the sink.
    done: u64,
}

/// `url` as it may be shown: without a password, and without the query, which is where links that
/// let their holder in have their key.
pub fn masked(url: &str) -> String {
    let (bare, user) = split_user(url);
    let (shown, query) = match bare.split('#').next().unwrap_or_default().split_once('?') {
        Some((path, _)) => (path.to_owned(), "?…"),
        None => (bare.split('#').next().unwrap_or_default().to_owned(), ""),
    };
    let shown: String = shown.chars().filter(|c| !c.is_control()).collect();
    match (user, shown.split_once("://")) {
        (Some(_), Some((scheme, rest))) => format!("{scheme}://…@{rest}{query}"),
        _ => format!("{shown}{query}"),
    }
}

/// Host and port of `url`, as they stand there.
pub fn authority(url: &str) -> Option<String> {
    let (bare, _) = split_user(url);
    let (_, rest) = bare.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    (!authority.is_empty()).then(|| authority.to_owned())
}

/// A URL without its user information, and that.
fn split_user(url: &str) -> (String, Option<&str>) {
    let Some((scheme, rest)) = url.split_once("://") else { return (url.to_owned(), None) };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rsplit_once('@') {
        Some((user, host)) => (format!("{scheme}://{host}{}", &rest[end..]), Some(user)),
        None => (url.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_shown() {
        for (url, shown, host) in [
            ("http://h/a", "http://h/a", Some("h")),
            ("http://u:secret@h:1/a?key=secret#x", "http://…@h:1/a?…", Some("h:1")),
            ("https://u@s@h?secret", "https://…@h?…", Some("h")),
            ("http://h/a@b", "http://h/a@b", Some("h")),
            ("http://[::1]:5/#secret", "http://[::1]:5/", Some("[::1]:5")),
            ("http://h/\u{1b}[31m", "http://h/[31m", Some("h")),
            ("nonsense", "nonsense", None),
        ] {
            assert_eq!(masked(url), shown);
            assert_eq!(authority(url).as_deref(), host, "{url}");
        }
    }
}
