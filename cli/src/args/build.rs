//! `drydock build`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use frontend::StepAge;
use oci::{Platform, Reference};

use super::age;
use super::allow::{self, Allow};
use super::caches::CacheArgs;
use super::call::{self, Call, CallFormat, CallSpec};
use super::context::ContextArgs;
use super::dns::DnsArgs;
use super::later::{IgnoredArgs, LaterArgs};
use super::limits::LimitArgs;
use super::max_cache::MaxCache;
use super::output::{self, OutputSpec};
use super::pair::{self, BuildArg, ExtraHost, Label, NamedContext};
use super::secret::{self, SecretArg};
use super::ssh::{self, SshArg};

const IMAGE: &str = "Image";
const OUTPUT: &str = "Output";
pub(super) const CACHE: &str = "Cache";
pub(super) const STEPS: &str = "Steps";
const PROGRESS: &str = "Progress";
const INSTEAD: &str = "Instead of building";

const EXAMPLES: &str = "\
Examples:
  drydock build -t app .                                the image app:latest in the local store
  drydock build -f docker/Dockerfile --target test .    one stage of another Dockerfile
  drydock build -o type=oci,dest=app.tar .              an OCI archive
  drydock build -o out .                                the files of the image in ./out
  drydock build -t localhost:5000/app --push .          into a registry
  drydock build --check .                               what is doubtful in the Dockerfile

Exit status: 0 when everything asked for was made, 1 otherwise; 130 after a second Ctrl-C.";

/// Arguments of `drydock build`.
#[derive(Args, Clone, Debug)]
#[command(args_override_self = true, after_help = EXAMPLES, next_line_help = false)]
pub struct BuildArgs {
    /// The context: a directory, a git repository, the URL of an archive or a Dockerfile, or - for
    /// either on standard input
    #[arg(value_name = "PATH | URL | -")]
    pub context: String,
    /// The paths that --call=ignore is asked about.
    #[arg(value_name = "PATH", hide = true)]
    pub paths: Vec<String>,

    /// The Dockerfile [default: Dockerfile in the context; - for standard input; may be a URL]
    #[arg(short, long, value_name = "FILE", help_heading = IMAGE)]
    pub file: Option<PathBuf>,
    /// A name for the image; may be repeated
    #[arg(short, long = "tag", value_name = "NAME[:TAG]", value_parser = reference, help_heading = IMAGE)]
    pub tags: Vec<Reference>,
    /// The stage to build [default: the last one]
    #[arg(long, value_name = "STAGE", help_heading = IMAGE)]
    pub target: Option<String>,
    /// A value for an ARG; without =VALUE that of the environment
    #[arg(long = "build-arg", value_name = "KEY[=VALUE]", value_parser = pair::build_arg, help_heading = IMAGE)]
    pub build_args: Vec<BuildArg>,
    /// What the Dockerfile uses by NAME: a directory, a repository, a URL, docker-image://NAME,
    /// oci-layout://PATH or target:STAGE
    #[arg(long = "build-context", value_name = "NAME=VALUE", value_parser = pair::named_context, help_heading = IMAGE)]
    pub build_contexts: Vec<NamedContext>,
    /// A label for the image
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair::label, help_heading = IMAGE)]
    pub labels: Vec<Label>,
    /// The platform to build for (this machine's)
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',', help_heading = IMAGE)]
    pub platform: Vec<Platform>,
    /// Ask the registry for base images even if they are there
    #[arg(long, help_heading = IMAGE)]
    pub pull: bool,

    /// A directory, - for a tar on standard output, or type=oci|docker|tar|local|image|registry
    /// with dest=, name=, push=, tar=, compression=, compression-level=, force-compression=,
    /// rewrite-timestamp=; may be repeated
    #[arg(short, long = "output", value_name = "OUTPUT", value_parser = output::parse, help_heading = OUTPUT)]
    pub outputs: Vec<OutputSpec>,
    /// Push the image to the registries of its names
    #[arg(long, help_heading = OUTPUT)]
    pub push: bool,
    /// Load the image into the docker or podman of this machine
    #[arg(long, help_heading = OUTPUT)]
    pub load: bool,
    /// Write the image's id (the digest of its config) to FILE
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub iidfile: Option<PathBuf>,
    /// Write digests and names of the image to FILE, as JSON
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub metadata_file: Option<PathBuf>,

    /// Run every step again
    #[arg(long, help_heading = CACHE)]
    pub no_cache: bool,
    /// Run the steps of these stages again
    #[arg(long, value_name = "STAGE", value_delimiter = ',', help_heading = CACHE)]
    pub no_cache_filter: Vec<String>,
    /// How old the result of a step may be, such as 90s, 24h or 7d; STEP is a stage, STAGE:N or a
    /// piece of the instruction; may be repeated
    #[arg(long = "ttl", value_name = "STEP=AGE", value_parser = age::parse, help_heading = CACHE)]
    pub ttl: Vec<StepAge>,
    /// How much the state directory may take, such as 10GB; what is worth least makes room
    /// [env: DRYDOCK_MAX_CACHE]
    #[arg(long, value_name = "SIZE", help_heading = CACHE)]
    pub max_cache: Option<MaxCache>,
    /// Caches that are shared with other machines.
    #[command(flatten)]
    pub caches: CacheArgs,
    /// How contexts are read.
    #[command(flatten)]
    pub contexts: ContextArgs,

    /// The network of RUN: default (the host's), none, host, or isolated (one of each step's own,
    /// with a way out)
    #[arg(long, value_name = "MODE", value_enum, default_value = "default", hide_default_value = true, hide_possible_values = true, help_heading = STEPS)]
    pub network: Network,
    /// A line for /etc/hosts of RUN
    #[arg(long = "add-host", value_name = "NAME:ADDRESS", value_parser = pair::extra_host, help_heading = STEPS)]
    pub add_hosts: Vec<ExtraHost>,
    /// Name servers, search domains and options of the resolver.
    #[command(flatten)]
    pub dns: DnsArgs,
    /// A secret, from a file or a variable: id=ID[,src=FILE|env=VARIABLE]; may be repeated
    #[arg(long = "secret", value_name = "SECRET", value_parser = secret::parse, help_heading = STEPS)]
    pub secrets: Vec<SecretArg>,
    /// An ssh agent for RUN: default (that of SSH_AUTH_SOCK), or a socket, or keys for one
    #[arg(long = "ssh", value_name = "ID[=SOCKET|KEY]", value_parser = ssh::parse, help_heading = STEPS)]
    pub ssh: Vec<SshArg>,
    /// Let RUN leave the sandbox where it asks for it: network.host, security.insecure, device, or
    /// device=NAME[,alias=NAME]
    #[arg(long = "allow", value_name = "WHAT", value_parser = allow::parse, help_heading = STEPS)]
    pub allow: Vec<Allow>,
    /// Steps that run at the same time [default: the number of cores]
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = STEPS)]
    pub jobs: Option<NonZeroUsize>,

    /// How snapshots are stored: auto, overlay, fuse-overlayfs or copy
    #[arg(long, value_name = "NAME", value_enum, default_value = "auto", hide_default_value = true, hide_possible_values = true, help_heading = STEPS)]
    pub snapshotter: Snapshots,

    /// What a step may use.
    #[command(flatten)]
    pub limits: LimitArgs,

    /// How progress is shown: auto, plain, tty, quiet or rawjson [env: BUILDKIT_PROGRESS]
    #[arg(long, value_name = "MODE", hide_possible_values = true, help_heading = PROGRESS)]
    pub progress: Option<ProgressMode>,
    /// Print nothing but the image's id
    #[arg(short, long, help_heading = PROGRESS)]
    pub quiet: bool,
    /// Tell of each step that runs why it does
    #[arg(long, help_heading = PROGRESS)]
    pub explain: bool,

    /// Check the Dockerfile: the same as --call=check
    #[arg(long, help_heading = INSTEAD)]
    pub check: bool,
    /// What to ask of the Dockerfile: check, outline, targets, ignore or subrequests.describe,
    /// with ,format=json for programs
    #[arg(long, value_name = "NAME", value_parser = call::parse, help_heading = INSTEAD)]
    pub call: Option<CallSpec>,

    /// Tell which steps would run, why, and how long they took last time; =json for programs.
    /// Nothing is run or written
    #[arg(long, value_name = "FORMAT", value_parser = call::format, num_args = 0..=1, require_equals = true, default_missing_value = "text", help_heading = INSTEAD)]
    pub plan: Option<CallFormat>,

    /// What is refused.
    #[command(flatten)]
    pub later: LaterArgs,
    /// What is ignored.
    #[command(flatten)]
    pub ignored: IgnoredArgs,
}

impl BuildArgs {
    /// What is asked; `--check` is short for a call (buildx).
    pub fn call(&self) -> CallSpec {
        let spec = self.call.unwrap_or_default();
        if self.check { CallSpec { call: Call::Check, ..spec } } else { spec }
    }
}

/// `--network`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Network {
    /// The host's
    #[default]
    Default,
    /// None but a loopback interface
    None,
    /// The host's, by name
    Host,
    /// One of its own, from which others can be reached
    Isolated,
}

/// `--snapshotter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Snapshots {
    /// As in the state directory; in a new one, overlayfs or else plain copies
    #[default]
    Auto,
    /// overlayfs of the kernel
    Overlay,
    /// The program fuse-overlayfs
    FuseOverlayfs,
    /// Plain copies
    Copy,
}

impl From<Snapshots> for worker::Backend {
    fn from(asked: Snapshots) -> Self {
        match asked {
            Snapshots::Auto => Self::Auto,
            Snapshots::Overlay => Self::Overlay,
            Snapshots::FuseOverlayfs => Self::FuseOverlayfs,
            Snapshots::Copy => Self::Copy,
        }
    }
}

/// `--progress`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// tty on a terminal, plain elsewhere
    #[default]
    Auto,
    /// Lines of text
    Plain,
    /// A view that is redrawn
    Tty,
    /// Nothing
    #[value(alias = "none")]
    Quiet,
    /// A JSON document per line
    Rawjson,
}

fn reference(text: &str) -> Result<Reference, String> {
    let reference: Reference =
        text.parse().map_err(|e: oci::reference::ReferenceError| e.reason)?;
    match reference.digest() {
        Some(_) => Err("a new image cannot be named by digest".to_owned()),
        None => Ok(reference),
    }
}
