//! The ssh agents that a build lends to its steps.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::args::SshArg;
use crate::environment::Environment;

/// The variable that names the caller's agent.
const SSH_AUTH_SOCK: &str = "SSH_AUTH_SOCK";
/// How long an agent of our own may take to start.
const START: Duration = Duration::from_secs(10);
/// How often it is looked for.
const POLL: Duration = Duration::from_millis(5);

/// The agents of a build, by id. Those that were started for it end with it.
#[derive(Default)]
pub struct Agents {
    sockets: BTreeMap<String, PathBuf>,
    own: Vec<OwnAgent>,
}

/// Why an agent cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("--ssh {id}: {reason}")]
pub struct AgentError {
    /// Its id.
    pub id: String,
    /// Why, and what to do.
    pub reason: String,
}

/// An agent that was started for some keys. It ends when its standard input does, also when this
/// process is killed.
struct OwnAgent {
    child: Child,
    _dir: tempfile::TempDir,
}

impl Agents {
    /// The agents of a command line. Of one id, the last one counts.
    ///
    /// # Errors
    /// If there is no such socket or key, or a key needs a passphrase.
    pub fn new(args: &[SshArg], environment: &Environment) -> Result<Self, AgentError> {
        let mut agents = Self::default();
        for SshArg { id, paths } in args {
            let wrong = |reason: String| AgentError { id: id.clone(), reason };
            let socket = match &paths[..] {
                [] => environment.variable(SSH_AUTH_SOCK).map(PathBuf::from).ok_or_else(|| {
                    wrong(format!(
                        "{SSH_AUTH_SOCK} is not set: start an ssh agent, or name a socket or a key \
                         (--ssh {id}=PATH)"
                    ))
                })?,
                [path] if is_socket(Path::new(path)) => path.into(),
                keys => {
                    let (own, socket) = start(keys).map_err(wrong)?;
                    agents.own.push(own);
                    socket
                }
            };
            agents.sockets.insert(id.clone(), socket);
        }
        Ok(agents)
    }

    /// The socket of an agent.
    pub fn socket(&self, id: &str) -> Option<PathBuf> {
        self.sockets.get(id).cloned()
    }
}

fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// Starts an agent that knows `keys`.
fn start(keys: &[String]) -> Result<(OwnAgent, PathBuf), String> {
    for key in keys {
        check(key)?;
    }
    let dir = tempfile::Builder::new()
        .prefix("drydock-ssh-")
        .tempdir()
        .map_err(|e| format!("cannot create a directory for an agent: {e}"))?;
    let socket = dir.path().join("agent");
    // An agent that is given a command ends with it; this one ends when its input does.
    let child = Command::new("ssh-agent")
        .arg("-a")
        .arg(&socket)
        .arg("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| program("ssh-agent", &e))?;
    let own = OwnAgent { child, _dir: dir };
    let started = Instant::now();
    while !is_socket(&socket) {
        if started.elapsed() > START {
            return Err("the ssh agent for the keys did not start".to_owned());
        }
        std::thread::sleep(POLL);
    }
    let added = Command::new("ssh-add")
        .arg("-q")
        .args(keys)
        .env(SSH_AUTH_SOCK, &socket)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| program("ssh-add", &e))?;
    if !added.status.success() {
        let text = String::from_utf8_lossy(&added.stderr);
        return Err(format!("cannot add {}: {}", keys.join(", "), text.trim()));
    }
    Ok((own, socket))
}

/// Makes sure that `key` is a private key that opens without a passphrase: nobody could type one.
fn check(key: &str) -> Result<(), String> {
    let mut first = [0; 1];
    fs::File::open(key)
        .and_then(|mut file| file.read_exact(&mut first))
        .map_err(|e| format!("cannot read {key:?}: {e}"))?;
    let output = Command::new("ssh-keygen")
        .args(["-y", "-P", "", "-f", key])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| program("ssh-keygen", &e))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let advice = "a key with a passphrase has to be added to an agent of yours";
    Err(format!("cannot use {key:?}: {} ({advice})", text.trim()))
}

fn program(name: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("keys need the program {name} (package openssh-client), which is not here")
        }
        _ => format!("cannot run {name}: {error}"),
    }
}

impl Drop for OwnAgent {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
