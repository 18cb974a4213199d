//! Interleaved rounds, medians, and the table of them.

use std::fmt::Write;
use std::time::Duration;

use crate::cases::Size;
use crate::part::Part;

/// What was measured of one case.
pub struct Measurement {
    /// The case's name.
    pub name: String,
    /// One time for each round.
    pub times: Vec<Duration>,
    /// Calls that wait for a disk in one run; none where they cannot be counted.
    pub syncs: Option<u64>,
    /// What the time should be at most.
    pub target: Option<Duration>,
    /// What else there is to say.
    pub remark: Option<String>,
}

impl Measurement {
    /// The median time; 0 without rounds.
    pub fn median(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }
}

/// Runs every case of all parts once per round, one after the other: what was measured of each, part
/// by part.
pub fn interleaved(parts: &mut [Part], rounds: usize) -> Vec<Measurement> {
    let mut cases: Vec<_> = parts.iter_mut().flat_map(|part| &mut part.cases).collect();
    let mut found: Vec<Measurement> = cases
        .iter()
        .map(|c| Measurement {
            name: c.name(),
            times: Vec::new(),
            syncs: None,
            target: c.target(),
            remark: None,
        })
        .collect();
    for _ in 0..rounds {
        for (case, measurement) in cases.iter_mut().zip(&mut found) {
            measurement.times.push(case.run());
        }
    }
    for (case, measurement) in cases.iter_mut().zip(&mut found) {
        measurement.syncs = case.syncs();
        measurement.remark = case.remark();
    }
    found
}

/// The table that is printed of what [`interleaved`] found.
pub fn table(size: Size, rounds: usize, parts: &[Part], found: &[Measurement]) -> String {
    let mut out = format!(
        "{} sizes, {rounds} rounds; in each round every case once, one after the other\n\
         syncs: calls that wait for a disk, counted in one more run under strace\n",
        match size {
            Size::Small => "Small",
            Size::Large => "Large",
        }
    );
    let mut found = found.iter();
    for part in parts {
        let _ = writeln!(out, "\n{}: {}", part.title, part.how);
        let _ = writeln!(
            out,
            "{:<46} {:>11} {:>11} {:>11} {:>6} {:>10}",
            "  case", "median", "least", "most", "syncs", "target"
        );
        for measurement in found.by_ref().take(part.cases.len()) {
            row(&mut out, measurement);
        }
    }
    out
}

fn row(out: &mut String, measurement: &Measurement) {
    let ms = |d: Duration| format!("{:.1} ms", d.as_secs_f64() * 1000.0);
    let least = measurement.times.iter().min().copied().unwrap_or_default();
    let most = measurement.times.iter().max().copied().unwrap_or_default();
    let syncs = measurement.syncs.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let target = measurement.target.map_or_else(String::new, ms);
    let _ = writeln!(
        out,
        "  {:<44} {:>11} {:>11} {:>11} {syncs:>6} {target:>10}",
        measurement.name,
        ms(measurement.median()),
        ms(least),
        ms(most)
    );
    if let Some(remark) = &measurement.remark {
        let _ = writeln!(out, "    {remark}");
    }
}
