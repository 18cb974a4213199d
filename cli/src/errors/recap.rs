//! The end of a build that failed or warned.

use std::fmt::Write;
use std::ops::RangeInclusive;

use solver::Warning;

use super::excerpt::{Mark, excerpt};
use crate::args::ProgressMode;
use crate::progress::{FailedStep, text};

/// Lines of output in the recap of a plain view, where all of them were shown before.
const PLAIN_LINES: usize = 10;

/// The instruction that a failed step comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The Dockerfile's name.
    pub file: String,
    /// Its text.
    pub text: String,
    /// The instruction's lines, from 1.
    pub lines: RangeInclusive<usize>,
    /// What of it the failure is about, where that is known.
    pub mark: Option<Mark>,
}

/// The end of a failed step's output, between rules.
pub fn output(step: &FailedStep, mode: ProgressMode) -> String {
    let count = match mode {
        ProgressMode::Plain => PLAIN_LINES,
        // A reader of JSON has everything, and wants nothing else.
        ProgressMode::Rawjson => return String::new(),
        _ => usize::MAX,
    };
    let mut out = String::new();
    let _ = writeln!(out, "------\n > {}:", step.name);
    for line in &step.lines[step.lines.len().saturating_sub(count)..] {
        let _ = writeln!(out, "{} {}", line.time, text::clean(&line.text, false));
    }
    out.push_str("------\n");
    out
}

/// What is printed before the message when a build failed: the output of the failed steps, and
/// the instruction.
pub fn failure(failed: &[FailedStep], place: Option<&Place>, mode: ProgressMode) -> String {
    let mut out = String::new();
    for step in failed.iter().filter(|s| !s.lines.is_empty()) {
        out.push_str(&output(step, mode));
    }
    if let Some(place) = place {
        out.push_str(&excerpt(&place.file, &place.text, place.lines.clone(), place.mark));
    }
    out
}

/// The list of warnings at the end of a build; empty if there are none.
pub fn warnings(warnings: &[Warning]) -> String {
    let mut out = String::new();
    match warnings.len() {
        0 => return out,
        1 => out.push_str("\n 1 warning found:\n"),
        n => {
            let _ = writeln!(out, "\n {n} warnings found:");
        }
    }
    for warning in warnings {
        let _ = writeln!(out, " - {}", text::clean(&warning.message, false));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Line;
    use solver::ProgressId;

    fn step(lines: usize) -> FailedStep {
        let line = |n| Line { time: format!("0.{n:03}"), text: format!("line {n}\u{1b}[2J") };
        FailedStep {
            id: ProgressId(1),
            name: "[2/3] RUN false".to_owned(),
            error: "exit code: 1".to_owned(),
            lines: (0..lines).map(line).collect(),
        }
    }

    #[test]
    fn in_buildkits_shape() {
        let place = Place {
            file: "Dockerfile".to_owned(),
            text: "FROM x\n\nRUN false\n".to_owned(),
            lines: 3..=3,
            mark: None,
        };
        assert_eq!(
            failure(&[step(1)], Some(&place), ProgressMode::Tty),
            "\
------
 > [2/3] RUN false:
0.000 line 0
------
Dockerfile:3
--------------------
   1 |     FROM x
   2 |     
   3 | >>> RUN false
--------------------
"
        );
        let plain = failure(&[step(30)], None, ProgressMode::Plain);
        assert_eq!(plain.matches("line").count(), 10);
        assert_eq!(failure(&[step(0)], None, ProgressMode::Quiet), "");
        assert_eq!(failure(&[step(3)], None, ProgressMode::Rawjson), "");
    }

    #[test]
    fn counts_warnings() {
        let warning = |m: &str| Warning { id: None, message: m.to_owned() };
        assert_eq!(warnings(&[]), "");
        assert_eq!(warnings(&[warning("a")]), "\n 1 warning found:\n - a\n");
        assert!(warnings(&[warning("a"), warning("b")]).contains("2 warnings found:\n - a\n - b"));
    }
}
