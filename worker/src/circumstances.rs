//! Whether the failure of a step in one build is that of the same step in another.
//!
//! Equal keys mean equal commands on equal files. A failure may come of more: limits, proxies, name
//! servers, what cache mounts hold. So it counts for another build only if it gives the step the same. Of
//! secrets and ssh agents nothing is compared, since nothing of them may be written down: a step that has
//! some fails for its own build alone.

use executor::{Dns, Limits};
use graph::{ExecOp, MountKind};
use serde::{Deserialize, Serialize};
use solver::KeyBuilder;

use crate::devices::StepDevices;
use crate::error::WorkerError;

/// How the status of a process begins that ended by itself, or by a signal. Memory that ran out may
/// be there for the next one.
const BY_ITSELF: &str = "exit code: ";

/// What a step is given that is in no key, as a digest; none if that cannot be compared.
pub(crate) fn of(
    op: &ExecOp,
    limits: &Limits,
    dns: &Dns,
    devices: Option<&StepDevices>,
    fresh: bool,
) -> Option<String> {
    let mut digest = KeyBuilder::new("circumstances/v1");
    for (name, value) in &op.proxy_env {
        // With a password, maybe.
        if value.contains('@') {
            return None;
        }
        digest.part(name.as_bytes()).part(value.as_bytes());
    }
    for mount in &op.mounts {
        match &mount.kind {
            MountKind::Secret { .. } | MountKind::Ssh { .. } => return None,
            kind @ MountKind::Cache { .. } => {
                digest.part(format!("{fresh} {kind:?}").as_bytes());
            }
            MountKind::Bind { .. } | MountKind::Tmpfs { .. } => {}
        }
    }
    let rest = format!("{:?} {limits:?} {dns:?} {devices:?}", op.extra_hosts);
    digest.part(rest.as_bytes());
    Some(digest.content_id().to_string())
}

/// A failure, as other builds are told.
#[derive(Serialize, Deserialize)]
struct Failure {
    circumstances: String,
    command: String,
    status: String,
}

/// What other builds are told of `error`, if anything.
pub(crate) fn tell(circumstances: &str, error: &WorkerError) -> Option<String> {
    let WorkerError::Exit { command, status } = error else { return None };
    if !status.starts_with(BY_ITSELF) {
        return None;
    }
    let (circumstances, command) = (circumstances.to_owned(), command.clone());
    let failure = Failure { circumstances, command, status: status.clone() };
    serde_json::to_string(&failure).ok()
}

/// The error that another build was told of, if it is that of a step in `circumstances`.
pub(crate) fn take(circumstances: &str, told: &str) -> Option<WorkerError> {
    let failure: Failure = serde_json::from_str(told).ok()?;
    let Failure { command, status, .. } = failure;
    (failure.circumstances == circumstances).then_some(WorkerError::Exit { command, status })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(status: &str) -> WorkerError {
        WorkerError::Exit { command: "make".into(), status: status.into() }
    }

    #[test]
    fn failures_pass_where_all_is_equal() {
        let told = tell("a", &exit("exit code: 2")).unwrap();
        let taken = take("a", &told).unwrap();
        assert_eq!(taken.to_string(), exit("exit code: 2").to_string());
        assert!(take("b", &told).is_none() && take("a", "?").is_none());
        assert!(tell("a", &exit("cannot allocate memory")).is_none());
        assert!(tell("a", &WorkerError::Cancelled).is_none());
    }
}
