//! Tests of files behind URLs, against a few lines of a server.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use graph::HttpSource;
use oci::Digest;
use oci::layer::{Node, TreePath};

use super::{FileTree, NoSecrets, Secrets};
use crate::copy::SourceTree;
use crate::error::WorkerError;
use crate::testing::{Silent, engine};
use crate::{Engine, source};

/// Answers every request on a connection of its own with what it was told to, and keeps the heads.
struct Server {
    address: String,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// Entity tag (with quotes) and body.
    page: Mutex<(String, String)>,
    /// What an answer says besides.
    more: Mutex<String>,
    heads: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Server {
    fn start(tag: &str, body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State::default());
        let shared = state.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::SeqCst) {
                    return;
                }
                let _ = stream.and_then(|stream| shared.answer(stream));
            }
        });
        let server = Self { address, state, thread: Some(thread) };
        server.put(tag, body);
        server
    }

    fn put(&self, tag: &str, body: &str) {
        *self.state.page.lock().unwrap() = (tag.to_owned(), body.to_owned());
    }

    fn say(&self, headers: &str) {
        *self.state.more.lock().unwrap() = headers.to_owned();
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The heads of the requests since the last call, in lower case.
    fn heads(&self) -> Vec<String> {
        std::mem::take(&mut *self.state.heads.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl State {
    fn answer(&self, stream: TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while reader.read_line(&mut head)? > 2 {}
        let head = head.to_lowercase();
        let (tag, body) = self.page.lock().unwrap().clone();
        let same = head.contains(&format!("if-none-match: {tag}\r\n"));
        self.heads.lock().unwrap().push(head);
        let more = self.more.lock().unwrap().clone();
        let length = body.len();
        let common = format!("etag: {tag}\r\n{more}connection: close\r\n");
        let answer = match same {
            true => format!("HTTP/1.1 304 Same\r\n{common}\r\n"),
            false => format!("HTTP/1.1 200 OK\r\n{common}content-length: {length}\r\n\r\n{body}"),
        };
        reader.get_mut().write_all(answer.as_bytes())
    }
}

struct Vault(HashMap<String, &'static str>);

impl Secrets for Vault {
    fn get(&self, id: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(id).map(|value| value.as_bytes().to_vec()))
    }
}

fn at(url: String) -> HttpSource {
    HttpSource { url, filename: None, checksum: None }
}

fn fetch(engine: &Engine, source: &HttpSource) -> Result<Arc<FileTree>, WorkerError> {
    engine.http_file(source, &NoSecrets, &Silent::default().context())
}

fn text(file: &FileTree) -> String {
    String::from_utf8(file.read(1000).unwrap()).unwrap()
}

#[test]
fn asked_again_and_fetched_once() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start("\"1\"", "one"));
    let engine = engine(dir.path());
    server.say("last-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
    let source = at(server.url("/a/f.txt?q"));
    let file = fetch(&engine, &source).unwrap();
    assert_eq!((text(&file).as_str(), file.name()), ("one", "f.txt"));
    let entry = file.entry(&TreePath::new(b"f.txt").unwrap()).unwrap().unwrap();
    assert_eq!((entry.meta.mode, entry.meta.mtime.seconds), (0o600, 784_111_777));
    let hash = *blake3::hash(b"one").as_bytes();
    assert!(matches!(entry.node, Node::File { size: 3, content } if content.0 == hash));
    assert!(!server.heads()[0].contains("if-none-match"));

    assert_eq!(text(&fetch(&engine, &source).unwrap()), "one");
    let heads = server.heads();
    assert!(heads.len() == 1 && heads[0].contains("if-none-match: \"1\""), "{heads:?}");
    assert!(heads[0].contains("if-modified-since: sun, 06 nov 1994 08:49:37 gmt"), "{heads:?}");

    server.put("\"2\"", "two");
    assert_eq!(text(&fetch(&engine, &source).unwrap()), "two");
    assert_eq!(server.heads().len(), 1);
}

#[test]
fn a_weak_tag_and_a_strong_one_are_the_same() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start("W/\"1\"", "one"));
    let engine = engine(dir.path());
    let source = at(server.url("/f"));
    fetch(&engine, &source).unwrap();
    // A server that does not hear the condition, and would send something else.
    server.put("\"1\"", "other");
    assert_eq!(text(&fetch(&engine, &source).unwrap()), "one");
}

#[test]
fn what_is_gone_is_fetched_again() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start("\"1\"", "one"));
    let engine = engine(dir.path());
    let source = at(server.url("/f"));
    let first = fetch(&engine, &source).unwrap();
    server.heads();
    engine.state.blobs().remove(first.digest()).unwrap();
    assert_eq!(text(&fetch(&engine, &source).unwrap()), "one");
    let heads = server.heads();
    assert_eq!(heads.len(), 2, "304, then the content: {heads:?}");
    assert!(!heads[1].contains("if-none-match"));

    // While it is in use.
    engine.state.blobs().remove(first.digest()).unwrap();
    assert_eq!(text(&first), "one");
    engine.state.blobs().remove(first.digest()).unwrap();
    server.put("\"2\"", "two");
    let error = first.read(9).unwrap_err().to_string();
    assert!(error.contains("digest mismatch"), "{error}");
}

#[test]
fn a_checksum_spares_the_question() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start("\"1\"", "one"));
    let engine = engine(dir.path());
    let pinned =
        |content: &[u8]| HttpSource { checksum: Some(Digest::of(content)), ..at(server.url("/f")) };
    assert_eq!(text(&fetch(&engine, &pinned(b"one")).unwrap()), "one");
    assert_eq!(server.heads().len(), 1);
    let again = fetch(&engine, &pinned(b"one")).unwrap();
    assert_eq!(server.heads().len(), 0);
    engine.state.blobs().remove(again.digest()).unwrap();
    let again = fetch(&engine, &pinned(b"one")).unwrap();
    assert_eq!(server.heads().len(), 0, "nobody has read it yet");
    assert_eq!(text(&again), "one");
    assert_eq!(server.heads().len(), 1);

    let error = fetch(&engine, &pinned(b"two")).err().unwrap().to_string();
    let (expected, actual) = (Digest::of(b"two"), Digest::of(b"one"));
    let tail = format!("/f: digest mismatch: expected {expected}, got {actual}");
    assert!(error.ends_with(&tail), "{error}");

    server.put("\"3\"", "three");
    assert!(fetch(&engine, &pinned(b"two")).is_err());
    let blobs = engine.state.blobs();
    assert!(!blobs.exists(&Digest::of(b"three")) && !blobs.exists(&expected));
    assert_eq!(std::fs::read_dir(engine.state.inflight_dir()).unwrap().count(), 0);
    // The mismatch did not spoil what is known.
    server.heads();
    assert_eq!(text(&fetch(&engine, &pinned(b"one")).unwrap()), "one");
    assert_eq!(server.heads().len(), 0);
}

#[test]
fn never_an_old_file_for_a_new_one() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start("\"1\"", "one"));
    let engine = engine(dir.path());
    let source = at(server.url("/f"));
    fetch(&engine, &source).unwrap();
    drop(server);
    let error = fetch(&engine, &source).err().unwrap().to_string();
    assert!(error.starts_with(&format!("download {}: network error", source.url)), "{error}");
}

#[test]
fn names() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start("\"1\"", "one"));
    let engine = engine(dir.path());
    let name = |source: &HttpSource| fetch(&engine, source).unwrap().name().to_owned();
    server.say("content-disposition: attachment; filename=\"../x y\"\r\n");
    let source = at(server.url("/f"));
    assert_eq!(name(&source), "x y");
    server.say("");
    assert_eq!(name(&source), "x y", "a 304 says less");
    assert_eq!(name(&HttpSource { filename: Some("own".into()), ..source }), "own");
    assert_eq!(name(&at(server.url(""))), "download");
}

#[test]
fn secrets_let_in() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start("\"1\"", "one"));
    let engine = engine(dir.path());
    let id = |prefix: &str, host: &str| format!("HTTP_AUTH_{prefix}_{host}");
    let sent = |secrets: &[(String, &'static str)]| {
        let vault = Vault(secrets.iter().cloned().collect());
        engine.http_file(&at(server.url("/f")), &vault, &Silent::default().context()).unwrap();
        let head = server.heads().remove(0);
        let line = head.lines().find_map(|l| l.strip_prefix("authorization: "));
        line.map(str::to_owned)
    };
    let token = (id("TOKEN", "127.0.0.1"), "abc\n");
    let header = (id("HEADER", "127.0.0.1"), "basic xyz");
    let exact = (id("TOKEN", &server.address), "exact");
    assert_eq!(sent(&[(id("TOKEN", "other"), "abc")]), None);
    assert_eq!(sent(std::slice::from_ref(&token)).as_deref(), Some("bearer abc"));
    assert_eq!(sent(&[token.clone(), header.clone()]).as_deref(), Some("basic xyz"));
    assert_eq!(sent(&[token, header, exact]).as_deref(), Some("bearer exact"));
    let bad = Vault([(id("HEADER", "127.0.0.1"), "hunter2\nx: y")].into());
    let error = engine.http_file(&at(server.url("/f")), &bad, &Silent::default().context());
    let error = error.err().unwrap().to_string();
    assert!(error.contains("characters that no header has"), "{error}");
    assert!(!error.contains("hunter2") && server.heads().is_empty());
    let kept = std::fs::read_dir(engine.state.root().join("done")).unwrap().flatten();
    for file in kept {
        let bytes = std::fs::read(file.path()).unwrap();
        assert!(!bytes.windows(5).any(|w| w == b"exact"), "{:?}", file.path());
    }
    let _: &dyn source::Secrets = &bad;
}

#[test]
fn many_at_the_same_time() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start("\"1\"", "one"));
    let (one, two) = (engine(dir.path()), engine(dir.path()));
    let source = at(server.url("/f"));
    std::thread::scope(|scope| {
        for engine in [&one, &two, &one, &two] {
            scope.spawn(|| assert_eq!(text(&fetch(engine, &source).unwrap()), "one"));
        }
    });
    assert_eq!(one.state.blobs().list().unwrap().len(), 1);
}
