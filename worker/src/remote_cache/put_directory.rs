//! A cache in a directory: an OCI layout that holds nothing half.
//!
//! Each file is written under another name, synced and renamed; `index.json` comes last. Who
//! writes holds a lock on the directory itself, so of two exports at the same time one waits: each
//! finds the other's entries in the index. Readers take no lock: what an index names was there
//! when it was written, and stays, unless somebody asks for a reset.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use exporter::Report;
use oci::layout::{INDEX, OCI_LAYOUT, OCI_LAYOUT_JSON, REF_NAME, blob_path};
use oci::manifest::MAX_MANIFEST;
use oci::{Descriptor, Digest, ImageIndex, ImageManifest, Reference};
use rustix::fs::FlockOperation;

use super::export::{CacheExportError, Put};

/// How often somebody who waits for the lock looks again.
const POLL: Duration = Duration::from_millis(10);
/// The beginning of the names of files that are not complete.
const TEMPORARY: &str = ".tmp-";

/// A directory that is being written.
pub(super) struct Directory<'a> {
    path: &'a Path,
    tag: &'a str,
    reset: bool,
    _lock: File,
}

fn failed(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> CacheExportError {
    let path = path.to_owned();
    move |source| CacheExportError::File { operation, path: path.clone(), source }
}

impl<'a> Directory<'a> {
    /// Makes the directory, if need be, and waits until nobody else writes it.
    pub(super) fn open(
        path: &'a Path,
        tag: &'a str,
        reset: bool,
        report: &dyn Report,
    ) -> Result<Self, CacheExportError> {
        let blobs = path.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(failed("create", &blobs))?;
        let lock = File::open(path).map_err(failed("open", path))?;
        loop {
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) if report.cancelled() => {
                    return Err(CacheExportError::Cancelled);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(POLL),
                Err(errno) => return Err(failed("lock", path)(errno.into())),
            }
        }
        Ok(Self { path, tag, reset, _lock: lock })
    }

    /// The index that is there. One that cannot be read names nothing that could be kept.
    fn index(&self) -> ImageIndex {
        let read = || -> Option<ImageIndex> {
            serde_json::from_slice(&read_document(&self.path.join(INDEX)).ok()?).ok()
        };
        read().unwrap_or_else(|| ImageIndex::new(Vec::new()))
    }

    /// The index with the manifest under the tag.
    fn with(&self, manifest: &Descriptor) -> ImageIndex {
        let mut named = manifest.clone();
        named.annotations.insert(REF_NAME.to_owned(), self.tag.to_owned());
        if self.reset {
            return ImageIndex::new(vec![named]);
        }
        let mut index = self.index();
        // An entry that is right stays where it is: then the index is the same.
        match index.manifests.iter_mut().find(|it| tag_of(it) == Some(self.tag)) {
            Some(there) => *there = named,
            None => index.manifests.push(named),
        }
        index
    }

    fn has_blob(&self, digest: &Digest, size: u64) -> bool {
        let path = self.path.join(blob_path(digest));
        fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == size)
    }

    /// Writes `name` whole; a file that is the same is left alone.
    fn write(&self, name: &str, content: &mut dyn Read, size: u64) -> Result<(), CacheExportError> {
        let path = self.path.join(name);
        let dir = path.parent().unwrap_or(self.path);
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = dir.join(format!("{TEMPORARY}{file_name}-{}", std::process::id()));
        let written = (|| {
            let mut file = File::create(&temporary).map_err(failed("create", &temporary))?;
            let copied = io::copy(content, &mut file).map_err(failed("write", &path))?;
            if copied != size {
                let text = format!("it has {copied} bytes instead of {size}");
                return Err(failed("write", &path)(io::Error::other(text)));
            }
            file.flush().and_then(|()| file.sync_all()).map_err(failed("sync", &path))?;
            fs::rename(&temporary, &path).map_err(failed("write", &path))?;
            sync_directory(dir)
        })();
        if written.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Removes every blob that the index does not need, and what killed exports left.
    fn sweep(&self, index: &ImageIndex) -> Result<(), CacheExportError> {
        let mut needed: BTreeSet<String> = BTreeSet::new();
        for entry in &index.manifests {
            needed.insert(entry.digest.hex().to_string());
            let path = self.path.join(blob_path(&entry.digest));
            let bytes = read_document(&path).map_err(failed("read", &path))?;
            let manifest: ImageManifest =
                serde_json::from_slice(&bytes).map_err(|e| failed("read", &path)(e.into()))?;
            let blobs = manifest.layers.iter().chain([&manifest.config]);
            needed.extend(blobs.map(|blob| blob.digest.hex().to_string()));
        }
        let dir = self.path.join("blobs/sha256");
        for entry in fs::read_dir(&dir).map_err(failed("list", &dir))?.flatten() {
            let path: PathBuf = entry.path();
            if !needed.contains(entry.file_name().to_string_lossy().as_ref()) {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }
}

fn tag_of(descriptor: &Descriptor) -> Option<&str> {
    descriptor.annotations.get(REF_NAME).map(String::as_str)
}

/// A small file. The directory is somebody's: what is no file there, such as a pipe that nobody
/// writes to, is not waited for.
fn read_document(path: &Path) -> io::Result<Vec<u8>> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_MANIFEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_MANIFEST {
        return Err(io::Error::other(format!("it has more than {MAX_MANIFEST} bytes")));
    }
    Ok(bytes)
}

fn sync_directory(dir: &Path) -> Result<(), CacheExportError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", dir))
}

impl Put for Directory<'_> {
    fn has(&self, manifest: &Descriptor) -> bool {
        // Each blob is looked at: somebody may have cleared up by hand.
        let there = || -> Option<bool> {
            let path = self.path.join(blob_path(&manifest.digest));
            let bytes = read_document(&path).ok();
            let bytes = bytes.filter(|it| Digest::of(it) == manifest.digest)?;
            let document: ImageManifest = serde_json::from_slice(&bytes).ok()?;
            let mut blobs = document.layers.iter().chain([&document.config]);
            let whole = blobs.all(|blob| self.has_blob(&blob.digest, blob.size));
            let marked = self.path.join(OCI_LAYOUT).is_file();
            Some(whole && marked && self.with(manifest) == self.index())
        };
        there().unwrap_or(false)
    }

    fn blob(
        &self,
        blob: &Descriptor,
        suspect: bool,
        _from: Option<&Reference>,
        open: &(dyn Fn() -> io::Result<Box<dyn Read + Send>> + Sync),
        report: &dyn Report,
    ) -> Result<(), CacheExportError> {
        let part = format!("writing layer {}", blob.digest);
        if suspect || !self.has_blob(&blob.digest, blob.size) {
            let name = blob_path(&blob.digest);
            let mut content = open().map_err(failed("write", &self.path.join(&name)))?;
            self.write(&name, &mut content, blob.size)?;
        }
        report.done(&part);
        Ok(())
    }

    fn finish(&self, manifest: &Descriptor, bytes: &[u8]) -> Result<(), CacheExportError> {
        let name = blob_path(&manifest.digest);
        self.write(&name, &mut &bytes[..], bytes.len() as u64)?;
        let marker = OCI_LAYOUT_JSON.as_bytes();
        if read_document(&self.path.join(OCI_LAYOUT)).ok().as_deref() != Some(marker) {
            self.write(OCI_LAYOUT, &mut &marker[..], marker.len() as u64)?;
        }
        let index = self.with(manifest);
        let json = index.to_json();
        self.write(INDEX, &mut &json[..], json.len() as u64)?;
        if self.reset { self.sweep(&index) } else { Ok(()) }
    }
}
