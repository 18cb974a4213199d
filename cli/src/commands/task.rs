//! Work that is shown as a step but is none of the graph: loading metadata, exporting.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use exporter::Report;
use oci::{Digest, Timestamp};
use solver::{CancelToken, Event, EventSink, ProgressId, StepContext};

/// Time between two remarks on one part of a task.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// A line of progress that started.
pub(crate) struct Task<'a> {
    events: &'a dyn EventSink,
    cancel: &'a CancelToken,
    id: ProgressId,
}

impl<'a> Task<'a> {
    /// Shows and starts it.
    pub(crate) fn start(events: &'a dyn EventSink, cancel: &'a CancelToken, name: &str) -> Self {
        let id = events.next_id();
        events.event(Event::Vertex {
            id,
            // Two tasks of one name are two vertices, as two outputs of one kind.
            digest: Digest::of(format!("{}:{name}", id.0).as_bytes()).to_string(),
            name: name.to_owned(),
            inputs: Vec::new(),
        });
        events.event(Event::Started { id, at: Timestamp::now() });
        Self { events, cancel, id }
    }

    /// What is done for it.
    pub(crate) fn context(&self) -> StepContext<'_> {
        StepContext { id: self.id, events: self.events, cancel: self.cancel, slot: None }
    }

    /// Tells a part that is over and has no size.
    pub(crate) fn part(&self, name: &str) {
        let now = Timestamp::now();
        self.status(name, (0, 0), now, Some(now));
    }

    fn status(
        &self,
        name: &str,
        (current, total): (u64, u64),
        started: Timestamp,
        completed: Option<Timestamp>,
    ) {
        let name = name.to_owned();
        let id = self.id;
        self.events.event(Event::Status { id, name, current, total, started, completed });
    }

    /// It is done.
    pub(crate) fn done(self) {
        self.events.event(Event::Done { id: self.id, at: Timestamp::now() });
    }

    /// It failed, or was stopped if everything was.
    pub(crate) fn failed(self, error: impl Display) {
        let (id, at) = (self.id, Timestamp::now());
        self.events.event(match self.cancel.is_cancelled() {
            true => Event::Cancelled { id, at },
            false => Event::Failed { id, at, error: error.to_string() },
        });
    }

    /// Ends it as `result` says.
    pub(crate) fn end<T, E: Display>(self, result: Result<T, E>) -> Result<T, E> {
        match &result {
            Ok(_) => self.done(),
            Err(error) => self.failed(error),
        }
        result
    }

    /// Takes the progress of an export.
    pub(crate) fn report(&self) -> TaskReport<'_> {
        TaskReport { task: self, parts: Mutex::new(HashMap::new()) }
    }
}

/// The progress of an export as statuses of its task. Exporters report every buffer: what comes
/// too soon after the last remark on the same part is not told.
pub(crate) struct TaskReport<'a> {
    task: &'a Task<'a>,
    parts: Mutex<HashMap<String, Part>>,
}

struct Part {
    amount: (u64, u64),
    started: Timestamp,
    told: Instant,
}

impl Report for TaskReport<'_> {
    fn progress(&self, part: &str, current: u64, total: u64) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let amount = (current, total);
        let now = Instant::now();
        let started = match parts.get_mut(part) {
            Some(known) => {
                known.amount = amount;
                if now.duration_since(known.told) < REPORT_EVERY {
                    return;
                }
                known.told = now;
                known.started
            }
            None => {
                let started = Timestamp::now();
                parts.insert(part.to_owned(), Part { amount, started, told: now });
                started
            }
        };
        drop(parts);
        self.task.status(part, amount, started, None);
    }

    fn done(&self, part: &str) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let known = parts.remove(part);
        drop(parts);
        let now = Timestamp::now();
        match known {
            Some(Part { amount: (current, total), started, .. }) => {
                self.task.status(part, (current.max(total), total), started, Some(now));
            }
            None => self.task.part(part),
        }
    }

    fn cancelled(&self) -> bool {
        self.task.cancel.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Default)]
    struct Sink {
        events: Mutex<Vec<Event>>,
        next: AtomicU64,
    }

    impl EventSink for Sink {
        fn event(&self, event: Event) {
            self.events.lock().unwrap().push(event);
        }

        fn next_id(&self) -> ProgressId {
            ProgressId(self.next.fetch_add(1, Ordering::Relaxed))
        }
    }

    #[test]
    fn reports_keep_sizes_and_are_not_a_flood() {
        let (sink, cancel) = (Sink::default(), CancelToken::new());
        let task = Task::start(&sink, &cancel, "pushing");
        let report = task.report();
        for n in 0..1000 {
            report.progress("layer", n, 1000);
        }
        report.done("layer");
        report.done("other");
        task.done();
        let events = sink.events.lock().unwrap();
        let parts: Vec<_> = events
            .iter()
            .filter_map(|e| match e {
                Event::Status { name, current, total, completed, .. } => {
                    Some((name.as_str(), *current, *total, completed.is_some()))
                }
                _ => None,
            })
            .collect();
        assert!(parts.len() < 20, "{}", parts.len());
        assert_eq!(parts[0], ("layer", 0, 1000, false));
        assert_eq!(parts[parts.len() - 2..], [("layer", 1000, 1000, true), ("other", 0, 0, true)]);
    }

    #[test]
    fn stopped_is_not_failed_and_names_are_no_identity() {
        let (sink, cancel) = (Sink::default(), CancelToken::new());
        Task::start(&sink, &cancel, "x").failed("e");
        cancel.cancel();
        assert!(Task::start(&sink, &cancel, "x").end::<(), _>(Err("e")).is_err());
        let events = sink.events.lock().unwrap();
        let digests: Vec<&String> = events
            .iter()
            .filter_map(|e| if let Event::Vertex { digest, .. } = e { Some(digest) } else { None })
            .collect();
        assert_ne!(digests[0], digests[1]);
        assert!(matches!(events[2], Event::Failed { .. }));
        assert!(matches!(events[5], Event::Cancelled { .. }));
    }
}
