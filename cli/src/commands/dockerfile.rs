//! Reading the Dockerfile and the ignore files: the only place where they are opened.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use frontend::parse_ignore;
use graph::pattern::IgnoreList;

use super::failure::Failure;
use crate::request::{BuildRequest, ContextSource, DockerfileSource};

/// The largest Dockerfile or ignore file that is read, in bytes.
const MAX_FILE: u64 = 64 << 20;
const DOCKERFILE: &str = "Dockerfile";
const IGNORE: &str = ".dockerignore";

/// A Dockerfile and the directory that it builds from.
pub(crate) struct Source {
    /// The Dockerfile's name, for people.
    pub(crate) name: String,
    /// Its text.
    pub(crate) text: String,
    /// The main context; none where there are no files.
    pub(crate) context: Option<PathBuf>,
}

/// Reads the Dockerfile that `request` names, and the ignore files into `request`.
///
/// # Errors
/// If a file cannot be read or is not what it should be.
pub(crate) fn read(request: &mut BuildRequest) -> Result<Source, Failure> {
    let context = match &request.context {
        ContextSource::Directory(path) => Some(check_context(path)?),
        ContextSource::Stdin => None,
    };
    let from_stdin =
        request.context == ContextSource::Stdin || request.dockerfile == DockerfileSource::Stdin;
    let (name, path, bytes) = match &request.dockerfile {
        _ if from_stdin => ("Dockerfile".to_owned(), None, read_stdin()?),
        DockerfileSource::File(path) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let bytes = read_file(path).map_err(|e| cannot_read(path, &e))?;
            (name, Some(path.clone()), bytes)
        }
        _ => {
            let dir = context.clone().unwrap_or_default();
            let (path, bytes) = read_default(&dir)?;
            (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), Some(path), bytes)
        }
    };
    if from_stdin && looks_like_archive(&bytes) {
        return Err(Failure::error(
            "not supported yet: a tar archive as context on standard input",
        ));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        Failure::error(format!("{name} is not UTF-8: byte {}", e.utf8_error().valid_up_to()))
    })?;
    if let Some(dir) = &context {
        request.lower.ignore = read_ignore(dir, path.as_deref())?;
    }
    for (name, dir) in &mut request.directories {
        *dir = check_context(dir)?;
        request.lower.context_ignores.insert(name.clone(), read_ignore(dir, None)?);
    }
    Ok(Source { name, text, context })
}

fn check_context(path: &Path) -> Result<PathBuf, Failure> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(path.to_owned()),
        Ok(_) => {
            Err(Failure::error(format!("the build context {} is not a directory", path.display())))
        }
        Err(error) => Err(Failure::error(format!(
            "cannot open the build context {}: {error}",
            path.display()
        ))),
    }
}

fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    Failure::error(format!("cannot read the Dockerfile {}: {error}", path.display()))
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
                Err(_) => Err(Failure::error(format!(
                    "there is no Dockerfile in {} (-f FILE names another one)",
                    dir.display()
                ))),
            }
        }
        Err(error) => Err(cannot_read(&path, &error)),
    }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    read_bounded(fs::File::open(path)?)
}

fn read_stdin() -> Result<Vec<u8>, Failure> {
    read_bounded(io::stdin().lock())
        .map_err(|e| Failure::error(format!("cannot read the Dockerfile from standard input: {e}")))
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
