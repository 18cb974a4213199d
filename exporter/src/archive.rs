//! OCI layouts and archives, and Docker's archives.
//!
//! Source: OCI image-spec, image-layout.md. Both archives hold a complete OCI layout; Docker's
//! has `manifest.json` besides, which is what `docker load` reads.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use cache::{BlobStore, VerifiedBlob};
use oci::layout::{
    DOCKER_MANIFEST, DockerManifest, IMAGE_CREATED, IMAGE_NAME, INDEX, OCI_LAYOUT, OCI_LAYOUT_JSON,
    REF_NAME, blob_path,
};
use oci::{Descriptor, Digest, ImageIndex, Reference, Timestamp};

use crate::turn::Turn;
use crate::{Bundle, ExportError, Image, Report};

/// Writes an OCI archive (a layout as a tar) to `out`.
///
/// # Errors
/// If a blob cannot be read or `out` cannot be written.
pub fn oci_archive(
    image: &Image,
    bundle: &Bundle,
    names: &[Reference],
    blobs: &BlobStore,
    out: &mut dyn Write,
    report: &dyn Report,
) -> Result<Descriptor, ExportError> {
    let index = index(image, bundle, names);
    write_archive(image.epoch, bundle, &index, None, blobs, out, report)?;
    Ok(bundle.descriptor.clone())
}

/// Writes a Docker archive to `out`, for `docker load` and `podman load`.
///
/// # Errors
/// If a blob cannot be read or `out` cannot be written.
pub fn docker_archive(
    image: &Image,
    bundle: &Bundle,
    names: &[Reference],
    blobs: &BlobStore,
    out: &mut dyn Write,
    report: &dyn Report,
) -> Result<Descriptor, ExportError> {
    let index = index(image, bundle, names);
    let docker = DockerManifest {
        config: blob_path(&bundle.config_descriptor.digest),
        repo_tags: names.iter().map(Reference::familiar).collect(),
        layers: bundle.layers.iter().map(|l| blob_path(&l.digest)).collect(),
    };
    let docker = serde_json::to_vec(&[docker]).expect("plain strings");
    write_archive(image.epoch, bundle, &index, Some(docker), blobs, out, report)?;
    Ok(bundle.descriptor.clone())
}

/// Writes an OCI layout into the directory `dest`, which may hold a layout already: its other
/// images stay, one of the same name is replaced. Blobs that are there are not written again,
/// and `index.json` is replaced last.
///
/// # Errors
/// If a blob cannot be read or a file cannot be written, or the layout that is there has an index
/// that cannot be read: its images would be lost.
pub fn oci_layout(
    image: &Image,
    bundle: &Bundle,
    names: &[Reference],
    blobs: &BlobStore,
    dest: &Path,
    report: &dyn Report,
) -> Result<Descriptor, ExportError> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| ExportError::File { path: path.clone(), source }
    };
    // Of two that change one index at the same time, one would lose its image.
    let _turn = Turn::take(dest, report)?;
    let dir = dest.join("blobs/sha256");
    fs::create_dir_all(&dir).map_err(fail(&dir))?;
    for (digest, content) in contents(bundle) {
        check_cancelled(report)?;
        let path = dest.join(blob_path(&digest));
        let size = content.size();
        if fs::metadata(&path).is_ok_and(|m| m.len() == size) {
            continue;
        }
        let write = |temporary: &Path| -> Result<(), ExportError> {
            let mut file = File::create(temporary).map_err(fail(temporary))?;
            content.copy_to(&mut file, blobs, "OCI layout")
        };
        replace(&path, write, fail(&path))?;
    }
    let marker = dest.join(OCI_LAYOUT);
    replace(&marker, |t| fs::write(t, OCI_LAYOUT_JSON).map_err(fail(t)), fail(&marker))?;
    let path = dest.join(INDEX);
    let merged = merged_index(&path, index(image, bundle, names))?;
    replace(&path, |t| fs::write(t, merged.to_json()).map_err(fail(t)), fail(&path))?;
    Ok(bundle.descriptor.clone())
}

/// `new`, with what the index in `path` has besides.
fn merged_index(path: &Path, new: ImageIndex) -> Result<ImageIndex, ExportError> {
    let fail = |source| ExportError::File { path: path.to_owned(), source };
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(new),
        other => other.map_err(fail)?,
    };
    let mut old: ImageIndex = serde_json::from_slice(&bytes)
        .map_err(|e| fail(io::Error::new(io::ErrorKind::InvalidData, e)))?;
    old.manifests.retain(|d| !new.manifests.iter().any(|n| replaces(n, d)));
    old.manifests.extend(new.manifests);
    Ok(old)
}

/// Whether `new` takes the place of `old` in an index: both are the same name, or both are without
/// one and the same image. Other tools write the tag alone.
fn replaces(new: &Descriptor, old: &Descriptor) -> bool {
    let of = |d: &Descriptor, key: &str| d.annotations.get(key).cloned();
    match (of(new, IMAGE_NAME), of(old, IMAGE_NAME)) {
        (Some(new), Some(old)) => new == old,
        (None, Some(_)) => false,
        (_, None) => match of(old, REF_NAME) {
            Some(tag) => of(new, REF_NAME) == Some(tag),
            None => new.digest == old.digest,
        },
    }
}

/// Writes `path` through a temporary file beside it.
fn replace(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<(), ExportError>,
    fail: impl Fn(io::Error) -> ExportError,
) -> Result<(), ExportError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".tmp-{}", std::process::id()));
    let temporary = path.with_file_name(name);
    let result = write(&temporary).and_then(|()| fs::rename(&temporary, path).map_err(fail));
    if result.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn check_cancelled(report: &dyn Report) -> Result<(), ExportError> {
    if report.cancelled() { Err(ExportError::Cancelled) } else { Ok(()) }
}

/// The top index: the manifest once per name, or once without one.
fn index(image: &Image, bundle: &Bundle, names: &[Reference]) -> ImageIndex {
    let entry = |name: Option<&Reference>| {
        let mut descriptor = bundle.descriptor.clone();
        if let Some(created) = image.config.created {
            descriptor.annotations.insert(IMAGE_CREATED.into(), created.to_string());
        }
        if let Some(name) = name {
            descriptor.annotations.insert(IMAGE_NAME.into(), name.to_string());
            if let Some(tag) = name.tag() {
                descriptor.annotations.insert(REF_NAME.into(), tag.to_owned());
            }
        }
        descriptor
    };
    let manifests = match names {
        [] => vec![entry(None)],
        names => names.iter().map(|name| entry(Some(name))).collect(),
    };
    ImageIndex::new(manifests)
}

/// The content of one member.
enum Content<'a> {
    Bytes(&'a [u8]),
    Blob(&'a Descriptor),
}

impl Content<'_> {
    fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Blob(descriptor) => descriptor.size,
        }
    }

    fn copy_to(
        &self,
        out: &mut dyn Write,
        blobs: &BlobStore,
        what: &'static str,
    ) -> Result<(), ExportError> {
        match self {
            Self::Bytes(bytes) => out.write_all(bytes).map_err(ExportError::write(what)),
            Self::Blob(descriptor) => {
                let mut blob = open_blob(blobs, descriptor)?;
                let copied = io::copy(&mut blob, out).map_err(ExportError::write(what))?;
                if copied != descriptor.size {
                    let message = format!("it has {copied} bytes instead of {}", descriptor.size);
                    return Err(blob_error(descriptor, io::Error::other(message)));
                }
                Ok(())
            }
        }
    }
}

fn blob_error(
    descriptor: &Descriptor,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ExportError {
    ExportError::Blob { digest: descriptor.digest, source: source.into() }
}

/// Opens a blob for a reader that passes its bytes on: a damaged one is an error at its end, and
/// is made or fetched again by the next export.
pub(crate) fn open_blob(
    blobs: &BlobStore,
    descriptor: &Descriptor,
) -> Result<VerifiedBlob, ExportError> {
    let opened = blobs.open_verified(descriptor).map_err(|e| blob_error(descriptor, e))?;
    let missing = || blob_error(descriptor, io::Error::from(io::ErrorKind::NotFound));
    opened.ok_or_else(missing)
}

/// Every blob of the bundle, each once, sorted by digest.
fn contents(bundle: &Bundle) -> BTreeMap<Digest, Content<'_>> {
    let mut all = BTreeMap::new();
    for layer in &bundle.layers {
        all.insert(layer.digest, Content::Blob(layer));
    }
    all.insert(bundle.config_descriptor.digest, Content::Bytes(&bundle.config));
    all.insert(bundle.descriptor.digest, Content::Bytes(&bundle.manifest));
    all
}

/// The members in a fixed order with fixed times: equal images are equal archives.
fn write_archive(
    epoch: Option<Timestamp>,
    bundle: &Bundle,
    index: &ImageIndex,
    docker: Option<Vec<u8>>,
    blobs: &BlobStore,
    out: &mut dyn Write,
    report: &dyn Report,
) -> Result<(), ExportError> {
    const WHAT: &str = "image archive";
    let mtime = epoch.map_or(0, |t| u64::try_from(t.seconds).unwrap_or(0));
    let mut tar = Archive { out, mtime };
    tar.directory("blobs/")?;
    tar.directory("blobs/sha256/")?;
    for (digest, content) in contents(bundle) {
        check_cancelled(report)?;
        tar.header(&blob_path(&digest), content.size())?;
        content.copy_to(tar.out, blobs, WHAT)?;
        tar.pad(content.size())?;
    }
    tar.file(INDEX, &index.to_json())?;
    if let Some(docker) = docker {
        tar.file(DOCKER_MANIFEST, &docker)?;
    }
    tar.file(OCI_LAYOUT, OCI_LAYOUT_JSON.as_bytes())?;
    tar.out.write_all(&[0; 1024]).map_err(ExportError::write(WHAT))?;
    tar.out.flush().map_err(ExportError::write(WHAT))
}

struct Archive<'a> {
    out: &'a mut dyn Write,
    mtime: u64,
}

impl Archive<'_> {
    fn directory(&mut self, name: &str) -> Result<(), ExportError> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        self.write_header(header, name, 0o755, 0)
    }

    fn header(&mut self, name: &str, size: u64) -> Result<(), ExportError> {
        self.write_header(tar::Header::new_ustar(), name, 0o644, size)
    }

    fn write_header(
        &mut self,
        mut header: tar::Header,
        name: &str,
        mode: u32,
        size: u64,
    ) -> Result<(), ExportError> {
        let fail = ExportError::write("image archive");
        header.set_path(name).map_err(&fail)?;
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.mtime);
        // Sizes over 8 GiB are written in base 256, which every reader of layouts knows.
        header.set_size(size);
        header.set_cksum();
        self.out.write_all(header.as_bytes()).map_err(fail)
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), ExportError> {
        self.header(name, bytes.len() as u64)?;
        self.out.write_all(bytes).map_err(ExportError::write("image archive"))?;
        self.pad(bytes.len() as u64)
    }

    fn pad(&mut self, size: u64) -> Result<(), ExportError> {
        let rest = (512 - size % 512) % 512;
        self.out.write_all(&[0; 512][..rest as usize]).map_err(ExportError::write("image archive"))
    }
}
