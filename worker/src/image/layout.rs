//! Reading OCI layouts and image archives: a directory, an OCI tar, or what `docker save` wrote.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use oci::layout::{DOCKER_MANIFEST, DockerManifest, IMAGE_NAME, INDEX, REF_NAME, blob_path};
use oci::manifest::MAX_MANIFEST;
use oci::{Descriptor, Digest, Document, ImageIndex, ImageManifest, Reference, media_type};
use sys::root::Root;

/// An OCI layout or image archive, opened for reading.
pub struct Layout {
    path: PathBuf,
    storage: Storage,
}

enum Storage {
    /// Names in it are what documents say: they do not lead out.
    Directory(Root),
    /// Where each member's bytes are in the archive: offset and size.
    Archive(HashMap<String, (u64, u64)>),
}

/// Why a layout cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The path cannot be opened or read.
    #[error("cannot read {member} of the image layout {path:?}: {source}")]
    Read {
        /// The layout.
        path: PathBuf,
        /// The file inside it.
        member: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is neither an OCI layout nor an image archive.
    #[error("{path:?} is not an image: it has neither {INDEX} nor {DOCKER_MANIFEST}")]
    NotAnImage {
        /// The path.
        path: PathBuf,
    },
    /// The index is broken.
    #[error("the image layout {path:?} is damaged: {source}")]
    Document {
        /// The layout.
        path: PathBuf,
        /// Why.
        #[source]
        source: oci::manifest::ManifestError,
    },
    /// A member's JSON is broken.
    #[error("the image layout {path:?} is damaged: {member}: {source}")]
    Json {
        /// The layout.
        path: PathBuf,
        /// The file inside it.
        member: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// No image for the platform.
    #[error("the image layout {path:?} has no image for {wanted} (it has {available})")]
    NoPlatform {
        /// The layout.
        path: PathBuf,
        /// The platform.
        wanted: String,
        /// What there is, for people.
        available: String,
    },
    /// No image of that name.
    #[error("the image layout {path:?} has no image {wanted:?} (it has {available})")]
    NoSuchImage {
        /// The layout.
        path: PathBuf,
        /// The tag or digest.
        wanted: String,
        /// What there is, for people.
        available: String,
    },
}

impl LayoutError {
    /// Nothing in the layout runs on the platform `wanted`; it has `others`.
    pub(crate) fn no_platform(path: &Path, wanted: &str, others: &[String]) -> Self {
        let available = if others.is_empty() { "no images".to_owned() } else { others.join(", ") };
        Self::NoPlatform { path: path.to_owned(), wanted: wanted.to_owned(), available }
    }
}

/// Which image of a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The only one, or the one tagged `latest`.
    Default,
    /// By tag.
    Tag(String),
    /// By the digest of its manifest or index.
    Digest(Digest),
}

/// A file of the layout, readable from its start to its end.
pub type Member = io::Take<File>;

impl Layout {
    /// Opens a directory or an archive.
    ///
    /// # Errors
    /// If it cannot be read or is no image.
    pub fn open(path: &Path) -> Result<Self, LayoutError> {
        let fail = |source| LayoutError::Read {
            path: path.to_owned(),
            member: "the archive".to_owned(),
            source,
        };
        let storage = if path.is_dir() {
            Storage::Directory(Root::at(path).map_err(|e| fail(e.source))?)
        } else {
            Storage::Archive(index_archive(File::open(path).map_err(fail)?).map_err(fail)?)
        };
        let layout = Self { path: path.to_owned(), storage };
        if !layout.has(INDEX) && !layout.has(DOCKER_MANIFEST) {
            return Err(LayoutError::NotAnImage { path: path.to_owned() });
        }
        Ok(layout)
    }

    fn has(&self, member: &str) -> bool {
        match &self.storage {
            Storage::Directory(root) => root.open_file(member).is_ok(),
            Storage::Archive(members) => members.contains_key(member),
        }
    }

    /// Opens one member by its name inside the layout.
    ///
    /// # Errors
    /// If it is not there or cannot be read.
    pub fn member(&self, name: &str) -> Result<Member, LayoutError> {
        let open = || match &self.storage {
            Storage::Directory(root) => {
                Ok(root.open_file(name).map_err(|e| e.source)?.take(u64::MAX))
            }
            Storage::Archive(members) => {
                let (offset, size) = members.get(name).ok_or(io::ErrorKind::NotFound)?;
                let mut file = File::open(&self.path)?;
                file.seek(SeekFrom::Start(*offset))?;
                Ok(file.take(*size))
            }
        };
        open().map_err(|source| self.read_error(name, source))
    }

    fn read_error(&self, member: &str, source: io::Error) -> LayoutError {
        LayoutError::Read { path: self.path.clone(), member: member.to_owned(), source }
    }

    /// Opens a blob. Its bytes are not verified here.
    ///
    /// # Errors
    /// If it is not there or cannot be read.
    pub fn blob(&self, digest: &Digest) -> Result<Member, LayoutError> {
        self.member(&blob_path(digest))
    }

    /// A small member's bytes, at most [`MAX_MANIFEST`].
    fn document(&self, name: &str) -> Result<Vec<u8>, LayoutError> {
        let mut bytes = Vec::new();
        self.member(name)?
            .take(MAX_MANIFEST + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| self.read_error(name, source))?;
        if bytes.len() as u64 > MAX_MANIFEST {
            let source = oci::manifest::ManifestError::TooLarge(bytes.len() as u64);
            return Err(LayoutError::Document { path: self.path.clone(), source });
        }
        Ok(bytes)
    }

    /// A manifest, index or config of the layout, verified against its digest.
    ///
    /// # Errors
    /// If it is not there, too large, or another content.
    pub fn verified(&self, descriptor: &Descriptor) -> Result<Vec<u8>, LayoutError> {
        let name = blob_path(&descriptor.digest);
        let bytes = self.document(&name)?;
        if Digest::of(&bytes) != descriptor.digest {
            let message = format!("its content is {}, not what its name says", Digest::of(&bytes));
            return Err(self.read_error(&name, io::Error::other(message)));
        }
        Ok(bytes)
    }

    /// Whether it is an archive in Docker's old form, without an OCI index.
    pub fn is_docker_archive(&self) -> bool {
        !self.has(INDEX)
    }

    /// The images of an OCI layout.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn index(&self) -> Result<ImageIndex, LayoutError> {
        let bytes = self.document(INDEX)?;
        serde_json::from_slice(&bytes).map_err(|source| LayoutError::Json {
            path: self.path.clone(),
            member: INDEX.to_owned(),
            source,
        })
    }

    /// The descriptor of the image that is wanted.
    ///
    /// # Errors
    /// If there is none, or it is not clear which.
    pub fn find(&self, wanted: &Wanted) -> Result<Descriptor, LayoutError> {
        let index = self.index()?;
        let tag_of = |d: &Descriptor| d.annotations.get(REF_NAME).cloned();
        let found = match wanted {
            Wanted::Digest(digest) => index.manifests.iter().find(|d| d.digest == *digest),
            Wanted::Tag(tag) => index.manifests.iter().find(|d| {
                tag_of(d).as_ref() == Some(tag) || d.annotations.get(IMAGE_NAME) == Some(tag)
            }),
            Wanted::Default => match &index.manifests[..] {
                [only] => Some(only),
                all => all.iter().find(|d| tag_of(d).as_deref() == Some("latest")),
            },
        };
        found.cloned().ok_or_else(|| LayoutError::NoSuchImage {
            path: self.path.clone(),
            wanted: match wanted {
                Wanted::Default => "latest".to_owned(),
                Wanted::Tag(tag) => tag.clone(),
                Wanted::Digest(digest) => digest.to_string(),
            },
            available: match index.manifests.iter().filter_map(tag_of).collect::<Vec<_>>() {
                tags if tags.is_empty() => "no tags".to_owned(),
                tags => tags.join(", "),
            },
        })
    }

    /// The manifest document that `descriptor` points to.
    ///
    /// # Errors
    /// If it cannot be read, verified or understood.
    pub fn manifest(&self, descriptor: &Descriptor) -> Result<(Document, Vec<u8>), LayoutError> {
        let bytes = self.verified(descriptor)?;
        let document = Document::parse(&bytes, Some(&descriptor.media_type))
            .map_err(|source| LayoutError::Document { path: self.path.clone(), source })?;
        Ok((document, bytes))
    }

    /// The images of a Docker archive: for each its names, its config's bytes and its layers'
    /// members, lowest first.
    ///
    /// # Errors
    /// If `manifest.json` or a config cannot be read.
    pub fn docker_images(&self) -> Result<Vec<DockerImage>, LayoutError> {
        let bytes = self.document(DOCKER_MANIFEST)?;
        let list: Vec<DockerManifest> =
            serde_json::from_slice(&bytes).map_err(|source| LayoutError::Json {
                path: self.path.clone(),
                member: DOCKER_MANIFEST.to_owned(),
                source,
            })?;
        let read = |entry: DockerManifest| {
            Ok(DockerImage {
                names: entry.repo_tags.iter().filter_map(|t| t.parse().ok()).collect(),
                config: self.document(&entry.config)?,
                layers: entry.layers,
            })
        };
        list.into_iter().map(read).collect()
    }

    /// The names that an entry of the index carries.
    pub fn names_of(descriptor: &Descriptor) -> Vec<Reference> {
        let full = descriptor.annotations.get(IMAGE_NAME).and_then(|n| n.parse().ok());
        full.into_iter().collect()
    }
}

/// One image of a Docker archive.
pub struct DockerImage {
    /// Its names.
    pub names: Vec<Reference>,
    /// Its config.
    pub config: Vec<u8>,
    /// The members that hold its layers.
    pub layers: Vec<String>,
}

impl DockerImage {
    /// A manifest for it, from its layers' descriptors.
    pub fn manifest(&self, layers: Vec<Descriptor>) -> ImageManifest {
        ImageManifest::new(Descriptor::of(media_type::OCI_CONFIG, &self.config), layers)
    }
}

fn index_archive(file: File) -> io::Result<HashMap<String, (u64, u64)>> {
    let mut members = HashMap::new();
    let mut links = Vec::new();
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = name.trim_start_matches("./").to_owned();
        match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                members.insert(name, (entry.raw_file_position(), entry.size()));
            }
            // docker save links equal layers to each other.
            tar::EntryType::Symlink | tar::EntryType::Link => {
                if let Some(target) = entry.link_name_bytes() {
                    links.push((name, String::from_utf8_lossy(&target).into_owned()));
                }
            }
            _ => {}
        }
    }
    for (name, target) in links {
        let base = Path::new(&name).parent().unwrap_or(Path::new(""));
        let joined = oci::layer::TreePath::clean(base.join(&target).as_os_str().as_encoded_bytes());
        let key = joined.map(|p| String::from_utf8_lossy(p.as_bytes()).into_owned());
        let found =
            key.ok().and_then(|k| members.get(&k).copied()).or(members.get(&target).copied());
        if let Some(at) = found {
            members.insert(name, at);
        }
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(dir: &Path, tags: &[&str]) -> Vec<Descriptor> {
        std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        let mut manifests = Vec::new();
        for tag in tags {
            let bytes =
                ImageManifest::new(Descriptor::of(media_type::OCI_CONFIG, tag.as_bytes()), vec![])
                    .to_json();
            let mut d = Descriptor::of(media_type::OCI_MANIFEST, &bytes);
            std::fs::write(dir.join(blob_path(&d.digest)), &bytes).unwrap();
            d.annotations.insert(REF_NAME.into(), (*tag).into());
            manifests.push(d);
        }
        std::fs::write(dir.join(INDEX), ImageIndex::new(manifests.clone()).to_json()).unwrap();
        manifests
    }

    #[test]
    fn finds_by_tag_digest_and_default() {
        let dir = tempfile::tempdir().unwrap();
        let all = layout(dir.path(), &["a", "latest"]);
        let layout = Layout::open(dir.path()).unwrap();
        assert_eq!(layout.find(&Wanted::Default).unwrap(), all[1]);
        assert_eq!(layout.find(&Wanted::Tag("a".into())).unwrap(), all[0]);
        assert_eq!(layout.find(&Wanted::Digest(all[0].digest)).unwrap(), all[0]);
        let error = layout.find(&Wanted::Tag("b".into())).unwrap_err().to_string();
        assert!(error.contains("it has a, latest"), "{error}");
        assert!(matches!(layout.manifest(&all[0]).unwrap().0, Document::Manifest(_)));
    }

    #[test]
    fn refuses_what_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Layout::open(dir.path()), Err(LayoutError::NotAnImage { .. })));
        let all = layout(dir.path(), &["latest"]);
        std::fs::write(dir.path().join(blob_path(&all[0].digest)), "{}").unwrap();
        let layout = Layout::open(dir.path()).unwrap();
        assert!(matches!(layout.manifest(&all[0]), Err(LayoutError::Read { .. })));
        std::fs::write(dir.path().join(INDEX), "nonsense").unwrap();
        assert!(matches!(layout.index(), Err(LayoutError::Json { .. })));
    }

    #[test]
    fn reads_archives() {
        let dir = tempfile::tempdir().unwrap();
        let all = layout(&dir.path().join("l"), &["latest"]);
        let archive = dir.path().join("image.tar");
        let mut tar = tar::Builder::new(File::create(&archive).unwrap());
        tar.append_dir_all(".", dir.path().join("l")).unwrap();
        tar.finish().unwrap();
        let layout = Layout::open(&archive).unwrap();
        assert_eq!(layout.find(&Wanted::Default).unwrap(), all[0]);
        assert!(matches!(layout.manifest(&all[0]).unwrap().0, Document::Manifest(_)));
    }
}
