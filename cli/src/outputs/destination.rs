//! Files that are there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Names that are tried for a temporary file.
const MAX_TRIES: u32 = 1000;
/// Bytes that are gathered before they are written.
const BUFFER: usize = 256 << 10;

/// Why a destination cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// There is a directory where a file should be.
    #[error("cannot write {0:?}: it is a directory")]
    IsDirectory(PathBuf),
    /// There is something else where a directory should be.
    #[error("cannot write into {0:?}: it is not a directory")]
    NotDirectory(PathBuf),
    /// An archive would go to a terminal.
    #[error(
        "refusing to write an archive to the terminal: give dest=FILE, or redirect standard output"
    )]
    Terminal,
    /// The file cannot be written or put in place.
    #[error("cannot {operation} {path:?}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

fn fail(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DestinationError {
    let path = path.to_owned();
    move |source| DestinationError::Io { operation, path, source }
}

/// A file in the making. It appears under its name when it is finished; dropped before that, it
/// leaves nothing. What is there already and is no regular file (a pipe, a device) is written to
/// directly.
pub struct OutputFile {
    writer: Option<BufWriter<File>>,
    /// The name that it will have.
    path: PathBuf,
    /// The name that it has, if that is another.
    temporary: Option<PathBuf>,
}

impl OutputFile {
    /// Starts a file, so that what stands in its way is found before the build.
    ///
    /// # Errors
    /// If it could not be put there.
    pub fn create(path: &Path) -> Result<Self, DestinationError> {
        // Where the name is a link, what it points to is replaced, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => return Err(DestinationError::IsDirectory(path)),
            Ok(found) if is_stream(&found) => {
                let file =
                    OpenOptions::new().write(true).open(&path).map_err(fail("open", &path))?;
                return Ok(Self { writer: Some(buffered(file)), path, temporary: None });
            }
            Ok(_) => {
                OpenOptions::new().write(true).open(&path).map_err(fail("write", &path))?;
            }
            Err(_) if path.file_name().is_none() => {
                return Err(DestinationError::IsDirectory(path));
            }
            Err(_) => {}
        }
        let (temporary, file) = temporary(&path)?;
        Ok(Self { writer: Some(buffered(file)), path, temporary: Some(temporary) })
    }

    /// Writes all of a small file and puts it in place.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn put(mut self, data: &[u8]) -> Result<(), DestinationError> {
        self.write_all(data).map_err(fail("write", &self.path))?;
        self.finish()
    }

    /// Ends the file and puts it in place.
    ///
    /// # Errors
    /// If the rest cannot be written or the file cannot get its name; then it is gone.
    pub fn finish(mut self) -> Result<(), DestinationError> {
        if let Some(writer) = self.writer.take() {
            writer.into_inner().map_err(|e| fail("write", &self.path)(e.into_error()))?;
        }
        if let Some(temporary) = &self.temporary {
            fs::rename(temporary, &self.path).map_err(fail("create", &self.path))?;
            self.temporary = None;
        }
        Ok(())
    }
}

impl Write for OutputFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.writer.as_mut().map_or(Ok(0), |w| w.write(data))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        // Without this the buffer would be written into a file that is about to go.
        if let Some(writer) = self.writer.take() {
            let _ = writer.into_parts();
        }
        if let Some(temporary) = &self.temporary {
            let _ = fs::remove_file(temporary);
        }
    }
}

fn is_stream(found: &fs::Metadata) -> bool {
    let kind = found.file_type();
    kind.is_fifo() || kind.is_char_device() || kind.is_block_device() || kind.is_socket()
}

fn buffered(file: File) -> BufWriter<File> {
    BufWriter::with_capacity(BUFFER, file)
}

/// A new file beside `path`, so that a rename puts it in place.
fn temporary(path: &Path) -> Result<(PathBuf, File), DestinationError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let short: String = name.chars().take(100).collect();
    let process = std::process::id();
    for n in 0..MAX_TRIES {
        let temporary = path.with_file_name(format!(".{short}.{process}-{n}.tmp"));
        match OpenOptions::new().write(true).create_new(true).mode(0o666).open(&temporary) {
            Ok(file) => return Ok((temporary, file)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(fail("create", path)(e)),
        }
    }
    Err(fail("create", path)(io::ErrorKind::AlreadyExists.into()))
}

/// Makes sure that files can be put into the directory `path`: it is one, or can be made. What
/// had to be made for that is taken away again.
///
/// # Errors
/// If it cannot.
pub fn check_directory(path: &Path) -> Result<(), DestinationError> {
    let mut existing = path;
    let missing = loop {
        match fs::metadata(existing) {
            Ok(found) if found.is_dir() => break existing != path,
            Ok(_) => return Err(DestinationError::NotDirectory(existing.to_owned())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(fail("open", existing)(e)),
        }
        existing = match existing.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
    };
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(existing, access)
        .map_err(|e| fail(if missing { "create" } else { "write into" }, path)(e.into()))
}

/// Removes a file that an earlier build wrote, so that after a failure nobody takes it for the
/// result.
///
/// # Errors
/// If it is there and cannot be removed.
pub fn remove_old(path: &Path) -> Result<(), DestinationError> {
    match fs::metadata(path) {
        Ok(found) if is_stream(&found) => return Ok(()),
        Ok(found) if found.is_dir() => return Err(DestinationError::IsDirectory(path.to_owned())),
        _ => {}
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(fail("remove", path)(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.tar");
        fs::write(&path, "old").unwrap();
        let mut file = OutputFile::create(&path).unwrap();
        file.write_all(&vec![7; 1 << 20]).unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["out.tar"]);
        let mut file = OutputFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(dir.path()), ["out.tar"]);
    }

    #[test]
    fn links_stay_and_streams_are_written_to() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("real"), "old").unwrap();
        symlink("real", dir.path().join("link")).unwrap();
        OutputFile::create(&dir.path().join("link")).unwrap().put(b"new").unwrap();
        assert_eq!(fs::read(dir.path().join("real")).unwrap(), b"new");
        assert!(fs::symlink_metadata(dir.path().join("link")).unwrap().is_symlink());
        OutputFile::create(Path::new("/dev/null")).unwrap().put(b"x").unwrap();
        remove_old(Path::new("/dev/null")).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn what_stands_in_the_way_is_told_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = |p: &str| dir.path().join(p);
        fs::write(path("file"), "").unwrap();
        assert!(matches!(OutputFile::create(dir.path()), Err(DestinationError::IsDirectory(_))));
        assert!(matches!(OutputFile::create(&path("no/x")), Err(DestinationError::Io { .. })));
        assert!(OutputFile::create(Path::new("..")).is_err());
        check_directory(&path("a/b/c")).unwrap();
        check_directory(dir.path()).unwrap();
        assert!(
            check_directory(&path("file/x")).is_err() && check_directory(&path("file")).is_err()
        );
        assert_eq!(names(dir.path()), ["file"]);
        remove_old(&path("nothing")).unwrap();
        remove_old(&path("file")).unwrap();
        assert!(remove_old(dir.path()).is_err());
    }
}
