//! How often a command waits for the disk, counted from outside.

use std::fs;

use tests::drydock::Run;
use tests::{skip, temp};

/// The calls that do.
const CALLS: &str = "fsync,fdatasync,syncfs,sync,msync,sync_file_range";

/// Runs a command under strace and counts them, in all its processes. None where strace is missing
/// or may not trace.
pub fn count(run: Run) -> Option<u64> {
    skip::program("strace")?;
    let dir = temp::directory();
    let trace = dir.path().join("trace");
    let calls = format!("trace={CALLS}");
    let output = run.wrapped(["strace", "-f", "-e", &calls, "-o", trace.to_str()?]).output();
    if !output.status.success() {
        return None;
    }
    let text = fs::read_to_string(trace).ok()?;
    // A call that is interrupted by another thread's line is told twice.
    let began = |line: &&str| CALLS.split(',').any(|c| line.contains(&format!(" {c}(")));
    Some(text.lines().filter(began).count() as u64)
}
