//! Which steps of a build would run, found out without running any.

use graph::{Op, SourceOp, VertexIndex};
use serde::Serialize;
use solver::{Description, EventSink, RecordStore, SolveError, StepContext, Work};

use crate::build::{BuildInput, BuildWork};
use crate::engine::Engine;
use crate::explain::{Cause, Explain};
use crate::key;
use crate::output::Output;

/// What would become of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// Its result is known.
    Cached,
    /// It would run.
    Run,
    /// It would run if a step before it, which would run, makes something else than last time.
    Maybe,
}

/// A step of a planned build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedStep {
    /// As people know it.
    pub step: String,
    /// What would become of it.
    pub fate: Fate,
    /// Why it would run.
    pub causes: Vec<Cause>,
    /// The steps before it that would run, or may.
    pub after: Vec<String>,
    /// How long it took last time, in milliseconds, where that is known.
    pub last_millis: Option<u64>,
    /// The cache of another machine that its result is in.
    pub from: Option<String>,
}

impl Engine {
    /// Finds out what [`build`](Self::build) would do. The state directory should be a
    /// [shadow](cache::shadow): uses are noted in it, and what resolving fetches is stored there.
    ///
    /// # Errors
    /// If a step cannot be described: a file is missing, a limit cannot be kept, …
    pub fn plan(
        &self,
        input: &BuildInput<'_>,
        events: &dyn EventSink,
    ) -> Result<Vec<PlannedStep>, SolveError> {
        let nobody = Explain::default();
        let input = &BuildInput { explain: Some(input.explain.unwrap_or(&nobody)), ..*input };
        let mut work = BuildWork::new(self, input, self.check_supported(input)?);
        work.only_looks = true;
        let context =
            StepContext { id: events.next_id(), events, cancel: input.cancel, slot: None };
        let mut outputs: Vec<Option<Output>> = vec![None; input.definition.vertices().len()];
        let mut steps = Vec::new();
        for vertex in input.definition.reachable(input.targets) {
            if input.cancel.is_cancelled() {
                return Err(SolveError::Cancelled);
            }
            let (output, step) = work.look(vertex, &outputs, &context)?;
            outputs[vertex.0] = output;
            steps.extend(step);
        }
        Ok(steps)
    }
}

impl BuildWork<'_> {
    /// The result of a vertex, if it is known or at hand; and what would become of it, if it is a
    /// step.
    fn look(
        &self,
        vertex: VertexIndex,
        outputs: &[Option<Output>],
        context: &StepContext<'_>,
    ) -> Result<(Option<Output>, Option<PlannedStep>), SolveError> {
        let definition = self.input.definition;
        let planned = definition.vertex(vertex);
        let inputs: Option<Vec<Output>> =
            planned.inputs.iter().map(|at| outputs[at.0].clone()).collect();
        let Some(inputs) = inputs else { return Ok((None, Some(self.blocked(vertex, outputs)))) };
        let failed = |source| {
            let name = planned.meta.name.clone();
            SolveError::Failed { vertex, name, source }
        };
        let key = match self.describe(vertex, &inputs, context).map_err(failed)? {
            Description::Ready(output) => {
                let shown = matches!(planned.op, Op::Source(SourceOp::Image(_)));
                let step = shown.then(|| self.planned(vertex, Fate::Cached, Vec::new()));
                return Ok((Some(output), step));
            }
            Description::Keyed { key, .. } => key,
            // What its key is made of would have to be fetched: nothing is.
            Description::Lost(positions) => {
                let titles = positions.iter().filter_map(|at| planned.inputs.get(*at));
                let recorder = self.recorder.as_ref();
                let after = titles.filter_map(|at| Some(recorder?.title(*at))).collect();
                let step = self.planned(vertex, Fate::Maybe, Vec::new());
                return Ok((None, Some(PlannedStep { after, ..step })));
            }
        };
        let since = solver::not_before(planned.meta.freshness, self.input.started);
        let record = self.engine.state.get(&key, since)?;
        let local = record.and_then(|record| self.load(vertex, &inputs, &record));
        let cached = || self.planned(vertex, Fate::Cached, Vec::new());
        if let Some(output) = local {
            return Ok((Some(output), Some(cached())));
        }
        if let Some((record, output)) = self.import(vertex, &inputs, &key, since, context) {
            let step = PlannedStep { from: Some(record.name), ..cached() };
            return Ok((Some(output), Some(step)));
        }
        let causes = self.recorder.as_ref().map(|recorder| recorder.runs(vertex));
        Ok((None, Some(self.planned(vertex, Fate::Run, causes.unwrap_or_default()))))
    }

    /// A step whose inputs are not all known.
    fn blocked(&self, vertex: VertexIndex, outputs: &[Option<Output>]) -> PlannedStep {
        let planned = self.input.definition.vertex(vertex);
        let lines = key::Description::of(&planned.op).finish().1;
        let mut causes = Vec::new();
        let mut after = Vec::new();
        if let Some(recorder) = &self.recorder {
            causes = recorder.runs_anyway(vertex, &lines);
            let unknown = planned.inputs.iter().filter(|at| outputs[at.0].is_none());
            after.extend(unknown.map(|at| recorder.title(*at)));
            after.dedup();
        }
        let fate = if causes.is_empty() { Fate::Maybe } else { Fate::Run };
        PlannedStep { after, ..self.planned(vertex, fate, causes) }
    }

    fn planned(&self, vertex: VertexIndex, fate: Fate, causes: Vec<Cause>) -> PlannedStep {
        let recorder = self.recorder.as_ref();
        PlannedStep {
            step: recorder.map(|it| it.title(vertex)).unwrap_or_default(),
            fate,
            causes,
            after: Vec::new(),
            last_millis: recorder.and_then(|it| it.last_millis(vertex)),
            from: None,
        }
    }
}
