//! Manifests and indexes, and telling them apart.
//!
//! Source: OCI image-spec, manifest.md and image-index.md; Docker's v2 schema 2 is read as the
//! same shapes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Descriptor, Platform, media_type};

/// The largest manifest or index that is read, in bytes, as in the distribution specification.
pub const MAX_MANIFEST: u64 = 4 << 20;

/// The manifest of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// Always 2.
    pub schema_version: u32,
    /// The manifest's own type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The image config.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "null_layers")]
    pub layers: Vec<Descriptor>,
    /// Annotations of the manifest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests, usually one per platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// Always 2.
    pub schema_version: u32,
    /// The index's own type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The manifests, in order of preference.
    pub manifests: Vec<Descriptor>,
    /// Annotations of the index.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What a manifest request can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(ImageManifest),
    /// Images by platform.
    Index(ImageIndex),
}

/// Why a manifest or index is refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is larger than [`MAX_MANIFEST`].
    #[error("the manifest has {0} bytes, more than the {MAX_MANIFEST} that are allowed")]
    TooLarge(u64),
    /// It is not the JSON that the specification describes.
    #[error("the manifest is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// Docker's schema 1, or something else that is no image.
    #[error(
        "the manifest's type {0:?} is not supported (schema 1 images must be pushed again by a newer tool)"
    )]
    Type(String),
    /// The index has nothing for the platform.
    #[error("no image for {wanted} in the index (it has {available})")]
    NoPlatform {
        /// The platform asked for.
        wanted: Platform,
        /// What there is, for people.
        available: String,
    },
}

fn null_layers<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<Descriptor>, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

impl ImageManifest {
    /// An OCI manifest.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            config,
            layers,
            annotations: BTreeMap::new(),
        }
    }

    /// The manifest as the bytes that its digest is taken over.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a manifest has only string keys and finite numbers")
    }
}

impl ImageIndex {
    /// An OCI index.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.to_owned()),
            manifests,
            annotations: BTreeMap::new(),
        }
    }

    /// The index as the bytes that its digest is taken over.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an index has only string keys and finite numbers")
    }

    /// The best manifest for `wanted`; attestations (`unknown/unknown`) never match.
    ///
    /// # Errors
    /// [`ManifestError::NoPlatform`] if none runs there.
    pub fn select(&self, wanted: &Platform) -> Result<&Descriptor, ManifestError> {
        let normal = |p: &Platform| Platform::new(&p.os, &p.architecture, p.variant.as_deref());
        let mut best: Option<(u8, &Descriptor)> = None;
        for d in &self.manifests {
            let score = match &d.platform {
                Some(p) => normal(p).suitability(wanted),
                // A layout's index often leaves the platform out: take it if there is nothing better.
                None => Some(0),
            };
            if let Some(score) = score
                && best.is_none_or(|(b, _)| score > b)
            {
                best = Some((score, d));
            }
        }
        best.map(|(_, d)| d).ok_or_else(|| ManifestError::NoPlatform {
            wanted: wanted.clone(),
            available: match self
                .manifests
                .iter()
                .filter_map(|d| d.platform.as_ref())
                .map(|p| p.to_string())
                .collect::<Vec<_>>()
            {
                list if list.is_empty() => "none".to_owned(),
                list => list.join(", "),
            },
        })
    }
}

impl Document {
    /// Reads a manifest or an index. `media_type` is what the transport said it is, which counts
    /// only where the document does not say itself.
    ///
    /// # Errors
    /// If it is too large, not JSON of the right shape, or of a type that is no image.
    pub fn parse(json: &[u8], media_type: Option<&str>) -> Result<Self, ManifestError> {
        if json.len() as u64 > MAX_MANIFEST {
            return Err(ManifestError::TooLarge(json.len() as u64));
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Probe {
            schema_version: Option<u32>,
            media_type: Option<String>,
            manifests: Option<serde::de::IgnoredAny>,
            config: Option<serde::de::IgnoredAny>,
        }
        let probe: Probe = serde_json::from_slice(json)?;
        let declared = probe.media_type.as_deref().or(media_type).unwrap_or_default();
        let index = match declared {
            media_type::OCI_INDEX | media_type::DOCKER_LIST => true,
            media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => false,
            // Ambiguous documents are refused: they mean different images to different readers
            // (CVE-2021-41190).
            _ if probe.manifests.is_some() && probe.config.is_none() => true,
            _ if probe.config.is_some() && probe.manifests.is_none() => false,
            other => return Err(ManifestError::Type(other.to_owned())),
        };
        if probe.schema_version == Some(1) || (probe.manifests.is_some() && probe.config.is_some())
        {
            return Err(ManifestError::Type(declared.to_owned()));
        }
        if index {
            Ok(Self::Index(serde_json::from_slice(json)?))
        } else {
            Ok(Self::Manifest(serde_json::from_slice(json)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    fn entry(platform: Option<&str>) -> Descriptor {
        let mut d = Descriptor::new(
            media_type::OCI_MANIFEST,
            Digest::of(platform.unwrap_or("").as_bytes()),
            1,
        );
        d.platform = platform.map(|p| {
            let mut parts = p.split('/');
            Platform {
                os: parts.next().unwrap().into(),
                architecture: parts.next().unwrap().into(),
                variant: parts.next().map(Into::into),
                os_version: None,
                os_features: vec![],
            }
        });
        d
    }

    #[test]
    fn selects_the_best_platform() {
        let index = ImageIndex::new(vec![
            entry(Some("unknown/unknown")),
            entry(Some("linux/amd64")),
            entry(Some("linux/amd64/v3")),
            entry(Some("linux/arm64/v8")),
        ]);
        let pick = |p: &str| index.select(&p.parse().unwrap()).map(|d| d.digest);
        assert_eq!(pick("linux/amd64").unwrap(), Digest::of(b"linux/amd64"));
        assert_eq!(pick("linux/amd64/v3").unwrap(), Digest::of(b"linux/amd64/v3"));
        assert_eq!(pick("linux/arm64").unwrap(), Digest::of(b"linux/arm64/v8"));
        assert!(matches!(pick("linux/s390x"), Err(ManifestError::NoPlatform { .. })));
    }

    #[test]
    fn tells_documents_apart() {
        let manifest = ImageManifest::new(entry(None), vec![]);
        assert_eq!(
            Document::parse(&manifest.to_json(), None).unwrap(),
            Document::Manifest(manifest)
        );
        let index = ImageIndex::new(vec![]);
        assert_eq!(Document::parse(&index.to_json(), None).unwrap(), Document::Index(index));
        let both = br#"{"schemaVersion":2,"manifests":[],"config":{},"layers":[]}"#;
        assert!(matches!(
            Document::parse(both, Some(media_type::OCI_MANIFEST)),
            Err(ManifestError::Type(_))
        ));
        assert!(matches!(
            Document::parse(br#"{"schemaVersion":1,"fsLayers":[]}"#, None),
            Err(ManifestError::Type(_))
        ));
        assert!(Document::parse(b"nonsense", None).is_err());
    }
}
