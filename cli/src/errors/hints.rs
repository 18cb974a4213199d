//! What to do about an error, by its type.

use std::error::Error;

use registry::{ErrorKind, Operation, RegistryError};
use worker::{CdiError, WorkerError};

use super::chain;
use crate::rootless::Unavailable;

/// Advice about `error`, one line each; mostly none.
pub fn hints(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut hints = chain::find::<Unavailable>(error).map(Unavailable::hints).unwrap_or_default();
    if let Some(WorkerError::Device(CdiError::NotAllowed(names))) =
        chain::find::<WorkerError>(error)
    {
        hints.extend(names.iter().map(|name| {
            format!("if you trust this Dockerfile with it: --allow device={name} (or all: --allow device)")
        }));
    }
    if let Some(error) = registry_error(error) {
        hints.extend(registry(error));
        if let ErrorKind::Sink(io) | ErrorKind::Source(io) = &error.kind {
            hints.extend(system(io));
        }
    } else if let Some(io) = chain::find::<std::io::Error>(error) {
        hints.extend(system(io));
    }
    hints
}

/// The registry's error in the chain. The worker's own type hands it through without being a
/// link of the chain itself.
fn registry_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a RegistryError> {
    let worker = chain::find::<WorkerError>(error);
    match worker {
        Some(WorkerError::Registry(error)) => Some(error),
        _ => chain::find::<RegistryError>(error),
    }
}

fn registry(error: &RegistryError) -> Option<String> {
    let host = host_of(&error.object);
    let download = error.operation == Operation::Download;
    Some(match &error.kind {
        ErrorKind::Unauthorized { .. } | ErrorKind::Denied(_) if download => {
            let host = registry::authority(&error.object)?;
            format!(
                "what the server wants to see can be given as a secret: \
                 --secret id=HTTP_AUTH_TOKEN_{host},src=FILE with a token, or \
                 id=HTTP_AUTH_HEADER_{host} with a whole Authorization header"
            )
        }
        ErrorKind::RateLimited(_) if download => return None,
        ErrorKind::Unauthorized { credentials: false, .. } | ErrorKind::Denied(_) => {
            format!("log in first, with `docker login {host}` or `skopeo login {host}`")
        }
        ErrorKind::Unauthorized { credentials: true, .. } => {
            format!("the stored password for {host} is not accepted: `docker login {host}` again")
        }
        ErrorKind::RateLimited(_) => {
            format!("{host} limits how much may be pulled; a login may raise the limit")
        }
        ErrorKind::NotFound(_) if error.operation == Operation::Resolve => {
            "check the name and the tag; private images need a login".to_owned()
        }
        ErrorKind::Tls { .. } => {
            "certificates are checked against the system's trust store, or SSL_CERT_FILE".to_owned()
        }
        ErrorKind::Network { .. } => {
            "is there a way to that host? Proxies are taken from HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
                .to_owned()
        }
        ErrorKind::Credentials(_) => {
            "credentials come from config.json in DOCKER_CONFIG or ~/.docker".to_owned()
        }
        _ => return None,
    })
}

fn system(error: &std::io::Error) -> Option<String> {
    match error.kind() {
        std::io::ErrorKind::StorageFull => Some(
            "the disk is full: `drydock du` shows what the cache takes, `drydock prune` frees it"
                .to_owned(),
        ),
        _ => None,
    }
}

/// The registry in the object of a registry error: what stands before the first slash.
fn host_of(object: &str) -> &str {
    let name = object.rsplit_once(' ').map_or(object, |(_, name)| name);
    let host = name.split('/').next().unwrap_or(name);
    if host.contains(['.', ':']) || host == "localhost" { host } else { "docker.io" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: ErrorKind) -> RegistryError {
        let object = "ghcr.io/a/b:latest".to_owned();
        RegistryError { operation: Operation::Resolve, object, kind }
    }

    #[test]
    fn by_type() {
        let tls = error(ErrorKind::Tls { host: "h".into(), message: "m".into() });
        assert!(hints(&tls)[0].contains("SSL_CERT_FILE"));
        assert!(hints(&error(ErrorKind::Protocol("x".into()))).is_empty());
        let object = "http://…@h:80/f?…".to_owned();
        let kind = ErrorKind::Denied(registry::Answer::default());
        let denied = RegistryError { operation: Operation::Download, object, kind };
        assert!(hints(&denied)[0].contains("HTTP_AUTH_TOKEN_h:80,"));
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert!(hints(&error(ErrorKind::Sink(full)))[0].contains("drydock prune"));
        assert_eq!(host_of("busybox"), "docker.io");
        assert_eq!(host_of("ghcr.io/a/b:latest"), "ghcr.io");
        assert_eq!(host_of("localhost:5000/a"), "localhost:5000");
    }
}
