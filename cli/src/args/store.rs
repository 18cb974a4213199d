//! The commands on the local store: images, inspect, tag, rmi, load, push, pull.

use std::path::PathBuf;

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
