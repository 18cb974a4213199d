//! What is asked of the lowering, and what it asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use graph::ignore::IgnoreList;
use graph::{GitSource, HttpSource, ModeChange, NetworkMode};
use oci::{Digest, ImageConfig, Platform, Reference};

/// How a build was asked for.
#[derive(Clone, Debug)]
pub struct LowerOptions {
    /// The stage to build, by name or number; none for the last one.
    pub target: Option<String>,
    /// `--build-arg`, those without a value left out.
    pub build_args: BTreeMap<String, String>,
    /// `--label`, in order.
    pub labels: Vec<(String, String)>,
    /// The platform to build for.
    pub platform: Platform,
    /// The platform that builds.
    pub build_platform: Platform,
    /// Run every step even if its result is known.
    pub no_cache: bool,
    /// The stages (names or numbers) whose steps run even if their results are known; names that
    /// do not exist are ignored.
    pub no_cache_filter: Vec<String>,
    /// `--ttl`, in order: it counts more than what a RUN says itself.
    pub step_ages: Vec<StepAge>,
    /// The network of RUN where it says nothing else.
    pub network: NetworkMode,
    /// `--add-host`: names and addresses.
    pub extra_hosts: Vec<(String, String)>,
    /// The host name that RUN sees; none for `buildkitsandbox`.
    pub hostname: Option<String>,
    /// `--build-context`, by name.
    pub contexts: BTreeMap<String, NamedContext>,
    /// What is not part of the main context.
    pub ignore: IgnoreList,
    /// What is not part of named local contexts, by name.
    pub context_ignores: BTreeMap<String, IgnoreList>,
    /// What becomes of the modes in contexts that are archives.
    pub context_modes: Option<ModeChange>,
    /// Proxy variables of the caller; build arguments of the same name win.
    pub proxy_env: Vec<(String, String)>,
    /// What RUN may be allowed beyond the sandbox.
    pub allow: BTreeSet<Entitlement>,
    /// Plan and lower every stage, not only what the target needs (`--check`); the target must
    /// not be named then.
    pub all_stages: bool,
}

impl LowerOptions {
    /// A plain build for `platform` on this machine.
    pub fn new(platform: Platform) -> Self {
        Self {
            target: None,
            build_args: BTreeMap::new(),
            labels: Vec::new(),
            platform,
            build_platform: Platform::host(),
            no_cache: false,
            no_cache_filter: Vec::new(),
            step_ages: Vec::new(),
            network: NetworkMode::Default,
            extra_hosts: Vec::new(),
            hostname: None,
            contexts: BTreeMap::new(),
            ignore: IgnoreList::default(),
            context_ignores: BTreeMap::new(),
            context_modes: None,
            proxy_env: Vec::new(),
            allow: BTreeSet::new(),
            all_stages: false,
        }
    }
}

/// How old the results of some steps may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepAge {
    /// A stage (its name or number), `STAGE:N` for its Nth step as progress counts them, or a piece
    /// of an instruction's text.
    pub step: String,
    /// How long ago such a step may have started.
    pub age: Duration,
}

/// What a `--build-context` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory of this machine.
    Local,
    /// `docker-image://`.
    Image(Reference),
    /// `oci-layout://`; the resolver knows where it is.
    Layout,
    /// A tree of a git repository.
    Git(GitSource),
    /// A file behind a URL; an archive stands for what is in it.
    Http(HttpSource),
    /// `target:`, a stage of the same Dockerfile.
    Stage(String),
}

/// What a RUN step may be allowed beyond the sandbox (`--allow`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entitlement {
    /// `network.host`
    NetworkHost,
    /// `security.insecure`
    SecurityInsecure,
    /// `device`: all devices. What this lets a step use is only known where devices are, so the
    /// lowering asks for nothing.
    Device,
}

impl Entitlement {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NetworkHost, Self::SecurityInsecure, Self::Device];

    /// As `--allow` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NetworkHost => "network.host",
            Self::SecurityInsecure => "security.insecure",
            Self::Device => "device",
        }
    }
}

/// Finds images. Asked once for each image, platform and location.
pub trait ImageResolver {
    /// Finds one image: which manifest a name means today, and its config.
    ///
    /// # Errors
    /// If there is no such image or it cannot be reached.
    fn resolve(
        &self,
        request: &ImageRequest,
    ) -> Result<ResolvedImage, Box<dyn std::error::Error + Send + Sync>>;
}

/// An image that is needed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageRequest {
    /// Its name. For a layout it is only what the Dockerfile calls it.
    pub reference: Reference,
    /// The platform that it must have.
    pub platform: Platform,
    /// Where to look.
    pub location: ImageLocation,
    /// The name as the Dockerfile has it.
    pub shown: String,
}

/// Where an image is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ImageLocation {
    /// In the local store, then in its registry.
    Default,
    /// In the named context of this key.
    Context(String),
}

/// An image that was found.
#[derive(Clone, Debug)]
pub struct ResolvedImage {
    /// As it is shown: the reference with its digest.
    pub name: String,
    /// The digest of the manifest of the platform that was asked for.
    pub manifest: Digest,
    /// Its config.
    pub config: ImageConfig,
}
