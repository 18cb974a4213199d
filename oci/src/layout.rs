//! The OCI image layout and the Docker archive: names and documents, no paths.
//!
//! Source: OCI image-spec, image-layout.md; the shape of `docker save` archives.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// The marker file's name.
pub const OCI_LAYOUT: &str = "oci-layout";
/// The marker file's content.
pub const OCI_LAYOUT_JSON: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// The index's name.
pub const INDEX: &str = "index.json";
/// Docker's manifest list of an archive.
pub const DOCKER_MANIFEST: &str = "manifest.json";
/// Annotation with the tag alone.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation with the full reference, as containerd writes it.
pub const IMAGE_NAME: &str = "io.containerd.image.name";
/// Annotation with the creation time.
pub const IMAGE_CREATED: &str = "org.opencontainers.image.created";

/// The name of a blob inside a layout.
pub fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// One entry of Docker's `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DockerManifest {
    /// The config's path in the archive.
    pub config: String,
    /// The familiar references of the image.
    #[serde(default, deserialize_with = "null_default")]
    pub repo_tags: Vec<String>,
    /// The layers' paths in the archive, lowest first.
    #[serde(default, deserialize_with = "null_default")]
    pub layers: Vec<String>,
}

fn null_default<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}
