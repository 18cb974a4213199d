//! `--load`: a Docker archive into the docker or podman that is there.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;

use exporter::ExportError;
use oci::Descriptor;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use solver::CancelToken;

/// The programs, in the order that they are tried in.
const PROGRAMS: [&str; 2] = ["docker", "podman"];
/// As much of a program's complaint is told, in bytes.
const MAX_COMPLAINT: u64 = 4096;

/// Why an image could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// Neither program is installed, or none can do anything.
    #[error(
        "there is neither a docker nor a podman that works, to load the image into \
         (-o type=docker,dest=FILE writes an archive)"
    )]
    NoEngine,
    /// The program cannot be started or followed.
    #[error("cannot run {program} load: {source}")]
    Run {
        /// Which.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It refused.
    #[error("{program} load failed ({status}): {complaint}")]
    Refused {
        /// Which.
        program: &'static str,
        /// Its exit status.
        status: ExitStatus,
        /// What it said.
        complaint: String,
    },
    /// The archive cannot be made.
    #[error(transparent)]
    Export(#[from] ExportError),
}

/// A docker or podman that answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ContainerEngine {
    program: &'static str,
}

impl ContainerEngine {
    /// The first one that works here.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn find() -> Result<Self, LoadError> {
        let works = |program: &&str| {
            let mut info = Command::new(program);
            info.arg("info").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            info.status().is_ok_and(|status| status.success())
        };
        let program = PROGRAMS.into_iter().find(works).ok_or(LoadError::NoEngine)?;
        Ok(Self { program })
    }

    /// Lets `write` make the archive that it reads. It is killed if the archive cannot be made or
    /// `cancel` says so: of half an archive nothing must be loaded.
    ///
    /// # Errors
    /// If it cannot be run or refuses, or the archive cannot be made.
    pub(crate) fn load(
        self,
        cancel: &CancelToken,
        write: impl FnOnce(&mut dyn Write) -> Result<Descriptor, ExportError>,
    ) -> Result<Descriptor, LoadError> {
        let program = self.program;
        let fail = |source| LoadError::Run { program, source };
        let mut child = Command::new(program)
            .arg("load")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(fail)?;
        let complaints = read_complaints(&mut child);
        let killer = Killer::of(&child).map_err(fail)?;
        let on_cancel = killer.clone();
        let _hook = cancel.on_cancel(move || on_cancel.kill());
        let pipe = child.stdin.take().ok_or_else(|| fail(io::ErrorKind::BrokenPipe.into()))?;
        let mut input = Input { pipe, gone: false };
        let written = write(&mut input);
        if written.is_err() && !input.gone {
            killer.kill();
        }
        let gone = input.gone;
        drop(input);
        let status = child.wait().map_err(fail)?;
        let complaint = complaints.join().unwrap_or_default().trim().replace('\n', "; ");
        // If it stopped reading, its own words tell more than the broken pipe.
        if !status.success() && (written.is_ok() || gone) {
            return Err(LoadError::Refused { program, status, complaint });
        }
        Ok(written?)
    }
}

/// The beginning of what it writes to standard error, read beside everything else: a full pipe
/// would stop it.
fn read_complaints(child: &mut Child) -> std::thread::JoinHandle<String> {
    let errors = child.stderr.take();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut errors) = errors {
            let _ = errors.by_ref().take(MAX_COMPLAINT).read_to_end(&mut text);
            let _ = io::copy(&mut errors, &mut io::sink());
        }
        String::from_utf8_lossy(&text).into_owned()
    })
}

/// Kills one process, and never another one that got its number.
#[derive(Clone)]
struct Killer(Arc<OwnedFd>);

impl Killer {
    fn of(child: &Child) -> io::Result<Self> {
        Ok(Self(Arc::new(pidfd_open(Pid::from_child(child), PidfdFlags::empty())?)))
    }

    fn kill(&self) {
        // It may have ended by itself.
        let _ = pidfd_send_signal(&*self.0, Signal::KILL);
    }
}

/// Its standard input; remembers that nobody reads it any more.
struct Input {
    pipe: ChildStdin,
    gone: bool,
}

impl Write for Input {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.pipe.write(data);
        self.gone |= matches!(&written, Err(e) if e.kind() == io::ErrorKind::BrokenPipe);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pipe.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(program: &'static str) -> ContainerEngine {
        ContainerEngine { program }
    }

    fn fill(out: &mut dyn Write) -> Result<Descriptor, ExportError> {
        loop {
            let written = out.write_all(&[0; 4096]);
            written.map_err(|source| ExportError::Write { what: "archive", source })?;
        }
    }

    #[test]
    fn an_engine_that_refuses_is_quoted() {
        let cancel = CancelToken::new();
        // `ls load` finds no such file, and reads nothing.
        match engine("ls").load(&cancel, fill) {
            Err(LoadError::Refused { complaint, .. }) => assert!(complaint.contains("load")),
            other => panic!("{other:?}"),
        }
        // `true load` is content without having read anything.
        assert!(matches!(engine("true").load(&cancel, fill), Err(LoadError::Export(_))));
        assert!(matches!(
            engine("no-such-program").load(&cancel, fill),
            Err(LoadError::Run { .. })
        ));
    }

    #[test]
    fn an_engine_does_not_outlive_the_archive() {
        // `yes load` neither reads nor ends.
        let cancel = CancelToken::new();
        let failed = engine("yes").load(&cancel, |_| Err(ExportError::Cancelled));
        assert!(matches!(failed, Err(LoadError::Export(ExportError::Cancelled))), "{failed:?}");
        std::thread::scope(|s| {
            s.spawn(|| {
                std::thread::sleep(std::time::Duration::from_millis(50));
                cancel.cancel();
            });
            assert!(engine("yes").load(&cancel, fill).is_err());
        });
    }
}
