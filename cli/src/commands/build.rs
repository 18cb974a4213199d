//! `drydock build`.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use frontend::{Diagnostic, HistorySource, Lowered, MAIN_CONTEXT, Parsed};
use graph::VertexIndex;
use oci::Timestamp;
use solver::{CancelToken, Event, EventSink, Solution, SolveError, Warning};
use worker::image::{Assembly, ImageHandle, PullPolicy, Resolver};
use worker::plan::PlannedStep;
use worker::remote_cache::Carry;
use worker::{BuildInput, ContextInput, Engine, Output, TreeOutput};

use super::Context;
use super::call;
use super::dockerfile::{self, Source};
use super::epoch::{self, EPOCH, Question};
use super::explain;
use super::export::{self, Targets, Variants};
use super::failure::Failure;
use super::images::Images;
use super::kept;
use super::load_context::Loader;
use super::lowering::{self, mark_of, place_of};
use super::one_id;
use super::plan;
use super::remote::{self, Caches};
use super::session;
use super::task::Task;
use crate::agents::Agents;
use crate::args::{BuildArgs, Call, OutputSpec, ProgressMode};
use crate::console::{self, Terminals};
use crate::errors::{Place, chain, diagnostic, recap};
use crate::open_files;
use crate::outputs::OutputFile;
use crate::outputs::destination;
use crate::outputs::metadata::ImageResult;
use crate::progress::{Progress, View};
use crate::request::BuildRequest;
use crate::secrets::SecretStore;
use crate::settings::Settings;
use crate::signals;

/// How often a build is tried whose cache turns out to be damaged.
const MAX_TRIES: u32 = 4;

/// Builds.
pub(crate) fn run(args: &BuildArgs, context: &Context) -> Result<(), Failure> {
    let spec = args.call();
    if spec.call != Call::Build {
        return call::run(spec, args, context);
    }
    if let Some(unavailable) = &context.unavailable {
        return Err(Failure::error(unavailable.clone()));
    }
    if let Some(format) = args.plan {
        return plan::run(format, args, context);
    }
    let environment = &context.environment;
    environment.check()?;
    let docker = session::docker_config(environment)?;
    let request =
        BuildRequest::new(args, &context.global, environment, &docker, context.is_root())?;
    let terminals = Terminals::of_process();
    let (view, notes) = View::choose(args.progress, args.quiet, environment, terminals);
    dockerfile::check_contexts(&request)?;
    let settings = Settings::read(&request.root)?;
    let agents = Agents::new(&args.ssh, environment)?;
    let secrets = SecretStore::new(&args.secrets, environment)?.with_agents(agents);
    let iidfile = result_file(request.iidfile.as_deref())?;
    let metadata_file = result_file(request.metadata_file.as_deref())?;
    let targets = Targets::open(&request.outputs, terminals)?;
    let progress = Progress::start(&view)?;
    cache::on_long_wait(progress.notes());
    if view.mode != ProgressMode::Quiet {
        let one_id = context.one_id.as_ref().map(one_id::note);
        let all = request.notes.iter().chain(secrets.notes()).chain(&notes).chain(&one_id);
        all.for_each(|note| progress.note(note));
    }
    let cancel = CancelToken::new();
    let _signals = signals::install(cancel.clone(), |_| {})?;
    let title = kept::title(args, &request);
    let mut build = Build {
        request,
        secrets,
        iidfile,
        metadata_file,
        progress,
        cancel,
        mode: view.mode,
        colours: view.colours,
        title,
        explain: args.explain,
        settings,
        root_option: context.global.root.clone(),
    };
    open_files::raise(&mut build.request.limits);
    let engine =
        session::open(&build.request.root, context, build.request.snapshotter, &build.cancel)?;
    build.attend(&engine, args, context);
    let wake = {
        let engine = engine.clone();
        build.cancel.on_cancel(move || engine.client().shutdown())
    };
    let finished = build.run(&engine, targets);
    drop(wake);
    let ended = build.end(&engine, finished);
    match &context.one_id {
        Some(missing) => ended.map_err(|failure| one_id::advise(failure, missing)),
        None => ended,
    }
}

/// A file for what is known of the result, without what an earlier build left in its place.
fn result_file(path: Option<&Path>) -> Result<Option<OutputFile>, Failure> {
    let Some(path) = path else { return Ok(None) };
    destination::remove_old(path)?;
    Ok(Some(OutputFile::create(path)?))
}

/// A build that is going on.
pub(super) struct Build {
    pub(super) request: BuildRequest,
    pub(super) secrets: SecretStore,
    pub(super) iidfile: Option<OutputFile>,
    pub(super) metadata_file: Option<OutputFile>,
    pub(super) progress: Progress,
    pub(super) cancel: CancelToken,
    pub(super) mode: ProgressMode,
    pub(super) colours: bool,
    /// What people know the build by.
    pub(super) title: String,
    /// Whether each step tells why it runs.
    pub(super) explain: bool,
    /// Of the state directory.
    pub(super) settings: Settings,
    /// `--root`, as it was given.
    pub(super) root_option: Option<PathBuf>,
}

/// A build whose Dockerfile was read.
struct Ready {
    lowered: Lowered,
    epoch: Option<Timestamp>,
    main: ContextInput,
    handles: HashMap<oci::Digest, Arc<ImageHandle>>,
}

impl Build {
    /// Keeps what steps tell, and the cache below its ceiling, which may have to wait for others.
    fn attend(&self, engine: &Arc<Engine>, args: &BuildArgs, context: &Context) {
        if let Some(limit) = self.settings.limit(args.max_cache.as_ref(), &context.environment) {
            engine.hold_below(limit, &self.title);
        }
        if let Some(ceiling) = engine.state().ceiling() {
            ceiling.listen(Box::new(self.progress.notes()));
        }
        let logs = engine.state().build_logs();
        self.progress.keep(logs, self.title.clone(), self.secrets.masks());
    }

    /// Builds. Where something in the cache turns out to be damaged, it is made again.
    fn run(&mut self, engine: &Arc<Engine>, targets: Targets) -> Result<ImageResult, Failure> {
        let mut targets = Some(targets);
        let mut tries = 1;
        loop {
            let before = engine.damage_count();
            let outcome = self.attempt(engine, &mut targets);
            let damaged = engine.damage_count() > before && !self.cancel.is_cancelled();
            if outcome.is_ok() || !damaged || tries == MAX_TRIES {
                return outcome;
            }
            // Bytes that went into a pipe cannot be taken back.
            let plan = &self.request.outputs;
            if targets.is_none() && plan.exports.iter().any(OutputSpec::to_stdout) {
                return outcome;
            }
            tries += 1;
            self.tell_notes(engine);
            engine.look_for_damage();
            self.tell_notes(engine);
            if targets.is_none() {
                targets = Some(Targets::open(plan, Terminals::of_process())?);
            }
        }
    }

    /// Builds once. The targets are taken when they are written to.
    fn attempt(
        &mut self,
        engine: &Arc<Engine>,
        targets: &mut Option<Targets>,
    ) -> Result<ImageResult, Failure> {
        let started = Timestamp::now();
        let caches = Caches::start(&self.request, engine);
        let Ready { lowered, epoch, main, handles } = self.prepare(engine, started)?;
        let solution = self.solve(&lowered, main, &handles, (started, &caches), |input| {
            engine.build(input, &self.progress)
        })?;
        let carried = caches.carry.as_ref().and_then(Carry::take);
        self.tell_notes(engine);
        let base = lowered.base.as_ref().and_then(|b| handles.get(&b.manifest));
        let plan = &self.request.outputs;
        // It takes long where there is much to compress: then nobody should wonder.
        let mut images = if plan.has_image() && !plan.is_empty() {
            in_task(&self.progress, &self.cancel, "exporting layers", || {
                self.assemble(engine, &lowered, base, &solution, epoch)
            })?
        } else {
            self.assemble(engine, &lowered, base, &solution, epoch)?
        };
        let (to, progress) = (&self.request.caches.to, &self.progress);
        let layers = base.map_or(0, |base| base.layers.len());
        let outputs = (&mut images, plan);
        remote::put_inline(engine, to, carried.as_ref(), layers, outputs, progress);
        let Some(targets) = targets.take() else {
            return Err(Failure::error("the outputs are gone"));
        };
        let result = export::export(engine, plan, &images, targets, progress, &self.cancel)?;
        remote::export(engine, to, carried.as_ref(), progress, &self.cancel)?;
        Ok(result)
    }

    /// Finds out what would run.
    pub(super) fn plan(&mut self, engine: &Arc<Engine>) -> Result<Vec<PlannedStep>, Failure> {
        let started = Timestamp::now();
        let caches = Caches { carry: None, ..Caches::start(&self.request, engine) };
        let Ready { lowered, main, handles, .. } = self.prepare(engine, started)?;
        let plan = |input: &BuildInput<'_>| engine.plan(input, &self.progress);
        let steps = self.solve(&lowered, main, &handles, (started, &caches), plan);
        self.tell_notes(engine);
        steps
    }

    /// Brings in what there is to read, and finds out what the steps are.
    fn prepare(&mut self, engine: &Arc<Engine>, started: Timestamp) -> Result<Ready, Failure> {
        self.tell_notes(engine);
        let (main, source) = self.read(engine, started)?;
        let parsed = frontend::parse(&source.name, &source.text);
        let policy = if self.request.pull { PullPolicy::Always } else { PullPolicy::IfMissing };
        let resolver = Resolver::new(engine, policy);
        let images = Images {
            resolver: &resolver,
            layouts: &self.request.named.layouts,
            events: &self.progress,
            cancel: &self.cancel,
        };
        let loader = self.loader(engine, started);
        let (lowered, epoch) = self.lower(&loader, &parsed, &images, &main)?;
        let handles = resolver.images();
        Ok(Ready { lowered, epoch, main, handles })
    }

    /// Puts the image together, in each variant that the outputs want.
    fn assemble(
        &self,
        engine: &Arc<Engine>,
        lowered: &Lowered,
        base: Option<&Arc<ImageHandle>>,
        solution: &Solution<Output>,
        epoch: Option<Timestamp>,
    ) -> Result<Variants, Failure> {
        let (result, steps) = outputs_of(lowered, solution);
        let history = history_of(lowered);
        let plan = &self.request.outputs;
        let formats = export::formats(plan);
        let one = |rewrite: bool| {
            engine.assemble(Assembly {
                config: lowered.config.clone(),
                history: &history,
                base,
                steps: &steps,
                result: result.as_ref(),
                epoch,
                rewrite,
                files_only: !plan.has_image() && plan.store.is_empty(),
                format: formats.get(&rewrite).copied(),
            })
        };
        let variants = export::rewrites(plan).into_iter().map(|r| Ok((r, one(r)?)));
        variants.collect()
    }

    /// Brings the main context in, and reads the Dockerfile and the ignore files.
    fn read(
        &mut self,
        engine: &Engine,
        started: Timestamp,
    ) -> Result<(ContextInput, Source), Failure> {
        let (main, source) = self.loader(engine, started).load()?;
        let Self { request, progress, cancel, .. } = self;
        if request.has_directories() {
            in_task(progress, cancel, "[internal] load .dockerignore", || {
                dockerfile::read_ignores(request, &source)
            })?;
        }
        Ok((main, source))
    }

    fn loader<'a>(&'a self, engine: &'a Engine, started: Timestamp) -> Loader<'a> {
        let Self { request, progress, cancel, secrets, .. } = self;
        Loader { engine, request, secrets, progress, cancel, jobs: jobs_of(request), started }
    }

    /// Lowers the Dockerfile, and finds out what SOURCE_DATE_EPOCH is.
    fn lower(
        &self,
        loader: &Loader<'_>,
        parsed: &Parsed,
        images: &Images<'_>,
        main: &ContextInput,
    ) -> Result<(Lowered, Option<Timestamp>), Failure> {
        let mut options = self.request.lower.clone();
        let mut warnings = Vec::new();
        let mut lowered = frontend::lower_with_warnings(parsed, &options, images, &mut warnings);
        if let Some(name) = lowered.as_ref().ok().and_then(epoch::name_in) {
            let question = Question { loader, parsed, images, main };
            let time = question.time_of(&name)?;
            let seconds = time.map(|s| s.to_string()).unwrap_or_default();
            // From here on it is a number, for every ARG of that name, too.
            options.build_args.insert(EPOCH.to_owned(), seconds);
            warnings.clear();
            lowered = frontend::lower_with_warnings(parsed, &options, images, &mut warnings);
        }
        // Also those of a file that cannot be built.
        self.warn(parsed, &warnings, lowered.as_ref().ok());
        let failure = |error| lowering::failure(parsed, error, self.mode, self.colours);
        let lowered = lowered.map_err(failure)?;
        let epoch = epoch::number_in(&lowered)?;
        Ok((lowered, epoch))
    }

    /// Has `work` done with the graph.
    fn solve<T>(
        &self,
        lowered: &Lowered,
        main: ContextInput,
        handles: &HashMap<oci::Digest, Arc<ImageHandle>>,
        (started, caches): (Timestamp, &Caches),
        work: impl FnOnce(&BuildInput<'_>) -> Result<T, SolveError>,
    ) -> Result<T, Failure> {
        let directory = |path: &PathBuf| ContextInput::Directory(path.clone());
        let named = self.request.named.directories.iter();
        let mut contexts: HashMap<String, ContextInput> =
            named.map(|(k, v)| (k.clone(), directory(v))).collect();
        contexts.insert(MAIN_CONTEXT.to_owned(), main);
        let id = || self.progress.build_id();
        let explain = explain::comparison(&self.request, &self.title, self.explain, &id);
        let input = BuildInput {
            definition: &lowered.definition,
            targets: &targets_of(lowered),
            contexts: &contexts,
            context_options: self.request.context_options,
            secrets: &self.secrets,
            images: handles,
            jobs: jobs_of(&self.request),
            started,
            limits: &self.request.limits,
            dns: &self.request.dns,
            devices: &self.request.devices,
            explain: Some(&explain),
            remote: caches.remote.as_ref(),
            wants: caches.wants,
            carry: caches.carry.as_ref(),
            cancel: &self.cancel,
        };
        work(&input).map_err(|error| self.solve_failure(lowered, error))
    }

    /// Shows warnings of the Dockerfile; they are listed again at the end.
    fn warn(&self, parsed: &Parsed, warnings: &[Diagnostic], lowered: Option<&Lowered>) {
        let files = [parsed.source.clone()];
        let mut messages: Vec<String> =
            warnings.iter().map(|d| diagnostic::summary(d, &files)).collect();
        if let Some(lowered) = lowered
            && !lowered.unused_build_args.is_empty()
        {
            // In the words that scripts look for.
            let names = lowered.unused_build_args.join(" ");
            messages.push(format!("[Warning] One or more build-args [{names}] were not consumed"));
        }
        for message in messages {
            self.progress.event(Event::Warning(Warning { id: None, message }));
        }
    }

    fn tell_notes(&self, engine: &Engine) {
        if self.mode == ProgressMode::Quiet {
            return;
        }
        for note in session::notes(engine) {
            self.progress.note(&note);
        }
    }

    fn solve_failure(&self, lowered: &Lowered, error: SolveError) -> Failure {
        match error {
            SolveError::Failed { vertex, name, source } => {
                let message = chain::message(source.as_ref());
                let meta = &lowered.definition.vertex(vertex).meta;
                let place = meta.span.and_then(|(file, span)| {
                    let file = lowered.definition.source_map.files.get(file)?;
                    let named = meta.words.iter().filter(|(text, _)| message.contains(text));
                    let word = named.max_by_key(|(text, _)| text.len());
                    let place = place_of(file, span);
                    let mark = word.and_then(|(_, span)| mark_of(file, *span)).or(place.mark);
                    Some(Place { mark, ..place })
                });
                let failed: Vec<_> = self
                    .progress
                    .summary()
                    .failed
                    .into_iter()
                    .filter(|step| step.name == name)
                    .collect();
                let text = recap::failure(&failed, place.as_ref(), self.mode);
                Failure::told(text, message, Some(source))
            }
            other => Failure::error(other),
        }
    }

    /// Ends progress, makes everything durable, and tells the rest.
    fn end(self, engine: &Engine, finished: Result<ImageResult, Failure>) -> Result<(), Failure> {
        // What was built stays cached also when the build failed.
        let durable = engine.state().finish();
        session::keep_small(engine, &self.settings);
        self.tell_notes(engine);
        let summary = self.progress.finish();
        if self.mode != ProgressMode::Quiet && self.mode != ProgressMode::Rawjson {
            let warnings = recap::warnings(&summary.warnings);
            if !warnings.is_empty() {
                console::err(warnings.trim_end_matches('\n'));
            }
        }
        let finished = finished.map_err(|failure| {
            let stopped = || Failure::error("the build was cancelled");
            let failure = if self.cancel.is_cancelled() { stopped() } else { failure };
            // In the words that scripts look for.
            failure.after("failed to solve")
        });
        let kept = self.progress.kept(finished.as_ref().err().map(Failure::summary));
        if self.progress.has_kept() {
            engine.state().retain_build_logs();
        }
        let image = finished.map_err(|failure| match kept {
            Some(kept) => failure.hint(kept::where_to_read(&kept, self.root_option.as_deref())),
            None => failure,
        })?;
        durable?;
        if let (Some(file), Some(id)) = (self.iidfile, image.id()) {
            file.put(id.to_string().as_bytes())?;
        }
        if let Some(file) = self.metadata_file {
            file.put(image.metadata().as_bytes())?;
        }
        // Never behind an archive that went the same way.
        let taken = self.request.outputs.exports.iter().any(OutputSpec::to_stdout);
        if self.request.quiet
            && !taken
            && let Some(id) = image.id()
        {
            console::out(&format!("{id}\n")).map_err(Failure::output)?;
        }
        Ok(())
    }
}

/// How many steps run at the same time.
pub(crate) fn jobs_of(request: &BuildRequest) -> NonZeroUsize {
    let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    request.jobs.unwrap_or_else(cores)
}

pub(crate) fn in_task<T>(
    progress: &Progress,
    cancel: &CancelToken,
    title: &str,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let task = Task::start(progress, cancel, title);
    let result = work();
    match &result {
        Ok(_) => task.done(),
        Err(failure) => task.failed(failure.summary()),
    }
    result
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
