//! What every call needs: the Dockerfile, and images where it names some.
//!
//! Nothing is written for it but what is asked of the outside: the state directory is opened only
//! for a context or an image that is not on this machine. No rights of root are needed.

use std::cell::{OnceCell, RefCell};
use std::error::Error;
use std::sync::Arc;

use frontend::{ImageRequest, ImageResolver, LowerError, LowerOptions, Parsed, ResolvedImage};
use oci::Timestamp;
use solver::{CancelToken, HookGuard};
use worker::Engine;
use worker::image::{PullPolicy, Resolver};

use crate::args::{BuildArgs, ProgressMode};
use crate::commands::build::{in_task, jobs_of};
use crate::commands::dockerfile;
use crate::commands::failure::Failure;
use crate::commands::images::Images;
use crate::commands::load_context::Loader;
use crate::commands::{Context, lowering, session};
use crate::console::Terminals;
use crate::contexts::{ContextSource, DockerfileSource};
use crate::progress::{Progress, View};
use crate::request::BuildRequest;
use crate::secrets::SecretStore;
use crate::signals::{self, SignalGuard};

/// What an ordinary user is told whose context cannot be brought in.
const UNPACKING: &str = "an archive is unpacked as a build would do it, which takes root, or a \
    user namespace with a range of ids";

/// A call that is going on.
pub(super) struct Question<'a> {
    request: BuildRequest,
    context: &'a Context,
    secrets: SecretStore,
    progress: Progress,
    cancel: CancelToken,
    mode: ProgressMode,
    colours: bool,
    engine: OnceCell<(Arc<Engine>, HookGuard)>,
    /// Why the engine could not be opened when an image was asked for.
    unopened: RefCell<Option<Failure>>,
    _signals: SignalGuard,
}

impl<'a> Question<'a> {
    /// What `args` ask of a Dockerfile.
    ///
    /// # Errors
    /// If they make no sense.
    pub(super) fn new(args: &BuildArgs, context: &'a Context) -> Result<Self, Failure> {
        let environment = &context.environment;
        environment.check()?;
        let docker = session::docker_config(environment)?;
        let is_root = context.is_root();
        let request = BuildRequest::new(args, &context.global, environment, &docker, is_root)?;
        let terminals = Terminals::of_process();
        let (view, notes) = View::choose(args.progress, args.quiet, environment, terminals);
        dockerfile::check_contexts(&request)?;
        let secrets = SecretStore::new(&args.secrets, environment)?;
        let progress = Progress::start(&view)?;
        if view.mode != ProgressMode::Quiet {
            let ignored = args.ignored.warnings();
            ignored.iter().chain(secrets.notes()).chain(&notes).for_each(|n| progress.note(n));
        }
        let cancel = CancelToken::new();
        let signals = signals::install(cancel.clone(), |_| {})?;
        Ok(Self {
            request,
            context,
            secrets,
            progress,
            cancel,
            mode: view.mode,
            colours: view.colours,
            engine: OnceCell::new(),
            unopened: RefCell::default(),
            _signals: signals,
        })
    }

    /// Reads the Dockerfile and the ignore files.
    ///
    /// # Errors
    /// If they cannot be had.
    pub(super) fn read(&mut self) -> Result<Parsed, Failure> {
        let here = matches!(self.request.context, ContextSource::Directory(_))
            && !matches!(self.request.dockerfile, DockerfileSource::Http(_));
        let source = if here {
            let name = dockerfile::name_of(&self.request);
            let title = format!("[internal] load build definition from {name}");
            let read = || dockerfile::read(&self.request, &self.cancel);
            in_task(&self.progress, &self.cancel, &title, read)?
        } else {
            let loader = Loader {
                engine: self.engine()?,
                request: &self.request,
                secrets: &self.secrets,
                progress: &self.progress,
                cancel: &self.cancel,
                jobs: jobs_of(&self.request),
                started: Timestamp::now(),
            };
            let loaded = loader.load();
            let archive = !matches!(self.request.context, ContextSource::Directory(_));
            let hint = |failure: Failure| match archive && self.context.unavailable.is_some() {
                true => failure.hint(UNPACKING),
                false => failure,
            };
            loaded.map_err(hint)?.1
        };
        let Self { request, progress, cancel, .. } = self;
        if request.has_directories() {
            in_task(progress, cancel, "[internal] load .dockerignore", || {
                dockerfile::read_ignores(request, &source)
            })?;
        }
        Ok(frontend::parse(&source.name, &source.text))
    }

    /// How the Dockerfile is lowered.
    pub(super) fn options(&mut self) -> &mut LowerOptions {
        &mut self.request.lower
    }

    /// Why the Dockerfile cannot be lowered, as people read it.
    pub(super) fn failure(&self, parsed: &Parsed, error: LowerError) -> Failure {
        let unopened = self.unopened.take();
        unopened.unwrap_or_else(|| lowering::failure(parsed, error, self.mode, self.colours))
    }

    /// Ends progress.
    ///
    /// # Errors
    /// If there is no answer, or what was fetched for it cannot be kept.
    pub(super) fn end<T>(self, answer: Result<T, Failure>) -> Result<T, Failure> {
        let durable = match self.engine.get() {
            Some((engine, _)) => {
                self.tell_notes(engine);
                engine.state().finish()
            }
            None => Ok(()),
        };
        self.progress.finish();
        let answer = answer.map_err(|failure| match self.cancel.is_cancelled() {
            true => Failure::error("cancelled"),
            false => failure,
        })?;
        durable?;
        Ok(answer)
    }

    fn engine(&self) -> Result<&Arc<Engine>, Failure> {
        if let Some((engine, _)) = self.engine.get() {
            return Ok(engine);
        }
        let engine = session::open(
            &self.request.root,
            self.context,
            self.request.snapshotter,
            &self.cancel,
        )?;
        self.tell_notes(&engine);
        let wake = {
            let engine = engine.clone();
            self.cancel.on_cancel(move || engine.client().shutdown())
        };
        Ok(&self.engine.get_or_init(|| (engine, wake)).0)
    }

    fn tell_notes(&self, engine: &Engine) {
        if self.mode != ProgressMode::Quiet {
            session::notes(engine).iter().for_each(|note| self.progress.note(note));
        }
    }
}

impl ImageResolver for Question<'_> {
    fn resolve(
        &self,
        request: &ImageRequest,
    ) -> Result<ResolvedImage, Box<dyn Error + Send + Sync>> {
        let engine = match self.engine() {
            Ok(engine) => engine,
            Err(failure) => {
                let message = failure.summary().to_owned();
                self.unopened.replace(Some(failure));
                return Err(message.into());
            }
        };
        let policy = if self.request.pull { PullPolicy::Always } else { PullPolicy::IfMissing };
        let resolver = Resolver::new(engine, policy);
        let images = Images {
            resolver: &resolver,
            layouts: &self.request.named.layouts,
            events: &self.progress,
            cancel: &self.cancel,
        };
        images.resolve(request)
    }
}
