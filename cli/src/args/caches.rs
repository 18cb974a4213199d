//! `--cache-from` and `--cache-to`: caches that are shared with other machines.

use clap::Args;

use super::build::CACHE;
use super::cache_from::{self, CacheFrom};
use super::cache_to::{self, CacheTo};

/// Caches that are shared with other machines.
#[derive(Args, Clone, Debug, Default)]
pub struct CacheArgs {
    /// A cache of another machine that may be used: a name in a registry,
    /// type=registry,ref=NAME with registry.insecure=, or type=local,src=DIR with tag= or digest=;
    /// may be repeated
    #[arg(long = "cache-from", value_name = "CACHE", value_parser = cache_from::parse, help_heading = CACHE)]
    pub from: Vec<CacheFrom>,
    /// Where the cache of this build goes for other machines: a name in a registry,
    /// type=registry,ref=NAME with registry.insecure=, type=local,dest=DIR with tag=, reset=, or
    /// type=inline (into the image), with mode=min|max, compression=, compression-level=,
    /// force-compression=, ignore-error=; may be repeated
    #[arg(long = "cache-to", value_name = "CACHE", value_parser = cache_to::parse, help_heading = CACHE)]
    pub to: Vec<CacheTo>,
}
