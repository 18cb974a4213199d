//! Running one process.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sys::cgroup::{Exhausted, Group, Hierarchies};
use sys::launch::{Child, Ending, launch, wait_readable};
use sys::program::{Confinement, FdIndex, Namespaces, Payload, Program, Step};
use sys::report::Usage;
use sys::seccomp::Filter;
use sys::userns::Ids;

use crate::brake::{Brake, Engaged, Target};
use crate::cancel::CancelToken;
use crate::command::{self, Command};
use crate::error::{ExecError, Unsupported};
use crate::explain::Explain;
use crate::network::{Link, NetworkError};
use crate::outcome::{ExitStatus, Outcome, peak_of};
use crate::output::{Output, Pump, Reader, Stream, stream};
use crate::plan::{self, Host, Plan};
use crate::private::PrivateFiles;
use crate::spec::{Limits, Network, ProcessSpec, Security};
use crate::user::{self, User};
use crate::{ids, masks, network, private, probe, resolv, rlimit, seccomp};

/// Where an [`Executor`] keeps what it needs.
#[derive(Debug, Clone)]
pub struct ExecutorConfig {
    /// A directory for mount points; holds no data. Shared by any number of executors.
    pub state: PathBuf,
    /// The name of this builder's lease; control groups are named after it.
    pub lease: String,
    /// The program pasta, for networks of processes' own; none where it is not installed.
    pub pasta: Option<PathBuf>,
}

/// Runs processes in root file systems; each call is independent, from any thread.
pub struct Executor {
    host: Host,
    lease: String,
    pasta: Option<PathBuf>,
    filter: Filter,
    hierarchies: Hierarchies,
    ids: Ids,
    runs: AtomicU64,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor").field("lease", &self.lease).finish_non_exhaustive()
    }
}

/// Our init is in the group of its step, and not meant by a limit of the step's processes.
const OWN_PROCESSES: u64 = 1;

/// What wait(2) says of a process that was ended by SIGKILL.
const KILLED: i32 = 9;

/// Removes a run's control group when all else is done.
struct GroupGuard(Option<Group>);

impl GroupGuard {
    /// Memory of a process that was killed for it comes back late; meanwhile the kernel may take
    /// our init, too, and with it all others.
    fn lacked_memory(&self) -> bool {
        self.0.as_ref().is_some_and(|it| it.oom_kills() > 0)
    }
}

fn stub_stays(errno: rustix::io::Errno) -> ExecError {
    ExecError::Io { operation: "remove the places of mounts", source: errno.into() }
}

impl Drop for GroupGuard {
    fn drop(&mut self) {
        if let Some(group) = &self.0 {
            group.remove();
        }
    }
}

impl Executor {
    /// An executor with its mount points in `config.state`.
    ///
    /// # Errors
    /// The state directory cannot be made, or the machine's architecture has no filter.
    pub fn new(config: ExecutorConfig) -> Result<Self, ExecError> {
        let io = |operation| move |source| ExecError::Io { operation, source };
        let point = |name: &str| {
            let path = config.state.join(name);
            std::fs::create_dir_all(&path)
                .and_then(|()| path.canonicalize())
                .map_err(io("create the executor's directory"))?
                .into_os_string()
                .into_string()
                .map_err(|path| ExecError::Unpassable {
                    what: "path",
                    value: path.to_string_lossy().into_owned(),
                })
                .and_then(|path| command::passable("path", path))
        };
        let hierarchies = Hierarchies::detect().map_err(io("read /proc/self/mountinfo"))?;
        let paths = |list: Vec<String>| {
            list.into_iter().map(|it| command::passable("path", it)).collect::<Result<Vec<_>, _>>()
        };
        let host = Host {
            root_at: point("root")?,
            private_at: point("private")?,
            unified_cgroups: hierarchies.unified.as_deref() == Some(Path::new("/sys/fs/cgroup")),
            user_namespace: sys::userns::inside(),
            masked: paths(masks::masked())?,
            read_only: paths(masks::READ_ONLY.map(str::to_owned).to_vec())?,
        };
        let filter = seccomp::filter().ok_or_else(|| {
            io("choose a system call filter")(io::Error::other(Unsupported::Architecture))
        })?;
        let (ids, runs) = (Ids::of_process(), AtomicU64::new(0));
        let ExecutorConfig { lease, pasta, .. } = config;
        Ok(Self { host, lease, pasta, filter, hierarchies, ids, runs })
    }

    /// Whether this host can run processes at all.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn probe() -> Result<(), Unsupported> {
        probe::probe()
    }

    /// Whether resource limits may be raised above the builder's own.
    #[must_use]
    pub fn may_raise_limits() -> bool {
        probe::may_raise_limits()
    }

    /// Whether this host can give these limits: tried with a group that is removed again.
    ///
    /// # Errors
    /// Which one it cannot give, why, and what to do.
    pub fn check(&self, limits: &Limits) -> Result<(), ExecError> {
        rlimit::check(&limits.rlimits)?;
        self.group(limits, false).map(GroupGuard).map(drop)
    }

    /// Whether this host can give this network access.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn check_network(&self, network: Network) -> Result<(), NetworkError> {
        match network {
            Network::Host | Network::None => Ok(()),
            Network::Isolated => network::check(self.pasta.as_deref()),
        }
    }

    /// Removes what dead builders left behind: the control groups of `dead_lease`.
    pub fn sweep(&self, dead_lease: &str) {
        self.hierarchies.sweep(dead_lease);
    }

    /// Runs a process to its end; returns when every process that it started has ended too, so
    /// that the root file system is at rest. A thread that is torn down in the middle of this
    /// takes the process with it.
    ///
    /// # Errors
    /// [`ExecError`]; a non-zero exit is an [`Outcome`].
    pub fn run(
        &self,
        spec: &ProcessSpec,
        output: &dyn Output,
        cancel: &CancelToken,
    ) -> Result<Outcome, ExecError> {
        self.run_held(spec, output, cancel, None)
    }

    /// As [`Self::run`], of processes that `brake` can hold.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_held(
        &self,
        spec: &ProcessSpec,
        output: &dyn Output,
        cancel: &CancelToken,
        brake: Option<&Brake>,
    ) -> Result<Outcome, ExecError> {
        let started = Instant::now();
        if cancel.is_cancelled() {
            return Err(ExecError::Cancelled);
        }
        let root = plan::without_devices(&spec.rootfs, spec.security);
        let root = root.open().map_err(|source| ExecError::Mount { target: "/".into(), source })?;
        let mut user = user::resolve(root.as_fd(), &spec.user)?;
        user.groups.extend(&spec.devices.groups);
        ids::check(&mut user, &self.ids)?;
        let command = command::prepare(spec, &user)?;
        let (files, link) = self.network(spec, cancel)?;
        let owner = (user.uid, user.gid);
        // Declared before the child, so that on every way out the child ends first, then the
        // stubs are removed, then the group, then the network.
        let group = GroupGuard(self.group(&spec.limits, brake.is_some())?);
        let Plan { mut fds, mut steps, stdin, stubs } =
            plan::plan(&self.host, spec, root.as_fd(), files, owner)?;
        enter(link.as_ref(), &mut fds, &mut steps)?;
        let (readers, [stdout, stderr]) = streams(user.uid)?;
        let raised = rlimit::raised(&spec.limits.rlimits);
        let waits = group.0.is_some() || !raised.is_empty();
        let program = Program {
            namespaces: namespaces(spec.network, group.0.is_some()),
            root: plan::ROOT,
            fds,
            steps: around(spec, steps, waits, group.0.is_some())?,
            confinement: self.confinement(spec)?,
            payload: payload(spec, &user, &command, [stdin, stdout, stderr])?,
        };
        let child = launch(&program)?;
        if let Some(group) = &group.0 {
            group.add(child.pid())?;
        }
        if waits {
            rlimit::raise(child.pid(), &raised)?;
            // EPIPE: the child has ended, and tells why when it is waited for.
            let _ = child.start();
        }
        let engaged = engage(brake, &group, &child);
        let Program { fds, steps, payload, .. } = program;
        // The write ends must not stay here, or their readers would never see an end.
        drop((fds, payload));
        let mut pump = Pump::new(readers, output);
        attend(&child, &mut pump, cancel)?;
        drop(engaged);
        let ending = child.wait()?;
        pump.finish();
        stubs.clear().map_err(stub_stays)?;
        report_loss(link.as_ref(), output);
        match ending {
            Ending::Ended(usage) => Ok(outcome(usage, group.0.as_ref(), spec, started.elapsed())),
            Ending::Failed { operation, errno } => {
                Err(Explain { steps, spec, command: &command }.failure(operation, errno))
            }
            Ending::Killed if cancel.is_cancelled() => Err(ExecError::Cancelled),
            Ending::Killed if group.lacked_memory() => {
                let usage = Usage { status: KILLED, ..Usage::default() };
                Ok(outcome(usage, group.0.as_ref(), spec, started.elapsed()))
            }
            Ending::Killed => Err(ExecError::Killed),
        }
    }

    /// The private files of a run, and its connection if it gets one.
    fn network(
        &self,
        spec: &ProcessSpec,
        cancel: &CancelToken,
    ) -> Result<(PrivateFiles, Option<Link>), ExecError> {
        let resolv = resolv::content(spec.network, &spec.dns)
            .map_err(|source| ExecError::Io { operation: "read the host's resolv.conf", source })?;
        let files = private::create(spec, &resolv.text)?;
        let link = match spec.network {
            Network::Isolated => Some(Link::new(self.pasta.as_ref(), &resolv.forwarded, cancel)?),
            Network::Host | Network::None => None,
        };
        Ok((files, link))
    }

    fn confinement(&self, spec: &ProcessSpec) -> Result<Confinement, ExecError> {
        Ok(match spec.security {
            Security::Sandbox => Confinement {
                capabilities: masks::CAPABILITIES.difference(network::withheld(spec.network)),
                filter: Some(self.filter.clone()),
            },
            Security::Insecure => Confinement {
                // Nobody can give what it does not have.
                capabilities: sys::capability::effective().map_err(|errno| ExecError::Io {
                    operation: "read the builder's capabilities",
                    source: errno.into(),
                })?,
                filter: None,
            },
        })
    }

    /// The group for a run; one that can be frozen, if that is asked for and can be had.
    fn group(&self, limits: &Limits, freezable: bool) -> Result<Option<Group>, ExecError> {
        if !limits.needs_group() && !freezable {
            return Ok(None);
        }
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", self.lease);
        let parent = limits.group_parent.clone().unwrap_or_default();
        let mut group = Group::default();
        if limits.needs_group() {
            let mut limits = limits.group.clone();
            limits.pids = limits.pids.map(|it| it.saturating_add(OWN_PROCESSES));
            group = self.hierarchies.create(&parent, &name, &limits)?;
        }
        let frozen = freezable && self.hierarchies.add_freezer(&mut group, &parent, &name);
        Ok((limits.needs_group() || frozen).then_some(group))
    }
}

/// Reading and writing ends of standard output and error.
fn streams(uid: u32) -> Result<([Reader; 2], [OwnedFd; 2]), ExecError> {
    let make = |kind| {
        stream(kind, uid)
            .map_err(|errno| ExecError::Io { operation: "make a pipe", source: errno.into() })
    };
    let ((out, stdout), (err, stderr)) = (make(Stream::Stdout)?, make(Stream::Stderr)?);
    Ok(([out, err], [stdout, stderr]))
}

/// The steps that do not concern files, around those that do.
fn around(
    spec: &ProcessSpec,
    mounts: Vec<Step>,
    waits: bool,
    grouped: bool,
) -> Result<Vec<Step>, ExecError> {
    let mut steps = Vec::with_capacity(mounts.len() + 5);
    if waits {
        steps.push(Step::AwaitStart);
    }
    if grouped {
        steps.push(Step::EnterCgroupNamespace);
    }
    steps.extend(mounts);
    if !spec.hostname.is_empty() {
        steps.push(Step::Hostname(command::passable("host name", spec.hostname.clone())?));
    }
    if spec.network == Network::None {
        steps.push(Step::LoopbackUp);
    }
    steps.push(Step::SessionKeyring);
    Ok(steps)
}

/// Lets the child enter the network first of all: what it mounts shows it.
fn enter(
    link: Option<&Link>,
    fds: &mut Vec<OwnedFd>,
    steps: &mut Vec<Step>,
) -> Result<(), ExecError> {
    let Some(link) = link else { return Ok(()) };
    let namespace = link.namespace.try_clone();
    steps.insert(0, Step::EnterNetwork(FdIndex(fds.len())));
    fds.push(namespace.map_err(|source| ExecError::Io { operation: "copy a descriptor", source })?);
    Ok(())
}

/// Says that the network was lost in the middle, which explains what the process did not.
fn report_loss(link: Option<&Link>, output: &dyn Output) {
    if let Some(told) = link.and_then(Link::lost) {
        let text = format!("pasta, which connected this step's network, has ended{told}\n");
        output.write(Stream::Stderr, text.as_bytes());
    }
}

fn namespaces(network: Network, grouped: bool) -> Namespaces {
    Namespaces {
        mount: true,
        pid: true,
        ipc: true,
        uts: true,
        network: network == Network::None,
        cgroup: !grouped,
    }
}

fn payload(
    spec: &ProcessSpec,
    user: &User,
    command: &Command,
    [stdin, stdout, stderr]: [OwnedFd; 3],
) -> Result<Payload, ExecError> {
    Ok(Payload {
        candidates: command.candidates.clone(),
        args: command.args.clone(),
        env: command.env.clone(),
        directory: command::passable("working directory", spec.cwd.clone())?,
        uid: user.uid,
        gid: user.gid,
        groups: user.groups.clone(),
        limits: spec.limits.rlimits.clone(),
        stdin,
        stdout,
        stderr,
    })
}

/// Lets `brake` hold the processes of the child. To be dropped before the child is waited for: until
/// then its id means nobody else.
fn engage<'a>(brake: Option<&'a Brake>, group: &GroupGuard, child: &Child) -> Option<Engaged<'a>> {
    let freezer = group.0.as_ref().and_then(Group::freezer);
    Some(brake?.engage(Target { freezer, init: child.pid() }))
}

/// Carries output until the child has ended; kills it when that is asked for.
fn attend(child: &Child, pump: &mut Pump<'_>, cancel: &CancelToken) -> Result<(), ExecError> {
    let io = |operation| move |source| ExecError::Io { operation, source };
    let mut event = Some(cancel.fd().map_err(io("make an event"))?);
    if cancel.is_cancelled() {
        child.kill();
        event = None;
    }
    loop {
        let [out, err] = pump.readers.each_ref().map(|it| it.fd.as_ref().map(AsFd::as_fd));
        let ready = wait_readable([out, err, Some(child.pidfd()), event], None);
        let [out, err, ended, stop] = ready.map_err(io("wait for a process"))?;
        for (index, ready) in [out, err].into_iter().enumerate() {
            if ready {
                pump.pump(index);
            }
        }
        if stop {
            child.kill();
            event = None;
        }
        if ended {
            return Ok(());
        }
    }
}

fn outcome(usage: Usage, group: Option<&Group>, spec: &ProcessSpec, duration: Duration) -> Outcome {
    let mut status = ExitStatus::from_wait(usage.status);
    let group_peak = group.and_then(Group::peak_memory);
    let killed = group.filter(|it| !status.success() && it.oom_kills() > 0);
    let exhausted = killed.map(Group::exhausted);
    match (&exhausted, spec.limits.group.memory) {
        (None, _) => {}
        (Some(Exhausted::Own), Some(limit)) => {
            status = ExitStatus::OutOfMemory { peak: group_peak.unwrap_or(limit), limit };
        }
        (Some(_), _) => {
            status = ExitStatus::OutOfMemoryAbove { peak: group_peak.unwrap_or_default() };
        }
    }
    Outcome {
        status,
        cpu_time: Duration::from_micros(usage.cpu_micros),
        peak_memory: group_peak.or_else(|| peak_of(&usage)),
        duration,
        exhausted,
    }
}
