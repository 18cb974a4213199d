//! Progress as lines of text, in the shape that BuildKit's `plain` has.
//!
//! Each step has a number, in the order in which steps are first shown. Lines of one step stand
//! together: another one that runs at the same time gets the word when the first is silent for a
//! while, or when it has waited long enough.

use std::collections::HashMap;
use std::io::Write;

use oci::Timestamp;
use solver::{Event, ProgressId, Stream};

use super::log::Lines;
use super::model::{Model, Part, State, Step};
use super::renderer::Renderer;
use super::text;

/// Seconds after which a silent step loses the word to one that has something to say.
const SILENCE: f64 = 1.0;
/// Seconds that a step with something to say waits for a talkative one.
const PATIENCE: f64 = 5.0;
/// Seconds between two lines about one part.
const PART_EVERY: f64 = 5.0;

/// The view.
#[derive(Default)]
pub struct Plain {
    tracks: HashMap<ProgressId, Track>,
    numbers: u64,
    /// Who has the word.
    current: Option<ProgressId>,
    /// When the current step said something last.
    spoke: Timestamp,
    /// When the current step got the word.
    since: Timestamp,
    not_first: bool,
    /// Whether escape sequences for colours may pass.
    colours: bool,
}

/// What is known of one step's lines.
#[derive(Default)]
struct Track {
    number: u64,
    /// Unfinished lines: of standard output, and of standard error.
    lines: [Lines; 2],
    /// What it has to say, without its number.
    pending: Vec<String>,
    /// Since when.
    waiting: Option<Timestamp>,
    /// When each part was told last.
    parts: HashMap<String, Timestamp>,
}

impl Plain {
    /// A view that lets colours in output pass, or not.
    pub fn new(colours: bool) -> Self {
        Self { colours, ..Self::default() }
    }

    /// Adds what the step has to say.
    fn say(&mut self, id: ProgressId, now: Timestamp, lines: impl IntoIterator<Item = String>) {
        let track = self.tracks.entry(id).or_default();
        track.pending.extend(lines);
        track.waiting.get_or_insert(now);
    }

    fn log(&mut self, step: &Step, stream: Stream, data: &[u8], at: Timestamp) {
        let time = text::log_time(text::seconds(step.start_or(at), at));
        let colours = self.colours;
        let track = self.tracks.entry(step.id).or_default();
        let mut said = Vec::new();
        track.lines[usize::from(stream == Stream::Stderr)]
            .push(data, |line| said.push(log_line(&time, &line, colours)));
        if !said.is_empty() {
            self.say(step.id, at, said);
        }
    }

    fn part(&mut self, id: ProgressId, part: &Part, now: Timestamp) {
        let track = self.tracks.entry(id).or_default();
        let told = track.parts.get(&part.name);
        let due = told.is_none_or(|t| text::seconds(*t, now) >= PART_EVERY);
        if due || part.completed.is_some() {
            track.parts.insert(part.name.clone(), now);
            self.say(id, now, [part_line(part, now)]);
        }
    }

    /// Gives the word to `step`, writes what it has to say, and its end.
    fn speak(&mut self, step: &Step, now: Timestamp, out: &mut Vec<u8>) {
        let colours = self.colours;
        if self.tracks.entry(step.id).or_default().number == 0 {
            self.numbers += 1;
        }
        if self.current != Some(step.id) {
            self.switch(step, now, out);
        }
        let Some(track) = self.tracks.get_mut(&step.id) else { return };
        let number = track.number;
        for line in track.pending.drain(..) {
            line_of(out, number, &line);
        }
        track.waiting = None;
        self.spoke = now;
        if step.is_over() {
            for line in track.lines.iter_mut().filter_map(Lines::flush) {
                let time = text::log_time(step.duration(now));
                line_of(out, number, &log_line(&time, &line, colours));
            }
            line_of(out, number, &end_line(step, now));
            self.current = None;
        }
    }

    fn switch(&mut self, step: &Step, now: Timestamp, out: &mut Vec<u8>) {
        if let Some(old) = self.current.and_then(|id| self.tracks.get(&id)) {
            line_of(out, old.number, "...");
        }
        if self.not_first {
            out.push(b'\n');
        }
        self.not_first = true;
        let numbers = self.numbers;
        let track = self.tracks.entry(step.id).or_default();
        if track.number == 0 {
            track.number = numbers;
        }
        line_of(out, track.number, &step.name);
        self.current = Some(step.id);
        self.since = now;
    }

    /// The step that has waited longest for the word.
    fn next<'a>(&self, model: &'a Model) -> Option<(&'a Step, Timestamp)> {
        model
            .steps()
            .iter()
            .filter(|s| self.current != Some(s.id))
            .filter_map(|s| Some((s, self.tracks.get(&s.id)?.waiting?)))
            .min_by_key(|(_, waiting)| *waiting)
    }
}

impl Renderer for Plain {
    fn event(&mut self, model: &Model, event: &Event, now: Timestamp, out: &mut Vec<u8>) {
        let step = |id: &ProgressId| model.step(*id);
        let Some(step) = (match event {
            Event::Vertex { .. } | Event::Finishing { .. } => None,
            Event::Started { id, .. } => {
                self.say(*id, now, []);
                step(id)
            }
            Event::Status { id, name, .. } => {
                let name = text::clean(name, false);
                let part = step(id).and_then(|s| s.parts.iter().find(|p| p.name == name));
                if let Some(part) = part {
                    self.part(*id, part, now);
                }
                step(id)
            }
            Event::Log { id, stream, data, at } => {
                if let Some(step) = step(id) {
                    self.log(step, *stream, data, *at);
                }
                step(id)
            }
            Event::Warning(warning) => {
                if let Some(id) = warning.id {
                    self.say(id, now, [format!("WARN: {}", text::clean(&warning.message, false))]);
                }
                warning.id.as_ref().and_then(step)
            }
            Event::Cached { id, .. }
            | Event::Done { id, .. }
            | Event::Failed { id, .. }
            | Event::Cancelled { id, .. } => step(id).filter(|s| s.started.is_some()),
        }) else {
            return;
        };
        let waits = self.tracks.get(&step.id).is_some_and(|t| t.waiting.is_some());
        if step.is_over() || (waits && self.current.is_none_or(|c| c == step.id)) {
            self.speak(step, now, out);
            if self.current.is_none()
                && let Some((next, _)) = self.next(model)
            {
                self.speak(next, now, out);
            }
        }
    }

    fn note(&mut self, text: &str, out: &mut Vec<u8>) {
        let _ = writeln!(out, "WARNING: {text}");
    }

    fn tick(&mut self, model: &Model, now: Timestamp, _: (usize, usize), out: &mut Vec<u8>) {
        let Some((step, waiting)) = self.next(model) else { return };
        let silent = text::seconds(self.spoke, now) >= SILENCE;
        let patient = text::seconds(waiting.max(self.since), now) >= PATIENCE;
        if self.current.is_none() || silent || patient {
            self.speak(step, now, out);
        }
    }

    fn finish(&mut self, model: &Model, now: Timestamp, _: (usize, usize), out: &mut Vec<u8>) {
        while let Some((step, _)) = self.next(model) {
            self.speak(step, now, out);
        }
    }
}

fn line_of(out: &mut Vec<u8>, number: u64, text: &str) {
    let _ = writeln!(out, "#{number} {text}");
}

fn log_line(time: &str, line: &str, colours: bool) -> String {
    format!("{time} {}", text::clean(line, colours))
}

fn part_line(part: &Part, now: Timestamp) -> String {
    let mut line = part.name.clone();
    let amount = text::amount(part.current, part.total);
    if !amount.is_empty() {
        line.push(' ');
        line.push_str(&amount);
    }
    let took = text::seconds(part.started, part.completed.unwrap_or(now));
    if took > 0.01 {
        line.push_str(&format!(" {took:.1}s"));
    }
    if part.completed.is_some() {
        line.push_str(" done");
    }
    line
}

fn end_line(step: &Step, now: Timestamp) -> String {
    match &step.state {
        State::Cached => "CACHED".to_owned(),
        State::Failed(error) => format!("ERROR: {}", text::clean(&error.replace('\n', " "), false)),
        State::Cancelled => "CANCELED".to_owned(),
        State::Done | State::Waiting | State::Running => format!("DONE {:.1}s", step.duration(now)),
    }
}
