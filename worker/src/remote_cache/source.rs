//! Where a cache comes from: its manifest and its records. Layers are left where they are.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use cache::remote::{CONFIG_TYPE, Document as Records, DocumentError, MAX_DOCUMENT, Made};
use oci::manifest::MAX_MANIFEST;
use oci::{Descriptor, Document, ImageManifest, Platform, Reference};
use registry::{Client, Progress};
use serde::Deserialize;

use super::error::ImportError;
use crate::image::{Layout, Origin, Wanted, compression_of};

/// Where a cache comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheSource {
    /// A cache in a registry, or an image with a cache in it.
    Registry(Reference),
    /// A cache in a directory.
    Directory {
        /// The directory.
        path: PathBuf,
        /// Which of its caches.
        wanted: Wanted,
    },
}

impl fmt::Display for CacheSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => write!(f, "{}", reference.familiar()),
            Self::Directory { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

/// The records of a cache, and where its layers are.
pub(crate) struct Loaded {
    /// The records.
    pub(crate) records: Records,
    /// The layers that they name by position.
    pub(crate) blobs: Vec<Descriptor>,
    /// Where those come from.
    pub(crate) origin: Origin,
}

/// The part of an image's config that is a cache.
#[derive(Deserialize)]
struct Inline {
    #[serde(rename = "drydock.cache.v1")]
    cache: Option<serde_json::Value>,
}

impl CacheSource {
    /// Reads manifest and records.
    pub(super) fn load(
        &self,
        client: &Client,
        platform: &Platform,
        progress: &dyn Progress,
    ) -> Result<Loaded, ImportError> {
        match self {
            Self::Registry(reference) => from_registry(reference, client, platform, progress),
            Self::Directory { path, wanted } => {
                let layout = Layout::open(path)?;
                let found = layout.find(wanted)?;
                let manifest = match layout.manifest(&found)?.0 {
                    Document::Manifest(manifest) => manifest,
                    Document::Index(index) => match layout.manifest(index.select(platform)?)?.0 {
                        Document::Manifest(manifest) => manifest,
                        Document::Index(_) => return Err(nested()),
                    },
                };
                check_size(&manifest.config)?;
                let config = layout.verified(&manifest.config)?;
                loaded(manifest, &config, Origin::Layout(Arc::new(layout)))
            }
        }
    }
}

fn from_registry(
    reference: &Reference,
    client: &Client,
    platform: &Platform,
    progress: &dyn Progress,
) -> Result<Loaded, ImportError> {
    let top = client.resolve(reference)?;
    let manifest = match Document::parse(&top.bytes, Some(&top.descriptor.media_type))? {
        Document::Manifest(manifest) => manifest,
        Document::Index(index) => {
            let chosen = index.select(platform)?;
            let bytes = client.manifest(reference, chosen)?;
            match Document::parse(&bytes, Some(&chosen.media_type))? {
                Document::Manifest(manifest) => manifest,
                Document::Index(_) => return Err(nested()),
            }
        }
    };
    check_size(&manifest.config)?;
    let mut config = Vec::new();
    client.blob(reference, &manifest.config, &mut config, progress, &|| false)?;
    loaded(manifest, &config, Origin::Registry(reference.clone()))
}

fn nested() -> ImportError {
    oci::manifest::ManifestError::Type("an index inside an index".to_owned()).into()
}

/// Refuses to read a config that is too large to be one, before it is read.
fn check_size(config: &Descriptor) -> Result<(), ImportError> {
    let limit = if config.media_type == CONFIG_TYPE { MAX_DOCUMENT } else { MAX_MANIFEST };
    if config.size > limit {
        return Err(DocumentError::TooLarge(config.size).into());
    }
    Ok(())
}

fn loaded(manifest: ImageManifest, config: &[u8], origin: Origin) -> Result<Loaded, ImportError> {
    let blobs = manifest.layers;
    let records = if manifest.config.media_type == CONFIG_TYPE {
        Records::parse(config, blobs.len())?
    } else {
        let inline: Inline = serde_json::from_slice(config).map_err(ImportError::Config)?;
        let cache = inline.cache.ok_or(ImportError::NoCache)?;
        Records::parse(&serde_json::to_vec(&cache).map_err(ImportError::Config)?, blobs.len())?
    };
    // Those that it needs: the image that it is in may have others.
    let needed = records.trees.iter().filter_map(|tree| match tree.made {
        Made::Layer { blob, .. } => blobs.get(blob),
        _ => None,
    });
    for blob in needed {
        if compression_of(&blob.media_type).is_none() {
            let (digest, media_type) = (blob.digest, blob.media_type.clone());
            return Err(ImportError::LayerType { digest, media_type });
        }
    }
    Ok(Loaded { records, blobs, origin })
}
