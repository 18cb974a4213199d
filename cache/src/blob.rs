//! Blobs: bytes that OCI names by their SHA-256 digest.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use oci::{Descriptor, Digest, Hasher};

use crate::ceiling::{Growth, What};
use crate::durable;
use crate::error::{At, CacheError};
use crate::lock::{self, Mode};
use crate::store::Store;

const BUFFER: usize = 1 << 17;

/// The blobs of a state directory, each a file named after its digest.
pub struct BlobStore {
    dir: PathBuf,
    inflight: PathBuf,
    store: Arc<Store>,
}

/// A blob in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlob {
    /// Its digest.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// When it was stored.
    pub stored: SystemTime,
}

impl BlobStore {
    pub(crate) fn new(root: &Path, store: Arc<Store>) -> Self {
        Self { dir: root.join("blobs-v1/sha256"), inflight: root.join("inflight"), store }
    }

    /// Where the blob is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    /// Whether the blob is there.
    pub fn exists(&self, digest: &Digest) -> bool {
        self.size(digest).is_some()
    }

    /// Its size in bytes, if it is there. A file that a power loss left empty is not.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        let size = fs::metadata(self.path(digest)).ok()?.len();
        (size > 0 || *digest == Digest::of(b"")).then_some(size)
    }

    /// Whether the blob is there with the size that `descriptor` says.
    pub fn has(&self, descriptor: &Descriptor) -> bool {
        self.size(&descriptor.digest) == Some(descriptor.size)
    }

    /// Opens the blob; none if it is not there.
    ///
    /// # Errors
    /// If it is there and cannot be opened.
    pub fn open(&self, digest: &Digest) -> Result<Option<File>, CacheError> {
        let path = self.path(digest);
        let file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.at("open", &path)?,
        };
        let size = file.metadata().at("open", &path)?.len();
        Ok((size > 0 || *digest == Digest::of(b"")).then_some(file))
    }

    /// Opens the blob if it has the size that `descriptor` says: one that has not is not there.
    ///
    /// # Errors
    /// If it is there and cannot be opened.
    pub fn open_sized(&self, descriptor: &Descriptor) -> Result<Option<File>, CacheError> {
        let Some(file) = self.open(&descriptor.digest)? else { return Ok(None) };
        let size = file.metadata().at("open", &self.path(&descriptor.digest))?.len();
        Ok((size == descriptor.size).then_some(file))
    }

    /// Opens the blob as [`open_sized`](Self::open_sized) does, for a reader that passes its bytes
    /// on: a wrong byte shows as an error when the end is reached, and the damaged blob is
    /// removed, so that it is made or fetched again.
    ///
    /// # Errors
    /// If it is there and cannot be opened.
    pub fn open_verified(
        &self,
        descriptor: &Descriptor,
    ) -> Result<Option<VerifiedBlob>, CacheError> {
        let path = self.path(&descriptor.digest);
        let (digest, hasher) = (descriptor.digest, Some(Hasher::new()));
        let file = self.open_sized(descriptor)?;
        let store = self.store.clone();
        Ok(file.map(|file| VerifiedBlob { file, path, digest, hasher, store }))
    }

    /// The bytes of a small blob (a manifest, a config), verified. None if it is not there, is
    /// damaged or is larger than `limit`.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>, CacheError> {
        let Some(file) = self.open(digest)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let limited = file.take(limit.saturating_add(1)).read_to_end(&mut bytes);
        limited.at("read", &self.path(digest))?;
        let good = bytes.len() as u64 <= limit && Digest::of(&bytes) == *digest;
        if !good {
            self.tell_damaged(digest);
        }
        Ok(good.then_some(bytes))
    }

    /// Stores bytes at hand.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn put(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, CacheError> {
        let descriptor = Descriptor::of(media_type, bytes);
        // One that was damaged since is written again.
        if !self.has(&descriptor) || self.read(&descriptor.digest, descriptor.size)?.is_none() {
            let path = self.path(&descriptor.digest);
            durable::write_file(&path, bytes, durable::Durability::Grouped)?;
            self.store.syncer.wrote();
        }
        Ok(descriptor)
    }

    /// Starts or resumes a blob that is known beforehand. If another process is writing the same
    /// one, this is a separate copy: the first to commit wins, and both are equal.
    ///
    /// # Errors
    /// If its file cannot be made, or what is there already cannot be read.
    pub fn writer(&self, expected: &Descriptor) -> Result<BlobWriter, CacheError> {
        let shared = self.inflight.join(format!("blob-{}", expected.digest.hex()));
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&shared)
            .at("open", &shared)?;
        let ours = lock::try_lock(&file, Mode::Exclusive).at("lock", &shared)?
            && lock::is_same_file(&file, &shared);
        if !ours {
            return self.create();
        }
        let mut writer = self.writer_of(shared, file, true);
        writer.catch_up(expected.size)?;
        let more = expected.size.saturating_sub(writer.position());
        let name = format!("blob {}", expected.digest.short());
        writer.growth = self.grow(&name, &writer.path, Some(more))?;
        Ok(writer)
    }

    /// Starts a blob whose digest will be known when it is written.
    ///
    /// # Errors
    /// If its file cannot be made.
    pub fn create(&self) -> Result<BlobWriter, CacheError> {
        let (path, file) = durable::create_beside(&self.inflight.join("blob"))?;
        let mut writer = self.writer_of(path, file, false);
        writer.growth = self.grow("a new blob", &writer.path, None)?;
        Ok(writer)
    }

    fn writer_of(&self, path: PathBuf, file: File, resumable: bool) -> BlobWriter {
        let dir = self.dir.clone();
        let store = self.store.clone();
        let (hasher, growth) = (Hasher::new(), None);
        BlobWriter { path, file, hasher, resumable, committed: false, dir, store, growth }
    }

    /// Reserves room below the ceiling, if there is one.
    fn grow(
        &self,
        name: &str,
        path: &Path,
        expected: Option<u64>,
    ) -> Result<Option<Growth>, CacheError> {
        let Some(ceiling) = self.store.ceiling.get() else { return Ok(None) };
        let what = What { name, paths: vec![path.to_owned()], expected, hasty: false };
        Ok(Some(ceiling.grow(what, &|| false)?))
    }

    /// Removes the blob. One that is not there is fine.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self, digest: &Digest) -> Result<(), CacheError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.at("remove", &path),
        }
    }

    /// Reads the whole blob and tells whether it is there and is what its name says.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn verify(&self, digest: &Digest) -> Result<bool, CacheError> {
        let Some(mut file) = self.open(digest)? else { return Ok(false) };
        let mut hasher = Hasher::new();
        hash_rest(&mut file, &mut hasher, u64::MAX).at("read", &self.path(digest))?;
        Ok(hasher.finish() == *digest)
    }

    /// Removes the blob if it is not what its name says, and tells. Whether it was removed.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn drop_if_damaged(&self, blob: &Descriptor) -> Result<bool, CacheError> {
        let there = self.path(&blob.digest).exists();
        // What the disk cannot give back is damaged as well.
        if !there || self.has(blob) && self.verify(&blob.digest).unwrap_or(false) {
            return Ok(false);
        }
        self.tell_damaged(&blob.digest);
        self.remove(&blob.digest)?;
        Ok(true)
    }

    /// Reads the whole blob; one that is not what its name says is removed, and told. Whether it
    /// is good, or not there.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn check(&self, digest: &Digest) -> Result<bool, CacheError> {
        if !self.path(digest).exists() || self.verify(digest).unwrap_or(false) {
            return Ok(true);
        }
        self.tell_damaged(digest);
        self.remove(digest)?;
        Ok(false)
    }

    fn tell_damaged(&self, digest: &Digest) {
        let text = format!("{} is damaged and not used", self.path(digest).display());
        self.store.warnings.add_damage(text);
    }

    /// Every blob, in the order of the digests.
    ///
    /// # Errors
    /// If the directory cannot be listed.
    pub fn list(&self) -> Result<Vec<StoredBlob>, CacheError> {
        let mut blobs = Vec::new();
        for entry in fs::read_dir(&self.dir).at("list", &self.dir)?.flatten() {
            let name = format!("sha256:{}", entry.file_name().to_string_lossy());
            let (Ok(digest), Ok(meta)) = (name.parse(), entry.metadata()) else { continue };
            let stored = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            blobs.push(StoredBlob { digest, size: meta.len(), stored });
        }
        blobs.sort_by_key(|b| b.digest);
        Ok(blobs)
    }

    /// Removes parts of blobs that nobody is writing and nobody touched for a day.
    pub(crate) fn sweep(&self) {
        const STALE: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
        durable::sweep_abandoned(&self.inflight);
        let Ok(entries) = fs::read_dir(&self.inflight) else { return };
        for entry in entries.flatten() {
            let Ok(file) = File::open(entry.path()) else { continue };
            let age = file.metadata().and_then(|m| m.modified()).ok();
            let old = age.and_then(|t| SystemTime::now().duration_since(t).ok());
            if old > Some(STALE) && lock::try_lock(&file, Mode::Exclusive) == Ok(true) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// A blob that is verified while it is read from its start to its end.
pub struct VerifiedBlob {
    file: File,
    path: PathBuf,
    digest: Digest,
    /// None when the end was reached.
    hasher: Option<Hasher>,
    store: Arc<Store>,
}

impl Read for VerifiedBlob {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buf)?;
        match &mut self.hasher {
            Some(hasher) if count > 0 => hasher.update(&buf[..count]),
            // An empty buffer is not the end.
            Some(_) if buf.is_empty() => {}
            hasher => {
                if hasher.take().is_some_and(|h| h.finish() != self.digest) {
                    if lock::is_same_file(&self.file, &self.path) {
                        let _ = fs::remove_file(&self.path);
                    }
                    let text = format!("{} is damaged and was removed", self.path.display());
                    self.store.warnings.add_damage(&*text);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
            }
        }
        Ok(count)
    }
}

/// A blob that is being written. Dropped without a commit, a blob known beforehand stays as a
/// part that the next writer resumes; another is removed.
pub struct BlobWriter {
    path: PathBuf,
    file: File,
    hasher: Hasher,
    resumable: bool,
    committed: bool,
    dir: PathBuf,
    store: Arc<Store>,
    /// What it has reserved below the ceiling.
    growth: Option<Growth>,
}

impl BlobWriter {
    /// How many bytes are there: where a resumed download goes on.
    pub fn position(&self) -> u64 {
        self.hasher.size()
    }

    /// The digest of the bytes that are there.
    pub fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// The bytes that are there, from the first.
    ///
    /// # Errors
    /// If the file cannot be opened again.
    pub fn existing(&self) -> Result<Box<dyn Read>, CacheError> {
        let file = File::open(&self.path).at("open", &self.path)?;
        Ok(Box::new(file.take(self.position())))
    }

    /// Throws the bytes away: the source sends them from the start again.
    ///
    /// # Errors
    /// If the file cannot be cut.
    pub fn restart(&mut self) -> Result<(), CacheError> {
        self.hasher = Hasher::new();
        self.file.set_len(0).at("cut", &self.path)?;
        io::Seek::rewind(&mut self.file).at("cut", &self.path)
    }

    /// Puts the blob into the store if it is what `expected` says; else its bytes are thrown away.
    ///
    /// # Errors
    /// [`CacheError::BlobMismatch`] if it is not; or if it cannot be stored.
    pub fn commit(mut self, expected: &Descriptor) -> Result<(), CacheError> {
        let size = self.hasher.size();
        let digest = std::mem::take(&mut self.hasher).finish();
        if digest != expected.digest || size != expected.size {
            self.resumable = false;
            let found = format!("{size} bytes of {digest}, instead of {} bytes", expected.size);
            return Err(CacheError::BlobMismatch { expected: expected.digest, found });
        }
        self.publish(&digest)
    }

    /// Puts the blob into the store, whatever it is.
    ///
    /// # Errors
    /// If it cannot be stored.
    pub fn finish(mut self, media_type: &str) -> Result<Descriptor, CacheError> {
        let size = self.hasher.size();
        let digest = std::mem::take(&mut self.hasher).finish();
        self.publish(&digest)?;
        Ok(Descriptor::new(media_type, digest, size))
    }

    fn publish(&mut self, digest: &Digest) -> Result<(), CacheError> {
        let target = self.dir.join(digest.hex());
        fs::rename(&self.path, &target).at("store", &target)?;
        self.committed = true;
        self.store.syncer.wrote();
        Ok(())
    }

    /// Hashes what an earlier writer left. Bytes beyond `size` cannot be right.
    fn catch_up(&mut self, size: u64) -> Result<(), CacheError> {
        if self.file.metadata().at("read", &self.path)?.len() > size {
            return self.restart();
        }
        hash_rest(&mut self.file, &mut self.hasher, size).at("read", &self.path)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if let Some(growth) = &self.growth {
            growth.take(buf.len() as u64).map_err(io::Error::other)?;
        }
        let n = self.file.write(buf)?;
        self.hasher.update(&buf[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if !self.committed && (!self.resumable || self.hasher.size() == 0) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn hash_rest(file: &mut File, hasher: &mut Hasher, limit: u64) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut limited = file.take(limit);
    loop {
        match limited.read(&mut buffer)? {
            0 => return Ok(()),
            n => hasher.update(&buffer[..n]),
        }
    }
}
