//! Progress of a build: events come in from many threads, one view of them goes to standard
//! error.

pub mod colours;
pub mod keeper;
pub mod log;
pub mod model;
pub mod plain;
pub mod rawjson;
pub mod renderer;
pub mod sink;
pub mod text;
pub mod tty;

use std::time::Duration;

use crate::args::ProgressMode;
use crate::console::Terminals;
use crate::environment::Environment;

pub use self::keeper::KeptFailure;
pub use self::log::{Line, LogLimits};
pub use self::sink::{FailedStep, Progress, Summary};
use colours::Colours;
use renderer::Renderer;

/// Time between two drawings, unless `TTY_DISPLAY_RATE` says otherwise.
const DISPLAY_RATE: Duration = Duration::from_millis(150);

/// Which view is shown, and how.
#[derive(Clone, Debug)]
pub struct View {
    /// Never `Auto`.
    pub mode: ProgressMode,
    /// Of the terminal view.
    pub style: tty::Style,
    /// Whether colours in the output of steps pass in the plain view.
    pub colours: bool,
    /// Time between two drawings.
    pub rate: Duration,
    /// Output of one step.
    pub limits: LogLimits,
}

impl View {
    /// What `--progress` (or `--quiet`), the environment and the terminal give together; and
    /// what is to be said about it.
    pub fn choose(
        option: Option<ProgressMode>,
        quiet: bool,
        environment: &Environment,
        terminals: Terminals,
    ) -> (Self, Vec<String>) {
        let mut notes = Vec::new();
        let dumb = environment.term.as_deref().is_none_or(|t| t == "dumb");
        let capable = terminals.stderr && !dumb;
        let wanted = match quiet {
            true => ProgressMode::Quiet,
            false => option.or(environment.progress).unwrap_or_default(),
        };
        let mode = match wanted {
            ProgressMode::Auto if capable => ProgressMode::Tty,
            ProgressMode::Auto => ProgressMode::Plain,
            ProgressMode::Tty if !capable => {
                notes.push("standard error is not a terminal: progress is plain".to_owned());
                ProgressMode::Plain
            }
            other => other,
        };
        let colours = match (&environment.colors, environment.no_color) {
            (_, true) => Colours::none(),
            (None, false) => Colours::default(),
            (Some(text), false) => {
                let (colours, wrong) = Colours::parse(text);
                notes.extend(wrong);
                colours
            }
        };
        let view = Self {
            mode,
            style: tty::Style {
                colours,
                log_lines: environment.tty_log_lines.unwrap_or(tty::LOG_LINES),
            },
            colours: terminals.stderr && !environment.no_color,
            rate: match environment.tty_display_rate {
                Some(rate @ 1..) => Duration::from_millis(rate),
                _ => DISPLAY_RATE,
            },
            limits: LogLimits::new(environment.step_log_max_size, environment.step_log_max_speed),
        };
        (view, notes)
    }

    /// The renderer of this view.
    pub fn renderer(&self) -> Box<dyn Renderer> {
        match self.mode {
            ProgressMode::Plain | ProgressMode::Auto => Box::new(plain::Plain::new(self.colours)),
            ProgressMode::Tty => Box::new(tty::Tty::new(self.style.clone())),
            ProgressMode::Quiet => Box::new(renderer::Quiet),
            ProgressMode::Rawjson => Box::new(rawjson::RawJson),
        }
    }
}

#[cfg(test)]
mod tests;
