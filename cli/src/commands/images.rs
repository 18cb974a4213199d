//! The frontend's question for images, answered by the worker and shown as progress.

use std::collections::BTreeMap;
use std::error::Error;

use frontend::{ImageLocation, ImageRequest, ImageResolver, ResolvedImage};
use solver::{CancelToken, EventSink};
use worker::image::{Location, Resolver};

use super::task::Task;
use crate::contexts::LayoutSource;

/// Resolves the images of one build.
pub(crate) struct Images<'a> {
    pub(crate) resolver: &'a Resolver<'a>,
    pub(crate) layouts: &'a BTreeMap<String, LayoutSource>,
    pub(crate) events: &'a dyn EventSink,
    pub(crate) cancel: &'a CancelToken,
}

impl ImageResolver for Images<'_> {
    fn resolve(
        &self,
        request: &ImageRequest,
    ) -> Result<ResolvedImage, Box<dyn Error + Send + Sync>> {
        let location = match &request.location {
            ImageLocation::Default => Location::Store,
            ImageLocation::Context(name) => match self.layouts.get(name) {
                Some(layout) => {
                    Location::Layout { path: layout.path.clone(), image: layout.image.clone() }
                }
                // docker-image:// names an image like any other.
                None => Location::Store,
            },
        };
        let task = Task::start(
            self.events,
            self.cancel,
            &format!("[internal] load metadata for {}", request.reference),
        );
        let asked = worker::image::ImageRequest {
            reference: request.reference.clone(),
            platform: request.platform.clone(),
            location,
        };
        let handle = task.end(self.resolver.resolve(&asked))?;
        Ok(ResolvedImage {
            name: handle.name.clone(),
            manifest: handle.id,
            config: handle.config.clone(),
        })
    }
}
