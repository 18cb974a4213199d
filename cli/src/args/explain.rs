//! `drydock explain`.

use clap::Args;

/// Arguments of `drydock explain`.
#[derive(Args, Clone, Debug)]
#[command(args_override_self = true)]
pub struct ExplainArgs {
    /// The id of a build, or its beginning [default: the last one in which a step ran]
    #[arg(value_name = "BUILD")]
    pub build: Option<String>,
    /// List the builds
    #[arg(short, long)]
    pub list: bool,
    /// Print a JSON document
    #[arg(long)]
    pub json: bool,
}
