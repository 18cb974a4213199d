//! A single file of the blob store as a source of copies.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use cache::{Held, State};
use oci::layer::{Entry, Metadata, Node, TreePath};
use oci::{Descriptor, Digest, Timestamp};
use solver::CancelToken;

use super::intake::{Intake, Stored};
use crate::copy::{Keep, SourceError, SourceTree, detect_archive};
use crate::engine::Engine;
use crate::error::WorkerError;

/// How much is read at once, in bytes.
const CHUNK: usize = 256 << 10;
/// The permissions of a file that came as a stream.
const STREAM_MODE: u32 = 0o644;
/// What a file is called whose name is none.
const NAMELESS: &str = "download";

/// A tree of one file, whose content is a blob. It stays as long as this lives.
pub struct FileTree {
    name: String,
    entry: Entry,
    blob: Descriptor,
    state: Arc<State>,
    /// Gets the blob again when it is gone; none if that is not possible.
    refill: Option<Box<dyn Refill>>,
    /// Only one thread gets it again.
    refilling: Mutex<()>,
    _held: Held,
}

/// Gets the content of a file once more.
pub(super) trait Refill: Send + Sync {
    /// Puts the blob into the store.
    ///
    /// # Errors
    /// If it cannot be had, or is not the same any more.
    fn refill(&self, state: &State, digest: &Digest) -> Result<Stored, WorkerError>;
}

/// What a file is besides its content.
pub(super) struct Inscription {
    pub(super) name: String,
    pub(super) mode: u32,
    pub(super) mtime: Timestamp,
}

impl FileTree {
    /// The file `stored`, whose blob need not be there if there is a way to get it.
    pub(super) fn new(
        state: Arc<State>,
        inscription: Inscription,
        stored: Stored,
        refill: Option<Box<dyn Refill>>,
    ) -> Self {
        let Stored { digest, content, size, held } = stored;
        let path = component(&inscription.name);
        let meta =
            Metadata { mode: inscription.mode, mtime: inscription.mtime, ..Metadata::default() };
        Self {
            name: String::from_utf8_lossy(path.as_bytes()).into_owned(),
            entry: Entry { path, node: Node::File { size, content }, meta },
            blob: Descriptor::new("", digest, size),
            state,
            refill,
            refilling: Mutex::new(()),
            _held: held,
        }
    }

    /// The name of the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The digest of its content.
    pub fn digest(&self) -> &Digest {
        &self.blob.digest
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.blob.size
    }

    /// Whether its content is a tar archive, plain or compressed.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn is_archive(&self) -> Result<bool, WorkerError> {
        let mut file = self.content()?;
        let found = detect_archive(&mut file).map_err(|source| self.unreadable(source))?;
        Ok(found.is_some())
    }

    /// Its content, if it is not longer than `limit` bytes.
    ///
    /// # Errors
    /// If it cannot be read or is longer.
    pub fn read(&self, limit: u64) -> Result<Vec<u8>, WorkerError> {
        if self.blob.size > limit {
            return Err(WorkerError::FileTooLarge {
                name: self.name.clone(),
                size: self.blob.size,
                limit,
            });
        }
        let mut bytes = Vec::new();
        let read = self.content()?.take(limit).read_to_end(&mut bytes);
        read.map_err(|source| self.unreadable(source))?;
        Ok(bytes)
    }

    /// Opens the blob; gets it again if it is gone.
    fn content(&self) -> Result<File, WorkerError> {
        let blobs = self.state.blobs();
        if let Some(file) = blobs.open_sized(&self.blob)? {
            return Ok(file);
        }
        let gone = || WorkerError::FileGone { name: self.name.clone() };
        let refill = self.refill.as_ref().ok_or_else(gone)?;
        let _alone = self.refilling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = blobs.open_sized(&self.blob)? {
            return Ok(file);
        }
        refill.refill(&self.state, &self.blob.digest)?;
        blobs.open_sized(&self.blob)?.ok_or_else(gone)
    }

    fn unreadable(&self, source: io::Error) -> WorkerError {
        WorkerError::ReadFile { name: self.name.clone(), source }
    }
}

/// `name` as one component of a path.
fn component(name: &str) -> TreePath {
    let single = |text: &str| TreePath::new(text.as_bytes()).ok().filter(|p| !p.is_root());
    let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    single(last).or_else(|| single(NAMELESS)).unwrap_or_default()
}

impl Engine {
    /// Puts what `reader` gives into the blob store, as a file called `name`: its owner is root,
    /// its mode 0644, its time the epoch. Nothing stays in the store if it fails.
    ///
    /// # Errors
    /// If it cannot be read or stored, or `cancel` was set.
    pub fn store_file(
        &self,
        name: &str,
        reader: &mut dyn Read,
        cancel: &CancelToken,
    ) -> Result<Arc<FileTree>, WorkerError> {
        let mut intake = Intake::new(self)?;
        let mut buffer = vec![0; CHUNK];
        loop {
            if cancel.is_cancelled() {
                return Err(WorkerError::Cancelled);
            }
            let got = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(got) => got,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(WorkerError::ReadFile { name: name.to_owned(), source });
                }
            };
            intake
                .write_all(&buffer[..got])
                .map_err(|source| WorkerError::StoreFile { name: name.to_owned(), source })?;
        }
        let stored = intake.finish(&self.state)?;
        let mtime = Timestamp::EPOCH;
        let inscription = Inscription { name: name.to_owned(), mode: STREAM_MODE, mtime };
        Ok(Arc::new(FileTree::new(self.state.clone(), inscription, stored, None)))
    }
}

impl SourceTree for FileTree {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, SourceError> {
        Ok((*path == self.entry.path).then(|| self.entry.clone()))
    }

    fn list(&self, path: &TreePath) -> Result<Vec<Entry>, SourceError> {
        Ok(if path.is_root() { vec![self.entry.clone()] } else { Vec::new() })
    }

    fn walk(
        &self,
        path: &TreePath,
        keep: &(dyn Fn(&TreePath, bool) -> Keep + Sync),
    ) -> Result<Vec<Entry>, SourceError> {
        let kept = path.is_root() && keep(&self.entry.path, false) == Keep::Yes;
        Ok(if kept { vec![self.entry.clone()] } else { Vec::new() })
    }

    fn hashed(&self, entry: Entry) -> Result<Entry, SourceError> {
        // It is known since the file was stored.
        Ok(entry)
    }

    fn open(&self, path: &TreePath) -> Result<File, SourceError> {
        if *path != self.entry.path {
            return Err(SourceError::read(path, io::Error::from(io::ErrorKind::NotFound)));
        }
        self.content().map_err(|error| SourceError::read(path, error))
    }

    fn has_owners(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::{Kind, Request, select};
    use crate::testing::engine;
    use oci::layer::ContentHash;

    struct Torn(usize);

    impl Read for Torn {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::Error::other("torn"));
            }
            self.0 -= 1;
            buffer.fill(1);
            Ok(buffer.len())
        }
    }

    fn store(engine: &Engine, name: &str, mut data: &[u8]) -> Arc<FileTree> {
        engine.store_file(name, &mut data, &CancelToken::new()).unwrap()
    }

    #[test]
    fn a_stream_becomes_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let engine = engine(dir.path());
        let file = store(&engine, "a/Dockerfile", b"FROM scratch\n");
        assert_eq!((file.name(), file.size()), ("Dockerfile", 13));
        assert_eq!(file.read(13).unwrap(), b"FROM scratch\n");
        assert!(file.read(12).unwrap_err().to_string().contains("larger than"));
        assert!(!file.is_archive().unwrap());
        for paths in [["*".to_owned()], ["Dockerfile".to_owned()], ["/Dockerfile".to_owned()]] {
            let request = Request { paths: &paths, exclude: &[], parents: false, tree: "it" };
            let selected = select(&*file, &request).unwrap();
            let [one] = &selected[..] else { panic!("{selected:?}") };
            assert_eq!(one.name.as_bytes(), b"Dockerfile");
            let Kind::Single(entry) = &one.kind else { panic!("{selected:?}") };
            let hash = ContentHash(*blake3::hash(b"FROM scratch\n").as_bytes());
            assert_eq!(entry.node, Node::File { size: 13, content: hash });
            let meta = &entry.meta;
            assert_eq!((meta.mode, meta.uid, meta.mtime), (0o644, 0, Timestamp::EPOCH));
        }
        assert_eq!(store(&engine, "..", b"").name(), NAMELESS);
    }

    #[test]
    fn archives_are_told_by_their_content() {
        let dir = tempfile::tempdir().unwrap();
        let engine = engine(dir.path());
        let tar = crate::testing::tar(&[("a", b"1")]);
        assert!(store(&engine, "f", &tar).is_archive().unwrap());
        assert!(!store(&engine, "f.tar", b"").is_archive().unwrap());
        assert!(!store(&engine, "f.gz", &[0x1f, 0x8b, 8, 0, 0]).is_archive().unwrap());
    }

    #[test]
    fn a_failure_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let engine = engine(dir.path());
        let error = engine.store_file("context", &mut Torn(3), &CancelToken::new()).err().unwrap();
        assert_eq!(error.to_string(), "cannot read context: torn");
        let cancel = CancelToken::new();
        cancel.cancel();
        let error = engine.store_file("context", &mut Torn(3), &cancel).err().unwrap();
        assert!(matches!(error, WorkerError::Cancelled));
        assert!(engine.state.blobs().list().unwrap().is_empty());
        assert_eq!(std::fs::read_dir(engine.state.inflight_dir()).unwrap().count(), 0);
    }

    #[test]
    fn it_stays_while_it_is_used_and_says_when_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let engine = engine(dir.path());
        let file = store(&engine, "context", b"data");
        let held = engine.state.held(cache::Holding::Blob).unwrap();
        assert!(held.contains(&file.digest().to_string()));
        engine.state.blobs().remove(file.digest()).unwrap();
        let error = file.read(9).unwrap_err().to_string();
        assert_eq!(error, "context is no longer in the cache; run the build again");
        assert!(SourceTree::open(&*file, &TreePath::new(b"context").unwrap()).is_err());
        drop(file);
        assert!(engine.state.held(cache::Holding::Blob).unwrap().is_empty());
    }
}
