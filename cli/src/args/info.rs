//! `drydock info`.

use clap::{Args, ValueEnum};

/// Arguments of `drydock info`.
#[derive(Args, Clone, Debug)]
#[command(args_override_self = true)]
pub struct InfoArgs {
    /// How it is written: text, or json for programs
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value = "text",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub format: InfoFormat,
}

/// `--format` of `drydock info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum InfoFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON document.
    Json,
}
