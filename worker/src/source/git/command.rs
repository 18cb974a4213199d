//! Running git: a cleared environment, configuration that lets nothing run, a process group of
//! its own that goes with a cancellation.
//!
//! Secrets come to git by environment variables, which only this user can read, never by
//! arguments (`GIT_CONFIG_COUNT`, git-config(1)).

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use solver::{StepContext, Stream};
use sys::stop::{Stopped, stop_below};

use super::environment::GitEnvironment;
use super::error::{GitError, advice};
use super::hold::Hold;

/// The most that is read of git's standard output, in bytes.
const MAX_OUTPUT: u64 = 64 << 20;
/// How much of git's standard error an error keeps, in bytes.
const MAX_DETAIL: usize = 4 << 10;
/// How many lines of it an error shows.
const DETAIL_LINES: usize = 10;
/// The longest line of it that is logged whole, in bytes.
const MAX_LINE: usize = 16 << 10;

/// The protocols that repositories are fetched by. `ext::` would run programs, `file:` would
/// show this machine's files to whoever names them.
pub(super) const REMOTE: &str = "http:https:ssh:git";
/// For what is on this machine.
pub(super) const LOCAL: &str = "file";

/// Configuration for every call. The files of the system and of the user are not read.
const CONFIG: [(&str, &str); 17] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.askPass", ""),
    ("core.autocrlf", "false"),
    ("core.symlinks", "true"),
    ("core.fileMode", "true"),
    ("core.logAllRefUpdates", "false"),
    ("core.attributesFile", "/dev/null"),
    ("credential.helper", ""),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    // A pack gets its name when it is whole; single objects would come one by one.
    ("fetch.unpackLimit", "1"),
    ("submodule.recurse", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("init.defaultBranch", "main"),
    ("advice.detachedHead", "false"),
    ("http.userAgent", "git/drydock"),
];

/// One call of git.
pub(super) struct Call<'a> {
    /// What it is for, as a verb with its object.
    pub(super) what: String,
    /// Its arguments.
    pub(super) args: Vec<OsString>,
    /// The repository; none if it needs none.
    pub(super) repository: Option<&'a Path>,
    /// The directory that is checked out into.
    pub(super) work_tree: Option<&'a Path>,
    /// The index, if not that of the repository.
    pub(super) index: Option<&'a Path>,
    /// Further configuration.
    pub(super) config: Vec<(String, String)>,
    /// The protocols that it may use, with colons between.
    pub(super) protocols: &'static str,
    /// Whether what it complains about is not told to people.
    pub(super) quiet: bool,
}

impl<'a> Call<'a> {
    /// A call that uses no network.
    pub(super) fn new<T: AsRef<OsStr>>(
        what: impl Into<String>,
        args: impl IntoIterator<Item = T>,
    ) -> Self {
        Self {
            what: what.into(),
            args: args.into_iter().map(|a| a.as_ref().to_owned()).collect(),
            repository: None,
            work_tree: None,
            index: None,
            config: Vec::new(),
            protocols: "",
            quiet: false,
        }
    }

    /// In a repository.
    pub(super) fn on(mut self, repository: &'a Path) -> Self {
        self.repository = Some(repository);
        self
    }

    /// With a work tree.
    pub(super) fn into(mut self, work_tree: &'a Path) -> Self {
        self.work_tree = Some(work_tree);
        self
    }

    /// With an index of its own.
    pub(super) fn index(mut self, index: &'a Path) -> Self {
        self.index = Some(index);
        self
    }

    /// Over these protocols, with this configuration.
    pub(super) fn over(mut self, protocols: &'static str, config: Vec<(String, String)>) -> Self {
        self.protocols = protocols;
        self.config = config;
        self
    }

    /// Without telling people what it complains about.
    pub(super) fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }
}

/// Runs git for one step.
#[derive(Clone, Copy)]
pub(super) struct Git<'a> {
    pub(super) environment: &'a GitEnvironment,
    pub(super) context: &'a StepContext<'a>,
    /// What holds it below the ceiling of the cache.
    pub(super) hold: &'a Hold<'a>,
}

/// How a call ended.
struct Ended {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: String,
}

impl Git<'_> {
    /// Runs a call; what it wrote to its standard output.
    pub(super) fn run(&self, call: &Call<'_>) -> Result<Vec<u8>, GitError> {
        let ended = self.end(call)?;
        if ended.status.success() {
            return Ok(ended.stdout);
        }
        let lines: Vec<&str> = ended.stderr.lines().filter(|l| !l.trim().is_empty()).collect();
        let mut detail = lines[lines.len().saturating_sub(DETAIL_LINES)..].join("\n");
        if let Some(advice) = advice(&ended.stderr) {
            detail = format!("{detail}\n({advice})");
        }
        let status = match (ended.status.code(), ended.status.signal()) {
            (Some(code), _) => format!("exited with {code}"),
            (None, signal) => format!("was killed by signal {}", signal.unwrap_or_default()),
        };
        Err(GitError::Failed { what: call.what.clone(), status, detail })
    }

    /// Runs a call; what it wrote, as text without the white space around it.
    pub(super) fn text(&self, call: &Call<'_>) -> Result<String, GitError> {
        let output = self.run(call)?;
        Ok(String::from_utf8_lossy(&output).trim().to_owned())
    }

    /// Runs a call that asks something; none if git says no.
    pub(super) fn ask(&self, call: &Call<'_>) -> Result<Option<String>, GitError> {
        let ended = self.end(call)?;
        let answer = || String::from_utf8_lossy(&ended.stdout).trim().to_owned();
        Ok(ended.status.success().then(answer))
    }

    fn command(&self, call: &Call<'_>) -> Command {
        let mut command = Command::new("git");
        command.env_clear().envs(self.environment.variables());
        command.env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0");
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.env("GIT_ATTR_NOSYSTEM", "1").env("GIT_ALLOW_PROTOCOL", call.protocols);
        if !uses_ssh(call) {
            // curl would look for passwords in .netrc.
            command.env("HOME", "/nonexistent");
        }
        let own = call.config.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let config: Vec<(&str, &str)> = CONFIG.into_iter().chain(own).collect();
        command.env("GIT_CONFIG_COUNT", config.len().to_string());
        for (at, (key, value)) in config.into_iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{at}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{at}"), value);
        }
        for (name, path) in [
            ("GIT_DIR", call.repository),
            ("GIT_WORK_TREE", call.work_tree),
            ("GIT_INDEX_FILE", call.index),
        ] {
            if let Some(path) = path {
                command.env(name, path);
            }
        }
        command.args(&call.args).current_dir(call.work_tree.unwrap_or(Path::new("/")));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        command
    }

    fn end(&self, call: &Call<'_>) -> Result<Ended, GitError> {
        if self.is_over() {
            return Err(GitError::Cancelled);
        }
        let mut child = self.command(call).spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => GitError::Missing { path: self.environment.path() },
            _ => GitError::Run(error),
        })?;
        let group = Group::of(&child);
        let engaged = self.hold.brake().engage(group.clone());
        let guard = group.clone().map(|group| self.context.cancel.on_cancel(move || group.kill()));
        let read = self.read(call, &mut child);
        if read.is_err() {
            // It may wait for somebody to read the rest.
            group.iter().for_each(|group| group.kill());
        }
        let status = match &group {
            Some(group) => group.wait(&mut child),
            None => child.wait(),
        };
        drop((guard, engaged));
        if self.is_over() {
            return Err(GitError::Cancelled);
        }
        let (stdout, stderr) = read?;
        Ok(Ended { status: status.map_err(GitError::Run)?, stdout, stderr })
    }

    /// Whether nothing is to run any more.
    pub(super) fn is_over(&self) -> bool {
        self.context.cancel.is_cancelled() || self.hold.brake().is_stopped()
    }

    /// Reads all that it writes.
    fn read(&self, call: &Call<'_>, child: &mut Child) -> Result<(Vec<u8>, String), GitError> {
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(GitError::Run(io::Error::other("it has no output")));
        };
        std::thread::scope(|scope| {
            let complaints = scope.spawn(|| self.follow(stderr, call.quiet));
            let mut output = Vec::new();
            let read = stdout.take(MAX_OUTPUT + 1).read_to_end(&mut output);
            // The pipe is closed by now: a git that writes on ends.
            let complaints = complaints.join();
            let complaints = complaints.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            read.map_err(GitError::Run)?;
            if output.len() as u64 > MAX_OUTPUT {
                return Err(GitError::TooLong { what: call.what.clone(), limit: MAX_OUTPUT });
            }
            Ok((output, complaints))
        })
    }

    /// Logs the lines of standard error, and gives the last of them.
    fn follow(&self, mut stderr: impl Read, quiet: bool) -> String {
        let mut kept = String::new();
        let mut line = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let count = match stderr.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            for &byte in &buffer[..count] {
                match byte {
                    // What follows is written over it: progress.
                    b'\r' => line.clear(),
                    b'\n' => self.complain(&mut line, &mut kept, quiet),
                    byte if line.len() < MAX_LINE => line.push(byte),
                    _ => {}
                }
            }
        }
        if !line.is_empty() {
            self.complain(&mut line, &mut kept, quiet);
        }
        kept
    }

    fn complain(&self, line: &mut Vec<u8>, kept: &mut String, quiet: bool) {
        line.push(b'\n');
        if !quiet {
            self.context.log(Stream::Stderr, line);
        }
        kept.push_str(&String::from_utf8_lossy(line));
        while kept.len() > MAX_DETAIL {
            let end = kept.find('\n').map_or(kept.len(), |at| at + 1);
            kept.drain(..end);
        }
        line.clear();
    }
}

/// Whether a call may need the caller's home directory: ssh's configuration is there.
fn uses_ssh(call: &Call<'_>) -> bool {
    let urls = call.args.iter().filter_map(|arg| arg.to_str());
    call.protocols == REMOTE
        && !urls.into_iter().any(|url| url.starts_with("http://") || url.starts_with("https://"))
}

/// The process group of a call, until it was waited for: then the id may be another one's.
#[derive(Clone)]
pub(super) struct Group(Arc<Mutex<Option<Pid>>>);

impl Group {
    pub(super) fn of(child: &Child) -> Option<Self> {
        let pid = Pid::from_raw(i32::try_from(child.id()).ok()?)?;
        Some(Self(Arc::new(Mutex::new(Some(pid)))))
    }

    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Stops it; when this returns, it writes nothing. What did not hear of it, because it left
    /// the group, is what this returns.
    pub(super) fn stop(&self) -> Option<Stopped> {
        let pid = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = (*pid)?;
        let _ = kill_process_group(pid, Signal::STOP);
        // It is our child: this returns when it has stopped, or ended.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), options) {}
        Some(stop_below(pid.as_raw_nonzero().get()))
    }

    /// Lets it go on after [`stop`](Self::stop).
    pub(super) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = *pid {
            // One that is gone is what was wanted.
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Waits for the child. What it left running goes with it.
    fn wait(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let pid = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = pid {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), options) {}
        }
        self.kill();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        child.wait()
    }
}
