//! The commands on the local store: images, inspect, tag, rmi, load, push, pull, du, prune.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use oci::{Platform, Reference};

/// Arguments of `drydock images`.
#[derive(Args, Clone, Debug)]
#[command(args_override_self = true)]
pub struct ImagesArgs {
    /// Only images of this name (NAME or NAME:TAG)
    pub name: Option<String>,
    /// Print the ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Print the whole ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Print a JSON document per image
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `drydock inspect`.
#[derive(Args, Clone, Debug)]
pub struct InspectArgs {
    /// Names or ids of images
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
}

/// Arguments of `drydock tag`.
#[derive(Args, Clone, Debug)]
pub struct TagArgs {
    /// The name or id of an image
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// Its new name
    #[arg(value_name = "TARGET")]
    pub target: Reference,
}

/// Arguments of `drydock rmi`.
#[derive(Args, Clone, Debug)]
#[command(args_override_self = true)]
pub struct RmiArgs {
    /// Names or ids of images
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Remove every name of an id, and do not mind images that are not there
    #[arg(short, long)]
    pub force: bool,
}

/// Arguments of `drydock load`.
#[derive(Args, Clone, Debug)]
#[command(args_override_self = true)]
pub struct LoadArgs {
    /// The archive [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Print nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
}

/// Arguments of `drydock push`.
#[derive(Args, Clone, Debug)]
#[command(args_override_self = true)]
pub struct PushArgs {
    /// The name of an image
    #[arg(value_name = "NAME[:TAG]")]
    pub name: Reference,
    /// Show no progress, only the name with the digest
    #[arg(short, long)]
    pub quiet: bool,
}

/// Arguments of `drydock pull`.
#[derive(Args, Clone, Debug)]
#[command(args_override_self = true)]
pub struct PullArgs {
    /// The name of an image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub name: Reference,
    /// The platform [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,
    /// Show no progress, only the name with the digest
    #[arg(short, long)]
    pub quiet: bool,
}

/// Arguments of `drydock du`.
#[derive(Args, Clone, Debug)]
#[command(args_override_self = true)]
pub struct DuArgs {
    /// Tell everything that is known of each record
    #[arg(short, long)]
    pub verbose: bool,
    /// Print a JSON document per record
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `drydock prune`.
#[derive(Args, Clone, Debug)]
#[command(args_override_self = true)]
pub struct PruneArgs {
    /// Remove base images that no tag names as well
    #[arg(short, long)]
    pub all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Keep what was used within a time: until=24h
    #[arg(long, value_name = "until=TIME", value_parser = until)]
    pub filter: Option<Until>,
}

/// `until=24h`: what was not used for that long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Until(pub Duration);

fn until(text: &str) -> Result<Until, String> {
    match text.split_once('=') {
        Some(("until", time)) => humantime::parse_duration(time)
            .map(Until)
            .map_err(|e| format!("{time:?} is not a time such as 24h or 7days: {e}")),
        Some((key, _)) => Err(format!("unknown filter {key:?} (known: until)")),
        None => Err("expected until=TIME".to_owned()),
    }
}
