//! HEALTHCHECK.

use super::flags::{Flag, Flags};
use super::{Grammar, command};
use crate::ast::Healthcheck;
use crate::syntax::{Args, Raw};
use crate::value::parse_duration;

/// The shortest interval, in nanoseconds (Docker: `container.MinimumDuration`).
const MIN_DURATION: i64 = 1_000_000;

impl Grammar {
    pub(super) fn healthcheck(&mut self, raw: &Raw) -> Option<Healthcheck> {
        let mut flags = self.flags(
            raw,
            &[
                ("interval", Flag::Text),
                ("timeout", Flag::Text),
                ("start-period", Flag::Text),
                ("start-interval", Flag::Text),
                ("retries", Flag::Text),
            ],
        )?;
        let Args::Health(kind, args) = &raw.args else {
            self.error(raw.line_span, "HEALTHCHECK requires at least one argument");
            return None;
        };
        match kind.value.to_ascii_uppercase().as_str() {
            "NONE" => {
                if !matches!(**args, Args::None) {
                    self.error(raw.line_span, "HEALTHCHECK NONE takes no arguments");
                    return None;
                }
                Some(Healthcheck::None)
            }
            "CMD" => {
                let command = command(args);
                if command.args.is_empty() {
                    let invalid = matches!(**args, Args::Invalid);
                    if !invalid {
                        self.error(raw.line_span, "missing command after HEALTHCHECK CMD");
                    }
                    return None;
                }
                Some(Healthcheck::Check {
                    command,
                    interval: self.duration(&mut flags, "interval")?,
                    timeout: self.duration(&mut flags, "timeout")?,
                    start_period: self.duration(&mut flags, "start-period")?,
                    start_interval: self.duration(&mut flags, "start-interval")?,
                    retries: self.retries(&mut flags)?,
                })
            }
            other => {
                let message = format!("unknown type {other:?} in HEALTHCHECK (try CMD)");
                self.error(kind.span, message);
                None
            }
        }
    }

    /// A flag's duration in nanoseconds, 0 if it is not given; none after an error.
    fn duration(&mut self, flags: &mut Flags, name: &str) -> Option<u64> {
        let Some(word) = flags.text(name).filter(|w| !w.value.is_empty()) else { return Some(0) };
        let Some(nanos) = parse_duration(&word.value) else {
            let message = format!("{:?} is not a duration (such as 30s or 1m30s)", word.value);
            self.error(word.span, message);
            return None;
        };
        if nanos != 0 && nanos < MIN_DURATION {
            self.error(word.span, format!("--{name} cannot be less than 1ms"));
            return None;
        }
        u64::try_from(nanos).ok()
    }

    fn retries(&mut self, flags: &mut Flags) -> Option<u64> {
        let Some(word) = flags.text("retries").filter(|w| !w.value.is_empty()) else {
            return Some(0);
        };
        match word.value.parse::<i32>() {
            Ok(retries) if retries >= 0 => u64::try_from(retries).ok(),
            Ok(retries) => {
                self.error(word.span, format!("--retries cannot be negative ({retries})"));
                None
            }
            Err(_) => {
                self.error(word.span, format!("{:?} is not a number", word.value));
                None
            }
        }
    }
}
