//! What a stage rests on, and the images that were asked for.

use std::collections::HashMap;
use std::sync::Arc;

use graph::SourceOp;
use oci::{ImageConfig, Platform, Reference};

use super::{ImageLocation, ImageRequest, ImageResolver};

/// What a stage rests on.
#[derive(Clone)]
pub(super) enum Base {
    /// Nothing.
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// An image.
    Image(Arc<Image>),
    /// The named local context.
    Local(String),
    /// The named context that is not on this machine.
    Remote(Arc<Remote>),
}

/// A named context that is not on this machine.
pub(super) struct Remote {
    /// Its name.
    pub(super) name: String,
    /// How it is brought in.
    pub(super) source: SourceOp,
}

/// An image that was resolved.
pub(super) struct Image {
    pub(super) name: String,
    pub(super) manifest: oci::Digest,
    pub(super) platform: Platform,
    pub(super) config: Arc<ImageConfig>,
}

/// Asks for each image once.
pub(super) struct Resolver<'o> {
    images: &'o dyn ImageResolver,
    known: HashMap<(Reference, Platform, ImageLocation), Arc<Image>>,
}

impl<'o> Resolver<'o> {
    pub(super) fn new(images: &'o dyn ImageResolver) -> Self {
        Self { images, known: HashMap::new() }
    }

    pub(super) fn image(
        &mut self,
        reference: Reference,
        platform: Platform,
        location: ImageLocation,
        shown: &str,
    ) -> Result<Arc<Image>, Box<dyn std::error::Error + Send + Sync>> {
        let key = (reference.clone(), platform.clone(), location.clone());
        if let Some(image) = self.known.get(&key) {
            return Ok(Arc::clone(image));
        }
        let request = ImageRequest {
            reference,
            platform: platform.clone(),
            location,
            shown: shown.to_owned(),
        };
        let found = self.images.resolve(&request)?;
        let image = Arc::new(Image {
            name: found.name,
            manifest: found.manifest,
            platform,
            config: Arc::new(found.config),
        });
        self.known.insert(key, Arc::clone(&image));
        Ok(image)
    }
}
