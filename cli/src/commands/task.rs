//! Work that is shown as a step but is none of the graph: loading metadata, exporting.

use oci::{Digest, Timestamp};
use solver::{CancelToken, Event, EventSink, ProgressId, StepContext};

/// A line of progress that started.
pub(crate) struct Task<'a> {
    events: &'a dyn EventSink,
    id: ProgressId,
}

impl<'a> Task<'a> {
    /// Shows and starts it.
    pub(crate) fn start(events: &'a dyn EventSink, name: &str) -> Self {
        let id = events.next_id();
        events.event(Event::Vertex {
            id,
            digest: Digest::of(name.as_bytes()).to_string(),
            name: name.to_owned(),
            inputs: Vec::new(),
        });
        events.event(Event::Started { id, at: Timestamp::now() });
        Self { events, id }
    }

    /// What is done for it.
    pub(crate) fn context<'b>(&'b self, cancel: &'b CancelToken) -> StepContext<'b> {
        StepContext { id: self.id, events: self.events, cancel }
    }

    /// Tells a part of it.
    pub(crate) fn status(
        &self,
        name: &str,
        current: u64,
        total: u64,
        started: Timestamp,
        over: bool,
    ) {
        self.events.event(Event::Status {
            id: self.id,
            name: name.to_owned(),
            current,
            total,
            started,
            completed: over.then(Timestamp::now),
        });
    }

    /// It is done.
    pub(crate) fn done(self) {
        self.events.event(Event::Done { id: self.id, at: Timestamp::now() });
    }

    /// It failed.
    pub(crate) fn failed(self, error: &str) {
        let error = error.to_owned();
        self.events.event(Event::Failed { id: self.id, at: Timestamp::now(), error });
    }

    /// Ends it as `result` says.
    pub(crate) fn end<T, E: std::fmt::Display>(self, result: Result<T, E>) -> Result<T, E> {
        match &result {
            Ok(_) => self.done(),
            Err(error) => self.failed(&error.to_string()),
        }
        result
    }
}
