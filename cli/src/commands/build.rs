//! `drydock build`.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use frontend::{HistorySource, LowerError, Lowered, MAIN_CONTEXT, Parsed};
use graph::VertexIndex;
use oci::Timestamp;
use solver::{CancelToken, Event, EventSink, Solution, SolveError, Warning};
use worker::image::{Assembly, PullPolicy, Resolver};
use worker::{BuildInput, Engine, Output, TreeOutput};

use super::Context;
use super::dockerfile::{self, Source};
use super::export::{self, Variants};
use super::failure::Failure;
use super::images::Images;
use super::session;
use super::task::Task;
use crate::args::{BuildArgs, ProgressMode};
use crate::console::{self, Terminals};
use crate::errors::{Place, chain, diagnostic, recap};
use crate::outputs::metadata::ImageResult;
use crate::outputs::{destination, open};
use crate::progress::Progress;
use crate::request::{BuildRequest, RequestError};
use crate::signals;

/// What an ordinary user is told.
const NEEDS_ROOT: &str = "not supported yet: building as an ordinary user. Layers hold files of many \
    owners and RUN steps get a sandbox of namespaces, which takes root here: run it as root";

/// Builds.
pub(crate) fn run(args: &BuildArgs, context: &Context) -> Result<(), Failure> {
    if let Some(flag) = args.later.given() {
        return Err(RequestError::Unsupported(flag.to_owned()).into());
    }
    if !session::is_root() {
        return Err(Failure::error(NEEDS_ROOT));
    }
    let environment = &context.environment;
    let docker = session::docker_config(environment)?;
    let request =
        BuildRequest::new(args, &context.global, environment, &docker, session::is_root())?;
    let terminals = Terminals::of_process();
    let (view, notes) = BuildRequest::view(args, environment, terminals);
    for path in request.iidfile.iter().chain(&request.metadata_file) {
        destination::remove_old(path)?;
    }
    let targets = open::open(&request.outputs, terminals)?;
    let progress = Progress::start(&view)?;
    if view.mode != ProgressMode::Quiet {
        request.notes.iter().chain(&notes).for_each(|note| progress.note(note));
    }
    let cancel = CancelToken::new();
    let _signals = signals::install(cancel.clone(), |_| {})?;
    let mut build = Build { request, progress, cancel, mode: view.mode, colours: view.colours };
    let engine = session::open(&build.request.root, environment)?;
    let wake = {
        let engine = engine.clone();
        build.cancel.on_cancel(move || engine.client().shutdown())
    };
    let finished = build.run(&engine, targets);
    drop(wake);
    build.end(&engine, finished)
}

/// A build that is going on.
struct Build {
    request: BuildRequest,
    progress: Progress,
    cancel: CancelToken,
    mode: ProgressMode,
    colours: bool,
}

impl Build {
    fn run(
        &mut self,
        engine: &Arc<Engine>,
        targets: Vec<open::OpenOutput>,
    ) -> Result<ImageResult, Failure> {
        let started = Timestamp::now();
        self.tell_notes(engine);
        let task = Task::start(&self.progress, "[internal] load build definition from Dockerfile");
        let source = match dockerfile::read(&mut self.request) {
            Ok(source) => source,
            Err(failure) => {
                task.failed(&failure.summary());
                return Err(failure);
            }
        };
        let parsed = frontend::parse(&source.name, &source.text);
        task.done();
        let policy = if self.request.pull { PullPolicy::Always } else { PullPolicy::IfMissing };
        let resolver = Resolver::new(engine, policy);
        let images =
            Images { resolver: &resolver, layouts: &self.request.layouts, events: &self.progress };
        let lowered = frontend::lower(&parsed, &self.request.lower, &images)
            .map_err(|error| self.lower_failure(&parsed, error))?;
        self.warn(&parsed, &lowered);
        let handles = resolver.images();
        let solution = self.solve(engine, &source, &lowered, &handles, started)?;
        self.tell_notes(engine);
        let (result, steps) = outputs_of(&lowered, &solution);
        let history = history_of(&lowered);
        let base = lowered.base.as_ref().and_then(|b| handles.get(&b.manifest));
        let plan = &self.request.outputs;
        let formats = export::formats(plan);
        let rewrites = export::rewrites(plan);
        let assemble = |rewrite: bool| {
            let assembly = Assembly {
                config: lowered.config.clone(),
                history: &history,
                base,
                steps: &steps,
                result: result.as_ref(),
                epoch: self.request.epoch,
                rewrite,
                files_only: !plan.has_image() && plan.store.is_empty(),
                format: formats.get(&rewrite).copied(),
            };
            engine.assemble(assembly)
        };
        let images = rewrites
            .into_iter()
            .map(|rewrite| Ok((rewrite, assemble(rewrite)?)))
            .collect::<Result<Variants, worker::WorkerError>>()?;
        export::export(engine, plan, &images, targets, &self.progress, &self.cancel)
    }

    /// Runs the graph.
    fn solve(
        &self,
        engine: &Arc<Engine>,
        source: &Source,
        lowered: &Lowered,
        handles: &HashMap<oci::Digest, Arc<worker::image::ImageHandle>>,
        started: Timestamp,
    ) -> Result<Solution<Output>, Failure> {
        let mut contexts: HashMap<String, PathBuf> =
            self.request.directories.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        if let Some(dir) = &source.context {
            contexts.insert(MAIN_CONTEXT.to_owned(), dir.clone());
        }
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let input = BuildInput {
            definition: &lowered.definition,
            targets: &targets_of(lowered),
            contexts: &contexts,
            images: handles,
            jobs: self.request.jobs.unwrap_or_else(cores),
            started,
            cancel: &self.cancel,
        };
        engine.build(&input, &self.progress).map_err(|error| self.solve_failure(lowered, error))
    }

    /// Shows warnings of the Dockerfile; they are listed again at the end.
    fn warn(&self, parsed: &Parsed, lowered: &Lowered) {
        let files = [parsed.source.clone()];
        let mut messages: Vec<String> = parsed
            .diagnostics
            .iter()
            .chain(&lowered.warnings)
            .map(|d| diagnostic::summary(d, &files))
            .collect();
        if !lowered.unused_build_args.is_empty() {
            messages.push(format!(
                "one or more build-args were not consumed: {}",
                lowered.unused_build_args.join(", ")
            ));
        }
        for message in messages {
            self.progress.event(Event::Warning(Warning { id: None, message }));
        }
    }

    fn tell_notes(&self, engine: &Engine) {
        if self.mode == ProgressMode::Quiet {
            return;
        }
        for note in engine.take_notes() {
            self.progress.note(&note);
        }
    }

    fn lower_failure(&self, parsed: &Parsed, error: LowerError) -> Failure {
        self.progress.finish();
        let name = &parsed.source.name;
        match error {
            LowerError::Diagnostics(all) => {
                let files = [parsed.source.clone()];
                let errors: Vec<_> = all.iter().filter(|d| d.is_error()).collect();
                let text = diagnostic::render(&all, &files, self.colours);
                let summary = match errors.len() {
                    1 => format!("ERROR: {name} has an error"),
                    n => format!("ERROR: {name} has {n} errors"),
                };
                Failure::Told(format!("{text}{summary}"), None)
            }
            LowerError::Resolve { span, reference, suggestion, source } => {
                let place = place_of(&parsed.source, span);
                let mut message = chain::message(source.as_ref());
                if !message.contains(&reference) {
                    message = format!("{reference}: {message}");
                }
                if let Some(near) = suggestion {
                    message.push_str(&format!(" (did you mean {near:?}?)"));
                }
                let text = recap::failure(&[], Some(&place), &message, self.mode);
                Failure::Told(text, Some(source))
            }
            other => Failure::error(other),
        }
    }

    fn solve_failure(&self, lowered: &Lowered, error: SolveError) -> Failure {
        let summary = self.progress.finish();
        match error {
            SolveError::Failed { vertex, name, source } => {
                let place = lowered.definition.vertex(vertex).meta.span.and_then(|(file, span)| {
                    Some(place_of(lowered.definition.source_map.files.get(file)?, span))
                });
                let failed: Vec<_> =
                    summary.failed.into_iter().filter(|step| step.name == name).collect();
                let message = chain::message(source.as_ref());
                let text = recap::failure(&failed, place.as_ref(), &message, self.mode);
                Failure::Told(text, Some(source))
            }
            SolveError::Cancelled => {
                Failure::Told("ERROR: the build was cancelled".to_owned(), None)
            }
            other => Failure::error(other),
        }
    }

    /// Ends progress, makes everything durable, and tells the rest.
    fn end(self, engine: &Engine, finished: Result<ImageResult, Failure>) -> Result<(), Failure> {
        // What was built stays cached also when the build failed.
        let durable = engine.state().finish();
        self.tell_notes(engine);
        let summary = self.progress.finish();
        if self.mode != ProgressMode::Quiet && self.mode != ProgressMode::Rawjson {
            let warnings = recap::warnings(&summary.warnings);
            if !warnings.is_empty() {
                console::err(warnings.trim_end_matches('\n'));
            }
        }
        let image = finished?;
        durable?;
        if let Some(path) = &self.request.iidfile
            && let Some(id) = image.id()
        {
            destination::write_small(path, id.to_string().as_bytes())?;
        }
        if let Some(path) = &self.request.metadata_file {
            destination::write_small(path, image.metadata().as_bytes())?;
        }
        if self.request.quiet
            && let Some(id) = image.id()
        {
            console::out(&format!("{id}\n")).map_err(Failure::output)?;
        }
        Ok(())
    }
}

fn place_of(file: &graph::SourceFile, span: graph::Span) -> Place {
    let first = file.line_of(span.start);
    let last = file.line_of(span.end.saturating_sub(1).max(span.start));
    Place { file: file.name.clone(), text: file.text.to_string(), lines: first..=last }
}

/// The result, and every step that made a layer: their times go into the history.
fn targets_of(lowered: &Lowered) -> Vec<VertexIndex> {
    lowered.result.into_iter().chain(lowered.layers.iter().copied()).collect()
}

/// The results of [`targets_of`], taken apart again.
fn outputs_of(
    lowered: &Lowered,
    solution: &Solution<Output>,
) -> (Option<TreeOutput>, Vec<TreeOutput>) {
    let mut trees = solution.outputs.iter().filter_map(|o| o.tree().cloned());
    let result = lowered.result.and_then(|_| trees.next());
    (result, trees.collect())
}

fn history_of(lowered: &Lowered) -> Vec<worker::image::HistorySource> {
    let mut step = 0;
    let mut source = |entry: &HistorySource| match entry {
        HistorySource::Base(_) => worker::image::HistorySource::Base,
        HistorySource::Metadata => worker::image::HistorySource::Metadata,
        HistorySource::Step(_) => {
            step += 1;
            worker::image::HistorySource::Step(step - 1)
        }
    };
    lowered.history.iter().map(&mut source).collect()
}
