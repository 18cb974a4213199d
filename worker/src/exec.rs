//! RUN: a process on a snapshot.

use executor::{
    Dns, Exhausted, ExitStatus, InjectedFile, Limits, Network, Outcome, Output as ProcessOutput,
    ProcessSpec, Security,
};
use graph::{ExecOp, NetworkMode, SecurityMode};
use snapshotter::Hints;
use solver::{StepContext, Stream};

use crate::ceiling::teller;
use crate::devices::StepDevices;
use crate::engine::Engine;
use crate::error::WorkerError;
use crate::mounts::{Setting, Shown, StepMounts};
use crate::output::{Output, Rewrite, Used};
use crate::result::root_of;

/// What a step is given that is not in its op.
pub(crate) struct Given<'a> {
    /// What its bind mounts show.
    pub(crate) shown: &'a [Shown],
    /// Its limits.
    pub(crate) limits: &'a Limits,
    /// What it is told about name servers.
    pub(crate) dns: &'a Dns,
    /// Its devices, if it asks for any.
    pub(crate) devices: Option<&'a StepDevices>,
}

impl Engine {
    /// Runs `op` on the root file system among `inputs`, and commits what it changed.
    pub(crate) fn run_exec(
        &self,
        op: &ExecOp,
        inputs: &[Output],
        given: &Given<'_>,
        setting: &Setting<'_>,
        context: &StepContext<'_>,
    ) -> Result<crate::result::Made, WorkerError> {
        let executor = self.executor()?;
        let root = root_of(op.root, inputs)?;
        let mut mounts = self.mounts(op, inputs, given.shown, setting, context)?;
        let active = self.prepare(root.as_ref())?;
        let mut spec = match self.snapshotter.rootfs(&active.active) {
            Ok(rootfs) => process_spec(op, rootfs, &mut mounts, given),
            Err(error) => {
                self.discard(active);
                return Err(error.into());
            }
        };
        if let Some(devices) = given.devices {
            devices.edits.apply(&mut spec);
            for name in &devices.granted.missing {
                let text = format!("device {name} is not registered: going on without it\n");
                context.log(Stream::Stderr, text.as_bytes());
            }
        }
        let output = StepOutput(context);
        let cancel = self.cancel_of(context);
        let brake = active.growing.brake(&cancel.token);
        let ran = active.growing.also_at(mounts.writes_at()).and_then(|()| {
            active.growing.watched(&teller(context), || {
                let ran = executor.run_held(&spec, &output, &cancel.token, brake.as_ref());
                ran.map_err(WorkerError::from)
            })
        });
        let kept = match &ran {
            Ok(outcome) if outcome.status.success() => mounts.commit(),
            _ => Ok(()),
        };
        // Whoever waits for a cache mount need not wait for the commit.
        drop(mounts);
        if let Err(error) = kept {
            self.discard(active);
            return Err(error);
        }
        match ran {
            Ok(outcome) if outcome.status.success() => {
                let mut made =
                    self.commit(active, root.as_ref(), Rewrite::Clamp, &Hints::default())?;
                made.payload.used = Some(used(&outcome));
                Ok(made)
            }
            Ok(outcome) => {
                self.discard(active);
                Err(exit_error(op, &outcome))
            }
            Err(error) => {
                self.discard(active);
                if context.cancel.is_cancelled() {
                    return Err(WorkerError::Cancelled);
                }
                Err(error)
            }
        }
    }
}

fn process_spec(
    op: &ExecOp,
    rootfs: sys::mount::Mount,
    mounts: &mut StepMounts<'_>,
    given: &Given<'_>,
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
        network: network(op),
        dns: given.dns.clone(),
        security: match op.security {
            SecurityMode::Sandbox => Security::Sandbox,
            SecurityMode::Insecure => Security::Insecure,
        },
        hostname: op.hostname.clone(),
        extra_hosts: op.extra_hosts.clone(),
        mounts: std::mem::take(&mut mounts.volumes),
        files: injected.chain(std::mem::take(&mut mounts.files)).collect(),
        devices: executor::Devices::default(),
        limits: given.limits.clone(),
    }
}

/// The network of a step.
pub(crate) fn network(op: &ExecOp) -> Network {
    match op.network {
        NetworkMode::None => Network::None,
        NetworkMode::Default | NetworkMode::Host => Network::Host,
        NetworkMode::Isolated => Network::Isolated,
    }
}

fn exit_error(op: &ExecOp, outcome: &Outcome) -> WorkerError {
    let status = match outcome.status {
        ExitStatus::Code(code) => format!("exit code: {code}"),
        ExitStatus::Signal(_) => format!("exit code: {}", outcome.status.code()),
        ExitStatus::OutOfMemory { peak, limit } => {
            let (peak, limit) = (binary(peak), binary(limit));
            format!("cannot allocate memory (its processes used {peak}, the limit is {limit})")
        }
        ExitStatus::OutOfMemoryAbove { peak } => {
            let why = match &outcome.exhausted {
                Some(Exhausted::Above { group, limit }) => format!(
                    "the limit of the control group {}, {}, was reached",
                    group.display(),
                    binary(*limit)
                ),
                _ => "the machine had no more".to_owned(),
            };
            format!("cannot allocate memory (its processes used {}, and {why})", binary(peak))
        }
    };
    WorkerError::Exit { command: op.args.join(" "), status }
}

fn used(outcome: &Outcome) -> Used {
    let cpu_micros = u64::try_from(outcome.cpu_time.as_micros()).unwrap_or(u64::MAX);
    Used { cpu_micros, peak_memory: outcome.peak_memory }
}

/// A number of bytes with a binary unit, in which limits are given: `512MiB`, `1.5GiB`. Rounded
/// to one digit after the point.
fn binary(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 0u32;
    // In tenths of the unit; what would be shown as 1024 is one of the next.
    let tenths = |unit: u32| {
        let shift = 10 * (unit + 1);
        ((u128::from(bytes) * 10) + (1u128 << (shift - 1))) >> shift
    };
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    while tenths(unit) >= 10_240 && unit < 5 {
        unit += 1;
    }
    let (whole, rest) = (tenths(unit) / 10, tenths(unit) % 10);
    let name = UNITS[unit as usize];
    if rest == 0 { format!("{whole}{name}") } else { format!("{whole}.{rest}{name}") }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (32 << 20, "32MiB"),
            (3 << 29, "1.5GiB"),
            ((1 << 20) - 1, "1MiB"),
            (u64::MAX, "16EiB"),
        ] {
            assert_eq!(binary(bytes), text);
        }
    }
}
