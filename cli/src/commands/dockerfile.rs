//! Reading the Dockerfile and the ignore files: the only place where they are opened.

use std::fs;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use frontend::parse_ignore;
use graph::pattern::IgnoreList;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use solver::CancelToken;

use super::failure::Failure;
use crate::request::{BuildRequest, ContextSource, DockerfileSource};

/// The largest Dockerfile or ignore file that is read, in bytes.
const MAX_FILE: u64 = 64 << 20;
const DOCKERFILE: &str = "Dockerfile";
const IGNORE: &str = ".dockerignore";

/// How long a cancelled build waits for standard input at most.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// A Dockerfile.
pub(crate) struct Source {
    /// Its name, for people.
    pub(crate) name: String,
    /// Its text.
    pub(crate) text: String,
    /// Where it is; none for standard input.
    path: Option<PathBuf>,
}

/// Makes sure that all directories which `request` names are there.
///
/// # Errors
/// If one is not.
pub(crate) fn check_contexts(request: &BuildRequest) -> Result<(), Failure> {
    if let ContextSource::Directory(path) = &request.context {
        check_context("context", path)?;
    }
    for (name, path) in &request.directories {
        check_context(&format!("context {name:?}"), path)?;
    }
    Ok(())
}

fn check_context(what: &str, path: &Path) -> Result<(), Failure> {
    let reason = match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => "is not a directory".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => "not found".to_owned(),
        Err(error) => format!("cannot be opened: {error}"),
    };
    Err(Failure::error(format!("unable to prepare {what}: path {path:?} {reason}")))
}

/// The file name of the Dockerfile that `request` names, for people.
pub(crate) fn name_of(request: &BuildRequest) -> String {
    match &request.dockerfile {
        DockerfileSource::File(path) => {
            path.file_name().unwrap_or_default().to_string_lossy().into_owned()
        }
        _ => DOCKERFILE.to_owned(),
    }
}

/// Reads the Dockerfile that `request` names. Waiting for standard input ends with `cancel`.
///
/// # Errors
/// If it cannot be read or is not what it should be.
pub(crate) fn read(request: &BuildRequest, cancel: &CancelToken) -> Result<Source, Failure> {
    let (path, bytes) = match (&request.context, &request.dockerfile) {
        (ContextSource::Stdin, _) | (_, DockerfileSource::Stdin) => (None, read_stdin(cancel)?),
        (_, DockerfileSource::File(path)) => {
            let bytes = read_file(path).map_err(|e| cannot_read(path, &e))?;
            (Some(path.clone()), bytes)
        }
        (ContextSource::Directory(dir), DockerfileSource::Default) => {
            let (path, bytes) = read_default(dir)?;
            (Some(path), bytes)
        }
    };
    let name = match &path {
        Some(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        None => DOCKERFILE.to_owned(),
    };
    if path.is_none() && looks_like_archive(&bytes) {
        return Err(Failure::error(
            "not supported yet: a tar archive as context on standard input",
        ));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Failure::error(format!("failed to read dockerfile: {name} is not UTF-8: byte {at}"))
    })?;
    Ok(Source { name, text, path })
}

/// Reads the ignore files of all contexts into `request`.
///
/// # Errors
/// If one cannot be read or makes no sense.
pub(crate) fn read_ignores(request: &mut BuildRequest, source: &Source) -> Result<(), Failure> {
    if let ContextSource::Directory(dir) = &request.context {
        request.lower.ignore = read_ignore(dir, source.path.as_deref())?;
    }
    for (name, dir) in &request.directories {
        request.lower.context_ignores.insert(name.clone(), read_ignore(dir, None)?);
    }
    Ok(())
}

fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    Failure::error(format!("failed to read dockerfile: open {}: {error}", path.display()))
}

/// `Dockerfile`, or `dockerfile` where that is missing.
fn read_default(dir: &Path) -> Result<(PathBuf, Vec<u8>), Failure> {
    let path = dir.join(DOCKERFILE);
    match read_file(&path) {
        Ok(bytes) => Ok((path, bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let lower = dir.join(DOCKERFILE.to_lowercase());
            match read_file(&lower) {
                Ok(bytes) => Ok((lower, bytes)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Failure::error(format!(
                    "failed to read dockerfile: there is no Dockerfile in {} \
                     (-f FILE names another one)",
                    dir.display()
                ))),
                Err(e) => Err(cannot_read(&lower, &e)),
            }
        }
        Err(error) => Err(cannot_read(&path, &error)),
    }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    read_bounded(fs::File::open(path)?)
}

fn read_stdin(cancel: &CancelToken) -> Result<Vec<u8>, Failure> {
    read_bounded(Cancellable { input: rustix::stdio::stdin(), cancel })
        .map_err(|e| Failure::error(format!("failed to read dockerfile: read standard input: {e}")))
}

/// A file that may have nothing to read for long: somebody's keyboard.
struct Cancellable<'a> {
    input: BorrowedFd<'a>,
    cancel: &'a CancelToken,
}

impl Read for Cancellable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.cancel.is_cancelled() {
                return Err(io::Error::other("cancelled"));
            }
            match poll(&mut [PollFd::new(&self.input, PollFlags::IN)], Some(&PATIENCE)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(rustix::io::read(self.input, buffer)?),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn read_bounded(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("it is larger than {} MiB", MAX_FILE >> 20)));
    }
    Ok(bytes)
}

fn looks_like_archive(bytes: &[u8]) -> bool {
    oci::layer::is_tar(bytes) || oci::layer::detect(bytes) != oci::layer::Compression::None
}

/// `NAME.dockerignore` beside the Dockerfile replaces the context's `.dockerignore`.
fn read_ignore(dir: &Path, dockerfile: Option<&Path>) -> Result<IgnoreList, Failure> {
    let own = dockerfile.map(|path| {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(IGNORE);
        path.with_file_name(name)
    });
    for path in own.into_iter().chain([dir.join(IGNORE)]) {
        match read_file(&path) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                return parse_ignore(&text)
                    .map_err(|e| Failure::error(format!("{}: {e}", path.display())));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Failure::error(format!("cannot read {}: {error}", path.display())));
            }
        }
    }
    Ok(IgnoreList::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    #[test]
    fn waiting_for_input_can_be_cancelled() {
        let (read, mut write) = io::pipe().unwrap();
        let cancel = CancelToken::new();
        let mut input = Cancellable { input: read.as_fd(), cancel: &cancel };
        write.write_all(b"FROM a").unwrap();
        let mut buffer = [0; 64];
        assert_eq!(input.read(&mut buffer).unwrap(), 6);
        let started = Instant::now();
        std::thread::scope(|s| {
            s.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                cancel.cancel();
            });
            assert!(input.read(&mut buffer).is_err());
        });
        assert!(started.elapsed() < Duration::from_secs(10));
        let fresh = CancelToken::new();
        drop(write);
        assert_eq!(
            Cancellable { input: read.as_fd(), cancel: &fresh }.read(&mut buffer).unwrap(),
            0
        );
    }
}
