//! What is known of a build at one moment. Pure: events go in, renderers look.

use std::collections::HashMap;

use oci::Timestamp;
use solver::{Event, ProgressId, Warning};

use super::log::Tail;
use super::text;

/// The state of a build.
#[derive(Clone, Debug, Default)]
pub struct Model {
    steps: Vec<Step>,
    by_id: HashMap<ProgressId, usize>,
    warnings: Vec<Warning>,
}

/// One line of progress.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its identity.
    pub id: ProgressId,
    /// The same for the same vertex in every build.
    pub digest: String,
    /// As shown.
    pub name: String,
    /// The digests of its inputs.
    pub inputs: Vec<String>,
    /// How far it is.
    pub state: State,
    /// When it started.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Parts of its work, in order of appearance.
    pub parts: Vec<Part>,
    /// The end of its output, as long as it has not ended well.
    pub tail: Tail,
}

/// How far a step is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing happened.
    #[default]
    Waiting,
    /// It runs.
    Running,
    /// It ended well.
    Done,
    /// Its result was known.
    Cached,
    /// It failed, and why.
    Failed(String),
    /// It was stopped.
    Cancelled,
}

/// A part of a step's work, such as a download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Bytes done.
    pub current: u64,
    /// Bytes in all, 0 where that is not known.
    pub total: u64,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub completed: Option<Timestamp>,
}

/// Bound on the parts of one step: an image with more layers than this shows the first ones.
const MAX_PARTS: usize = 1024;

impl Step {
    /// Whether nothing more will happen.
    pub fn is_over(&self) -> bool {
        !matches!(self.state, State::Waiting | State::Running)
    }

    /// Seconds it took, or takes by now.
    pub fn duration(&self, now: Timestamp) -> f64 {
        self.started.map_or(0.0, |start| text::seconds(start, self.ended.unwrap_or(now)))
    }

    /// When it started, for the times of its output.
    pub fn start_or(&self, at: Timestamp) -> Timestamp {
        self.started.unwrap_or(at)
    }
}

impl Model {
    /// The steps, in order of appearance.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// A step by its identity.
    pub fn step(&self, id: ProgressId) -> Option<&Step> {
        self.by_id.get(&id).map(|i| &self.steps[*i])
    }

    /// The warnings so far.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Steps that are over, and steps in all.
    pub fn count(&self) -> (usize, usize) {
        (self.steps.iter().filter(|s| s.is_over()).count(), self.steps.len())
    }

    /// Takes an event. What belongs to a step that was never announced is dropped.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Vertex { id, digest, name, inputs } => self.announce(*id, digest, name, inputs),
            Event::Started { id, at } => self.with(*id, |step| {
                step.state = State::Running;
                step.started = Some(*at);
            }),
            Event::Cached { id, at } => self.end(*id, *at, State::Cached),
            Event::Done { id, at } => self.end(*id, *at, State::Done),
            Event::Failed { id, at, error } => self.end(*id, *at, State::Failed(error.clone())),
            Event::Cancelled { id, at } => self.end(*id, *at, State::Cancelled),
            Event::Finishing { .. } => {}
            Event::Status { id, name, current, total, started, completed } => {
                let part = Part {
                    name: text::clean(name, false),
                    current: *current,
                    total: *total,
                    started: *started,
                    completed: *completed,
                };
                self.with(*id, |step| match step.parts.iter().position(|p| p.name == part.name) {
                    Some(known) => step.parts[known] = part,
                    None if step.parts.len() < MAX_PARTS => step.parts.push(part),
                    None => {}
                });
            }
            Event::Log { id, data, at, .. } => self.with(*id, |step| {
                let started = step.start_or(*at);
                step.tail.push(data, started, *at);
            }),
            Event::Warning(warning) => {
                if !self.warnings.contains(warning) {
                    self.warnings.push(warning.clone());
                }
            }
        }
    }

    fn announce(&mut self, id: ProgressId, digest: &str, name: &str, inputs: &[String]) {
        if self.by_id.contains_key(&id) {
            return;
        }
        self.by_id.insert(id, self.steps.len());
        self.steps.push(Step {
            id,
            digest: digest.to_owned(),
            name: text::clean(&name.replace('\n', " "), false),
            inputs: inputs.to_vec(),
            state: State::Waiting,
            started: None,
            ended: None,
            parts: Vec::new(),
            tail: Tail::default(),
        });
    }

    fn end(&mut self, id: ProgressId, at: Timestamp, state: State) {
        self.with(id, |step| {
            if step.is_over() {
                return;
            }
            if matches!(state, State::Cached | State::Failed(_)) {
                step.started.get_or_insert(at);
            }
            step.ended = Some(at);
            match state {
                State::Failed(_) | State::Cancelled => step.tail.finish(step.start_or(at), at),
                _ => step.tail.clear(),
            }
            step.state = state;
        });
    }

    fn with(&mut self, id: ProgressId, change: impl FnOnce(&mut Step)) {
        if let Some(index) = self.by_id.get(&id) {
            change(&mut self.steps[*index]);
        }
    }
}
