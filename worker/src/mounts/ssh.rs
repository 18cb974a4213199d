//! `type=ssh`: a socket in the step that leads to an ssh agent outside.
//!
//! The agent's own socket is not shown: who may use it is for its owner to say, and a step runs
//! as somebody else. So each step has a socket of its own, with the mode and the owner that the
//! mount names, and what comes in there is passed on. It ends with the step.

use std::fs;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use executor::Volume;
use graph::{ExecMount, MountKind};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use snapshotter::SnapshotId;
use sys::mount::{Mount, MountFlags, MountSource};

use super::StepMounts;
use crate::engine::Engine;
use crate::error::WorkerError;
use crate::source::Secrets;

/// The name of the socket in its directory.
const SOCKET: &str = "agent";
/// What the directories of sockets begin with, before the name of the process's lease.
pub(crate) const PREFIX: &str = "ssh-";
/// Connections that one step may have at the same time; more wait.
const MAX_CONNECTIONS: usize = 64;

/// A socket that leads to an agent.
pub(super) struct Forward {
    dir: PathBuf,
    stop: OwnedFd,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the threads of a [`Forward`] have in common.
struct Shared {
    agent: PathBuf,
    open: Mutex<Vec<Connection>>,
}

struct Connection {
    number: u64,
    ends: [UnixStream; 2],
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Vec<Connection>> {
        // Each change is one insertion or removal.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Forward {
    /// Listens in the new directory `dir`, for whoever has the owner and mode of the socket.
    fn start(dir: PathBuf, agent: &Path, mode: u32, owner: (u32, u32)) -> io::Result<Self> {
        // Fails at once rather than in the middle of the step.
        drop(UnixStream::connect(agent)?);
        fs::create_dir(&dir)?;
        let shared = Arc::new(Shared { agent: agent.to_owned(), open: Mutex::default() });
        let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
        // From here on, whatever fails, the directory goes.
        let mut forward = Self { dir, stop, shared, thread: None };
        fs::set_permissions(&forward.dir, fs::Permissions::from_mode(0o700))?;
        let place = fs::File::open(&forward.dir)?;
        // The name of a socket has at most 107 bytes (unix(7)); a state directory may have more.
        let short = format!("/proc/self/fd/{}/{SOCKET}", place.as_raw_fd());
        let listener = UnixListener::bind(short)?;
        let socket = forward.socket();
        std::os::unix::fs::chown(&socket, Some(owner.0), Some(owner.1))?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(mode))?;
        let (shared, stop) = (Arc::clone(&forward.shared), forward.stop.try_clone()?);
        forward.thread = Some(std::thread::spawn(move || serve(&listener, &stop, &shared)));
        Ok(forward)
    }

    fn socket(&self) -> PathBuf {
        self.dir.join(SOCKET)
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for end in self.shared.open().iter().flat_map(|connection| &connection.ends) {
            let _ = end.shutdown(Shutdown::Both);
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Takes connections until `stop` is set.
fn serve(listener: &UnixListener, stop: &OwnedFd, shared: &Arc<Shared>) {
    for number in 0.. {
        let mut fds = [
            PollFd::new(stop, PollFlags::IN),
            PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        if !fds[0].revents().is_empty() {
            return;
        }
        let Ok((inside, _)) = listener.accept() else { return };
        if shared.open().len() >= MAX_CONNECTIONS {
            continue;
        }
        // An agent that is gone by now is a closed connection to the step.
        let _ = connect(inside, number, shared);
    }
}

/// Passes on what comes from either end, until both have said all.
fn connect(inside: UnixStream, number: u64, shared: &Arc<Shared>) -> io::Result<()> {
    let outside = UnixStream::connect(&shared.agent)?;
    let ways =
        [(inside.try_clone()?, outside.try_clone()?), (outside.try_clone()?, inside.try_clone()?)];
    shared.open().push(Connection { number, ends: [inside, outside] });
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        std::thread::scope(|scope| {
            for (mut from, mut to) in ways {
                scope.spawn(move || {
                    // Either end may go at any time.
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        });
        shared.open().retain(|connection| connection.number != number);
    });
    Ok(())
}

impl StepMounts<'_> {
    /// Adds a socket that leads to the agent that the build lends. One that it does not lend is
    /// left out unless it is required.
    pub(super) fn ssh(
        &mut self,
        mount: &ExecMount,
        secrets: &dyn Secrets,
    ) -> Result<(), WorkerError> {
        let MountKind::Ssh { id, required, mode, uid, gid } = &mount.kind else {
            return Err(WorkerError::Internal("no ssh mount".to_owned()));
        };
        let problem = |reason: String| WorkerError::SshAgent { id: id.clone(), reason };
        let agent = match secrets.agent(id) {
            Some(agent) => agent,
            None if *required => {
                return Err(problem(format!("the build lends none of this id (--ssh {id})")));
            }
            None => return Ok(()),
        };
        let dir = self.engine.socket_dir();
        let forward = Forward::start(dir, &agent, *mode, (*uid, *gid))
            .map_err(|e| problem(format!("cannot reach {}: {e}", agent.display())))?;
        let source = MountSource::Bind { source: forward.socket(), recursive: false };
        let target = mount.target.clone().into();
        self.volumes.push(Volume::from(Mount { target, source, flags: MountFlags::DATA }));
        self.forwards.push(forward);
        Ok(())
    }
}

impl Engine {
    /// A path for the socket of one step; it names the process that has to remove it.
    fn socket_dir(&self) -> PathBuf {
        let lease = self.state.lease().name();
        self.state.run_dir().join(format!("{PREFIX}{lease}-{}", SnapshotId::random()))
    }

    /// Removes the sockets of a killed process.
    pub(crate) fn sweep_sockets(&self, lease: &str) {
        let own = format!("{PREFIX}{lease}-");
        for entry in fs::read_dir(self.state.run_dir()).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&own) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    /// An agent that gives back what it gets, until told to end.
    fn echo(path: &Path) {
        let listener = UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut out = stream.try_clone().unwrap();
                    let _ = io::copy(&mut stream, &mut out);
                    let _ = out.shutdown(Shutdown::Write);
                });
            }
        });
    }

    #[test]
    fn passes_on_and_ends() {
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("agent");
        echo(&agent);
        // Longer than the name of a socket may be.
        let deep = dir.path().join("d".repeat(120));
        fs::create_dir(&deep).unwrap();
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let forward = Forward::start(deep.join("one"), &agent, 0o640, owner).unwrap();
        let place = fs::File::open(deep.join("one")).unwrap();
        let short = format!("/proc/self/fd/{}/{SOCKET}", place.as_raw_fd());
        let mode = fs::metadata(forward.socket()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        for text in ["first", "second"] {
            let mut stream = UnixStream::connect(&short).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, text);
        }
        let mut held = UnixStream::connect(&short).unwrap();
        held.write_all(b"x").unwrap();
        held.read_exact(&mut [0]).unwrap();
        drop(forward);
        assert_eq!(held.read(&mut [0]).unwrap(), 0, "connections end with the step");
        assert!(!deep.join("one").exists());
    }

    #[test]
    fn an_agent_that_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("one");
        assert!(Forward::start(place.clone(), &dir.path().join("no"), 0o600, (0, 0)).is_err());
        assert!(!place.exists());
    }
}
