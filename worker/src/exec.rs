//! RUN: a process on a snapshot.

use executor::{
    ExitStatus, InjectedFile, Limits, Network, Output as ProcessOutput, ProcessSpec, Security,
};
use graph::{ExecOp, NetworkMode, SecurityMode};
use snapshotter::Hints;
use solver::{StepContext, Stream};

use crate::engine::Engine;
use crate::error::WorkerError;
use crate::mounts::{Setting, Shown, StepMounts};
use crate::output::{Output, Rewrite};
use crate::result::root_of;

impl Engine {
    /// Runs `op` on the root file system among `inputs`, and commits what it changed.
    pub(crate) fn run_exec(
        &self,
        op: &ExecOp,
        inputs: &[Output],
        shown: &[Shown],
        setting: &Setting<'_>,
        context: &StepContext<'_>,
    ) -> Result<crate::result::Made, WorkerError> {
        let executor = self.executor()?;
        let root = root_of(op.root, inputs)?;
        let mut mounts = self.mounts(op, inputs, shown, setting, context)?;
        let active = self.prepare(root.as_ref())?;
        let spec = match self.snapshotter.rootfs(&active.active) {
            Ok(rootfs) => process_spec(op, rootfs, &mut mounts),
            Err(error) => {
                self.discard(active);
                return Err(error.into());
            }
        };
        let output = StepOutput(context);
        let ran = executor.run(&spec, &output, &self.cancel_of(context).token);
        // Whoever waits for a cache mount need not wait for the commit.
        drop(mounts);
        match ran {
            Ok(outcome) if outcome.status.success() => {
                self.commit(active, root.as_ref(), Rewrite::Clamp, &Hints::default())
            }
            Ok(outcome) => {
                self.discard(active);
                Err(exit_error(op, outcome.status))
            }
            Err(error) => {
                self.discard(active);
                if context.cancel.is_cancelled() {
                    return Err(WorkerError::Cancelled);
                }
                Err(error.into())
            }
        }
    }
}

/// What `op` wants that steps cannot have yet, as the flag that asks for it.
pub(crate) fn unsupported(op: &ExecOp) -> Option<&'static str> {
    match op.security {
        SecurityMode::Insecure => Some("--security=insecure"),
        SecurityMode::Sandbox => (!op.devices.is_empty()).then_some("--device"),
    }
}

fn process_spec(
    op: &ExecOp,
    rootfs: sys::mount::Mount,
    mounts: &mut StepMounts<'_>,
) -> ProcessSpec {
    let mut env = op.env.clone();
    env.extend(op.proxy_env.iter().cloned());
    env.append(&mut mounts.env);
    let injected = op.files.iter().map(|f| InjectedFile {
        path: f.path.clone(),
        mode: f.mode,
        owner: (0, 0),
        data: f.data.clone().into_bytes(),
    });
    ProcessSpec {
        rootfs,
        args: op.args.clone(),
        env,
        cwd: op.cwd.clone(),
        user: op.user.clone(),
        network: match op.network {
            NetworkMode::None => Network::None,
            NetworkMode::Default | NetworkMode::Host => Network::Host,
        },
        security: Security::Sandbox,
        hostname: op.hostname.clone(),
        extra_hosts: op.extra_hosts.clone(),
        mounts: std::mem::take(&mut mounts.volumes),
        files: injected.chain(std::mem::take(&mut mounts.files)).collect(),
        limits: Limits::default(),
    }
}

fn exit_error(op: &ExecOp, status: ExitStatus) -> WorkerError {
    let status = match status {
        ExitStatus::Code(code) => format!("exit code: {code}"),
        ExitStatus::Signal(_) => format!("exit code: {}", status.code()),
        ExitStatus::OutOfMemory { peak, limit } => {
            format!("cannot allocate memory (it used {peak} bytes of {limit})")
        }
    };
    WorkerError::Exit { command: op.args.join(" "), status }
}

/// Passes a process's output on as events.
struct StepOutput<'a>(&'a StepContext<'a>);

impl ProcessOutput for StepOutput<'_> {
    fn write(&self, stream: executor::Stream, data: &[u8]) {
        let stream = match stream {
            executor::Stream::Stdout => Stream::Stdout,
            executor::Stream::Stderr => Stream::Stderr,
        };
        self.0.log(stream, data);
    }
}
