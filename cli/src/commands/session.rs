//! Opening the state directory with what the environment says.

use std::collections::BTreeMap;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use solver::CancelToken;
use worker::{Backend, Engine, EngineConfig, SnapshotChoice};

use super::Context;
use super::failure::Failure;
use crate::client;
use crate::console;
use crate::environment::Environment;
use crate::errors::chain;
use crate::proxies::DockerConfig;
use crate::request::RequestError;
use crate::rootless;
use crate::settings::Settings;

/// What to do where the state directory cannot be written.
const OTHER_ROOT: &str = "another state directory can be given with --root or DRYDOCK_ROOT";

/// Opens the engine on the state directory `root`.
pub(crate) fn open(
    root: &Path,
    context: &Context,
    backend: Backend,
    cancel: &CancelToken,
) -> Result<Arc<Engine>, Failure> {
    let environment = &context.environment;
    let config = EngineConfig {
        root: root.to_owned(),
        registry: client::config(environment)?,
        git: worker::GitEnvironment::new(&git_variables(context)),
        uid: context.uid,
        snapshots: SnapshotChoice {
            backend,
            program: rootless::find("fuse-overlayfs", environment.variable("PATH")),
        },
        pasta: rootless::find("pasta", environment.variable("PATH")),
        cancel: cancel.clone(),
    };
    let engine = Engine::open(config).map_err(|error| {
        let denied = chain::find::<io::Error>(&error).is_some_and(|e| {
            matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
        });
        let failure = Failure::from(error).after(&format!("state directory {}", root.display()));
        if denied { failure.hint(OTHER_ROOT) } else { failure }
    })?;
    Ok(Arc::new(engine))
}

/// The variables for git. Inside a user namespace ssh has to be told where the user's files are.
fn git_variables(context: &Context) -> BTreeMap<String, String> {
    let mut variables = context.environment.variables.clone();
    let own = ["GIT_SSH", "GIT_SSH_COMMAND"].iter().any(|name| variables.contains_key(*name));
    let inside = !context.is_root() && context.unavailable.is_none();
    let command = context.environment.home.as_deref().and_then(rootless::ssh_command);
    if let (false, true, Some(command)) = (own, inside, command) {
        variables.insert("GIT_SSH_COMMAND".to_owned(), command);
    }
    variables
}

/// What the engine and the state directory have to say since it was asked last.
pub(crate) fn notes(engine: &Engine) -> Vec<String> {
    let mut notes = engine.take_notes();
    notes.extend(engine.state().take_warnings());
    notes
}

/// Brings the cache below its ceiling, and keeps it as small as the rules say, at the end of what
/// wrote into it. That this fails fails nothing: it is a note.
pub(crate) fn keep_small(engine: &Engine, settings: &Settings) {
    let ceiling = engine.state().ceiling();
    if let Some(ceiling) = ceiling.filter(|ceiling| ceiling.was_used())
        && let Err(error) = ceiling.settle()
    {
        engine.note(&format!("the cache may be larger than its ceiling: {error}"));
    }
    // What was written to stay was synced.
    if engine.state().sync_count() == 0 {
        return;
    }
    match engine.keep_small(&settings.rules, settings.interval) {
        Ok(all) => all.iter().for_each(|kept| {
            let freed = cache::ceiling::human(kept.freed);
            engine.note(&format!("removed {freed} from the cache ({})", kept.name));
        }),
        Err(error) => engine.note(&format!("the cache stays as large as it is: {error}")),
    }
}

/// The engine of a command on the local store. What it has to say is told at the end.
pub(crate) struct Store(Arc<Engine>);

impl Store {
    /// Opens the engine of a command that has no request of its own.
    pub(crate) fn open(context: &Context) -> Result<Self, Failure> {
        let root = context
            .environment
            .state_directory(context.global.root.as_deref(), context.is_root())
            .ok_or(RequestError::NoRoot)?;
        let settings = Settings::read(&root)?;
        let engine = open(&root, context, Backend::Auto, &CancelToken::new())?;
        if let Some(limit) = settings.limit(None, &context.environment) {
            engine.hold_below(limit, "drydock");
        }
        Ok(Self(engine))
    }
}

impl Deref for Store {
    type Target = Arc<Engine>;

    fn deref(&self) -> &Arc<Engine> {
        &self.0
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        for note in notes(&self.0) {
            console::err(&format!("WARNING: {note}"));
        }
    }
}

/// Docker's `config.json`, an empty one where there is none.
///
/// # Errors
/// If it is there and is not what docker writes.
pub(crate) fn docker_config(environment: &Environment) -> Result<DockerConfig, Failure> {
    let Some(dir) = &environment.docker_config else { return Ok(DockerConfig::default()) };
    let path = dir.join("config.json");
    match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(DockerConfig::default()),
        Err(error) => Err(Failure::error(format!("cannot read {}: {error}", path.display()))),
        Ok(text) => DockerConfig::parse(&text)
            .map_err(|e| Failure::error(format!("cannot read {}: {e}", path.display()))),
    }
}
