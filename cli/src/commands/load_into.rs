//! `--load`: a Docker archive into the docker or podman that is there.

use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};

use exporter::ExportError;
use oci::Descriptor;

/// The engines, in the order that they are tried in.
const ENGINES: [&str; 2] = ["docker", "podman"];
/// As much of an engine's complaint is told, in bytes.
const MAX_COMPLAINT: u64 = 4096;

/// Why an image could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// No engine is installed, or none answers.
    #[error(
        "there is neither docker nor podman to load the image into \
         (-o type=docker,dest=FILE writes an archive)"
    )]
    NoEngine,
    /// The engine cannot be started or followed.
    #[error("cannot run {engine} load: {source}")]
    Run {
        /// Which.
        engine: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The engine refused.
    #[error("{engine} load failed ({status}): {complaint}")]
    Refused {
        /// Which.
        engine: &'static str,
        /// Its exit status.
        status: ExitStatus,
        /// What it said.
        complaint: String,
    },
    /// The archive cannot be made.
    #[error(transparent)]
    Export(#[from] ExportError),
}

/// Lets `write` make the archive for the standard input of the first engine that answers.
///
/// # Errors
/// If there is no engine, it refuses, or the archive cannot be made.
pub(crate) fn load(
    write: impl FnOnce(&mut dyn Write) -> Result<Descriptor, ExportError>,
) -> Result<Descriptor, LoadError> {
    let (engine, mut child) = start()?;
    let fail = |source| LoadError::Run { engine, source };
    let mut input = child.stdin.take().ok_or_else(|| fail(io::ErrorKind::BrokenPipe.into()))?;
    let errors = child.stderr.take();
    // Read beside the writing: a full pipe of complaints would stop the engine.
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut errors) = errors {
            let _ = errors.by_ref().take(MAX_COMPLAINT).read_to_string(&mut text);
            let _ = io::copy(&mut errors, &mut io::sink());
        }
        text
    });
    let written = write(&mut input);
    drop(input);
    let status = child.wait().map_err(fail)?;
    let complaint = reader.join().unwrap_or_default().trim().replace('\n', "; ");
    if !status.success() {
        return Err(LoadError::Refused { engine, status, complaint });
    }
    Ok(written?)
}

fn start() -> Result<(&'static str, Child), LoadError> {
    for engine in ENGINES {
        let answers = Command::new(engine)
            .arg("info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !answers.is_ok_and(|status| status.success()) {
            continue;
        }
        let child = Command::new(engine)
            .arg("load")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| LoadError::Run { engine, source })?;
        return Ok((engine, child));
    }
    Err(LoadError::NoEngine)
}
