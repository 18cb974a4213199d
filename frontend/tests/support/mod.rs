//! What the tests of this crate share: a resolver of made-up images, and short ways to lower.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod invariants;

use std::collections::BTreeMap;
use std::path::PathBuf;

use frontend::{
    ImageRequest, ImageResolver, LowerError, LowerOptions, Lowered, ResolvedImage, lower, parse,
};
use oci::{Digest, History, ImageConfig, Platform};

/// The platform of all tests.
pub(crate) fn platform() -> Platform {
    Platform::new("linux", "amd64", None)
}

/// Options of a plain build.
pub(crate) fn options() -> LowerOptions {
    LowerOptions { build_platform: platform(), ..LowerOptions::new(platform()) }
}

/// Knows every image: one layer, `CMD ["sh"]`; `images` has those that differ.
#[derive(Default)]
pub(crate) struct Images {
    /// Configs by the name that is asked for.
    pub(crate) images: BTreeMap<String, ImageConfig>,
    /// What was asked for.
    pub(crate) asked: std::cell::RefCell<Vec<ImageRequest>>,
}

/// The config of an image that nobody described.
pub(crate) fn busybox() -> ImageConfig {
    let mut config = ImageConfig::scratch(platform());
    config.config.cmd = Some(vec!["sh".to_owned()]);
    config.rootfs.diff_ids = vec![Digest::of(b"layer")];
    config.history = vec![History { created_by: "base".to_owned(), ..History::default() }];
    config
}

impl Images {
    /// The usual images, and one more.
    pub(crate) fn with(name: &str, config: ImageConfig) -> Self {
        Self { images: [(name.to_owned(), config)].into(), ..Self::default() }
    }
}

impl ImageResolver for Images {
    fn resolve(
        &self,
        request: &ImageRequest,
    ) -> Result<ResolvedImage, Box<dyn std::error::Error + Send + Sync>> {
        self.asked.borrow_mut().push(request.clone());
        let name = request.reference.to_string();
        if name.contains("missing") {
            return Err("there is no such image".into());
        }
        let config = self.images.get(&request.shown).cloned().unwrap_or_else(busybox);
        let manifest = Digest::of(name.as_bytes());
        Ok(ResolvedImage { name: format!("{name}@{}", manifest.short()), manifest, config })
    }
}

/// Lowers a text that must be right.
pub(crate) fn lowered(text: &str) -> Lowered {
    lowered_with(text, &options())
}

/// Lowers a text that must be right.
pub(crate) fn lowered_with(text: &str, options: &LowerOptions) -> Lowered {
    match lower(&parse("Dockerfile", text), options, &Images::default()) {
        Ok(lowered) => lowered,
        Err(e) => panic!("{e}\n{e:?}\n{text}"),
    }
}

/// The messages (and advice) of the errors of a text that must be wrong.
pub(crate) fn errors(text: &str) -> Vec<String> {
    errors_with(text, &options())
}

/// The messages (and advice) of the errors of a text that must be wrong.
pub(crate) fn errors_with(text: &str, options: &LowerOptions) -> Vec<String> {
    match lower(&parse("Dockerfile", text), options, &Images::default()) {
        Ok(_) => panic!("no error in:\n{text}"),
        Err(LowerError::Diagnostics(all)) => all
            .into_iter()
            .filter(|d| d.is_error())
            .map(|d| match d.help {
                Some(help) => format!("{} ({help})", d.message),
                None => d.message,
            })
            .collect(),
        Err(other) => vec![other.to_string()],
    }
}

/// The shared test vectors, where this checkout has them beside it.
pub(crate) fn vectors(name: &str) -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = root.parent()?.parent()?.join("shared/conformance").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not there", path.display());
    None
}
