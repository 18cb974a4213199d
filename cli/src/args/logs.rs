//! `drydock logs`.

use clap::Args;

/// Arguments of `drydock logs`.
#[derive(Args, Clone, Debug)]
#[command(args_override_self = true)]
pub struct LogsArgs {
    /// The id of a build, or its beginning; `last` for the newest one [default: last]
    #[arg(value_name = "BUILD")]
    pub build: Option<String>,
    /// The number of a step, or a part of its name [default: every step]
    #[arg(value_name = "STEP")]
    pub step: Option<String>,
    /// List the builds, or the steps of BUILD, instead of what they told
    #[arg(short, long)]
    pub list: bool,
    /// Show when each line was told
    #[arg(short, long)]
    pub timestamps: bool,
}
