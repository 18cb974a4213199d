//! The caches of other machines as a build's work uses them.

use std::sync::Arc;

use graph::{CopySource, FileAction, MountKind, Op, VertexIndex};
use oci::Timestamp;
use solver::work::WorkError;
use solver::{
    ActionKey, ContentId, Event, EventSink, Gathered, Record, Solution, SolveError, StepContext,
};

use super::bring::Absent;
use super::import::tell_from;
use super::question;
use super::tree::{From, LazyTree};
use crate::build::{BuildWork, Wants};
use crate::error::WorkerError;
use crate::image::ImageHandle;
use crate::key::image_content;
use crate::output::{Output, TreeOutput};

impl Output {
    /// The tree, if its layers are elsewhere still.
    fn elsewhere(&self) -> Option<&Arc<LazyTree>> {
        self.tree()?.elsewhere()
    }
}

impl TreeOutput {
    /// What is known of it, if its layers are elsewhere still.
    pub(crate) fn elsewhere(&self) -> Option<&Arc<LazyTree>> {
        self.lazy.as_ref().filter(|lazy| lazy.here().is_none())
    }

    /// The tree where it is now, if it was brought.
    pub(crate) fn at_hand(self) -> Self {
        match self.lazy.as_ref().and_then(|lazy| lazy.here()) {
            Some(here) => here.clone(),
            None => self,
        }
    }

    /// A tree whose layers are elsewhere.
    pub(crate) fn lazy(lazy: LazyTree, content: ContentId) -> Self {
        let top = lazy.layers.last();
        Self {
            snapshot: None,
            content,
            created: top.map(|it| it.created).unwrap_or_default(),
            rewrite: top.map_or(crate::Rewrite::Never, |it| it.rewrite),
            lease: None,
            lazy: Some(Arc::new(lazy)),
        }
    }
}

/// The inputs where they are now.
pub(crate) fn at_hand(inputs: &[Output]) -> Vec<Output> {
    let now = |output: &Output| match output {
        Output::Tree(tree) => Output::Tree(tree.clone().at_hand()),
        other => other.clone(),
    };
    inputs.iter().map(now).collect()
}

impl BuildWork<'_> {
    /// The record of a key in a cache of another machine.
    pub(crate) fn find_elsewhere(
        &self,
        vertex: VertexIndex,
        inputs: &[Output],
        key: &ActionKey,
        not_before: Timestamp,
        context: &StepContext<'_>,
    ) -> Option<(Record, Output)> {
        let remote = self.input.remote?;
        for import in remote.imports() {
            let Some(loaded) = import.wait(context) else { continue };
            let found = loaded.records.record(key);
            let Some(record) = found.filter(|it| it.is_fresh(not_before, Timestamp::now())) else {
                continue;
            };
            let record = record.clone();
            let content = loaded.records.trees[record.tree].content;
            let name = self.input.definition.vertex(vertex).meta.name.clone();
            let from = From { import: import.clone(), loaded, record: record.clone(), name };
            let lazy = LazyTree::of_record(from, self.input.images);
            let here = self.engine.tree_here(content);
            let footing = self.footing(vertex, inputs);
            if footing.is_some_and(|it| !self.engine.fits(&it, &lazy, here.as_ref())) {
                import.refuse_record(*key, context);
                continue;
            }
            let tree = match here {
                Some(here) => {
                    if let (false, Some(from)) = (self.only_looks, &lazy.from) {
                        self.engine.adopt_record(from, &here);
                    }
                    here
                }
                None if (remote.is_needed(key) || import.is_silent())
                    && !self.engine.can_bring(&lazy) =>
                {
                    continue;
                }
                None => TreeOutput::lazy(lazy, content),
            };
            tell_from(context.events, context, import);
            self.will_not_run(vertex, record.duration());
            let found = Record {
                key: *key,
                content,
                payload: String::new(),
                started: record.started,
                ended: record.ended,
                duration: record.duration(),
                name: import.name.clone(),
                inputs: Vec::new(),
            };
            return Some((found, Output::Tree(tree)));
        }
        None
    }

    /// Brings the inputs at `positions`; answers with those that cannot be had.
    fn bring_inputs(
        &self,
        positions: impl Iterator<Item = usize>,
        inputs: &[Output],
        context: &StepContext<'_>,
    ) -> Result<Vec<usize>, WorkerError> {
        let mut lost = Vec::new();
        for position in positions {
            let Some(lazy) = inputs.get(position).and_then(Output::elsewhere) else { continue };
            // Who only looks writes nothing.
            let brought =
                if self.only_looks { Err(Absent::Lost) } else { self.engine.bring(lazy, context) };
            match brought {
                Ok(_) => {}
                Err(Absent::Failed(error)) => return Err(error),
                Err(Absent::Lost) => {
                    self.lost(lazy);
                    lost.push(position);
                }
            }
        }
        Ok(lost)
    }

    /// The step that `lazy` is the result of has to run, if its bytes are not to be had otherwise.
    pub(crate) fn lost(&self, lazy: &LazyTree) {
        if let (Some(remote), Some(from)) = (self.input.remote, &lazy.from) {
            remote.need(from.record.key);
        }
    }

    /// Before a vertex is described: brings those inputs whose bytes its key is made of, where no
    /// cache knows the answer. Those that cannot be had are the answer.
    pub(crate) fn bring_for_key(
        &self,
        op: &Op,
        inputs: &[Output],
        context: &StepContext<'_>,
    ) -> Result<Vec<usize>, WorkerError> {
        if !inputs.iter().any(|input| input.elsewhere().is_some()) {
            return Ok(Vec::new());
        }
        let mut wanted = Vec::new();
        let mut want = |position: usize, question: &dyn Fn(&ContentId) -> ContentId| {
            let Some(tree) = inputs.get(position).and_then(Output::tree) else { return };
            if self.answer(&question(&tree.content), context).is_none() {
                wanted.push(position);
            }
        };
        match op {
            Op::File(file) => {
                for action in &file.actions {
                    if let FileAction::Copy(copy) = action
                        && let CopySource::Input { input: Some(at), paths, .. } = &copy.source
                    {
                        want(*at, &|tree| question::of_copy(tree, paths, copy));
                    }
                }
            }
            Op::Exec(exec) => {
                for mount in &exec.mounts {
                    if let MountKind::Bind { input: Some(at), source, writable: false } =
                        &mount.kind
                    {
                        want(*at, &|tree| question::of_bind(tree, source));
                    }
                }
            }
            Op::Source(_) | Op::Merge(_) => {}
        }
        self.bring_inputs(wanted.into_iter(), inputs, context)
    }

    /// What a cache knows of a tree.
    pub(crate) fn answer(
        &self,
        question: &ContentId,
        context: &StepContext<'_>,
    ) -> Option<ContentId> {
        self.input.remote?.answer(question, context)
    }

    /// Brings all inputs of a vertex that is going to run, and looks at what its key was made of.
    pub(crate) fn gather_inputs(
        &self,
        vertex: VertexIndex,
        inputs: &[Output],
        context: &StepContext<'_>,
    ) -> Result<Gathered, WorkError> {
        let lost = self.bring_inputs(0..inputs.len(), inputs, context)?;
        if !lost.is_empty() {
            return Ok(Gathered::Lost(lost));
        }
        let wrong = self.look_at_answers(vertex, &at_hand(inputs));
        if let (Some(remote), false) = (self.input.remote, wrong.is_empty()) {
            let message = "a cache says wrongly what is selected of a tree".to_owned();
            self.engine.warn(&message);
            wrong.into_iter().for_each(|question| remote.distrust(question));
            return Ok(Gathered::Lost(Vec::new()));
        }
        Ok(Gathered::Here)
    }
}

/// How the end of a build is shown, where layers have to come for it.
const LAST: &str = "importing layers from the cache";

impl BuildWork<'_> {
    /// An image as a base whose layers come when somebody needs them: only where a cache may know
    /// the steps on it; else they are needed at once.
    pub(crate) fn image_elsewhere(&self, image: &Arc<ImageHandle>) -> Option<TreeOutput> {
        self.input.remote?;
        let content = image_content(&image.config.rootfs.diff_ids);
        if let Some(here) = self.engine.tree_here(content) {
            return Some(here);
        }
        let created = image.config.created.unwrap_or_default();
        let tree = TreeOutput::lazy(LazyTree::of_image(image)?, content);
        Some(TreeOutput { created, ..tree })
    }

    /// Has of the solution here what it is wanted for. False if something of it cannot be had:
    /// then the solution is none.
    pub(crate) fn settle(
        &self,
        solved: &mut Solution<Output>,
        events: &dyn EventSink,
    ) -> Result<bool, SolveError> {
        let targets = &solved.outputs[..self.input.targets.len()];
        let wanted = match self.input.wants {
            Wants::Files => targets,
            // The result; the others are below it.
            Wants::Blobs | Wants::Push => &targets[..targets.len().min(1)],
        };
        let mut lazy: Vec<Arc<LazyTree>> =
            wanted.iter().filter_map(Output::elsewhere).cloned().collect();
        if self.input.wants == Wants::Push {
            lazy.retain(|lazy| !self.engine.can_push(lazy));
        }
        let Some(target) = self.input.targets.first().filter(|_| !lazy.is_empty()) else {
            solved.outputs = at_hand(&solved.outputs);
            return Ok(true);
        };
        let id = events.next_id();
        let (name, inputs) = (LAST.to_owned(), Vec::new());
        let digest = oci::Digest::of(format!("{LAST} {}", id.0).as_bytes()).to_string();
        events.event(Event::Vertex { id, digest, name, inputs });
        events.event(Event::Started { id, at: Timestamp::now() });
        let context = StepContext { id, events, cancel: self.input.cancel, slot: None };
        for lazy in &lazy {
            let brought = match self.input.wants {
                Wants::Blobs if self.engine.can_push(lazy) => {
                    self.engine.fetch_layers(lazy, &context)
                }
                // Also where a layer is not to be had, and what it makes is here.
                _ => self.engine.bring(lazy, &context).map(drop),
            };
            match brought {
                Ok(()) => {}
                Err(Absent::Lost) => {
                    self.lost(lazy);
                    events.event(Event::Done { id, at: Timestamp::now() });
                    return Ok(false);
                }
                Err(Absent::Failed(_)) if self.input.cancel.is_cancelled() => {
                    return Err(SolveError::Cancelled);
                }
                Err(Absent::Failed(source)) => {
                    let (at, error) = (Timestamp::now(), source.to_string());
                    events.event(Event::Failed { id, at, error });
                    let name = self.input.definition.vertex(*target).meta.name.clone();
                    let source = Box::new(source);
                    return Err(SolveError::Failed { vertex: *target, name, source });
                }
            }
        }
        events.event(Event::Done { id, at: Timestamp::now() });
        solved.outputs = at_hand(&solved.outputs);
        Ok(true)
    }
}
