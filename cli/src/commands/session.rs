//! Opening the state directory with what the environment says.

use std::path::Path;
use std::sync::Arc;

use worker::{Engine, EngineConfig};

use super::Context;
use super::failure::Failure;
use crate::client;
use crate::environment::Environment;
use crate::proxies::DockerConfig;
use crate::request::RequestError;

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Opens the engine on the state directory `root`.
pub(crate) fn open(root: &Path, environment: &Environment) -> Result<Arc<Engine>, Failure> {
    let config = EngineConfig {
        root: root.to_owned(),
        registry: client::config(environment)?,
        uid: rustix::process::geteuid().as_raw(),
    };
    Ok(Arc::new(Engine::open(config)?))
}

/// Opens the engine of a command that has no request of its own.
pub(crate) fn open_default(context: &Context) -> Result<Arc<Engine>, Failure> {
    let root = context
        .environment
        .state_directory(context.global.root.as_deref(), is_root())
        .ok_or(RequestError::NoRoot)?;
    open(&root, &context.environment)
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
