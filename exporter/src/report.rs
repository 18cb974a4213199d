//! What an export tells while it goes on.

/// Takes the progress of an export. Called from many threads.
pub trait Report: Sync {
    /// A part (`exporting layers`, `pushing layer sha256:…`) has done `current` of `total` bytes;
    /// a total of 0 is unknown.
    fn progress(&self, part: &str, current: u64, total: u64);

    /// A part is done.
    fn done(&self, part: &str);

    /// Whether the export should stop.
    fn cancelled(&self) -> bool;
}
