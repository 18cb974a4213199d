//! Images that come and go whole: `load`, `pull`, and what `push` and exports of stored images
//! need.

use std::io;
use std::path::Path;
use std::sync::Arc;

use cache::{Held, StoredImage, StoredLayer};
use exporter::{Bundle, Image, Layers};
use oci::digest::HashingReader;
use oci::manifest::MAX_MANIFEST;
use oci::{Descriptor, Digest, ImageConfig, Platform, Reference, Timestamp, media_type};
use solver::StepContext;

use crate::engine::Engine;
use crate::error::WorkerError;

use super::handle::blob_sizes;
use super::layers::{AssembledLayer, media_type_of};
use super::resolve::stored_layers;
use super::{DockerImage, ImageHandle, ImageLayer, ImageLayers, Layout, LayoutError, Origin};

/// An image that was loaded: its id and the names that it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The digest of its config.
    pub id: Digest,
    /// Its names; none where the archive has none.
    pub names: Vec<Reference>,
}

impl Engine {
    /// Loads the images of an OCI or Docker archive, or an OCI layout, into the local store: all
    /// that run on `platform`.
    ///
    /// # Errors
    /// If the archive or one of its blobs is damaged, or nothing in it runs on `platform`.
    pub fn load(&self, path: &Path, platform: &Platform) -> Result<Vec<Loaded>, WorkerError> {
        let layout = Arc::new(Layout::open(path)?);
        if layout.is_docker_archive() {
            let images = layout.docker_images()?;
            return images.iter().map(|image| self.load_docker(&layout, image)).collect();
        }
        let mut loaded: Vec<Loaded> = Vec::new();
        let mut others = Vec::new();
        for descriptor in layout.index()?.manifests {
            if let Some(other) = descriptor.platform.as_ref().filter(|p| !p.runs_on(platform)) {
                others.push(other.to_string());
                continue;
            }
            let names = Layout::names_of(&descriptor);
            let shown = names.first().cloned().unwrap_or_else(unnamed);
            let handle = self.handle_in_layout(layout.clone(), descriptor, &shown, platform)?;
            let (stored, _held) = self.ingest(&handle, None)?;
            self.name_image(&stored, &names)?;
            match loaded.iter_mut().find(|l| l.id == stored.id()) {
                Some(known) => known.names.extend(names),
                None => loaded.push(Loaded { id: stored.id(), names }),
            }
        }
        if loaded.is_empty() {
            let wanted = platform.to_string();
            return Err(LayoutError::no_platform(path, &wanted, &others).into());
        }
        Ok(loaded)
    }

    /// Pulls an image into the local store under its name.
    ///
    /// # Errors
    /// If the registry does not have it, or a blob cannot be fetched.
    pub fn pull_image(
        &self,
        reference: &Reference,
        platform: &Platform,
        context: &StepContext<'_>,
    ) -> Result<StoredImage, WorkerError> {
        let handle = self.ask_registry(reference, platform)?;
        let (stored, _held) = self.ingest(&handle, Some(context))?;
        let name =
            if reference.tag().is_some() { reference.without_digest() } else { reference.clone() };
        self.name_image(&stored, &[name])?;
        Ok(stored)
    }

    /// Brings every blob of an image into the store, where they stay as long as the second result
    /// lives.
    fn ingest(
        &self,
        handle: &ImageHandle,
        context: Option<&StepContext<'_>>,
    ) -> Result<(StoredImage, Vec<Held>), WorkerError> {
        let mut leases = Vec::new();
        for layer in &handle.layers {
            match layer {
                ImageLayer::Blob(blob)
                | ImageLayer::Stored(StoredLayer { blob: Some(blob), .. }) => {
                    leases.push(self.fetch_blob(blob, &handle.origin, context)?);
                }
                ImageLayer::Stored(_) => {}
            }
        }
        let images = self.state.images();
        if let Some(known) = images.by_digest(&handle.id, &handle.config.platform)? {
            return Ok((known, leases));
        }
        let Origin::Layout(layout) = &handle.origin else {
            return Err(WorkerError::Internal(format!("{} was not remembered", handle.name)));
        };
        let manifest = Descriptor::new(media_type::OCI_MANIFEST, handle.id, 0);
        let (document, bytes) = layout.manifest(&manifest)?;
        let oci::Document::Manifest(document) = document else {
            return Err(WorkerError::Internal(format!("{} is no manifest", handle.id)));
        };
        let media = document.media_type.as_deref().unwrap_or(media_type::OCI_MANIFEST);
        let config = layout.verified(&document.config)?;
        let (config, held) = self.put_blob(media_type::OCI_CONFIG, &config)?;
        leases.push(held);
        let (manifest, held) = self.put_blob(media, &bytes)?;
        leases.push(held);
        let layers = stored_layers(handle);
        let stored = StoredImage {
            reference: None,
            config,
            snapshot: None,
            size: blob_sizes(&layers),
            layers,
            source: None,
            manifest: Some(manifest),
            platform: handle.config.platform.clone(),
            created: handle.config.created,
            stored: Timestamp::now(),
        };
        Ok((stored, leases))
    }

    fn load_docker(&self, layout: &Layout, image: &DockerImage) -> Result<Loaded, WorkerError> {
        let shown = image.names.first().cloned().unwrap_or_else(unnamed).to_string();
        let config = ImageConfig::parse(&image.config)
            .map_err(|source| WorkerError::Config { image: shown.clone(), source })?;
        if config.rootfs.diff_ids.len() != image.layers.len() {
            return Err(WorkerError::LayerCount {
                image: shown,
                manifest: image.layers.len(),
                config: config.rootfs.diff_ids.len(),
            });
        }
        let mut layers = Vec::new();
        let mut leases = Vec::new();
        for (member, diff_id) in image.layers.iter().zip(&config.rootfs.diff_ids) {
            let (blob, held) = self.load_member(layout, member, &shown, diff_id)?;
            leases.push(held);
            layers.push(StoredLayer { diff_id: *diff_id, snapshot: None, blob: Some(blob) });
        }
        let (stored_config, _held) = self.put_blob(media_type::OCI_CONFIG, &image.config)?;
        let stored = StoredImage {
            reference: None,
            config: stored_config,
            snapshot: None,
            size: blob_sizes(&layers),
            layers,
            source: None,
            manifest: None,
            platform: config.platform.clone(),
            created: config.created,
            stored: Timestamp::now(),
        };
        self.name_image(&stored, &image.names)?;
        Ok(Loaded { id: stored.id(), names: image.names.clone() })
    }

    /// Stores a layer of a Docker archive: a plain or compressed tar. Nothing but the diff id says
    /// what it must be, so it is decompressed once.
    fn load_member(
        &self,
        layout: &Layout,
        member: &str,
        image: &str,
        diff_id: &Digest,
    ) -> Result<(Descriptor, Held), WorkerError> {
        let fail = |source: io::Error| WorkerError::Unpack {
            image: image.to_owned(),
            blob: *diff_id,
            source: source.into(),
        };
        let mut writer = self.state.blobs().create()?;
        io::copy(&mut layout.member(member)?, &mut writer).map_err(fail)?;
        let mut blob = writer.finish(media_type::OCI_LAYER)?;
        let gone = || WorkerError::BlobGone { blob: blob.digest };
        let held = self.hold_blob(&blob)?.ok_or_else(gone)?;
        if blob.digest == *diff_id {
            return Ok((blob, held));
        }
        let (compression, decoder) = self.decoded_blob(&blob)?;
        let mut reader = HashingReader::new(decoder);
        io::copy(&mut reader, &mut io::sink()).map_err(fail)?;
        let (_, actual, _) = reader.finish();
        if actual != *diff_id {
            return Err(WorkerError::DiffId {
                image: image.to_owned(),
                blob: blob.digest,
                expected: *diff_id,
                actual,
            });
        }
        blob.media_type = media_type_of(compression)
            .ok_or_else(|| {
                let message = format!("no image can have a layer in {compression}");
                fail(io::Error::other(message))
            })?
            .to_owned();
        Ok((blob, held))
    }

    fn name_image(&self, image: &StoredImage, names: &[Reference]) -> Result<(), WorkerError> {
        for name in names {
            let named = StoredImage { reference: Some(name.to_string()), ..image.clone() };
            self.state.images().put(&named)?;
        }
        Ok(())
    }

    /// The config of a stored image.
    ///
    /// # Errors
    /// If it is gone or damaged.
    pub fn config_of(&self, stored: &StoredImage) -> Result<ImageConfig, WorkerError> {
        let name = stored.reference.clone().unwrap_or_else(|| stored.id().to_string());
        let bytes = self.state.blobs().read(&stored.config.digest, MAX_MANIFEST)?;
        let gone = || WorkerError::BlobGone { blob: stored.config.digest };
        ImageConfig::parse(&bytes.ok_or_else(gone)?)
            .map_err(|source| WorkerError::Config { image: name, source })
    }

    /// A stored image as exporters want it.
    ///
    /// # Errors
    /// If its config is gone or damaged.
    pub fn stored_image(
        self: &Arc<Self>,
        stored: &StoredImage,
        reference: &Reference,
    ) -> Result<Image, WorkerError> {
        let handle = self
            .handle_of(stored, reference)?
            .ok_or_else(|| WorkerError::NoImage(reference.clone()))?;
        let parse = |text: &String| text.parse().ok();
        let layers = stored
            .layers
            .iter()
            .map(|l| AssembledLayer {
                diff_id: l.diff_id,
                snapshot: l.snapshot.as_ref().and_then(parse),
                making: None,
                blob: l.blob.clone(),
                origin: None,
            })
            .collect();
        let leaf = stored.snapshot.as_ref().and_then(parse);
        let layers: Arc<dyn Layers> =
            Arc::new(ImageLayers::new(self.clone(), layers, handle.origin.clone(), leaf));
        Ok(Image { config: handle.config, layers, epoch: None })
    }

    /// The manifest that a stored image came with, whose digest a push keeps; `None` where it
    /// was built here.
    ///
    /// # Errors
    /// If it is there but cannot be read.
    pub fn original_bundle(&self, stored: &StoredImage) -> Result<Option<Bundle>, WorkerError> {
        let Some(descriptor) = &stored.manifest else { return Ok(None) };
        let blobs = self.state.blobs();
        let (Some(manifest), Some(config)) = (
            blobs.read(&descriptor.digest, MAX_MANIFEST)?,
            blobs.read(&stored.config.digest, MAX_MANIFEST)?,
        ) else {
            return Ok(None);
        };
        let Some(layers) = stored.layers.iter().map(|l| l.blob.clone()).collect() else {
            return Ok(None);
        };
        Ok(Some(Bundle {
            manifest,
            descriptor: descriptor.clone(),
            config,
            config_descriptor: stored.config.clone(),
            layers,
        }))
    }
}

/// What an image without a name is called in errors.
fn unnamed() -> Reference {
    "localhost/unnamed".parse().expect("a valid reference")
}
