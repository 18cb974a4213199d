//! Images: what a name stands for.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::{Descriptor, Digest, Platform, Timestamp};
use serde::{Deserialize, Serialize};

use crate::durable::{self, Durability};
use crate::error::{At, CacheError};
use crate::journal;
use crate::lock::{FileLock, Mode};
use crate::store::Store;
use crate::summed;

/// File names are at most 255 bytes on every file system of Linux; this leaves room.
const MAX_NAME: usize = 180;

/// An image as it is stored. Its identity is the digest of its config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredImage {
    /// The name it is stored under; none if the name went on to another image.
    pub reference: Option<String>,
    /// The config: its bytes are a blob.
    pub config: Descriptor,
    /// The snapshot of its whole tree; none until it was unpacked, or if it has no layers.
    pub snapshot: Option<String>,
    /// Its layers, the lowest first, as many as the config has diff ids.
    pub layers: Vec<StoredLayer>,
    /// The registry's name for it, where it (or the image that it was built on) was pulled: missing blobs
    /// are fetched from there, whatever it is called here.
    #[serde(default)]
    pub source: Option<String>,
    /// The manifest it was pulled by or pushed as, where there is one; its bytes are a blob.
    pub manifest: Option<Descriptor>,
    /// What it runs on.
    pub platform: Platform,
    /// When it was made, as its config says.
    pub created: Option<Timestamp>,
    /// The size of its layers in bytes: unpacked, or that of their blobs where they came with the
    /// image and were not unpacked.
    pub size: u64,
    /// When it was stored here.
    pub stored: Timestamp,
}

/// A layer of a stored image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredLayer {
    /// The digest of its uncompressed tar.
    pub diff_id: Digest,
    /// The snapshot that ends with this layer; none until it was unpacked.
    pub snapshot: Option<String>,
    /// The blob that the manifest of a registry or layout had for it: an export uses just that.
    pub blob: Option<Descriptor>,
}

impl StoredImage {
    /// The identity of the image: the digest of its config.
    pub fn id(&self) -> Digest {
        self.config.digest
    }

    /// Every blob that the image needs, where it is a blob.
    pub fn blobs(&self) -> impl Iterator<Item = Digest> {
        let layers = self.layers.iter().filter_map(|l| l.blob.as_ref());
        std::iter::once(&self.config).chain(&self.manifest).chain(layers).map(|d| d.digest)
    }

    /// Every snapshot that it names.
    pub fn snapshots(&self) -> impl Iterator<Item = &str> {
        let layers = self.layers.iter().filter_map(|l| l.snapshot.as_deref());
        self.snapshot.as_deref().into_iter().chain(layers)
    }
}

/// The images of a state directory: a JSON file per name, one per image that lost its name, and
/// one per digest that something was pulled by.
pub struct ImageStore {
    dir: PathBuf,
    lock: PathBuf,
    store: Arc<Store>,
}

impl ImageStore {
    pub(crate) fn new(root: &Path, store: Arc<Store>) -> Self {
        Self { dir: root.join("images-v1"), lock: root.join("locks/images"), store }
    }

    /// The image that `reference` (normalised: with its registry and tag) stands for. A damaged
    /// file is none.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn get(&self, reference: &str) -> Result<Option<StoredImage>, CacheError> {
        self.load(&self.dir.join(name_file(reference)))
    }

    /// The image that was pulled by `digest` (of a manifest, or of an index) for `platform`.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn by_digest(
        &self,
        digest: &Digest,
        platform: &Platform,
    ) -> Result<Option<StoredImage>, CacheError> {
        self.load(&self.dir.join(digest_file(digest, platform)))
    }

    /// Stores `image` under its reference. An image that had the name and no other keeps being
    /// there without one. When this returns, the image survives a loss of power.
    ///
    /// # Errors
    /// If the image has no reference, or cannot be written.
    pub fn put(&self, image: &StoredImage) -> Result<(), CacheError> {
        let Some(reference) = &image.reference else {
            return Err(CacheError::Identity(String::new()));
        };
        let _held = FileLock::acquire(&self.lock, Mode::Exclusive)?;
        self.replace(reference, image)
    }

    /// Gives an image that was found here another name, unless it was removed meanwhile. Whether
    /// it was still there.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn tag(&self, image: &StoredImage, reference: &str) -> Result<bool, CacheError> {
        let _held = FileLock::acquire(&self.lock, Mode::Exclusive)?;
        if !self.load_all()?.iter().any(|(_, there)| there.id() == image.id()) {
            return Ok(false);
        }
        let named = StoredImage { reference: Some(reference.to_owned()), ..image.clone() };
        self.replace(reference, &named).map(|()| true)
    }

    /// Under the lock: stores `image` as `reference`.
    fn replace(&self, reference: &str, image: &StoredImage) -> Result<(), CacheError> {
        let path = self.dir.join(name_file(reference));
        let before = self.load(&path)?;
        if before.as_ref().is_some_and(|b| same(b, image)) {
            return Ok(());
        }
        if let Some(before) = before.filter(|b| b.id() != image.id()) {
            let named = self.list()?.iter().any(|i| {
                i.id() == before.id() && i.reference.is_some() && i.reference != before.reference
            });
            if !named {
                let dangling = StoredImage { reference: None, ..before };
                self.write(&self.dir.join(dangling_file(&dangling.id())), &dangling)?;
            }
        }
        self.write(&path, image)?;
        remove_file(&self.dir.join(dangling_file(&image.id())))
    }

    /// Remembers that `digest` is `image` on its platform: it is never asked for again.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn remember(&self, digest: &Digest, image: &StoredImage) -> Result<(), CacheError> {
        let path = self.dir.join(digest_file(digest, &image.platform));
        let image = StoredImage { reference: None, ..image.clone() };
        if self.load(&path)?.is_some_and(|before| same(&before, &image)) {
            return Ok(());
        }
        self.write(&path, &image)
    }

    /// Takes the name away. Returns the image that had it. The caller asks
    /// [`list`](Self::list) whether it has others; without any it is gone.
    ///
    /// # Errors
    /// If the file cannot be read or removed.
    pub fn untag(&self, reference: &str) -> Result<Option<StoredImage>, CacheError> {
        let path = self.dir.join(name_file(reference));
        let _held = FileLock::acquire(&self.lock, Mode::Exclusive)?;
        let image = self.load(&path)?;
        remove_file(&path)?;
        Ok(image)
    }

    /// Removes the image with all its names and what is remembered of it. Returns the names.
    ///
    /// # Errors
    /// If the directory cannot be read or a file cannot be removed.
    pub fn remove(&self, id: &Digest) -> Result<Vec<String>, CacheError> {
        let _held = FileLock::acquire(&self.lock, Mode::Exclusive)?;
        let mut names = Vec::new();
        for (path, image) in self.load_all()? {
            if image.id() == *id {
                remove_file(&path)?;
                names.extend(image.reference);
            }
        }
        Ok(names)
    }

    /// Removes what is stored of an image that has no name. False if it has one (again).
    pub(crate) fn forget(&self, id: &Digest) -> Result<bool, CacheError> {
        let _held = FileLock::acquire(&self.lock, Mode::Exclusive)?;
        let mut files = self.load_all()?;
        files.retain(|(_, image)| image.id() == *id);
        if files.iter().any(|(_, image)| image.reference.is_some()) {
            return Ok(false);
        }
        files.iter().try_for_each(|(path, _)| remove_file(path))?;
        Ok(true)
    }

    /// Every name and every image without one, in the order of the names, those without last.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn list(&self) -> Result<Vec<StoredImage>, CacheError> {
        let all = self.load_all()?.into_iter();
        let mut images: Vec<_> =
            all.filter(|(path, _)| !is_digest_file(path)).map(|(_, i)| i).collect();
        images.sort_by_key(|i| (i.reference.is_none(), i.reference.clone(), i.id()));
        Ok(images)
    }

    /// What was pulled by digest, whether it has a name or not.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn remembered(&self) -> Result<Vec<StoredImage>, CacheError> {
        let all = self.load_all()?.into_iter();
        Ok(all.filter(|(path, _)| is_digest_file(path)).map(|(_, i)| i).collect())
    }

    /// The image whose identity begins with `prefix` (hex digits, with or without `sha256:`).
    ///
    /// # Errors
    /// If it fits several images, or the directory cannot be read.
    pub fn find(&self, prefix: &str) -> Result<Option<StoredImage>, CacheError> {
        let digits = prefix.strip_prefix("sha256:").unwrap_or(prefix);
        if digits.is_empty() {
            return Ok(None);
        }
        let mut found = BTreeMap::new();
        for image in self.list()? {
            if image.id().hex().starts_with(digits) {
                found.entry(image.id()).or_insert(image);
            }
        }
        match found.len() {
            0 | 1 => Ok(found.into_values().next()),
            count => Err(CacheError::AmbiguousImage { prefix: prefix.to_owned(), count }),
        }
    }

    fn write(&self, path: &Path, image: &StoredImage) -> Result<(), CacheError> {
        let encode = |source| CacheError::Encode { object: "an image", source };
        let text = serde_json::to_string_pretty(image).map_err(encode)?;
        let bytes = summed::seal(text).into_bytes();
        // What it names first, then the name. Also what other processes have just written: its
        // steps may be theirs.
        self.store.syncer.sync_always()?;
        self.store.syncer.counted(2);
        durable::write_file(path, &bytes, Durability::Now)
    }

    fn load(&self, path: &Path) -> Result<Option<StoredImage>, CacheError> {
        let Some(bytes) = journal::read_small(path)? else { return Ok(None) };
        let image = summed::open(&bytes);
        if image.is_none() {
            self.store.warnings.add_damage(format!("{} is damaged and not used", path.display()));
            // Nobody asks for those again, so nothing would replace them.
            if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("none-")) {
                let _ = fs::remove_file(path);
            }
        }
        Ok(image)
    }

    fn load_all(&self) -> Result<Vec<(PathBuf, StoredImage)>, CacheError> {
        let mut images = Vec::new();
        for entry in fs::read_dir(&self.dir).at("list", &self.dir)?.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "json")
                && let Some(image) = self.load(&path)?
            {
                images.push((path, image));
            }
        }
        Ok(images)
    }

    /// Removes temporary files that killed processes left, and what is damaged.
    pub(crate) fn sweep(&self) {
        durable::sweep_abandoned(&self.dir);
        let Ok(_held) = FileLock::acquire(&self.lock, Mode::Exclusive) else { return };
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let document = path.extension().is_some_and(|e| e == "json");
            if document && matches!(self.load(&path), Ok(None)) {
                let _ = fs::remove_file(&path);
            }
        }
    }
}

/// Equal but for when they were stored.
fn same(a: &StoredImage, b: &StoredImage) -> bool {
    StoredImage { stored: b.stored, ..a.clone() } == *b
}

fn remove_file(path: &Path) -> Result<(), CacheError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.at("remove", path),
    }
}

fn name_file(reference: &str) -> String {
    format!("name-{}.json", escape(reference))
}

fn dangling_file(id: &Digest) -> String {
    format!("none-{}.json", id.hex())
}

fn digest_file(digest: &Digest, platform: &Platform) -> String {
    format!("digest-{}-{}.json", digest.hex(), escape(&platform.to_string()))
}

fn is_digest_file(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("digest-"))
}

/// A file name that differs for different `text`: plain characters as they are, others as `%xx`,
/// the end of a long one as its digest.
fn escape(text: &str) -> String {
    let mut name = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b':' | b'@' => {
                name.push(byte.into());
            }
            other => name.push_str(&format!("%{other:02x}")),
        }
    }
    if name.len() > MAX_NAME {
        name.truncate(MAX_NAME - 33);
        name.push('%');
        name.push_str(&blake3::hash(text.as_bytes()).to_hex()[..32]);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn file_names_are_names_and_differ(a in ".{0,300}", b in ".{0,300}") {
            prop_assert!(name_file(&a).len() < 255 && !name_file(&a).contains('/'));
            prop_assert_eq!(a == b, name_file(&a) == name_file(&b));
        }
    }

    #[test]
    fn long_names_with_equal_beginnings_differ() {
        let long = "a/".repeat(300);
        assert_ne!(escape(&format!("{long}x")), escape(&format!("{long}y")));
    }
}
