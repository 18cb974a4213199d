//! Where events go: the model, the view, and a thread that writes.
//!
//! A step that tells something takes a lock, never a file: only the writing thread waits for
//! standard error. What it writes was made under the lock, so lines stay whole and in order.

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use cache::build_log::BuildLogs;
use oci::Timestamp;
use solver::{Event, EventSink, Outlet, ProgressId, Stream, Warning};

use super::View;
use super::keeper::{Keeper, KeptFailure};
use super::log::{Line, LogLimits, Meter};
use super::model::{Model, State};
use super::renderer::Renderer;
use super::text;
use crate::console;
use crate::masks::Masks;

/// The progress of one build.
pub struct Progress {
    shared: Arc<Shared>,
    keeper: Keeper,
    next: AtomicU64,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<Inner>,
    wake: Condvar,
}

struct Inner {
    model: Model,
    renderer: Box<dyn Renderer>,
    limits: LogLimits,
    meters: HashMap<ProgressId, Meter>,
    out: Vec<u8>,
    finished: bool,
}

/// What a build leaves to be told at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Warnings, in order, each once.
    pub warnings: Vec<Warning>,
    /// Steps that failed (not those that were stopped), in order of appearance.
    pub failed: Vec<FailedStep>,
    /// Steps that were over, and steps in all.
    pub count: (usize, usize),
}

/// A step that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedStep {
    /// Its identity.
    pub id: ProgressId,
    /// Its name.
    pub name: String,
    /// Why.
    pub error: String,
    /// The end of its output.
    pub lines: Vec<Line>,
}

impl Progress {
    /// Shows `view` on standard error until [`Progress::finish`].
    ///
    /// # Errors
    /// If the writing thread cannot be started.
    pub fn start(view: &View) -> std::io::Result<Self> {
        Self::start_on(view, Box::new(std::io::stderr()))
    }

    /// Shows `view` on `target`.
    ///
    /// # Errors
    /// If the writing thread cannot be started.
    pub fn start_on(view: &View, target: Box<dyn Write + Send>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(Inner {
                model: Model::default(),
                renderer: view.renderer(),
                limits: view.limits,
                meters: HashMap::new(),
                out: Vec::new(),
                finished: false,
            }),
            wake: Condvar::new(),
        });
        let rate = view.rate;
        let for_writer = shared.clone();
        let writer = std::thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || for_writer.write_all(target, rate))?;
        let writer = Mutex::new(Some(writer));
        Ok(Self { shared, keeper: Keeper::default(), next: AtomicU64::new(1), writer })
    }

    /// Shows a remark that belongs to no step.
    pub fn note(&self, text: &str) {
        self.shared.note(text);
    }

    /// What shows remarks, as [`note`](Self::note) does, from anywhere and as long as anybody likes.
    pub fn notes(&self) -> impl Fn(&str) + Send + Sync + 'static {
        let shared = self.shared.clone();
        move |text| shared.note(text)
    }

    /// Keeps the output of steps from now on, whole, whatever the view shows of it.
    pub fn keep(&self, logs: BuildLogs, title: String, masks: Arc<Masks>) {
        self.keeper.attach(logs, title, masks);
    }

    /// Ends what is kept, with the error of a build that failed. Tells what there is to read of
    /// steps that failed.
    pub fn kept(&self, error: Option<&str>) -> Option<KeptFailure> {
        self.keeper.finish(error)
    }

    /// The name by which something of this build is kept, if anything is.
    pub fn build_id(&self) -> Option<String> {
        self.keeper.id()
    }

    /// Whether anything was kept.
    pub fn has_kept(&self) -> bool {
        self.keeper.has_kept()
    }

    /// What is known so far of what is to be told at the end.
    pub fn summary(&self) -> Summary {
        self.shared.lock().summary()
    }

    /// Shows what is left, waits until it is written, and tells what is to be told at the end.
    /// Again, it tells the same; events and remarks after it are lost.
    pub fn finish(&self) -> Summary {
        let summary = {
            let mut inner = self.shared.lock();
            inner.finished = true;
            inner.summary()
        };
        self.shared.wake.notify_one();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // A panic of the thread was told by the panic hook.
            let _ = writer.join();
        }
        summary
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

impl EventSink for Progress {
    fn event(&self, event: Event) {
        if let Some(problem) = self.keeper.take(&event) {
            self.note(&problem);
        }
        if self.shared.lock().take(&event) {
            self.shared.wake.notify_one();
        }
    }

    fn next_id(&self) -> ProgressId {
        ProgressId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn share(&self, id: ProgressId, outlet: Arc<dyn Outlet>) {
        self.keeper.share(id, outlet);
    }

    fn settle(&self, id: ProgressId) {
        self.keeper.settle(id);
    }
}

impl Inner {
    /// Takes an event; tells whether there is something to write.
    fn take(&mut self, event: &Event) -> bool {
        if self.finished {
            return false;
        }
        self.model.apply(event);
        let now = Timestamp::now();
        match event {
            Event::Log { id, stream, data, at } => self.log(*id, *stream, data, *at, now),
            Event::Finishing { id, asked } => {
                let name = self.model.step(*id).map_or("a step", |step| &step.name);
                let text = text::finishing(name, *asked);
                self.renderer.remark(&text, &mut self.out);
            }
            event => self.renderer.event(&self.model, event, now, &mut self.out),
        }
        !self.out.is_empty()
    }

    fn log(&mut self, id: ProgressId, stream: Stream, data: &[u8], at: Timestamp, now: Timestamp) {
        let started = self.model.step(id).map_or(at, |s| s.start_or(at));
        let elapsed = text::seconds(started, at);
        let meter = self.meters.entry(id).or_default();
        let (shown, said) = meter.admit(self.limits, data.len(), elapsed);
        let mut data = data[..shown].to_vec();
        if let Some(said) = said {
            data.extend_from_slice(format!("\n{said}\n").as_bytes());
        }
        if !data.is_empty() {
            let event = Event::Log { id, stream, data, at };
            self.renderer.event(&self.model, &event, now, &mut self.out);
        }
    }

    fn summary(&self) -> Summary {
        let failed = self.model.steps().iter().filter_map(|step| match &step.state {
            State::Failed(error) => Some(FailedStep {
                id: step.id,
                name: step.name.clone(),
                error: error.clone(),
                lines: step.tail.last(usize::MAX).cloned().collect(),
            }),
            _ => None,
        });
        Summary {
            warnings: self.model.warnings().to_vec(),
            failed: failed.collect(),
            count: self.model.count(),
        }
    }
}

impl Shared {
    fn note(&self, text: &str) {
        let mut inner = self.lock();
        let Inner { renderer, out, .. } = &mut *inner;
        renderer.note(text, out);
        drop(inner);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writing thread. Once the reader went away, events are still taken, for the summary.
    fn write_all(&self, mut target: Box<dyn Write + Send>, rate: std::time::Duration) {
        let mut broken = false;
        let mut inner = self.lock();
        loop {
            let now = Timestamp::now();
            let finished = inner.finished;
            {
                let Inner { model, renderer, out, .. } = &mut *inner;
                if finished {
                    renderer.finish(model, now, console::size(), out);
                } else {
                    renderer.tick(model, now, console::size(), out);
                }
            }
            let bytes = std::mem::take(&mut inner.out);
            if !bytes.is_empty() {
                drop(inner);
                if !broken {
                    broken = target.write_all(&bytes).and_then(|()| target.flush()).is_err();
                }
                inner = self.lock();
            }
            if finished {
                return;
            }
            inner = self.wait(inner, rate);
        }
    }

    /// Sleeps until there is something to write, or for `rate`.
    fn wait<'a>(
        &self,
        inner: MutexGuard<'a, Inner>,
        rate: std::time::Duration,
    ) -> MutexGuard<'a, Inner> {
        let idle = |inner: &mut Inner| inner.out.is_empty() && !inner.finished;
        match self.wake.wait_timeout_while(inner, rate, idle) {
            Ok((inner, _)) => inner,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }
}
