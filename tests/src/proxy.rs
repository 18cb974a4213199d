//! A proxy in front of a registry that misbehaves on command, asks for authorization, and counts.
//!
//! ```no_run
//! use tests::proxy::{Access, Fault, FaultProxy, Kind};
//! use tests::registry_server::RegistryServer;
//!
//! let server = RegistryServer::start().unwrap();
//! let proxy = FaultProxy::start(server.address(), Access::Open).unwrap();
//! proxy.inject(Kind::BlobGet, 1, Fault::DropAfter(1000));
//! // … pull `{proxy.address()}/repository:tag` …
//! assert_eq!(proxy.count(Kind::BlobGet), 2);
//! ```

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;

use crate::http::{self, Message};
use crate::token_server::{Bearer, TokenServer, basic, pairs};

/// For [`FaultProxy::inject`]: as long as the proxy lives.
pub const ALWAYS: u32 = u32::MAX;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any of the others; only for injecting and counting.
    Any,
    /// `GET /v2/`.
    Ping,
    /// The question which manifest there is.
    ManifestHead,
    /// A manifest or index.
    ManifestGet,
    /// A pushed manifest or index.
    ManifestPut,
    /// The question whether a blob is there.
    BlobHead,
    /// A blob.
    BlobGet,
    /// The beginning of an upload, or a mount.
    UploadStart,
    /// An upload's bytes.
    UploadPut,
    /// A token.
    Token,
    /// Anything else.
    Other,
}

/// How an answer is spoiled. Bytes are counted in the body.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection is closed instead of an answer.
    Hangup,
    /// The connection is closed after so many bytes of what was announced.
    DropAfter(usize),
    /// Nothing more comes after so many bytes, but the connection stays open.
    StallAfter(usize),
    /// The byte at this place is another one.
    Corrupt(usize),
    /// Only so many bytes are there, and that is what is announced.
    Truncate(usize),
    /// So many bytes follow that do not belong to it, and that is what is announced.
    Extend(usize),
    /// The same, but the size is not announced (chunked).
    ExtendSilently(usize),
    /// This status instead of an answer, with `Retry-After` if it is given (seconds).
    Status(u16, Option<u32>),
    /// So many bytes at a time, with a pause in between.
    Trickle(usize, Duration),
    /// A range that was asked for is ignored: everything is sent with status 200.
    IgnoreRange,
    /// A range is answered with another range than the one that was asked for.
    WrongRange,
    /// 307 to the same path at this origin (`http://host:port`).
    Redirect(String),
    /// `Docker-Content-Digest` declares something else.
    WrongDigestHeader,
    /// `Docker-Content-Digest` is left out.
    NoDigestHeader,
    /// A mount is treated as a plain upload.
    IgnoreMount,
    /// `Location` has no scheme and no host.
    RelativeLocation,
}

/// What a client must show before it is let through.
pub enum Access {
    /// Nothing.
    Open,
    /// A user name and a password.
    Basic(String, String),
    /// A token of the proxy's own token server.
    Bearer(Bearer),
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What it was for.
    pub kind: Kind,
    /// Its method.
    pub method: String,
    /// Its path and query.
    pub target: String,
    /// Its names and values, decoded: of the query, and of a form that was posted for a token.
    pub query: Vec<(String, String)>,
    /// Its headers, with names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Seen {
    /// The first header called `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

struct Rule {
    kind: Kind,
    left: u32,
    fault: Fault,
}

struct State {
    address: String,
    upstream: String,
    access: Access,
    tokens: Option<TokenServer>,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
    streams: Mutex<Vec<TcpStream>>,
    stop: AtomicBool,
}

/// A running proxy; it ends when this is dropped.
pub struct FaultProxy {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl FaultProxy {
    /// Starts a proxy for the registry at `upstream` (`host:port`).
    ///
    /// # Errors
    /// If there is no free port.
    pub fn start(upstream: &str, access: Access) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let tokens = match &access {
            Access::Bearer(rules) => Some(TokenServer::new(rules.clone())),
            _ => None,
        };
        let state = Arc::new(State {
            address: listener.local_addr()?.to_string(),
            upstream: upstream.to_owned(),
            access,
            tokens,
            rules: Mutex::default(),
            seen: Mutex::default(),
            streams: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let shared = state.clone();
        let thread = std::thread::spawn(move || shared.accept(&listener));
        Ok(Self { state, thread: Some(thread) })
    }

    /// `127.0.0.1:PORT`, as in an image's name.
    pub fn address(&self) -> &str {
        &self.state.address
    }

    /// Spoils the next `times` answers to requests of `kind` (all of them with [`ALWAYS`]). Of
    /// several rules for one request the oldest that is not used up counts.
    pub fn inject(&self, kind: Kind, times: u32, fault: Fault) {
        self.state.rules.lock().unwrap().push(Rule { kind, left: times, fault });
    }

    /// Forgets all faults.
    pub fn heal(&self) {
        self.state.rules.lock().unwrap().clear();
    }

    /// Makes all tokens invalid that were given out.
    pub fn revoke_tokens(&self) {
        if let Some(tokens) = &self.state.tokens {
            tokens.revoke();
        }
    }

    /// How many requests of `kind` came, whether they were let through or not.
    pub fn count(&self, kind: Kind) -> usize {
        self.seen().iter().filter(|s| kind == Kind::Any || s.kind == kind).count()
    }

    /// All requests, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Forgets the requests that came.
    pub fn forget(&self) {
        self.state.seen.lock().unwrap().clear();
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(&self.state.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl State {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        let mut threads = Vec::new();
        for stream in listener.incoming() {
            if self.stop.load(Ordering::SeqCst) {
                break;
            }
            let Ok(stream) = stream else { continue };
            if let Ok(copy) = stream.try_clone() {
                self.streams.lock().unwrap().push(copy);
            }
            let state = self.clone();
            threads.push(std::thread::spawn(move || {
                // A client that goes away is no failure of the proxy.
                let _ = state.serve(stream);
            }));
        }
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for thread in threads {
            let _ = thread.join();
        }
    }

    /// One request; the connection is closed after its answer.
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        if let Some(request) = http::read_request(&mut reader)? {
            let kind = classify(&request);
            self.record(&request, kind);
            let fault = self.fault(kind);
            self.answer(request, kind, fault, reader.get_mut())?;
        }
        // The copy that is kept for the end would hold the connection open.
        reader.get_ref().shutdown(Shutdown::Both)
    }

    fn record(&self, request: &Message, kind: Kind) {
        let (_, query) = request.target().split_once('?').unwrap_or_default();
        let mut query = pairs(query);
        if kind == Kind::Token {
            query.extend(pairs(&String::from_utf8_lossy(&request.body)));
        }
        self.seen.lock().unwrap().push(Seen {
            kind,
            method: request.method().to_owned(),
            target: request.target().to_owned(),
            query,
            headers: request.headers.clone(),
        });
    }

    fn fault(&self, kind: Kind) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        let rule =
            rules.iter_mut().find(|r| r.left > 0 && (r.kind == kind || r.kind == Kind::Any))?;
        if rule.left != ALWAYS {
            rule.left -= 1;
        }
        Some(rule.fault.clone())
    }

    fn answer(
        &self,
        mut request: Message,
        kind: Kind,
        fault: Option<Fault>,
        stream: &mut TcpStream,
    ) -> io::Result<()> {
        let bare = request.method() == "HEAD";
        match &fault {
            Some(Fault::Hangup) => return Ok(()),
            Some(Fault::Status(status, after)) => {
                let error = json!({"errors": [{"code": "UNAVAILABLE", "message": "injected"}]});
                let mut answer = Message::json(*status, &error);
                if let Some(after) = after {
                    answer.set_header("retry-after", Some(&after.to_string()));
                }
                return self.write(answer, bare, None, stream);
            }
            Some(Fault::Redirect(origin)) => {
                let mut answer = Message::json(307, &json!({}));
                let location = format!("{origin}{}", request.target());
                answer.set_header("location", Some(&location));
                return self.write(answer, bare, None, stream);
            }
            Some(Fault::IgnoreRange) => request.set_header("range", None),
            Some(Fault::IgnoreMount) => strip_mount(&mut request),
            _ => {}
        }
        if kind == Kind::Token
            && let Some(tokens) = &self.tokens
        {
            return self.write(tokens.answer(&request), bare, fault, stream);
        }
        if let Some(refusal) = self.refuse(&mut request) {
            return self.write(refusal, bare, None, stream);
        }
        // The registry has no use for it; it would take a bearer token for an error.
        request.set_header("authorization", None);
        let answer = http::forward(&self.upstream, request)?;
        self.write(answer, bare, fault, stream)
    }

    /// The answer to a client that may not do this, or none.
    fn refuse(&self, request: &mut Message) -> Option<Message> {
        let challenge = match &self.access {
            Access::Open => return None,
            Access::Basic(user, password) => {
                if request.header("authorization") == Some(&basic(user, password)) {
                    return None;
                }
                "Basic realm=\"test\"".to_owned()
            }
            Access::Bearer(_) => {
                let tokens = self.tokens.as_ref()?;
                let needs = needs(request);
                let (own, mount) = needs.split_first()?;
                if tokens.allows(request, &own.0, own.1) {
                    // A mount from a place that may not be read is a plain upload.
                    if mount.iter().any(|(name, action)| !tokens.allows(request, name, action)) {
                        strip_mount(request);
                    }
                    return None;
                }
                tokens.challenge(&self.address, &needs)
            }
        };
        let error = json!({"errors": [
            {"code": "UNAUTHORIZED", "message": "authentication required"}]});
        let mut answer = Message::json(401, &error);
        answer.set_header("www-authenticate", Some(&challenge));
        Some(answer)
    }

    /// Sends an answer, spoiled.
    fn write(
        &self,
        mut answer: Message,
        bare: bool,
        fault: Option<Fault>,
        stream: &mut TcpStream,
    ) -> io::Result<()> {
        spoil(&mut answer, fault.as_ref());
        answer.set_header("connection", Some("close"));
        answer.set_header("transfer-encoding", None);
        if bare {
            return stream.write_all(answer.head().as_bytes());
        }
        if let Some(Fault::ExtendSilently(_)) = fault {
            answer.set_header("content-length", None);
            answer.set_header("transfer-encoding", Some("chunked"));
            stream.write_all(answer.head().as_bytes())?;
            stream.write_all(format!("{:x}\r\n", answer.body.len()).as_bytes())?;
            stream.write_all(&answer.body)?;
            return stream.write_all(b"\r\n0\r\n\r\n");
        }
        answer.set_header("content-length", Some(&answer.body.len().to_string()));
        stream.write_all(answer.head().as_bytes())?;
        match fault {
            Some(Fault::DropAfter(n)) => stream.write_all(&answer.body[..n.min(answer.body.len())]),
            Some(Fault::StallAfter(n)) => {
                stream.write_all(&answer.body[..n.min(answer.body.len())])?;
                // Until the client goes away, or the proxy ends.
                stream.set_read_timeout(None)?;
                stream.read(&mut [0]).map(|_| ())
            }
            Some(Fault::Trickle(size, pause)) => {
                for chunk in answer.body.chunks(size.max(1)) {
                    if self.stop.load(Ordering::SeqCst) {
                        break;
                    }
                    stream.write_all(chunk)?;
                    std::thread::sleep(pause);
                }
                Ok(())
            }
            _ => stream.write_all(&answer.body),
        }
    }
}

/// Changes what is said, not how it is sent.
fn spoil(answer: &mut Message, fault: Option<&Fault>) {
    match fault {
        Some(Fault::Corrupt(at)) => {
            if let Some(byte) = answer.body.get_mut(*at) {
                *byte ^= 0xff;
            }
        }
        Some(Fault::Truncate(n)) => answer.body.truncate(*n),
        Some(Fault::Extend(n) | Fault::ExtendSilently(n)) => {
            answer.body.resize(answer.body.len() + n, 0);
        }
        Some(Fault::WrongRange) if answer.status() == 206 => {
            let range = answer.header("content-range").unwrap_or_default().to_owned();
            let wrong = range.replacen("bytes ", "bytes 1", 1);
            answer.set_header("content-range", Some(&wrong));
        }
        Some(Fault::WrongDigestHeader) => {
            let wrong = oci::Digest::of(b"something else").to_string();
            answer.set_header("docker-content-digest", Some(&wrong));
        }
        Some(Fault::NoDigestHeader) => answer.set_header("docker-content-digest", None),
        Some(Fault::RelativeLocation) => {
            let location = answer.header("location").unwrap_or_default().to_owned();
            let path = location.splitn(4, '/').nth(3).map(|p| format!("/{p}"));
            answer.set_header("location", path.as_deref());
        }
        _ => {}
    }
}

/// What a request is for, by method and path.
fn classify(request: &Message) -> Kind {
    let path = request.target().split('?').next().unwrap_or_default();
    let under = |part: &str| path.contains(part);
    match request.method() {
        _ if path == "/token" => Kind::Token,
        "GET" if path == "/v2/" => Kind::Ping,
        "POST" if under("/blobs/uploads") => Kind::UploadStart,
        "PUT" | "PATCH" if under("/blobs/uploads") => Kind::UploadPut,
        "HEAD" if under("/manifests/") => Kind::ManifestHead,
        "GET" if under("/manifests/") => Kind::ManifestGet,
        "PUT" if under("/manifests/") => Kind::ManifestPut,
        "HEAD" if under("/blobs/") => Kind::BlobHead,
        "GET" if under("/blobs/") => Kind::BlobGet,
        _ => Kind::Other,
    }
}

/// Which rights a request needs: on its own repository first, then on the one it mounts from.
fn needs(request: &Message) -> Vec<(String, &'static str)> {
    let (path, query) = request.target().split_once('?').unwrap_or((request.target(), ""));
    let rest = path.strip_prefix("/v2/").unwrap_or_default();
    let end = rest.find("/manifests/").or_else(|| rest.find("/blobs/")).unwrap_or(rest.len());
    let action = if matches!(request.method(), "GET" | "HEAD") { "pull" } else { "push" };
    let mut needs = vec![(rest[..end].to_owned(), action)];
    let from = pairs(query).into_iter().find(|(n, _)| n == "from");
    needs.extend(from.map(|(_, name)| (name, "pull")));
    needs
}

fn strip_mount(request: &mut Message) {
    if request.target().contains("mount=") {
        let path = request.target().split('?').next().unwrap_or_default().to_owned();
        request.first = format!("{} {path} HTTP/1.1", request.method());
    }
}
