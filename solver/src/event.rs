//! What happens during a build, as it is told to people.

use std::sync::Arc;

use oci::Timestamp;

use crate::share::Outlet;

/// The identity of one line of progress within one build, in order of appearance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProgressId(pub u64);

/// Which of a process's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A vertex that may get something to do.
    Vertex {
        /// Its identity.
        id: ProgressId,
        /// A digest that is the same for the same vertex in every build (64 hex digits with an
        /// algorithm before them).
        digest: String,
        /// As shown.
        name: String,
        /// The digests of its inputs.
        inputs: Vec<String>,
    },
    /// It started.
    Started {
        /// Which.
        id: ProgressId,
        /// When.
        at: Timestamp,
    },
    /// Its result was known.
    Cached {
        /// Which.
        id: ProgressId,
        /// When.
        at: Timestamp,
    },
    /// It ended well: its record would survive SIGKILL.
    Done {
        /// Which.
        id: ProgressId,
        /// When.
        at: Timestamp,
    },
    /// It failed.
    Failed {
        /// Which.
        id: ProgressId,
        /// When.
        at: Timestamp,
        /// Why, in one line.
        error: String,
    },
    /// It was stopped because something else failed, or by the user.
    Cancelled {
        /// Which.
        id: ProgressId,
        /// When.
        at: Timestamp,
    },
    /// It goes on although the build is being stopped: another build wants its result.
    Finishing {
        /// Which.
        id: ProgressId,
        /// Whether the caller has asked the build to stop; otherwise it has failed.
        asked: bool,
    },
    /// Part of its work, such as one download; repeated as it goes on.
    Status {
        /// Which vertex.
        id: ProgressId,
        /// The part, such as `sha256:…` or `extracting sha256:…`.
        name: String,
        /// Bytes done.
        current: u64,
        /// Bytes in all; 0 where that is not known.
        total: u64,
        /// When this part started.
        started: Timestamp,
        /// When this part ended.
        completed: Option<Timestamp>,
    },
    /// Output of its process.
    Log {
        /// Which vertex.
        id: ProgressId,
        /// Standard output or standard error.
        stream: Stream,
        /// The bytes.
        data: Vec<u8>,
        /// When.
        at: Timestamp,
    },
    /// Something that people should know and that stops nothing.
    Warning(Warning),
}

/// A remark that stops nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The vertex it belongs to.
    pub id: Option<ProgressId>,
    /// In one line.
    pub message: String,
}

/// Where events go. Called from many threads.
pub trait EventSink: Send + Sync {
    /// Takes one event.
    fn event(&self, event: Event);

    /// A new identity for a line of progress.
    fn next_id(&self) -> ProgressId;

    /// Tells output of a step.
    fn log(&self, id: ProgressId, stream: Stream, data: &[u8]) {
        self.event(Event::Log { id, stream, data: data.to_vec(), at: Timestamp::now() });
    }

    /// What the step tells from now on is for those who follow it in other processes, too. What they may
    /// not see is for the sink to know: so it is the sink that hands it to `outlet`.
    fn share(&self, id: ProgressId, outlet: Arc<dyn Outlet>) {
        let _ = (id, outlet);
    }

    /// Nothing more is told of the step while it runs: what is held back of its output goes to those
    /// who follow it now.
    fn settle(&self, id: ProgressId) {
        let _ = id;
    }
}
