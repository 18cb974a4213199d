//! What every view of progress can do.

use std::io::Write;

use oci::Timestamp;
use solver::Event;

use super::model::Model;

/// Turns events into bytes for standard error. Pure: it is told the time.
pub trait Renderer: Send {
    /// An event that `model` has just taken. Of a log event only what may be shown is in it.
    fn event(&mut self, model: &Model, event: &Event, now: Timestamp, out: &mut Vec<u8>);

    /// A remark that belongs to no step.
    fn note(&mut self, text: &str, out: &mut Vec<u8>);

    /// A remark that people wait for, after they asked the build to stop.
    fn remark(&mut self, text: &str, out: &mut Vec<u8>) {
        let _ = writeln!(out, "{text}");
    }

    /// Time has passed.
    fn tick(&mut self, model: &Model, now: Timestamp, size: (usize, usize), out: &mut Vec<u8>);

    /// Nothing more will happen.
    fn finish(&mut self, model: &Model, now: Timestamp, size: (usize, usize), out: &mut Vec<u8>);
}

/// The view that shows nothing, unless somebody waits for the end.
pub struct Quiet;

impl Renderer for Quiet {
    fn event(&mut self, _: &Model, _: &Event, _: Timestamp, _: &mut Vec<u8>) {}

    fn note(&mut self, _: &str, _: &mut Vec<u8>) {}

    fn tick(&mut self, _: &Model, _: Timestamp, _: (usize, usize), _: &mut Vec<u8>) {}

    fn finish(&mut self, _: &Model, _: Timestamp, _: (usize, usize), _: &mut Vec<u8>) {}
}
