//! A real git server on loopback: `git http-backend` behind a few lines of CGI (smart HTTP), and
//! `git daemon` for every connection (`git://`).

use std::fs;
use std::io::{self, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tempfile::TempDir;

use crate::http::{self, Message};
use crate::temp;

/// When everything is committed, in seconds since the epoch, if a case says nothing else.
pub const COMMITTED: i64 = 1_600_000_000;

/// How a server speaks over HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// As git's does today.
    #[default]
    Smart,
    /// As git's did before 2018: it gives only what its refs lead to, and lists all of them.
    Old,
    /// As a web server that knows nothing of git.
    Plain,
}

/// A running server; it ends when this is dropped.
pub struct GitServer {
    web: Listener,
    daemon: Listener,
    state: Arc<State>,
    dir: TempDir,
}

struct Listener {
    address: String,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    root: PathBuf,
    wanted: Mutex<Option<String>>,
    manner: Mutex<Manner>,
    requests: Mutex<Vec<String>>,
    stop: AtomicBool,
}

/// A repository on the server, with a directory in which its next commit is made.
pub struct Repository {
    /// The bare repository.
    pub dir: PathBuf,
    /// The directory.
    pub work: PathBuf,
    time: i64,
}

/// A git command with nothing of the user's.
///
/// # Panics
/// If it fails.
pub fn git(dir: &Path, args: &[&str]) -> String {
    run(Command::new("git").args(args).current_dir(dir), COMMITTED)
}

fn run(command: &mut Command, time: i64) -> String {
    let date = format!("{time} +0000");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "t").env(format!("GIT_{who}_EMAIL"), "t@t");
        command.env(format!("GIT_{who}_DATE"), &date);
    }
    let output = command.output().expect("git can be run");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl Default for GitServer {
    fn default() -> Self {
        Self::start()
    }
}

impl GitServer {
    /// Starts one without any repository.
    ///
    /// # Panics
    /// If there is no free port.
    pub fn start() -> Self {
        let dir = temp::directory();
        let root = dir.path().join("served");
        fs::create_dir(&root).unwrap();
        let state = Arc::new(State { root, ..State::default() });
        let web = Listener::start(&state, State::web);
        let daemon = Listener::start(&state, State::daemon);
        Self { web, daemon, state, dir }
    }

    /// The URL of a repository over HTTP.
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}.git", self.web.address)
    }

    /// The URL of a repository over git's own protocol.
    pub fn daemon_url(&self, name: &str) -> String {
        format!("git://{}/{name}.git", self.daemon.address)
    }

    /// `127.0.0.1:PORT` of the web server.
    pub fn host(&self) -> &str {
        &self.web.address
    }

    /// From now on only for whoever sends this `Authorization` over HTTP.
    ///
    /// # Panics
    /// If a thread of the server panicked.
    pub fn only_for(&self, authorization: &str) {
        *self.state.wanted.lock().unwrap() = Some(authorization.to_owned());
    }

    /// How it speaks over HTTP from now on.
    ///
    /// # Panics
    /// If a thread of the server panicked.
    pub fn speak(&self, manner: Manner) {
        *self.state.manner.lock().unwrap() = manner;
    }

    /// The requests over HTTP since the last call: method and target.
    ///
    /// # Panics
    /// If a thread of the server panicked.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.requests.lock().unwrap())
    }

    /// Makes a repository whose default branch is `main`.
    ///
    /// # Panics
    /// If git fails.
    pub fn repository(&self, name: &str) -> Repository {
        self.repository_of(name, "sha1")
    }

    /// Makes a repository with another format of objects (`sha256`).
    ///
    /// # Panics
    /// If git fails.
    pub fn repository_of(&self, name: &str, format: &str) -> Repository {
        let dir = self.state.root.join(format!("{name}.git"));
        let work = self.dir.path().join(format!("work-{name}"));
        fs::create_dir_all(&work).unwrap();
        let format = format!("--object-format={format}");
        let path = dir.to_str().unwrap();
        git(&work, &["init", "-q", "--bare", "--initial-branch=main", &format, path]);
        Repository { dir, work, time: COMMITTED }
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        for listener in [&mut self.web, &mut self.daemon] {
            // Wakes the thread that waits for connections.
            let _ = TcpStream::connect(&listener.address);
            if let Some(thread) = listener.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

impl Repository {
    /// Runs git on the repository and its directory.
    ///
    /// # Panics
    /// If it fails.
    pub fn git(&self, args: &[&str]) -> String {
        let mut command = Command::new("git");
        command.arg("--git-dir").arg(&self.dir).arg("--work-tree").arg(&self.work);
        run(command.args(args).current_dir(&self.work), self.time)
    }

    /// Writes a file of the next commit.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, path: &str, content: &str) -> &Self {
        let path = self.work.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// What is committed from now on is committed then, in seconds since the epoch.
    pub fn at(&mut self, time: i64) -> &mut Self {
        self.time = time;
        self
    }

    /// Commits what is in the directory to the current branch; the commit.
    ///
    /// # Panics
    /// If git fails.
    pub fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Makes a commit of another repository a submodule of the next commit.
    ///
    /// # Panics
    /// If git fails.
    pub fn submodule(&self, path: &str, url: &str, commit: &str) {
        fs::create_dir_all(self.work.join(path)).unwrap();
        let file = self.work.join(".gitmodules");
        let old = fs::read_to_string(&file).unwrap_or_default();
        let new = format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n");
        fs::write(file, old + &new).unwrap();
        let entry = format!("160000,{commit},{path}");
        self.git(&["update-index", "--add", "--cacheinfo", &entry]);
    }
}

impl Listener {
    fn start(state: &Arc<State>, serve: fn(&State, TcpStream) -> io::Result<()>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = state.clone();
        let thread = std::thread::spawn(move || {
            let mut threads = Vec::new();
            for stream in listener.incoming() {
                if state.stop.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let state = state.clone();
                // A client that goes away is no failure of the server.
                threads.push(std::thread::spawn(move || serve(&state, stream).unwrap_or_default()));
            }
            for thread in threads {
                let _ = thread.join();
            }
        });
        Self { address, thread: Some(thread) }
    }
}

impl State {
    /// One connection of git's own protocol.
    fn daemon(&self, stream: TcpStream) -> io::Result<()> {
        let base = format!("--base-path={}", self.root.display());
        let output = OwnedFd::from(stream.try_clone()?);
        Command::new("git")
            .args(["daemon", "--inetd", "--export-all", &base])
            .stdin(OwnedFd::from(stream))
            .stdout(output)
            .stderr(Stdio::null())
            .status()
            .map(drop)
    }

    /// One request; the connection is closed after its answer.
    fn web(&self, stream: TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        if let Some(request) = http::read_request(&mut reader)? {
            let (head, body) = self.answer(&request)?;
            let stream = reader.get_mut();
            stream.write_all(head.as_bytes())?;
            stream.write_all(&body)?;
        }
        reader.get_ref().shutdown(Shutdown::Both)
    }

    fn answer(&self, request: &Message) -> io::Result<(String, Vec<u8>)> {
        let line = format!("{} {}", request.method(), request.target());
        self.requests.lock().unwrap().push(line);
        let wanted = self.wanted.lock().unwrap().clone();
        if wanted.is_some() && request.header("authorization") != wanted.as_deref() {
            let head = "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic realm=\"git\"\r\n\
                        content-length: 0\r\nconnection: close\r\n\r\n";
            return Ok((head.to_owned(), Vec::new()));
        }
        let output = self.backend(request)?;
        let end = output.windows(4).position(|w| w == b"\r\n\r\n");
        let (head, body) = output.split_at(end.map_or(output.len(), |at| at + 4));
        let head = String::from_utf8_lossy(head);
        let mut status = "200 OK".to_owned();
        let mut headers = String::new();
        for line in head.lines().filter(|line| !line.is_empty()) {
            match line.strip_prefix("Status: ") {
                Some(text) => text.clone_into(&mut status),
                None => headers.push_str(&format!("{line}\r\n")),
            }
        }
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
        );
        Ok((head, body.to_vec()))
    }

    /// Asks `git http-backend` (git-http-backend(1)).
    fn backend(&self, request: &Message) -> io::Result<Vec<u8>> {
        let (path, query) = request.target().split_once('?').unwrap_or((request.target(), ""));
        let manner = *self.manner.lock().unwrap();
        let query = if manner == Manner::Plain { "" } else { query };
        let mut command = Command::new("git");
        command.arg("http-backend").env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.env("GIT_PROJECT_ROOT", &self.root).env("GIT_HTTP_EXPORT_ALL", "1");
        command.env("REQUEST_METHOD", request.method()).env("REMOTE_ADDR", "127.0.0.1");
        command.env("PATH_INFO", path).env("QUERY_STRING", query);
        command.env("CONTENT_LENGTH", request.body.len().to_string());
        for (header, name) in [
            ("content-type", "CONTENT_TYPE"),
            ("content-encoding", "HTTP_CONTENT_ENCODING"),
            ("git-protocol", "GIT_PROTOCOL"),
        ] {
            let heard = manner == Manner::Smart || header != "git-protocol";
            if let Some(value) = request.header(header).filter(|_| heard) {
                command.env(name, value);
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let mut stdin = child.stdin.take().expect("it is piped");
        let body = request.body.clone();
        let writer = std::thread::spawn(move || stdin.write_all(&body).unwrap_or_default());
        let output = child.wait_with_output()?;
        let _ = writer.join();
        Ok(output.stdout)
    }
}
