//! The documents and blobs that every image export is made of.

use oci::{Descriptor, ImageManifest, media_type};
use rayon::prelude::*;

use crate::{ExportError, Image, LayerError, LayerFormat, Layers, Report};

/// An image as content: a manifest, a config, and layer blobs that are in the blob store.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// The manifest's descriptor.
    pub descriptor: Descriptor,
    /// The config's bytes.
    pub config: Vec<u8>,
    /// The config's descriptor.
    pub config_descriptor: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
}

/// Makes the layer blobs (in parallel), the config and the manifest of `image`.
///
/// # Errors
/// If a layer cannot be made or read.
pub fn bundle(
    image: &Image,
    format: &LayerFormat,
    report: &dyn Report,
) -> Result<Bundle, ExportError> {
    make(image, report, &|layers, index| layers.blob(index, format))
}

/// The same for a push: blobs that a registry has stay there until somebody needs their bytes.
///
/// # Errors
/// If a layer cannot be made or read.
pub fn bundle_to_push(
    image: &Image,
    format: &LayerFormat,
    report: &dyn Report,
) -> Result<Bundle, ExportError> {
    make(image, report, &|layers, index| layers.describe(index, format))
}

fn make(
    image: &Image,
    report: &dyn Report,
    blob: &(dyn Fn(&dyn Layers, usize) -> Result<Descriptor, LayerError> + Sync),
) -> Result<Bundle, ExportError> {
    let count = image.layers.diff_ids().len();
    assert_eq!(
        count,
        image.config.rootfs.diff_ids.len(),
        "an image's config lists exactly its layers"
    );
    let layers: Vec<Descriptor> = (0..count)
        .into_par_iter()
        .map(|index| {
            if report.cancelled() {
                return Err(ExportError::Cancelled);
            }
            blob(&*image.layers, index).map_err(|source| ExportError::Layer { index, source })
        })
        .collect::<Result<_, _>>()?;
    report.done("exporting layers");
    let config = image.config.to_json();
    let config_descriptor = Descriptor::of(media_type::OCI_CONFIG, &config);
    // Descriptors from other manifests may carry annotations and Docker's media types: an OCI
    // manifest names OCI types only.
    let layers: Vec<Descriptor> = layers.into_iter().map(plain).collect();
    let manifest = ImageManifest::new(config_descriptor.clone(), layers.clone()).to_json();
    let mut descriptor = Descriptor::of(media_type::OCI_MANIFEST, &manifest);
    descriptor.platform = Some(image.config.platform.clone());
    report.done(&format!("exporting manifest {}", descriptor.digest));
    report.done(&format!("exporting config {}", config_descriptor.digest));
    Ok(Bundle { manifest, descriptor, config, config_descriptor, layers })
}

fn plain(layer: Descriptor) -> Descriptor {
    let oci = match layer.media_type.as_str() {
        media_type::DOCKER_LAYER_GZIP => media_type::OCI_LAYER_GZIP,
        media_type::DOCKER_LAYER => media_type::OCI_LAYER,
        other => other,
    };
    Descriptor::new(oci, layer.digest, layer.size)
}
