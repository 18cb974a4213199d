//! Reading the Dockerfile and the ignore files: the only place where they are opened.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use frontend::parse_ignore;
use graph::ignore::IgnoreList;
use solver::CancelToken;

use super::failure::Failure;
use super::stdin::Stdin;
use crate::contexts::{ContextSource, DockerfileSource};
use crate::request::BuildRequest;

/// The largest Dockerfile or ignore file that is read, in bytes.
pub(crate) const MAX_FILE: u64 = 64 << 20;
/// What a Dockerfile is called.
pub(crate) const DOCKERFILE: &str = "Dockerfile";
const IGNORE: &str = ".dockerignore";
/// What is told where the file is in the context.
const RELATIVE: &str =
    "there is such a file in the context, but -f is relative to the working directory";

/// A Dockerfile.
pub(crate) struct Source {
    /// Its name, for people.
    pub(crate) name: String,
    /// Its text.
    pub(crate) text: String,
    /// Where it is on this machine, if it is.
    path: Option<PathBuf>,
}

impl Source {
    /// A Dockerfile that was read.
    ///
    /// # Errors
    /// If it is not text.
    pub(crate) fn new(name: &str, bytes: Vec<u8>) -> Result<Self, Failure> {
        let text = String::from_utf8(bytes).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            Failure::error(format!("failed to read dockerfile: {name} is not UTF-8: byte {at}"))
        })?;
        Ok(Self { name: name.to_owned(), text, path: None })
    }
}

/// Makes sure that all directories which `request` names are there.
///
/// # Errors
/// If one is not.
pub(crate) fn check_contexts(request: &BuildRequest) -> Result<(), Failure> {
    if let ContextSource::Directory(path) = &request.context {
        check_context("context", path)?;
    }
    for (name, path) in &request.named.directories {
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

/// Reads a Dockerfile that is on this machine: of a context that is a directory, or standard
/// input. Waiting for that ends with `cancel`.
///
/// # Errors
/// If it is elsewhere, cannot be read or is not what it should be.
pub(crate) fn read(request: &BuildRequest, cancel: &CancelToken) -> Result<Source, Failure> {
    match (&request.context, &request.dockerfile) {
        (_, DockerfileSource::Stdin) => read_stdin(cancel),
        (ContextSource::Stdin, DockerfileSource::Default) => read_stdin(cancel),
        (ContextSource::Directory(dir), DockerfileSource::File(path)) => {
            let there = !path.exists() && path.is_relative() && dir.join(path).is_file();
            read_path(path).map_err(|failure| match there {
                true => failure.hint(RELATIVE),
                false => failure,
            })
        }
        (ContextSource::Directory(dir), DockerfileSource::Default) => read_default(dir),
        _ => Err(Failure::error(
            "the Dockerfile is not on this machine: that needs a context that is a directory",
        )),
    }
}

/// Reads the Dockerfile on standard input.
///
/// # Errors
/// If it cannot be read, is an archive or no text.
pub(crate) fn read_stdin(cancel: &CancelToken) -> Result<Source, Failure> {
    let bytes = read_bounded(Stdin::new(cancel)).map_err(|e| {
        Failure::error(format!("failed to read dockerfile: read standard input: {e}"))
    })?;
    if looks_like_archive(&bytes) {
        return Err(Failure::error(
            "failed to read dockerfile: standard input is an archive (give - as the context, \
             without -f -, to build from it)",
        ));
    }
    Source::new(DOCKERFILE, bytes)
}

/// Reads the Dockerfile at `path` of this machine; `dockerfile` where `Dockerfile` is missing.
///
/// # Errors
/// If it cannot be read or is no text.
pub(crate) fn read_path(path: &Path) -> Result<Source, Failure> {
    let fail = |path: &Path, error: &io::Error| {
        let path = path.display();
        Failure::error(format!("failed to read dockerfile: open {path}: {error}"))
    };
    let (path, bytes) = match read_file(path) {
        Ok(bytes) => (path.to_owned(), bytes),
        Err(error) => {
            let missing = error.kind() == io::ErrorKind::NotFound;
            let lower = lower_case(path).filter(|_| missing);
            // What is told is that the file which was named is missing.
            match lower.map(|lower| (read_file(&lower), lower)) {
                Some((Ok(bytes), lower)) => (lower, bytes),
                Some((Err(e), lower)) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(fail(&lower, &e));
                }
                _ => return Err(fail(path, &error)),
            }
        }
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(Source { path: Some(path.clone()), ..Source::new(&name, bytes)? })
}

/// The other name of a file that is called `Dockerfile`.
pub(crate) fn lower_case(path: &Path) -> Option<PathBuf> {
    let default = path.file_name() == Some(DOCKERFILE.as_ref());
    default.then(|| path.with_file_name(DOCKERFILE.to_lowercase()))
}

/// There is neither `Dockerfile` nor `dockerfile` in a context.
pub(crate) fn no_dockerfile(context: &str) -> Failure {
    Failure::error(format!(
        "failed to read dockerfile: there is no Dockerfile in {context} (-f FILE names another one)"
    ))
}

fn read_default(dir: &Path) -> Result<Source, Failure> {
    let path = dir.join(DOCKERFILE);
    let missing = |path: &Path| {
        fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    if missing(&path) && lower_case(&path).is_none_or(|lower| missing(&lower)) {
        return Err(no_dockerfile(&dir.display().to_string()));
    }
    read_path(&path)
}

/// Reads the ignore files of all contexts into `request`.
///
/// # Errors
/// If one cannot be read or makes no sense.
pub(crate) fn read_ignores(request: &mut BuildRequest, source: &Source) -> Result<(), Failure> {
    if let ContextSource::Directory(dir) = &request.context {
        request.lower.ignore = read_ignore(dir, source.path.as_deref())?.list;
    }
    for (name, dir) in &request.named.directories {
        let ignore = read_ignore(dir, None)?.list;
        request.lower.context_ignores.insert(name.clone(), ignore);
    }
    Ok(())
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    read_bounded(fs::File::open(path)?)
}

/// All of `reader`, if it is no more than a Dockerfile may have.
pub(crate) fn read_bounded(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("it is larger than {} MiB", MAX_FILE >> 20)));
    }
    Ok(bytes)
}

/// Whether a file that begins with `bytes` is an archive, or something that is compressed.
pub(crate) fn looks_like_archive(bytes: &[u8]) -> bool {
    oci::layer::is_tar(bytes) || oci::layer::detect(bytes) != oci::layer::Compression::None
}

/// `NAME.dockerignore` beside the Dockerfile replaces the context's `.dockerignore`.
///
/// # Errors
/// If it cannot be read or makes no sense.
pub(crate) fn read_ignore(dir: &Path, dockerfile: Option<&Path>) -> Result<IgnoreFile, Failure> {
    let own = dockerfile.map(|path| {
        let name = path.file_name().unwrap_or_default();
        // `dockerfile` stands in for `Dockerfile`, whose ignore file keeps its name (BuildKit).
        let default = (name == DOCKERFILE.to_lowercase().as_str()).then(|| DOCKERFILE.as_ref());
        let with_end = |name: &OsStr| {
            let mut name = name.to_owned();
            name.push(IGNORE);
            path.with_file_name(name)
        };
        [Some(name), default].into_iter().flatten().map(with_end).collect::<Vec<_>>()
    });
    for path in own.into_iter().flatten().chain([dir.join(IGNORE)]) {
        match read_file(&path) {
            Ok(bytes) => return IgnoreFile::new(&path, bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Failure::error(format!("cannot read {}: {error}", path.display())));
            }
        }
    }
    Ok(IgnoreFile::default())
}

/// An ignore file; an empty one where there is none.
#[derive(Default)]
pub(crate) struct IgnoreFile {
    /// Its rules, with its name.
    pub(crate) list: IgnoreList,
    /// Its lines, as they stand there.
    pub(crate) lines: Vec<String>,
}

impl IgnoreFile {
    fn new(path: &Path, bytes: Vec<u8>) -> Result<Self, Failure> {
        // A name of another encoding matches nothing, but does not spoil the others.
        let text = String::from_utf8_lossy(&bytes);
        let mut list =
            parse_ignore(&text).map_err(|e| Failure::error(format!("{}: {e}", path.display())))?;
        list.name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { list, lines: text.lines().map(str::to_owned).collect() })
    }
}
