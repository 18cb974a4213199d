//! From a name to an image: the local store, a registry, a layout.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use cache::{StoredImage, StoredLayer};
use oci::manifest::MAX_MANIFEST;
use oci::{
    Descriptor, Digest, Document, ImageConfig, ImageManifest, Platform, Reference, Timestamp,
};

use crate::engine::Engine;
use crate::error::WorkerError;

use super::handle::blob_sizes;
use super::{ImageHandle, ImageLayer, Layout, Origin, Wanted};

/// The domain of facts that tell what a tag meant when a registry was last asked.
const TAG_FACT: &str = "tag";

/// When a registry is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// A tag that the local store has wins.
    IfMissing,
    /// A tag is always asked for (`--pull`).
    Always,
}

/// Where an image is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// The local store, then the registry that the reference names.
    Store,
    /// An OCI layout or archive.
    Layout {
        /// Its path.
        path: PathBuf,
        /// The tag or digest in it; none for the only one or `latest`.
        image: Option<String>,
    },
}

/// An image that a build asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageRequest {
    /// Its name.
    pub reference: Reference,
    /// What it must run on.
    pub platform: Platform,
    /// Where it is looked for.
    pub location: Location,
}

/// Resolves the images of one build: each name once, whatever a registry says later.
pub struct Resolver<'a> {
    engine: &'a Engine,
    policy: PullPolicy,
    known: Mutex<HashMap<ImageRequest, Arc<ImageHandle>>>,
}

impl<'a> Resolver<'a> {
    /// Nothing resolved yet.
    pub fn new(engine: &'a Engine, policy: PullPolicy) -> Self {
        Self { engine, policy, known: Mutex::default() }
    }

    /// The image of `request`.
    ///
    /// # Errors
    /// If there is none, or what there is cannot be used.
    pub fn resolve(&self, request: &ImageRequest) -> Result<Arc<ImageHandle>, WorkerError> {
        if let Some(known) = self.lock().get(request) {
            return Ok(known.clone());
        }
        let handle = match &request.location {
            Location::Layout { path, image } => {
                self.engine.image_of_layout(path, image.as_deref(), request)?
            }
            Location::Store => self.resolve_name(request)?,
        };
        let handle = Arc::new(handle);
        self.lock().insert(request.clone(), handle.clone());
        Ok(handle)
    }

    /// Every image that was resolved, by the digest that a graph knows it by.
    pub fn images(&self) -> HashMap<Digest, Arc<ImageHandle>> {
        self.lock().values().map(|h| (h.id, h.clone())).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ImageRequest, Arc<ImageHandle>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resolve_name(&self, request: &ImageRequest) -> Result<ImageHandle, WorkerError> {
        let images = self.engine.state.images();
        let stored = match request.reference.digest() {
            // A digest that is there is never asked for.
            Some(digest) => images.by_digest(&digest, &request.platform)?,
            None if self.policy == PullPolicy::IfMissing => {
                images.get(&request.reference.to_string())?
            }
            None => None,
        };
        let fits = |i: &StoredImage| i.platform.runs_on(&request.platform);
        if let Some(stored) = stored.filter(fits)
            && let Some(handle) = self.engine.handle_of(&stored, &request.reference)?
        {
            return Ok(handle);
        }
        match self.engine.ask_registry(&request.reference, &request.platform) {
            Err(WorkerError::Registry(error))
                if self.policy == PullPolicy::IfMissing && is_unreachable(&error) =>
            {
                let last = self.engine.last_answer(request)?;
                let Some(handle) = last else { return Err(error.into()) };
                self.engine.warn(&format!(
                    "{} cannot be asked for {}: {error}; using {}, which it meant when last asked",
                    request.reference.domain(),
                    request.reference.familiar(),
                    handle.name
                ));
                Ok(handle)
            }
            other => other,
        }
    }
}

impl Engine {
    /// An image of the local store as a handle; `None` if its config is gone.
    pub(crate) fn handle_of(
        &self,
        stored: &StoredImage,
        reference: &Reference,
    ) -> Result<Option<ImageHandle>, WorkerError> {
        let Some(bytes) = self.state.blobs().read(&stored.config.digest, MAX_MANIFEST)? else {
            return Ok(None);
        };
        let id = stored.manifest.as_ref().map_or(stored.id(), |m| m.digest);
        let name = match (reference.digest(), &stored.manifest) {
            (None, Some(manifest)) => reference.with_digest(manifest.digest).to_string(),
            _ => reference.to_string(),
        };
        let config = parse_config(&name, &bytes)?;
        if config.rootfs.diff_ids.len() != stored.layers.len() {
            return Ok(None);
        }
        let source = stored.source.as_ref().and_then(|s| s.parse().ok());
        let origin = source.map_or(Origin::Store, Origin::Registry);
        let layers = stored.layers.iter().cloned().map(ImageLayer::Stored).collect();
        Ok(Some(ImageHandle { name, id, config, layers, origin }))
    }

    /// Asks the registry what `reference` is, and remembers the answer.
    pub(crate) fn ask_registry(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<ImageHandle, WorkerError> {
        // Asking for the digest alone is enough where the image is known.
        if reference.digest().is_none()
            && let Some(top) = self.client.head(reference)?
            && let Some(stored) = self.state.images().by_digest(&top.digest, platform)?
            && let Some(handle) = self.handle_of(&stored, &reference.with_digest(top.digest))?
        {
            self.remember_tag(reference, platform, &top.digest)?;
            return Ok(handle);
        }
        let top = self.client.resolve(reference)?;
        let named = reference.with_digest(top.descriptor.digest);
        let name = named.to_string();
        let manifest_error = |source| WorkerError::Manifest { image: name.clone(), source };
        let document = Document::parse(&top.bytes, Some(&top.descriptor.media_type))
            .map_err(manifest_error)?;
        let (descriptor, bytes, manifest) = match document {
            Document::Manifest(manifest) => (top.descriptor.clone(), top.bytes, manifest),
            Document::Index(index) => {
                let chosen = index.select(platform).map_err(manifest_error)?.clone();
                let bytes = self.client.manifest(reference, &chosen)?;
                let manifest = parse_manifest(&name, &bytes, &chosen)?;
                (chosen, bytes, manifest)
            }
        };
        let mut config = Vec::new();
        self.client.blob(reference, &manifest.config, &mut config, &registry::Silent, &|| false)?;
        let origin = Origin::Registry(named.clone());
        let handle = self.handle(name, descriptor.clone(), manifest, &config, origin)?;
        self.remember_image(&handle, &descriptor, &bytes, &config, &top.descriptor.digest)?;
        if reference.digest().is_none() {
            self.remember_tag(reference, platform, &top.descriptor.digest)?;
        }
        Ok(handle)
    }

    /// Puts a handle together from its documents.
    pub(crate) fn handle(
        &self,
        name: String,
        descriptor: Descriptor,
        manifest: ImageManifest,
        config: &[u8],
        origin: Origin,
    ) -> Result<ImageHandle, WorkerError> {
        let config = parse_config(&name, config)?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(WorkerError::LayerCount {
                image: name,
                manifest: manifest.layers.len(),
                config: config.rootfs.diff_ids.len(),
            });
        }
        let layers = manifest.layers.into_iter().map(ImageLayer::Blob).collect();
        Ok(ImageHandle { name, id: descriptor.digest, config, layers, origin })
    }

    /// Remembers a pulled image by its digests: neither is asked for again.
    fn remember_image(
        &self,
        handle: &ImageHandle,
        manifest: &Descriptor,
        manifest_bytes: &[u8],
        config: &[u8],
        top: &Digest,
    ) -> Result<(), WorkerError> {
        // Held until the image names them.
        let (_, _held) = self.put_blob(&manifest.media_type, manifest_bytes)?;
        let (config, _held_too) = self.put_blob(oci::media_type::OCI_CONFIG, config)?;
        let layers = stored_layers(handle);
        let stored = StoredImage {
            reference: None,
            config,
            snapshot: None,
            size: blob_sizes(&layers),
            layers,
            source: handle.origin.registry().map(ToString::to_string),
            manifest: Some(manifest.clone()),
            platform: handle.config.platform.clone(),
            created: handle.config.created,
            stored: Timestamp::now(),
        };
        self.state.images().remember(&manifest.digest, &stored)?;
        if *top != manifest.digest {
            self.state.images().remember(top, &stored)?;
        }
        Ok(())
    }

    fn remember_tag(
        &self,
        reference: &Reference,
        platform: &Platform,
        digest: &Digest,
    ) -> Result<(), WorkerError> {
        let key = format!("{reference} {platform}");
        let value = digest.to_string();
        if self.state.get_fact(TAG_FACT, key.as_bytes()).as_deref() != Some(value.as_bytes()) {
            self.state.put_fact(TAG_FACT, key.as_bytes(), value.as_bytes())?;
        }
        Ok(())
    }

    /// What a registry answered when it was last asked.
    fn last_answer(&self, request: &ImageRequest) -> Result<Option<ImageHandle>, WorkerError> {
        let key = format!("{} {}", request.reference, request.platform);
        let Some(digest) = self
            .state
            .get_fact(TAG_FACT, key.as_bytes())
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .and_then(|text| text.parse::<Digest>().ok())
        else {
            return Ok(None);
        };
        match self.state.images().by_digest(&digest, &request.platform)? {
            Some(stored) => self.handle_of(&stored, &request.reference.with_digest(digest)),
            None => Ok(None),
        }
    }

    fn image_of_layout(
        &self,
        path: &std::path::Path,
        image: Option<&str>,
        request: &ImageRequest,
    ) -> Result<ImageHandle, WorkerError> {
        let layout = Layout::open(path)?;
        let wanted = match image {
            None => Wanted::Default,
            Some(text) => match text.parse::<Digest>() {
                Ok(digest) => Wanted::Digest(digest),
                Err(_) => Wanted::Tag(text.to_owned()),
            },
        };
        let descriptor = layout.find(&wanted)?;
        self.handle_in_layout(Arc::new(layout), descriptor, &request.reference, &request.platform)
    }

    /// The image that `descriptor`, an entry of a layout's index, means on `platform`.
    pub(crate) fn handle_in_layout(
        &self,
        layout: Arc<Layout>,
        descriptor: Descriptor,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<ImageHandle, WorkerError> {
        let name = reference.with_digest(descriptor.digest).to_string();
        let (descriptor, manifest) = match layout.manifest(&descriptor)?.0 {
            Document::Manifest(manifest) => (descriptor, manifest),
            Document::Index(index) => {
                let chosen = index
                    .select(platform)
                    .map_err(|source| WorkerError::Manifest { image: name.clone(), source })?
                    .clone();
                let manifest = parse_manifest(&name, &layout.verified(&chosen)?, &chosen)?;
                (chosen, manifest)
            }
        };
        let config = layout.verified(&manifest.config)?;
        self.handle(name, descriptor, manifest, &config, Origin::Layout(layout))
    }
}

/// Whether the registry could not be asked, as opposed to having said no.
fn is_unreachable(error: &registry::RegistryError) -> bool {
    error.kind.is_transient() || matches!(error.kind, registry::ErrorKind::Network { .. })
}

/// The layers of a handle as the store keeps them.
pub(crate) fn stored_layers(handle: &ImageHandle) -> Vec<StoredLayer> {
    let diff_ids = handle.config.rootfs.diff_ids.iter();
    handle
        .layers
        .iter()
        .zip(diff_ids)
        .map(|(layer, diff_id)| match layer {
            ImageLayer::Blob(blob) => {
                StoredLayer { diff_id: *diff_id, snapshot: None, blob: Some(blob.clone()) }
            }
            ImageLayer::Stored(stored) => stored.clone(),
        })
        .collect()
}

fn parse_config(name: &str, bytes: &[u8]) -> Result<ImageConfig, WorkerError> {
    ImageConfig::parse(bytes)
        .map_err(|source| WorkerError::Config { image: name.to_owned(), source })
}

fn parse_manifest(
    name: &str,
    bytes: &[u8],
    descriptor: &Descriptor,
) -> Result<ImageManifest, WorkerError> {
    let fail = |source| WorkerError::Manifest { image: name.to_owned(), source };
    match Document::parse(bytes, Some(&descriptor.media_type)).map_err(fail)? {
        Document::Manifest(manifest) => Ok(manifest),
        Document::Index(_) => {
            Err(fail(oci::manifest::ManifestError::Type("an index inside an index".to_owned())))
        }
    }
}
