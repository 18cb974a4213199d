//! `RUN --mount`: what a step finds besides its root file system.
//!
//! What bind mounts show is selected when the step is described, because it is a part of its key;
//! everything else is prepared when it runs, and goes when it has ended.

mod bind;
mod cache;
mod duplicate;
mod secret;
mod ssh;

use std::path::PathBuf;

use ::cache::mount::{CacheMount, Emptied, View};
use executor::{InjectedFile, Volume};
use graph::{ExecOp, MountKind};
use solver::StepContext;
use sys::mount::{Mount, MountFlags, MountSource};

use crate::ceiling::Growing;
use crate::engine::Engine;
use crate::error::WorkerError;
use crate::output::{Output, TreeOutput};
use crate::result::Writable;
use crate::source::Secrets;

pub(crate) use bind::Shown;
use ssh::Forward;

/// The permissions of a tmpfs's root where there is no directory, as the kernel gives them.
const TMPFS_MODE: u32 = 0o1777;

/// What the build gives to the mounts of a step.
pub(crate) struct Setting<'a> {
    /// `--secret` and `--ssh`.
    pub(crate) secrets: &'a dyn Secrets,
    /// Cache mounts start empty (`--no-cache`), unless a step of this build emptied them.
    pub(crate) fresh: Option<&'a Emptied>,
}

/// The mounts of one step. They must outlive its process.
pub(crate) struct StepMounts<'e> {
    engine: &'e Engine,
    /// What is mounted, parents before children.
    pub(crate) volumes: Vec<Volume>,
    /// Secrets that are files.
    pub(crate) files: Vec<InjectedFile>,
    /// Secrets that are variables.
    pub(crate) env: Vec<(String, String)>,
    /// Where writable binds write to; thrown away.
    scratch: Vec<Writable>,
    /// Keeps what binds show from being collected.
    held: Vec<TreeOutput>,
    /// The sockets of ssh agents.
    forwards: Vec<Forward>,
    /// Keeps the locks of cache mounts.
    caches: Vec<CacheMount>,
}

impl Engine {
    /// Prepares the mounts of `op`; `shown` is what its binds show.
    pub(crate) fn mounts(
        &self,
        op: &ExecOp,
        inputs: &[Output],
        shown: &[Shown],
        setting: &Setting<'_>,
        context: &StepContext<'_>,
    ) -> Result<StepMounts<'_>, WorkerError> {
        let mut mounts = StepMounts {
            engine: self,
            volumes: Vec::with_capacity(op.mounts.len()),
            files: Vec::new(),
            env: Vec::new(),
            scratch: Vec::new(),
            held: Vec::new(),
            forwards: Vec::new(),
            caches: Vec::new(),
        };
        let caches = self.cache_mounts(op, inputs, setting, context)?;
        for (at, mount) in op.mounts.iter().enumerate() {
            match &mount.kind {
                MountKind::Bind { writable, .. } => {
                    let shown = shown.iter().find(|s| s.mount == at);
                    mounts.bind(&mount.target, shown, *writable, context)?;
                }
                MountKind::Tmpfs { size, read_only } => mounts.volumes.push(Volume::from(Mount {
                    target: mount.target.clone().into(),
                    source: MountSource::Tmpfs { size: *size, mode: TMPFS_MODE },
                    flags: MountFlags {
                        nosuid: true,
                        read_only: *read_only,
                        ..MountFlags::default()
                    },
                })),
                MountKind::Cache { read_only, .. } => {
                    let Some((_, directory)) = caches.places.iter().find(|(n, _)| *n == at) else {
                        let message = format!("cache mount {at} was not opened");
                        return Err(WorkerError::Internal(message));
                    };
                    let source = directory.source();
                    let flags = MountFlags { read_only: *read_only, ..MountFlags::default() };
                    let target = mount.target.clone().into();
                    let part = directory.part.clone();
                    mounts.volumes.push(Volume { mount: Mount { target, source, flags }, part });
                }
                MountKind::Secret { .. } => mounts.secret(mount, setting.secrets)?,
                MountKind::Ssh { .. } => mounts.ssh(mount, setting.secrets)?,
            }
        }
        mounts.caches = caches.open;
        Ok(mounts)
    }
}

impl StepMounts<'_> {
    /// Where the step will write besides its root file system. What these have reserved so far is
    /// given back: the step counts them now.
    pub(crate) fn writes_at(&mut self) -> Vec<PathBuf> {
        let dir = self.engine.snapshotter.dir();
        let mut paths = Vec::new();
        for scratch in &mut self.scratch {
            scratch.growing = Growing::default();
            paths.push(dir.join(scratch.active.dir_name()));
        }
        paths.extend(self.caches.iter().map(|mount| match mount.view() {
            View::Directory(path) | View::Overlay { upper: path, .. } => path,
        }));
        paths
    }

    /// Keeps what the step, which has succeeded, wrote to cache mounts that keep it only then.
    pub(crate) fn commit(&mut self) -> Result<(), WorkerError> {
        Ok(::cache::mount::commit(std::mem::take(&mut self.caches))?)
    }
}

impl Drop for StepMounts<'_> {
    fn drop(&mut self) {
        for writable in self.scratch.drain(..) {
            self.engine.discard(writable);
        }
    }
}
