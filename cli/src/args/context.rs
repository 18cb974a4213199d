//! How contexts are read: `--context-modes`, `--context-trust`.

use clap::{Args, ValueEnum};

use super::build::CACHE;

/// How contexts are read.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct ContextArgs {
    /// Modes of files in contexts: keep, or git (0644, or 0755 for directories and what may be
    /// executed), so that clones of other users hit the same results
    #[arg(long = "context-modes", value_name = "MODES", value_enum, default_value = "keep", hide_default_value = true, hide_possible_values = true, help_heading = CACHE)]
    pub modes: Modes,
    /// What tells that a file in a context is unchanged: stat (its times and size), or none (it is
    /// read in every build)
    #[arg(long = "context-trust", value_name = "WHAT", value_enum, default_value = "stat", hide_default_value = true, hide_possible_values = true, help_heading = CACHE)]
    pub trust: Trust,
}

/// `--context-modes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Modes {
    /// As they are
    #[default]
    Keep,
    /// What git keeps of them
    Git,
}

/// `--context-trust`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Trust {
    /// What stat(2) says
    #[default]
    Stat,
    /// Nothing
    None,
}

impl From<Modes> for worker::ContextModes {
    fn from(asked: Modes) -> Self {
        match asked {
            Modes::Keep => Self::Keep,
            Modes::Git => Self::Git,
        }
    }
}

impl From<Trust> for worker::ContextTrust {
    fn from(asked: Trust) -> Self {
        match asked {
            Trust::Stat => Self::Stat,
            Trust::None => Self::None,
        }
    }
}
