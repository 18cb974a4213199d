//! A web server on loopback: files with entity tags and times, redirects, refusals, broken
//! connections; and what was asked of it.
//!
//! ```no_run
//! use tests::http_server::{HttpServer, Page};
//!
//! let server = HttpServer::start();
//! server.put("/f", Page::new("hello").etag("\"1\""));
//! // … fetch `server.url("/f")` …
//! assert_eq!(server.bodies("/f"), 1);
//! ```

use std::collections::HashMap;
use std::io::{self, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::http::{self, Message};

/// When answers say they were made.
const DATE: &str = "Sat, 01 Aug 2026 12:00:00 GMT";
/// How much of a body is written at once.
const PIECE: usize = 64 << 10;

/// What is at a path.
#[derive(Clone)]
pub struct Page {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    wanted: Option<String>,
    deaf: bool,
    ranges: bool,
    announced: bool,
    cuts: Vec<usize>,
    stalls: bool,
}

impl Page {
    /// A file, sent with status 200.
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: body.into(),
            wanted: None,
            deaf: false,
            ranges: false,
            announced: true,
            cuts: Vec::new(),
            stalls: false,
        }
    }

    /// A refusal.
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::new("no") }
    }

    /// A redirect.
    pub fn redirect(to: &str) -> Self {
        Self { status: 302, ..Self::new("") }.header("location", to)
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With an entity tag, quotes and all.
    pub fn etag(self, tag: &str) -> Self {
        self.header("etag", tag)
    }

    /// With a time, as in the header.
    pub fn modified(self, time: &str) -> Self {
        self.header("last-modified", time)
    }

    /// Only for whoever sends this `Authorization`.
    pub fn only_for(mut self, authorization: &str) -> Self {
        self.wanted = Some(authorization.to_owned());
        self
    }

    /// Conditions are ignored.
    pub fn deaf(mut self) -> Self {
        self.deaf = true;
        self
    }

    /// Ranges are served.
    pub fn ranges(mut self) -> Self {
        self.ranges = true;
        self
    }

    /// The size is not announced: the end of the connection is the end of the body.
    pub fn unannounced(mut self) -> Self {
        self.announced = false;
        self
    }

    /// The next answer breaks off after so many bytes; may be said several times.
    pub fn cut(mut self, after: usize) -> Self {
        self.cuts.push(after);
        self
    }

    /// Half of it is sent, and then nothing more, until the client goes away.
    pub fn stall(mut self) -> Self {
        self.stalls = true;
        self
    }

    fn find(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Whether the conditions of `request` name what is here. Source: RFC 9110 section 13.
    fn unchanged(&self, request: &Message) -> bool {
        let weak = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        match (request.header("if-none-match"), self.find("etag")) {
            _ if self.deaf => false,
            (Some(asked), Some(tag)) => asked.split(',').any(|a| weak(a) == weak(tag)),
            (Some(_), None) => false,
            (None, _) => {
                let time = request.header("if-modified-since");
                time.is_some() && time == self.find("last-modified")
            }
        }
    }

    /// Where the asked range begins; ranges of what has changed since are not served.
    fn range(&self, request: &Message) -> Option<usize> {
        let range = request.header("range").filter(|_| self.ranges)?;
        if request.header("if-range").is_some_and(|tag| Some(tag) != self.find("etag")) {
            return None;
        }
        range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// A request that came, and what became of it.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The status of the answer.
    pub status: u16,
    /// Bytes of its body that were written.
    pub sent: usize,
    /// Whether all of it was written.
    pub whole: bool,
}

impl Visit {
    /// The first header called `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

#[derive(Default)]
struct State {
    pages: Mutex<HashMap<String, Page>>,
    visits: Mutex<Vec<Visit>>,
    streams: Mutex<Vec<TcpStream>>,
    stop: AtomicBool,
}

/// A running server; it ends when this is dropped.
pub struct HttpServer {
    address: String,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl Default for HttpServer {
    fn default() -> Self {
        Self::start()
    }
}

impl HttpServer {
    /// Starts one with nothing on it.
    ///
    /// # Panics
    /// If there is no free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State::default());
        let shared = state.clone();
        let thread = std::thread::spawn(move || shared.accept(&listener));
        Self { address, state, thread: Some(thread) }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The URL of a path (which begins with a slash, or is empty).
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Puts a page at a path (without a query), instead of what is there.
    pub fn put(&self, path: &str, page: Page) {
        self.state.pages.lock().unwrap().insert(path.to_owned(), page);
    }

    /// The requests for a path, in order.
    pub fn visits(&self, path: &str) -> Vec<Visit> {
        let visits = self.state.visits.lock().unwrap();
        visits.iter().filter(|v| v.target.split('?').next() == Some(path)).cloned().collect()
    }

    /// How many requests for a path came.
    pub fn count(&self, path: &str) -> usize {
        self.visits(path).len()
    }

    /// How many whole bodies of the file at a path went out.
    pub fn bodies(&self, path: &str) -> usize {
        self.visits(path).iter().filter(|v| v.status == 200 && v.whole).count()
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(&self.address);
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
            // A client that goes away is no failure of the server.
            threads.push(std::thread::spawn(move || state.serve(stream).unwrap_or_default()));
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
            self.answer(&request, reader.get_mut())?;
        }
        // The copy that is kept for the end would hold the connection open.
        reader.get_ref().shutdown(Shutdown::Both)
    }

    fn answer(&self, request: &Message, stream: &mut TcpStream) -> io::Result<()> {
        let path = request.target().split('?').next().unwrap_or_default();
        let (page, cut) = match self.pages.lock().unwrap().get_mut(path) {
            Some(page)
                if page
                    .wanted
                    .as_deref()
                    .is_some_and(|w| request.header("authorization") != Some(w)) =>
            {
                (Page::status(401), None)
            }
            Some(page) => {
                let cut = (!page.cuts.is_empty()).then(|| page.cuts.remove(0));
                (page.clone(), cut)
            }
            None => (Page::status(404), None),
        };
        let mut answer = Message { headers: page.headers.clone(), ..Message::default() };
        answer.set_header("date", Some(DATE));
        answer.set_header("connection", Some("close"));
        let mut body = page.body.as_slice();
        let status = match page.range(request) {
            _ if page.status == 200 && page.unchanged(request) => 304,
            Some(from) if from < body.len() => {
                let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
                answer.set_header("content-range", Some(&range));
                body = &body[from..];
                206
            }
            Some(_) => 416,
            None => page.status,
        };
        if matches!(status, 304 | 416) {
            body = &[];
        }
        if page.announced && status != 304 {
            answer.set_header("content-length", Some(&body.len().to_string()));
        }
        answer.first = format!("HTTP/1.1 {status} Status");
        let at = {
            let mut visits = self.visits.lock().unwrap();
            visits.push(Visit {
                target: request.target().to_owned(),
                headers: request.headers.clone(),
                status,
                sent: 0,
                whole: false,
            });
            visits.len() - 1
        };
        stream.write_all(answer.head().as_bytes())?;
        let cut = if page.stalls { Some(body.len() / 2) } else { cut };
        for piece in body[..cut.unwrap_or(body.len()).min(body.len())].chunks(PIECE) {
            stream.write_all(piece)?;
            self.visits.lock().unwrap()[at].sent += piece.len();
        }
        self.visits.lock().unwrap()[at].whole = cut.is_none();
        if page.stalls {
            // The client's end, or this server's.
            io::copy(stream, &mut io::sink())?;
        }
        Ok(())
    }
}
