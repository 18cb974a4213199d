//! Gathers what the steps of a build are made of, says why one runs, and keeps it all for the
//! next build.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use cache::history::MARK;
use cache::{CacheError, State, StoredBuild};
use graph::{CopySource, Definition, FileAction, Freshness, Op, SourceOp, Vertex, VertexIndex};
use oci::Timestamp;
use serde::{Deserialize, Serialize};
use solver::ActionKey;

use super::align::align;
use super::cause::Cause;
use super::compare::Case;
use super::note::{Explained, ExplainedBuild, ImageNote, Note, Part, kept};
use super::secret;
use super::selection::{FileEntry, changes};
use crate::key::{Line, List};
use crate::output::Used;

/// Grows when the meaning of notes changes.
const VERSION: u32 = 1;

/// From this many kept selections on, those that no line names are removed.
const MAX_SELECTIONS: usize = 512;

/// Or from so many bytes of them on.
const MAX_BYTES: u64 = 64 << 20;

/// A title is cut here, in characters.
const TITLE: usize = 72;

/// Which builds a build is compared with, and what is told.
#[derive(Clone, Default)]
pub struct Explain<'a> {
    /// Of builds of one Dockerfile in one context; a plain name.
    pub family: String,
    /// Of builds of one target and platform of it; a plain name.
    pub variant: String,
    /// What is built, for people.
    pub title: String,
    /// Tells the name under which the causes are kept, if the build has one already.
    pub id: Option<&'a (dyn Fn() -> Option<String> + Sync)>,
    /// Whether all steps are to run (`--no-cache`), not only those of some stages.
    pub no_cache: bool,
    /// Whether the cause is told in the log of each step.
    pub show: bool,
}

/// What is stored of a line.
#[derive(Serialize, Deserialize)]
struct StoredLine {
    version: u32,
    notes: Vec<Note>,
}

/// What the last build was, and which of its steps each step was.
struct Last {
    notes: Option<Vec<Note>>,
    pairs: Vec<Option<usize>>,
}

/// The notes of one build that is going on.
pub(crate) struct Recorder<'a> {
    state: &'a State,
    explain: &'a Explain<'a>,
    started: Timestamp,
    freshness: Vec<Freshness>,
    /// By vertex.
    notes: Mutex<Vec<Note>>,
    /// The steps that ran, and why.
    ran: Mutex<Vec<(usize, Vec<Cause>)>>,
    /// Of those that succeeded: how long they took, in milliseconds, and what they used.
    used: Mutex<HashMap<usize, (u64, Option<Used>)>>,
    lists: Mutex<HashMap<String, List>>,
    last: OnceLock<Last>,
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(
        state: &'a State,
        explain: &'a Explain<'a>,
        definition: &Definition,
        started: Timestamp,
    ) -> Self {
        let vertices = definition.vertices();
        Self {
            state,
            explain,
            started,
            freshness: vertices.iter().map(|v| v.meta.freshness).collect(),
            notes: Mutex::new(vertices.iter().map(|v| note_of(definition, v)).collect()),
            ran: Mutex::default(),
            used: Mutex::default(),
            lists: Mutex::default(),
            last: OnceLock::new(),
        }
    }

    /// Notes what the key of a vertex was made of. `inputs` are the vertices that its lines name by
    /// position.
    pub(crate) fn described(
        &self,
        vertex: VertexIndex,
        inputs: &[VertexIndex],
        key: &ActionKey,
        lines: &[Line],
    ) {
        let parts = parts_of(inputs, lines);
        for line in lines {
            if let Some(list) = &line.list {
                lock(&self.lists).insert(line.value.clone(), list.clone());
            }
        }
        let mut notes = lock(&self.notes);
        let note = &mut notes[vertex.0];
        note.key = key.to_string();
        note.parts = parts;
    }

    /// Why a vertex would run whatever its inputs are, of which not all are known; nothing where
    /// that depends on them. `lines` are what its op says itself.
    pub(crate) fn runs_anyway(&self, vertex: VertexIndex, lines: &[Line]) -> Vec<Cause> {
        lock(&self.notes)[vertex.0].parts = parts_of(&[], lines);
        self.causes(vertex, |case| case.anyway(vertex.0))
    }

    /// What people know a vertex by.
    pub(crate) fn title(&self, vertex: VertexIndex) -> String {
        lock(&self.notes)[vertex.0].title.clone()
    }

    /// How long the result of a vertex took to make last time, in milliseconds.
    pub(crate) fn last_millis(&self, vertex: VertexIndex) -> Option<u64> {
        let notes = lock(&self.notes);
        let last = self.last.get_or_init(|| self.read(&notes));
        let before = || last.notes.as_ref()?.get(last.pairs[vertex.0]?)?.millis;
        notes[vertex.0].millis.or_else(before)
    }

    /// Notes that a vertex has a result that took so long to make.
    pub(crate) fn made(&self, vertex: VertexIndex, took: Duration) {
        let mut notes = lock(&self.notes);
        notes[vertex.0].made = true;
        notes[vertex.0].millis = Some(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    }

    /// Notes what it took to run a vertex.
    pub(crate) fn took(&self, vertex: VertexIndex, time: Duration, used: Option<Used>) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        lock(&self.used).insert(vertex.0, (millis, used));
    }

    /// Why a vertex that was described is about to run.
    pub(crate) fn runs(&self, vertex: VertexIndex) -> Vec<Cause> {
        let causes = self.causes(vertex, |case| case.causes(vertex.0));
        lock(&self.ran).push((vertex.0, causes.clone()));
        causes
    }

    /// Whether causes are told in the logs of steps.
    pub(crate) fn shows(&self) -> bool {
        self.explain.show
    }

    fn causes<T>(&self, vertex: VertexIndex, ask: impl FnOnce(&Case<'_>) -> T) -> T {
        let notes = lock(&self.notes);
        let last = self.last.get_or_init(|| self.read(&notes));
        let note = &notes[vertex.0];
        let key = note.key.parse::<ActionKey>().ok();
        let (mut forced, mut expired) = (None, None);
        match self.freshness[vertex.0] {
            Freshness::Any => {}
            Freshness::MaxAge(age) => expired = Some(Cause::Expired { seconds: age.as_secs() }),
            Freshness::Build if self.explain.no_cache => forced = Some(Cause::NoCache),
            Freshness::Build => {
                forced = Some(Cause::NoCacheFilter { stage: note.stage.clone() });
            }
        }
        ask(&Case {
            new: &notes,
            old: last.notes.as_deref(),
            pairs: &last.pairs,
            forced,
            expired,
            evicted: key.and_then(|key| self.state.history().tombstones().get(&key)),
            files: &|was, is| {
                let old = stored_list(self.state, &was.value)?;
                let new = lock(&self.lists).get(&is.value).cloned()?;
                Some(changes(&old, &new()))
            },
        })
    }

    fn read(&self, notes: &[Note]) -> Last {
        let text = self.state.history().line(&self.explain.family, &self.explain.variant);
        let old = text.and_then(|text| decode(&text));
        let pairs = match &old {
            Some(old) => align(old, notes),
            None => vec![None; notes.len()],
        };
        Last { notes: old, pairs }
    }

    /// Keeps what was noted, if it is not what is kept already. After a build that `ended` well all
    /// its steps have results.
    ///
    /// # Errors
    /// If something cannot be written.
    pub(crate) fn finish(self, ended: bool) -> Result<(), CacheError> {
        let mut ran = self.ran.lock().map(|mut ran| std::mem::take(&mut *ran)).unwrap_or_default();
        ran.sort_by_key(|(vertex, _)| *vertex);
        let mut notes = std::mem::take(&mut *lock(&self.notes));
        let reached = |note: &&mut Note| !note.key.is_empty();
        notes.iter_mut().filter(reached).for_each(|note| note.made |= ended);
        self.forget_evictions(&ran, &notes)?;
        let titles: Vec<String> = notes.iter().map(|note| note.title.clone()).collect();
        let history = self.state.history();
        let Explain { family, variant, .. } = self.explain;
        if !ended {
            let last = self.last.get_or_init(|| self.read(&notes));
            carry_over(last, &mut notes);
        }
        let mark = mark_of(&notes);
        if history.mark(family, variant) != Some(mark) {
            self.keep_selections(&notes)?;
            let stored = StoredLine { version: VERSION, notes };
            let text = serde_json::to_vec(&stored).unwrap_or_default();
            history.put_line(family, variant, &mark, &text)?;
            let (count, bytes) = history.selections();
            if count > MAX_SELECTIONS || bytes > MAX_BYTES {
                sweep(self.state);
            }
        }
        if ran.is_empty() {
            return Ok(());
        }
        let taken = lock(&self.used);
        let steps = ran.into_iter().map(|(vertex, causes)| {
            let (millis, used) = taken.get(&vertex).copied().unzip();
            Explained { step: titles[vertex].clone(), causes, millis, used: used.flatten() }
        });
        let build = ExplainedBuild {
            title: self.explain.title.clone(),
            started: self.started,
            steps: titles.len(),
            ran: steps.collect(),
        };
        let text = serde_json::to_vec(&build).unwrap_or_default();
        let id = self.explain.id.and_then(|id| id());
        history.put_build(id.as_deref(), &text)
    }

    /// What was made again is no longer missing.
    fn forget_evictions(
        &self,
        ran: &[(usize, Vec<Cause>)],
        notes: &[Note],
    ) -> Result<(), CacheError> {
        let stones = self.state.history().tombstones();
        let keys = ran.iter().filter(|(vertex, _)| notes[*vertex].made);
        let keys = keys.filter_map(|(vertex, _)| notes[*vertex].key.parse().ok());
        let keys: Vec<ActionKey> = keys.filter(|key| stones.get(key).is_some()).collect();
        stones.remove(&keys)
    }

    fn keep_selections(&self, notes: &[Note]) -> Result<(), CacheError> {
        let history = self.state.history();
        for part in notes.iter().flat_map(|note| &note.parts).filter(|part| part.selection) {
            let list = lock(&self.lists).get(&part.value).cloned();
            if let Some(list) = list
                && !history.has_selection(&part.value)
            {
                let text = serde_json::to_vec(&list()).unwrap_or_default();
                history.put_selection(&part.value, &text)?;
            }
        }
        Ok(())
    }
}

/// The parts of a key as they are kept. `inputs` are the vertices that lines name by position.
fn parts_of(inputs: &[VertexIndex], lines: &[Line]) -> Vec<Part> {
    let part = |line: &Line| Part {
        name: line.name.clone(),
        value: match line.name.strip_prefix("env ") {
            Some(variable) => secret::kept(variable, &line.value),
            None => kept(&line.value),
        },
        from: line.input.and_then(|at| inputs.get(at)).map(|input| input.0),
        selection: line.list.is_some(),
        path: line.path.clone(),
    };
    lines.iter().map(part).collect()
}

/// What was known of steps that a failed build did not reach stays known.
fn carry_over(last: &Last, notes: &mut [Note]) {
    let Some(old) = &last.notes else { return };
    let mut now = HashMap::new();
    for (new, old) in last.pairs.iter().enumerate() {
        now.extend(old.map(|old| (old, new)));
    }
    for (note, pair) in notes.iter_mut().zip(&last.pairs) {
        if let (true, Some(before)) = (note.key.is_empty(), pair.map(|at| &old[at])) {
            let moved = |part: &Part| Part {
                from: part.from.and_then(|at| now.get(&at).copied()),
                ..part.clone()
            };
            *note = Note { parts: before.parts.iter().map(moved).collect(), ..before.clone() };
        }
    }
}

/// What a vertex is before it is described.
fn note_of(definition: &Definition, vertex: &Vertex) -> Note {
    let meta = &vertex.meta;
    let text = meta.span.and_then(|(file, span)| {
        let file = definition.source_map.files.get(file)?;
        file.text.get(span.start as usize..span.end as usize)
    });
    let text = text.map_or_else(|| meta.name.clone(), |text| text.trim().to_owned());
    let (mut image, mut ignore) = (None, None);
    match &vertex.op {
        Op::Source(SourceOp::Image(source)) => {
            let name = source.name.split('@').next().unwrap_or_default().to_owned();
            image = Some(ImageNote { name, digest: source.manifest.to_string() });
        }
        Op::Source(SourceOp::Local(local)) => {
            let list = serde_json::to_vec(&local.ignore).unwrap_or_default();
            ignore = Some(blake3::hash(&list).to_hex()[..16].to_owned());
        }
        _ => {}
    }
    Note {
        kind: vertex.op.kind().to_owned(),
        stage: meta.stage.clone(),
        title: title_of(vertex, &text),
        text: kept(&text),
        body: body_of(&vertex.op, &text),
        image,
        ignore,
        ..Note::default()
    }
}

/// What is in the here-documents of an instruction, as a digest; empty if it has none.
fn body_of(op: &Op, text: &str) -> String {
    let body = match op {
        _ if !text.contains("<<") => return String::new(),
        // Not what runs it (SHELL), nor where it goes (WORKDIR).
        Op::Exec(exec) => serde_json::to_vec(&(exec.args.last(), &exec.files)),
        Op::File(file) => {
            let inline = file.actions.iter().filter_map(|action| match action {
                FileAction::Copy(copy) => match &copy.source {
                    CopySource::Inline(files) => Some(files),
                    CopySource::Input { .. } => None,
                },
                FileAction::Mkdir(_) => None,
            });
            serde_json::to_vec(&inline.collect::<Vec<_>>())
        }
        _ => return String::new(),
    };
    blake3::hash(&body.unwrap_or_default()).to_hex()[..16].to_owned()
}

/// The number of a step as progress shows it, and its text as the Dockerfile has it: with variables
/// expanded it could show their values.
fn title_of(vertex: &Vertex, text: &str) -> String {
    let name = vertex.meta.name.as_str();
    let link = if matches!(vertex.op, Op::Merge(_)) { "LINK " } else { "" };
    let number = match name.split_once("] ") {
        Some((number, _)) if name.starts_with('[') && text != name => format!("{number}] "),
        _ => String::new(),
    };
    let line = secret::shown(&headline(text));
    let more = line.chars().count() > TITLE || text.lines().count() > 1;
    let line: String = line.chars().take(TITLE).collect();
    format!("{number}{link}{}{}", line.trim_end(), if more { "…" } else { "" })
}

/// The first line of an instruction; where that has only flags, `…` stands for them, and the first
/// line that has more follows.
fn headline(text: &str) -> String {
    let mut lines = text.lines().map(|line| line.trim_end_matches(['\\', ' ']).trim_start());
    let first = lines.next().unwrap_or_default();
    let is_flag = |word: &&str| word.starts_with("--");
    let only_flags = |line: &&str| line.split_whitespace().all(|word| is_flag(&word));
    let (keyword, flags) = first.split_once(char::is_whitespace).unwrap_or((first, ""));
    let rest = lines.find(|line| !(line.starts_with('#') || only_flags(line)));
    match rest.filter(|_| only_flags(&flags)) {
        Some(rest) => {
            let words: Vec<&str> = rest.split_whitespace().skip_while(is_flag).collect();
            format!("{keyword} … {}", words.join(" "))
        }
        None => first.to_owned(),
    }
}

/// Equal for builds of equal steps.
fn mark_of(notes: &[Note]) -> [u8; MARK] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&VERSION.to_le_bytes());
    for note in notes {
        for text in [&note.text, &note.title, &note.key] {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        }
        hasher.update(&[u8::from(note.made)]);
        let image = note.image.as_ref().map_or("", |image| &image.digest);
        hasher.update(image.as_bytes()).update(note.ignore.as_deref().unwrap_or("").as_bytes());
    }
    *hasher.finalize().as_bytes()
}

fn decode(text: &[u8]) -> Option<Vec<Note>> {
    let stored: StoredLine = serde_json::from_slice(text).ok()?;
    (stored.version == VERSION).then_some(stored.notes)
}

fn stored_list(state: &State, digest: &str) -> Option<Vec<FileEntry>> {
    serde_json::from_slice(&state.history().selection(digest)?).ok()
}

/// Removes the lists of selections that no kept build names.
pub fn sweep(state: &State) {
    let history = state.history();
    let mut named = HashSet::new();
    for notes in history.lines().iter().filter_map(|text| decode(text)) {
        let parts = notes.into_iter().flat_map(|note| note.parts).filter(|part| part.selection);
        named.extend(parts.map(|part| part.value));
    }
    history.sweep_selections(&|digest| named.contains(digest));
}

/// The builds whose causes are kept, the latest first.
pub fn builds(state: &State) -> Vec<(StoredBuild, ExplainedBuild)> {
    let history = state.history();
    let read = |id: &str| serde_json::from_slice(&history.build(id)?).ok();
    history.builds().into_iter().filter_map(|b| read(&b.id).map(|build| (b, build))).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is done under these locks leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
