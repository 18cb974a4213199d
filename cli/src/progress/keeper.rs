//! Keeping the whole output of steps, whatever the view shows of it.
//!
//! A step writes its own file, beside the others. Nothing is written for a build in which no step
//! says anything.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cache::CacheError;
use cache::build_log::{BuildLogs, End, Recorder};
use oci::Timestamp;
use solver::{Event, News, Outlet, ProgressId, Stream};

use super::text;
use crate::masks::{Masked, Masks};

/// Keeps what it is told, once it knows where.
#[derive(Default)]
pub(super) struct Keeper {
    place: OnceLock<Place>,
    inner: Mutex<Inner>,
}

struct Place {
    logs: BuildLogs,
    title: String,
    masks: Arc<Masks>,
}

#[derive(Default)]
struct Inner {
    names: HashMap<ProgressId, String>,
    steps: HashMap<ProgressId, Arc<Mutex<Step>>>,
    /// Where running steps tell other builds of their output.
    outlets: HashMap<ProgressId, Arc<dyn Outlet>>,
    recorder: Option<Arc<Recorder>>,
    /// Nothing more can be written.
    broken: bool,
    failed: Option<u64>,
}

/// A step that told something.
struct Step {
    number: u64,
    name: String,
    stdout: Masked,
    stderr: Masked,
    /// Whether it told anything.
    spoke: bool,
}

/// What there is to read of a build that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptFailure {
    /// The build.
    pub build: String,
    /// The step that failed.
    pub step: u64,
}

impl Keeper {
    pub(super) fn attach(&self, logs: BuildLogs, title: String, masks: Arc<Masks>) {
        // There is one place: a second one changes nothing.
        let _ = self.place.set(Place { logs, title, masks });
    }

    /// The name of what is kept, if anything is.
    pub(super) fn id(&self) -> Option<String> {
        self.lock().recorder.as_ref().map(|recorder| recorder.id().to_owned())
    }

    /// Takes an event; a problem, the first time there is one.
    pub(super) fn take(&self, event: &Event) -> Option<String> {
        let place = self.place.get()?;
        let taken = match event {
            Event::Vertex { id, name, .. } => {
                let name = text::clean(&name.replace('\n', " "), false);
                self.lock().names.entry(*id).or_insert(name);
                Ok(())
            }
            Event::Log { id, stream, data, at } => self.log(place, *id, (*stream, *at), data),
            Event::Done { id, at } => self.end(place, *id, End::Done, *at),
            Event::Failed { id, at, error } => {
                self.end(place, *id, End::Failed(error.clone()), *at)
            }
            Event::Cancelled { id, at } => self.end(place, *id, End::Cancelled, *at),
            Event::Started { .. }
            | Event::Cached { .. }
            | Event::Finishing { .. }
            | Event::Status { .. }
            | Event::Warning(_) => Ok(()),
        };
        let error = taken.err()?;
        let mut inner = self.lock();
        let first = !std::mem::replace(&mut inner.broken, true);
        first.then(|| format!("the output of steps is not kept any more: {error}"))
    }

    fn log(
        &self,
        place: &Place,
        id: ProgressId,
        (stream, at): (Stream, Timestamp),
        data: &[u8],
    ) -> Result<(), CacheError> {
        let Some((recorder, step)) = self.step(place, id)? else { return Ok(()) };
        // Of this step alone: the others go on.
        let mut step = step.lock().unwrap_or_else(PoisonError::into_inner);
        step.spoke = true;
        let passed = step.stream(stream).pass(&place.masks, data);
        self.tell(id, stream, at, &passed);
        recorder.log((step.number, &step.name), stream, at, &passed)
    }

    /// Other builds follow the step through `outlet`.
    pub(super) fn share(&self, id: ProgressId, outlet: Arc<dyn Outlet>) {
        if self.place.get().is_some() {
            self.lock().outlets.insert(id, outlet);
        }
    }

    /// The output of the step has ended: those who follow it get the rest. A problem comes up again
    /// when it ends.
    pub(super) fn settle(&self, id: ProgressId) {
        let Some(place) = self.place.get() else { return };
        let spoke = self.lock().steps.contains_key(&id);
        if spoke && let Ok(Some((recorder, step))) = self.step(place, id) {
            let mut step = step.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = self.flush(place, (id, &recorder), &mut step, Timestamp::now());
        }
        self.lock().outlets.remove(&id);
    }

    /// Writes what is held back.
    fn flush(
        &self,
        place: &Place,
        (id, recorder): (ProgressId, &Recorder),
        step: &mut Step,
        at: Timestamp,
    ) -> Result<(), CacheError> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let passed = step.stream(stream).end(&place.masks);
            self.tell(id, stream, at, &passed);
            recorder.log((step.number, &step.name), stream, at, &passed)?;
        }
        Ok(())
    }

    fn tell(&self, id: ProgressId, stream: Stream, at: Timestamp, data: &[u8]) {
        let outlet = self.lock().outlets.get(&id).cloned();
        if let Some(outlet) = outlet {
            outlet.tell(&News::Output { stream, at, data: data.into() });
        }
    }

    fn end(
        &self,
        place: &Place,
        id: ProgressId,
        end: End,
        at: Timestamp,
    ) -> Result<(), CacheError> {
        let failed = matches!(end, End::Failed(_));
        if !failed && !self.lock().steps.contains_key(&id) {
            self.lock().names.remove(&id);
            return Ok(());
        }
        let Some((recorder, step)) = self.step(place, id)? else { return Ok(()) };
        let mut step = step.lock().unwrap_or_else(PoisonError::into_inner);
        self.flush(place, (id, &recorder), &mut step, at)?;
        if failed && step.spoke {
            self.lock().failed.get_or_insert(step.number);
        }
        let end = match end {
            End::Failed(error) => End::Failed(masked(&place.masks, &error)),
            other => other,
        };
        recorder.ended(step.number, end, at)?;
        self.lock().steps.remove(&id);
        Ok(())
    }

    /// The step `id`, which has a file from now on; none for one that was never announced.
    #[expect(clippy::type_complexity, reason = "a step and what writes it")]
    fn step(
        &self,
        place: &Place,
        id: ProgressId,
    ) -> Result<Option<(Arc<Recorder>, Arc<Mutex<Step>>)>, CacheError> {
        let mut inner = self.lock();
        if inner.broken {
            return Ok(None);
        }
        if !inner.steps.contains_key(&id) && !inner.names.contains_key(&id) {
            return Ok(None);
        }
        let recorder = match &inner.recorder {
            Some(recorder) => recorder.clone(),
            None => {
                let recorder = Arc::new(place.logs.start(&place.title)?);
                inner.recorder.insert(recorder).clone()
            }
        };
        if let Some(step) = inner.steps.get(&id) {
            return Ok(Some((recorder, step.clone())));
        }
        let Some(name) = inner.names.remove(&id) else { return Ok(None) };
        let number = recorder.next_number();
        let (stdout, stderr) = (Masked::default(), Masked::default());
        let step = Arc::new(Mutex::new(Step { number, name, stdout, stderr, spoke: false }));
        inner.steps.insert(id, step.clone());
        Ok(Some((recorder, step)))
    }

    pub(super) fn has_kept(&self) -> bool {
        self.lock().recorder.is_some()
    }

    pub(super) fn finish(&self, error: Option<&str>) -> Option<KeptFailure> {
        let mut inner = self.lock();
        let recorder = inner.recorder.clone()?;
        let place = self.place.get()?;
        if !inner.broken {
            let error = error.map(|error| masked(&place.masks, error));
            // Without its end it counts as interrupted, which is not worth another message.
            let _ = recorder.finish(error);
        }
        let build = recorder.id().to_owned();
        inner.failed.take().map(|step| KeptFailure { build, step })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `text` without the values of secrets.
fn masked(masks: &Masks, text: &str) -> String {
    let mut stream = Masked::default();
    let mut passed = stream.pass(masks, text.as_bytes());
    passed.extend(stream.end(masks));
    String::from_utf8_lossy(&passed).into_owned()
}

impl Step {
    fn stream(&mut self, stream: Stream) -> &mut Masked {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}
