//! Interleaved rounds, medians, and the table of them.

use std::fmt::Write;
use std::time::Duration;

use crate::cases::{Case, Size};

/// What was measured of one case.
pub struct Measurement {
    /// The case's name.
    pub name: &'static str,
    /// One time for each round.
    pub times: Vec<Duration>,
    /// Calls that wait for a disk in one run; none where they cannot be counted.
    pub syncs: Option<u64>,
    /// What the time should be at most.
    pub target: Option<Duration>,
}

impl Measurement {
    /// The median time; 0 without rounds.
    pub fn median(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }
}

/// Runs every case once per round, one after the other.
pub fn interleaved(cases: &mut [Box<dyn Case>], rounds: usize) -> Vec<Measurement> {
    let mut found: Vec<Measurement> = cases
        .iter()
        .map(|c| Measurement { name: c.name(), times: Vec::new(), syncs: None, target: c.target() })
        .collect();
    for _ in 0..rounds {
        for (case, measurement) in cases.iter_mut().zip(&mut found) {
            measurement.times.push(case.run());
        }
    }
    for (case, measurement) in cases.iter_mut().zip(&mut found) {
        measurement.syncs = case.syncs();
    }
    found
}

/// The table that is printed.
pub fn table(size: Size, measurements: &[Measurement]) -> String {
    let mut out = format!("{size:?} sizes; medians of interleaved runs\n");
    let _ = writeln!(
        out,
        "{:<44} {:>10} {:>10} {:>10} {:>6} {:>9}",
        "case", "median", "least", "most", "syncs", "target"
    );
    let ms = |d: Duration| format!("{:.1} ms", d.as_secs_f64() * 1000.0);
    for m in measurements {
        let least = m.times.iter().min().copied().unwrap_or_default();
        let most = m.times.iter().max().copied().unwrap_or_default();
        let syncs = m.syncs.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let target = m.target.map_or_else(String::new, ms);
        let _ = writeln!(
            out,
            "{:<44} {:>10} {:>10} {:>10} {syncs:>6} {target:>9}",
            m.name,
            ms(m.median()),
            ms(least),
            ms(most)
        );
    }
    out
}
