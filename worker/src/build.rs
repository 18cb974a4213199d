//! One build: the solver's [`Work`] over an engine.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::cache::mount::Emptied;
use executor::{Dns, ExecError, Limits};
use graph::{Definition, Freshness, MountKind, Op, SourceOp, Vertex, VertexIndex};
use oci::{Digest, Timestamp};
use solver::work::WorkError;
use solver::{
    ActionKey, CancelToken, ContentId, Description, Done, EventSink, Gathered, Record, Solution,
    SolveError, SolveOptions, StepContext, Stream, Work,
};

use crate::circumstances;
use crate::context::{ContextOptions, ContextTree};
use crate::devices::{BuildDevices, DeviceAccess};
use crate::engine::Engine;
use crate::error::WorkerError;
use crate::exec::{Given, network};
use crate::explain::{Explain, Recorder, entries_of, sentence};
use crate::file::{Selection, rewrite_of};
use crate::image::ImageHandle;
use crate::key::{self, List, image_content};
use crate::mounts::{Setting, Shown};
use crate::output::{Output, TreeOutput};
use crate::remote_cache::{Carry, RemoteCaches, at_hand};
use crate::result::{content_of, root_of};
use crate::source::{FileTree, Secrets};

/// How often a build is solved with caches of other machines that promise what they cannot keep.
const MAX_ROUNDS: u32 = 16;

/// What a build context is.
#[derive(Clone)]
pub enum ContextInput {
    /// A directory of this machine, read in place.
    Directory(PathBuf),
    /// The result of an earlier solve: a checkout, an unpacked archive.
    Tree(TreeOutput),
    /// A single file.
    File(Arc<FileTree>),
}

/// What one build works on.
pub struct BuildInput<'a> {
    /// The graph.
    pub definition: &'a Definition,
    /// The vertices whose results are wanted.
    pub targets: &'a [VertexIndex],
    /// The contexts by name.
    pub contexts: &'a HashMap<String, ContextInput>,
    /// How those of them are read that are directories.
    pub context_options: ContextOptions,
    /// What sources may need to be let in.
    pub secrets: &'a dyn Secrets,
    /// The images that the graph names, by the digest it knows them by.
    pub images: &'a HashMap<Digest, Arc<ImageHandle>>,
    /// How many steps run at the same time.
    pub jobs: NonZeroUsize,
    /// When the build started: results that must be fresh are not older.
    pub started: Timestamp,
    /// Limits of each RUN step. They are in no key.
    pub limits: &'a Limits,
    /// What RUN steps are told about name servers. It is in no key.
    pub dns: &'a Dns,
    /// Devices that RUN steps may use.
    pub devices: &'a DeviceAccess,
    /// What the build is compared with to say why steps run; none where nobody will ask.
    pub explain: Option<&'a Explain<'a>>,
    /// Caches of other machines that it may use.
    pub remote: Option<&'a RemoteCaches>,
    /// What its result is wanted for.
    pub wants: Wants,
    /// Takes what goes to other machines; none where nothing does.
    pub carry: Option<&'a Carry>,
    /// Stops the build.
    pub cancel: &'a CancelToken,
}

/// What the result of a build is wanted for, and with that what of it has to be here at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wants {
    /// Its files.
    #[default]
    Files,
    /// The blobs of its layers.
    Blobs,
    /// A registry, which may have the layers: they may stay elsewhere.
    Push,
}

impl Engine {
    /// Solves a definition.
    ///
    /// # Errors
    /// The first failure of a step, a cancellation, or a state directory that cannot be used.
    pub fn build(
        &self,
        input: &BuildInput<'_>,
        events: &dyn EventSink,
    ) -> Result<Solution<Output>, SolveError> {
        let devices = self.check_supported(input)?;
        let work = BuildWork::new(self, input, devices);
        let solved = work.solve(events);
        lock(&work.contexts).iter().for_each(|context| self.remember_context(context));
        if let Some(Err(error)) = work.recorder.map(|recorder| recorder.finish(solved.is_ok())) {
            self.warn(&format!("the next build cannot say why steps run: {error}"));
        }
        solved
    }

    /// Refuses a build before it starts that has a step which cannot run with its limits, network or
    /// devices; tells what devices each step gets. Whether steps can run at all shows at the first
    /// one that has to.
    pub(crate) fn check_supported<'a>(
        &self,
        input: &BuildInput<'a>,
    ) -> Result<BuildDevices<'a>, SolveError> {
        let mut devices = BuildDevices::new(input.devices);
        let mut unchecked = (*input.limits != Limits::default()).then_some(input.limits);
        for vertex in input.definition.reachable(input.targets) {
            let Vertex { op: Op::Exec(exec), meta, .. } = input.definition.vertex(vertex) else {
                continue;
            };
            let failed = |source: WorkerError| SolveError::Failed {
                vertex,
                name: meta.name.clone(),
                source: Box::new(source),
            };
            devices.settle(vertex, exec).map_err(|error| failed(error.into()))?;
            // What every host gives is not asked for: where all steps are known, none will run.
            if let Some(limits) = unchecked.take() {
                let executor = self.executor().map_err(failed)?;
                executor.check(limits).map_err(|error| failed(error.into()))?;
            }
            let network = network(exec);
            if network == executor::Network::Isolated {
                let checked = self.executor().map_err(failed)?.check_network(network);
                checked.map_err(|error| failed(ExecError::from(error).into()))?;
            }
        }
        devices.problems().for_each(|problem| self.warn(&problem));
        Ok(devices)
    }

    /// Keeps the hashes of a context's files, also of a build that failed: the next one need not
    /// read them again.
    fn remember_context(&self, context: &ContextTree) {
        if let Err(error) = context.save() {
            self.warn(&format!("the files of the context will be read again next time: {error}"));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is done under these locks is one insertion or removal each.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) struct BuildWork<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) input: &'a BuildInput<'a>,
    /// What the file ops that were described and have no result yet select. They run on just
    /// this: a context may change in between, and a key must name what was copied.
    selections: Mutex<HashMap<VertexIndex, Arc<Vec<Selection>>>>,
    /// The contexts that were opened.
    contexts: Mutex<Vec<Arc<ContextTree>>>,
    /// What the bind mounts of the exec ops that were described and have no result yet show.
    shown: Mutex<HashMap<VertexIndex, Arc<Vec<Shown>>>>,
    /// The commits that git sources mean in this build: a branch may move in between.
    commits: Mutex<HashMap<VertexIndex, String>>,
    /// The cache mounts that were emptied for this build.
    emptied: Emptied,
    devices: BuildDevices<'a>,
    pub(crate) recorder: Option<Recorder<'a>>,
    /// What was asked of trees, and what came out.
    answers: Mutex<BTreeMap<ContentId, ContentId>>,
    /// Whether nothing is run or written.
    pub(crate) only_looks: bool,
}

impl<'a> BuildWork<'a> {
    pub(crate) fn new(
        engine: &'a Engine,
        input: &'a BuildInput<'a>,
        devices: BuildDevices<'a>,
    ) -> Self {
        Self {
            engine,
            input,
            selections: Mutex::default(),
            contexts: Mutex::default(),
            shown: Mutex::default(),
            commits: Mutex::default(),
            emptied: Emptied::default(),
            devices,
            recorder: input.explain.map(|explain| {
                Recorder::new(&engine.state, explain, input.definition, input.started)
            }),
            answers: Mutex::default(),
            only_looks: false,
        }
    }
}

impl BuildWork<'_> {
    /// Solves it, and has at the end what the result is wanted for. What a cache promised and
    /// could not keep is done again: each time round, something more is known not to be there.
    fn solve(&self, events: &dyn EventSink) -> Result<Solution<Output>, SolveError> {
        let input = self.input;
        let options = SolveOptions {
            jobs: input.jobs,
            fresh_since: input.started,
            cancel: input.cancel.clone(),
        };
        let mut targets = input.targets.to_vec();
        if input.carry.is_some() {
            targets.extend(input.definition.reachable(input.targets));
        }
        let store = &*self.engine.state;
        let mut rounds = 0;
        loop {
            if let (MAX_ROUNDS, Some(remote)) = (rounds, input.remote) {
                remote.give_up();
            }
            rounds += 1;
            let mut solved =
                solver::solve(input.definition, &targets, self, store, events, &options)?;
            if !self.settle(&mut solved, events)? {
                continue;
            }
            let all = solved.outputs.split_off(input.targets.len());
            if let Some(carry) = input.carry {
                let answers = std::mem::take(&mut *lock(&self.answers));
                carry.collect(self, &targets[input.targets.len()..], all, &solved.steps, answers);
            }
            return Ok(solved);
        }
    }

    /// Those of the answers about `vertex`, which is described, that are wrong: its inputs are here
    /// now.
    pub(crate) fn look_at_answers(&self, vertex: VertexIndex, inputs: &[Output]) -> Vec<ContentId> {
        let nobody = |_: &ContentId| None;
        let mut wrong = Vec::new();
        let selections = lock(&self.selections).get(&vertex).cloned();
        if let (Some(told), Op::File(file)) = (selections, self.op(vertex))
            && told.iter().any(|it| !it.is_here())
        {
            let now = self.engine.selections(file, inputs, &nobody).unwrap_or_default();
            let same = |at: usize| now.get(at).is_some_and(|it| it.digest == told[at].digest);
            let differ = (0..told.len()).filter(|at| !same(*at));
            wrong.extend(differ.filter_map(|at| told[at].question));
            lock(&self.selections).insert(vertex, Arc::new(now));
        }
        let shown = lock(&self.shown).get(&vertex).cloned();
        if let (Some(told), Op::Exec(exec)) = (shown, self.op(vertex))
            && told.iter().any(|it| !it.is_here())
        {
            let now = self.engine.shown(exec, inputs, &nobody).unwrap_or_default();
            let same = |at: usize| now.get(at).is_some_and(|it| it.digest == told[at].digest);
            let differ = (0..told.len()).filter(|at| !same(*at));
            wrong.extend(differ.filter_map(|at| told[at].question));
            lock(&self.shown).insert(vertex, Arc::new(now));
        }
        wrong
    }

    /// The vertex has a result.
    pub(crate) fn will_not_run(&self, vertex: VertexIndex, took: Duration) {
        lock(&self.selections).remove(&vertex);
        lock(&self.shown).remove(&vertex);
        if let Some(recorder) = &self.recorder {
            recorder.made(vertex, took);
        }
    }

    fn note_answer(&self, question: Option<ContentId>, digest: &str) {
        if let (Some(_), Some(question), Ok(digest)) = (self.input.carry, question, digest.parse())
        {
            lock(&self.answers).insert(question, digest);
        }
    }

    fn op(&self, vertex: VertexIndex) -> &Op {
        &self.input.definition.vertex(vertex).op
    }

    fn image(&self, manifest: &Digest) -> Result<&Arc<ImageHandle>, WorkerError> {
        self.input
            .images
            .get(manifest)
            .ok_or_else(|| WorkerError::Internal(format!("image {manifest} was not resolved")))
    }

    fn describe_source(
        &self,
        vertex: VertexIndex,
        source: &SourceOp,
        context: &StepContext<'_>,
    ) -> Result<Description<Output>, WorkerError> {
        let ready = |output| Ok(Description::Ready(output));
        match source {
            SourceOp::Local(local) => match self.input.contexts.get(&local.name) {
                None => Err(WorkerError::NoContext(local.name.clone())),
                Some(ContextInput::Tree(tree)) => ready(Output::Tree(tree.clone())),
                Some(ContextInput::File(file)) => ready(Output::File(file.clone())),
                Some(ContextInput::Directory(path)) => {
                    let tree = ContextTree::open(
                        &self.engine.state,
                        path,
                        &local.ignore,
                        self.input.context_options,
                    )?;
                    let tree = Arc::new(tree);
                    lock(&self.contexts).push(tree.clone());
                    ready(Output::Context(tree))
                }
            },
            SourceOp::Image(source) => {
                let image = self.image(&source.manifest)?;
                if let Some(tree) = self.engine.image_at_hand(image) {
                    return ready(Output::Tree(tree));
                }
                if let Some(tree) = self.image_elsewhere(image) {
                    return ready(Output::Tree(tree));
                }
                // What an image is does not depend on the name it came by.
                let content = image_content(&image.config.rootfs.diff_ids);
                let mut description = key::Description::of_source();
                description.input("image", Some(&content));
                Ok(self.keyed(vertex, description))
            }
            SourceOp::Http(http) => {
                ready(Output::File(self.engine.http_file(http, self.input.secrets, context)?))
            }
            SourceOp::Git(git) => {
                let commit = self.engine.git_commit(git, self.input.secrets, context)?;
                // Nor what a commit is on where it came from, unless that stands in `.git`.
                let mut description = key::Description::of_source();
                description.line("git", &commit);
                let json = |value| serde_json::to_string(value).unwrap_or_default();
                description.line("directory", git.subdir.as_deref().unwrap_or_default());
                description.line("submodules", if git.submodules { "yes" } else { "no" });
                description.line("times", &json(&git.mtime));
                if git.keep_git_dir {
                    description.line("repository", &git.public_remote());
                    description.line("ref", git.reference.as_deref().unwrap_or_default());
                }
                lock(&self.commits).insert(vertex, commit);
                Ok(self.keyed(vertex, description))
            }
        }
    }

    fn describe_op(
        &self,
        vertex: VertexIndex,
        inputs: &[Output],
        context: &StepContext<'_>,
    ) -> Result<Description<Output>, WorkerError> {
        let op = self.op(vertex);
        let lost = self.bring_for_key(op, inputs, context)?;
        if !lost.is_empty() {
            return Ok(Description::Lost(lost));
        }
        let inputs = &at_hand(inputs)[..];
        let answer = |question: &ContentId| self.answer(question, context);
        let mut description = key::Description::of(op);
        match op {
            Op::Source(source) => return self.describe_source(vertex, source, context),
            Op::Exec(exec) => {
                let root = root_of(exec.root, inputs)?;
                description.input("root", Some(&content_of(root.as_ref())));
                description.about(exec.root, None);
                for mount in &exec.mounts {
                    if let MountKind::Cache { input: Some(at), .. } = mount.kind {
                        let seed = root_of(Some(at), inputs).ok().flatten();
                        description.input("cache", Some(&content_of(seed.as_ref())));
                        description.about(Some(at), None);
                    }
                }
                let shown = Arc::new(self.engine.shown(exec, inputs, &answer)?);
                for mount in shown.iter() {
                    description.line("bind", &mount.digest);
                    self.note_answer(mount.question, &mount.digest);
                    let counted = mount.counted.clone();
                    let list = counted.map(|counted| -> List {
                        Arc::new(move || entries_of(std::slice::from_ref(&*counted)))
                    });
                    description.about(mount.input_of(exec), list);
                    description.at(mount.path_of(exec));
                }
                // A name may mean other devices elsewhere, or none.
                for name in self.devices.of(vertex).iter().flat_map(|it| &it.granted.names) {
                    description.line("device found", name);
                }
                lock(&self.shown).insert(vertex, shown);
            }
            Op::File(file) => {
                let root = root_of(file.root, inputs)?;
                description.input("root", Some(&content_of(root.as_ref())));
                description.about(file.root, None);
                description.line("times", rewrite_of(file, inputs).word());
                let selections = Arc::new(self.engine.selections(file, inputs, &answer)?);
                for (at, selection) in selections.iter().enumerate() {
                    description.line("content", &selection.digest);
                    self.note_answer(selection.question, &selection.digest);
                    let all = selections.clone();
                    let list: List = Arc::new(move || entries_of(&all[at].selected));
                    description.about(selection.input, selection.is_here().then_some(list));
                }
                lock(&self.selections).insert(vertex, selections);
            }
            Op::Merge(merge) => {
                for (name, at) in [("base", merge.base), ("layer", merge.layer)] {
                    let root = root_of(Some(at), inputs)?;
                    description.input(name, Some(&content_of(root.as_ref())));
                    description.about(Some(at), None);
                }
            }
        }
        Ok(self.keyed(vertex, description))
    }

    fn keyed(&self, vertex: VertexIndex, description: key::Description) -> Description<Output> {
        let (key, lines) = description.finish();
        if let Some(recorder) = &self.recorder {
            let inputs = &self.input.definition.vertex(vertex).inputs;
            recorder.described(vertex, inputs, &key, &lines);
        }
        let inputs = lines.into_iter().map(|line| (line.name, line.value)).collect();
        Description::Keyed { key, inputs }
    }

    /// What a step is given that is in no key.
    fn circumstances(&self, vertex: VertexIndex) -> Option<String> {
        let Op::Exec(exec) = self.op(vertex) else { return None };
        let fresh = self.input.definition.vertex(vertex).meta.freshness == Freshness::Build;
        let devices = self.devices.of(vertex);
        circumstances::of(exec, self.input.limits, self.input.dns, devices, fresh)
    }

    /// Says why a vertex runs.
    fn explain(&self, vertex: VertexIndex, context: &StepContext<'_>) {
        let Some(recorder) = &self.recorder else { return };
        let causes = recorder.runs(vertex);
        if recorder.shows() {
            let line = format!("why: {}\n", sentence(&causes));
            context.log(Stream::Stderr, line.as_bytes());
        }
    }

    fn run_op(
        &self,
        vertex: VertexIndex,
        inputs: &[Output],
        context: &StepContext<'_>,
    ) -> Result<Done<Output>, WorkerError> {
        let began = Instant::now();
        let made = match self.op(vertex) {
            Op::Source(SourceOp::Local(_) | SourceOp::Http(_)) => {
                return Err(WorkerError::Internal("a file is never run".to_owned()));
            }
            Op::Source(SourceOp::Image(source)) => {
                self.engine.pull(self.image(&source.manifest)?, context)?
            }
            Op::Source(SourceOp::Git(source)) => {
                let commit = lock(&self.commits).get(&vertex).cloned().ok_or_else(|| {
                    WorkerError::Internal(format!("vertex {} was not described", vertex.0))
                })?;
                self.engine.git_checkout(source, &commit, self.input.secrets, context)?
            }
            Op::Merge(merge) => {
                let tree = |at| {
                    root_of(Some(at), inputs)?.ok_or_else(|| {
                        WorkerError::Internal(format!("input {at} is no root file system"))
                    })
                };
                self.engine.merge(&tree(merge.base)?, &tree(merge.layer)?)?
            }
            Op::Exec(op) => {
                let shown = lock(&self.shown).remove(&vertex).ok_or_else(|| {
                    WorkerError::Internal(format!("vertex {} was not described", vertex.0))
                })?;
                let fresh = self.input.definition.vertex(vertex).meta.freshness == Freshness::Build;
                let fresh = fresh.then_some(&self.emptied);
                let setting = Setting { secrets: self.input.secrets, fresh };
                let devices = self.devices.of(vertex);
                let (limits, dns) = (self.input.limits, self.input.dns);
                let given = Given { shown: &shown, limits, dns, devices };
                self.engine.run_exec(op, inputs, &given, &setting, context)?
            }
            Op::File(op) => {
                let selections = lock(&self.selections).remove(&vertex).ok_or_else(|| {
                    WorkerError::Internal(format!("vertex {} was not described", vertex.0))
                })?;
                self.engine.run_file(op, inputs, &selections, context)?
            }
        };
        if let Some(recorder) = &self.recorder {
            recorder.took(vertex, began.elapsed(), made.payload.used);
        }
        Ok(Done {
            content: made.output.content,
            payload: made.payload.encode(),
            output: Output::Tree(made.output),
        })
    }
}

impl Work for BuildWork<'_> {
    type Output = Output;

    fn describe(
        &self,
        vertex: VertexIndex,
        inputs: &[Output],
        context: &StepContext<'_>,
    ) -> Result<Description<Output>, WorkError> {
        Ok(self.describe_op(vertex, inputs, context)?)
    }

    fn load(&self, vertex: VertexIndex, _inputs: &[Output], record: &Record) -> Option<Output> {
        let tree = self.engine.load_payload(record.content, &record.payload)?;
        self.will_not_run(vertex, record.duration);
        Some(Output::Tree(tree))
    }

    fn import(
        &self,
        vertex: VertexIndex,
        inputs: &[Output],
        key: &ActionKey,
        not_before: Timestamp,
        context: &StepContext<'_>,
    ) -> Option<(Record, Output)> {
        self.find_elsewhere(vertex, inputs, key, not_before, context)
    }

    fn gather(
        &self,
        vertex: VertexIndex,
        inputs: &[Output],
        context: &StepContext<'_>,
    ) -> Result<Gathered, WorkError> {
        self.gather_inputs(vertex, inputs, context)
    }

    fn run(
        &self,
        vertex: VertexIndex,
        inputs: &[Output],
        context: &StepContext<'_>,
    ) -> Result<Done<Output>, WorkError> {
        self.explain(vertex, context);
        let clock = Instant::now();
        let done = self.run_op(vertex, &at_hand(inputs), context)?;
        if let Some(recorder) = &self.recorder {
            recorder.made(vertex, clock.elapsed());
        }
        Ok(done)
    }

    fn lets_go(&self, output: &Output) -> bool {
        // A context takes nothing of the cache, and should be read once.
        self.engine.state.ceiling().is_some() && !matches!(output, Output::Context(_))
    }

    fn outlasts_stop(&self, vertex: VertexIndex) -> bool {
        // What comes from elsewhere does not: a build that is asked to stop ends its connections.
        !matches!(self.op(vertex), Op::Source(_))
    }

    fn tell_failure(&self, vertex: VertexIndex, error: &WorkError) -> Option<String> {
        circumstances::tell(&self.circumstances(vertex)?, error.downcast_ref()?)
    }

    fn take_failure(&self, vertex: VertexIndex, told: &str) -> Option<WorkError> {
        Some(circumstances::take(&self.circumstances(vertex)?, told)?.into())
    }
}
