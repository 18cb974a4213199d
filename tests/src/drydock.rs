//! Runs the binary: with a state directory of its own, a cleared environment and a time limit.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::base_image::BaseImage;
use crate::binary;
use crate::context::Context;
use crate::image_view::ImageView;
use crate::progress::{self, End, Step};
use crate::temp;

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(300);
/// How long its output may stay open after its end.
const AFTER: Duration = Duration::from_secs(60);

/// A state directory, a home directory, and the binary.
pub struct Drydock {
    binary: PathBuf,
    dir: TempDir,
    state: PathBuf,
}

impl Default for Drydock {
    fn default() -> Self {
        Self::new()
    }
}

impl Drydock {
    /// One with nothing in its store.
    ///
    /// # Panics
    /// If the binary is missing.
    pub fn new() -> Self {
        let dir = temp::directory();
        fs::create_dir(dir.path().join("home")).unwrap();
        let state = dir.path().join("state");
        Self { binary: binary::drydock(), state, dir }
    }

    /// One whose state directory is elsewhere.
    ///
    /// # Panics
    /// If the binary is missing.
    pub fn at(state: &Path) -> Self {
        Self { state: state.to_owned(), ..Self::new() }
    }

    /// The state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The home directory.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// A path for what a case writes.
    pub fn place(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command.
    pub fn command(&self, name: &str) -> Run {
        let home = self.home();
        let mut run = Run {
            argv: vec![self.binary.clone().into(), name.into()],
            env: Vec::new(),
            cwd: home.clone(),
            stdin: None,
            limit: LIMIT,
            context: None,
            dest: self.dir.path().join("image.tar"),
        };
        run = run.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", home);
        run.env("DRYDOCK_ROOT", &self.state)
    }

    /// A build with plain progress. The base image is there by the name `busybox`.
    pub fn build(&self, context: &Context) -> Run {
        let base = format!("busybox=oci-layout://{}:latest", BaseImage::layout().display());
        self.bare_build(context).args(["--build-context", &base])
    }

    /// A build with plain progress and nothing else.
    pub fn bare_build(&self, context: &Context) -> Run {
        let run = self.command("build").arg("--progress=plain").arg(context.path());
        Run { context: Some(context.shared()), ..run }
    }

    /// Builds a Dockerfile that needs no context.
    ///
    /// # Panics
    /// If it fails.
    pub fn image_of(&self, dockerfile: &str) -> ImageView {
        self.build(&Context::new(dockerfile)).image()
    }

    /// Names and times of the blobs in the store.
    pub fn blobs(&self) -> Vec<(PathBuf, std::time::SystemTime)> {
        let mut blobs = Vec::new();
        files_below(&self.state.join("blobs-v1"), &mut blobs);
        blobs.sort();
        blobs
    }
}

fn files_below(dir: &Path, found: &mut Vec<(PathBuf, std::time::SystemTime)>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            files_below(&entry.path(), found);
        } else if let Ok(time) = meta.modified() {
            found.push((entry.path(), time));
        }
    }
}

/// A command that is to be run.
#[derive(Clone)]
#[must_use]
pub struct Run {
    argv: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: PathBuf,
    stdin: Option<Vec<u8>>,
    limit: Duration,
    context: Option<Arc<TempDir>>,
    dest: PathBuf,
}

impl Run {
    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.argv.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<T: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.argv.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets the working directory.
    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = dir.into();
        self
    }

    /// Sets what comes on standard input; nothing does otherwise.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Sets the time limit.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it by another program, such as strace.
    pub fn wrapped<T: AsRef<OsStr>>(mut self, by: impl IntoIterator<Item = T>) -> Self {
        let by: Vec<OsString> = by.into_iter().map(|a| a.as_ref().to_owned()).collect();
        self.argv.splice(0..0, by);
        self
    }

    /// Runs the binary by another name: a link to it.
    ///
    /// # Panics
    /// If the link cannot be made.
    pub fn called(mut self, link: &Path) -> Self {
        std::os::unix::fs::symlink(&self.argv[0], link).unwrap();
        self.argv[0] = link.into();
        self
    }

    /// Leaves the first argument out (the command's name).
    pub fn without_command(mut self) -> Self {
        self.argv.remove(1);
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(self) -> Running {
        let mut command = Command::new(&self.argv[0]);
        command.args(&self.argv[1..]).env_clear().envs(self.env).current_dir(&self.cwd);
        command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{:?}: {e}", self.argv[0]));
        if let (Some(bytes), Some(mut stdin)) = (self.stdin, child.stdin.take()) {
            std::thread::spawn(move || {
                // A child that does not read it all is the case's business.
                let _ = stdin.write_all(&bytes);
            });
        }
        let stdout = Capture::new(child.stdout.take().expect("it is piped"));
        let stderr = Capture::new(child.stderr.take().expect("it is piped"));
        Running {
            child,
            argv: self.argv,
            started: Instant::now(),
            limit: self.limit,
            _context: self.context,
            stdout,
            stderr,
        }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn output(self) -> Output {
        self.start().finish()
    }

    /// Runs it; it has to succeed.
    ///
    /// # Panics
    /// If it fails.
    pub fn ok(self) -> Output {
        let output = self.output();
        assert!(output.status.success(), "{output}");
        output
    }

    /// Runs it; it has to fail with status 1, with a message and without a panic.
    ///
    /// # Panics
    /// If it does anything else.
    pub fn fails(self) -> Output {
        let output = self.output();
        assert_eq!(output.status.code(), Some(1), "{output}");
        assert!(!output.stderr.contains("panicked"), "{output}");
        assert!(!output.stderr.trim().is_empty(), "{output}");
        output
    }

    /// Builds an OCI archive and reads it.
    ///
    /// # Panics
    /// If the build fails, or the image is not what it says.
    pub fn image(self) -> ImageView {
        self.image_and_output().0
    }

    /// The same, with what the build told.
    ///
    /// # Panics
    /// As [`Self::image`].
    pub fn image_and_output(self) -> (ImageView, Output) {
        let dest = self.dest.clone();
        let output = self.arg("-o").arg(format!("type=oci,dest={}", dest.display())).ok();
        let view = ImageView::archive(&dest);
        fs::remove_file(dest).unwrap();
        (view, output)
    }
}

/// A stream that is read as it comes.
struct Capture {
    bytes: Arc<Mutex<Vec<u8>>>,
    ended: mpsc::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    fn new(mut stream: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (end, ended) = mpsc::channel();
        let shared = bytes.clone();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                shared.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
            let _ = end.send(());
        });
        Self { bytes, ended, thread: Some(thread) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    /// All of it. A process that outlives its builder may hold the stream open: that is an error.
    fn finish(mut self) -> Vec<u8> {
        let ended = self.ended.recv_timeout(AFTER).is_ok();
        assert!(ended, "the output is still open after the end; so far:\n{}", self.text());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        std::mem::take(&mut self.bytes.lock().unwrap())
    }
}

/// A command that runs.
pub struct Running {
    child: Child,
    argv: Vec<OsString>,
    started: Instant,
    limit: Duration,
    _context: Option<Arc<TempDir>>,
    stdout: Capture,
    stderr: Capture,
}

impl Running {
    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until standard error contains `text`.
    ///
    /// # Panics
    /// If it does not within the time limit.
    pub fn wait_for(&mut self, text: &str) {
        while !self.stderr().contains(text) {
            let over = self.child.try_wait().unwrap().is_some();
            // What was written last may be on its way still.
            if over {
                std::thread::sleep(Duration::from_millis(50));
            }
            let late = self.started.elapsed() > self.limit;
            if (over || late) && !self.stderr().contains(text) {
                let _ = self.child.kill();
                panic!("never saw {text:?} in:\n{}", self.stderr());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends a signal; one that has ended meanwhile does not mind.
    pub fn signal(&mut self, signal: Signal) {
        if !self.is_over() {
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }

    /// Whether it has ended.
    ///
    /// # Panics
    /// If the kernel does not know.
    pub fn is_over(&mut self) -> bool {
        self.child.try_wait().expect("it was started").is_some()
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as the kernel would: nothing of it runs any more.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn finish(self) -> Output {
        let Self { mut child, argv, started, limit, _context, stdout, stderr } = self;
        let pid = Pid::from_child(&child);
        let (done, waiting) = mpsc::channel::<()>();
        let watchdog = std::thread::spawn(move || {
            let late = waiting.recv_timeout(limit).is_err();
            if late {
                let _ = kill_process(pid, Signal::KILL);
            }
            late
        });
        let status = child.wait().expect("it was started");
        let elapsed = started.elapsed();
        let _ = done.send(());
        let late = watchdog.join().unwrap_or(false);
        let output = Output {
            argv,
            status,
            stdout: stdout.finish(),
            stderr: String::from_utf8_lossy(&stderr.finish()).into_owned(),
            elapsed,
        };
        assert!(!late, "no end within {limit:?}\n{output}");
        output
    }
}

/// What a command did.
pub struct Output {
    argv: Vec<OsString>,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: String,
    /// How long it took.
    pub elapsed: Duration,
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{:?}: {}", self.argv, self.status)?;
        let stdout = String::from_utf8_lossy(&self.stdout[..self.stdout.len().min(4096)]);
        writeln!(f, "--- stdout\n{stdout}\n--- stderr\n{}", self.stderr)
    }
}

impl Output {
    /// Standard output as text, without a line's end.
    ///
    /// # Panics
    /// If it is no text.
    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap().trim_end().to_owned()
    }

    /// The steps, from plain progress.
    pub fn steps(&self) -> Vec<Step> {
        progress::plain(&self.stderr)
    }

    /// The step whose name contains `text`.
    ///
    /// # Panics
    /// If there is not exactly one.
    pub fn step(&self, text: &str) -> Step {
        let mut steps = self.steps();
        steps.retain(|s| s.name.contains(text));
        assert_eq!(steps.len(), 1, "steps with {text:?}: {steps:?}\n{self}");
        steps.remove(0)
    }

    /// Whether there is a step whose name contains `text`.
    pub fn has_step(&self, text: &str) -> bool {
        self.steps().iter().any(|s| s.name.contains(text))
    }

    /// Whether the step whose name contains `text` was known.
    ///
    /// # Panics
    /// If there is not exactly one.
    pub fn cached(&self, text: &str) -> bool {
        match self.step(text).end {
            End::Cached => true,
            End::Done => false,
            other => panic!("{text:?} ended as {other:?}\n{self}"),
        }
    }

    /// The names of the steps of the Dockerfile that were run.
    pub fn executed(&self) -> Vec<String> {
        let mut steps = self.steps();
        steps.retain(|s| s.end == End::Done && is_instruction(&s.name));
        steps.into_iter().map(|s| s.name).collect()
    }
}

/// Whether a step's name is that of an instruction that makes a layer, such as
/// `[build 2/5] COPY a b`, and not of something inside.
pub fn is_instruction(name: &str) -> bool {
    let Some((_, text)) = name.strip_prefix('[').and_then(|n| n.split_once("] ")) else {
        return false;
    };
    ["RUN ", "COPY ", "ADD ", "WORKDIR "].iter().any(|k| text.starts_with(k))
}
