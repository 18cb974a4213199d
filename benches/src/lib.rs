//! Benchmarks of the `drydock` binary, of its records and of the Dockerfile language, with their
//! generators.
//!
//! Each case has a small and a large size. The large ones are measured by `cargo run --release -p
//! benches`, interleaved, so that what else the machine does falls on all of them; the small ones
//! are also run by a test, so that they cannot rot. No time is ever asserted.

pub mod cases;
pub mod chain;
pub mod files;
pub mod language;
pub mod many;
pub mod measure;
pub mod part;
pub mod records;
pub mod steps;
pub mod syncs;
