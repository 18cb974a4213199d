//! `type=cache`: directories that outlive the build.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use ::cache::mount::{CacheMount, Method, Sharing, View, Wanted};
use graph::{Commit, ExecOp, MountKind};
use oci::layer::TreePath;
use snapshotter::Kind as SnapshotKind;
use solver::{StepContext, Stream};
use sys::mount::{MountSource, Overlay, Upper};
use sys::root::Root;
use sys::walk::FileKind;

use super::Setting;
use super::duplicate::duplicate;
use crate::copy::{Contents, Kind, Landing, SourceTree, Target, select_path};
use crate::engine::Engine;
use crate::error::WorkerError;
use crate::key::empty_content;
use crate::output::Output;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The permissions of a new cache mount (BuildKit: `dockerfile2llb`, `dispatchRunMounts`).
const MODE: u32 = 0o755;

/// So much of a command tells what a cache mount is for, in characters.
const COMMAND: usize = 160;

/// The cache mounts of a step.
pub(super) struct Caches {
    pub(super) open: Vec<CacheMount>,
    /// By the position of the mount in its op.
    pub(super) places: Vec<(usize, Directory)>,
}

/// What of a cache mount is shown.
#[derive(Clone)]
pub(super) struct Directory {
    pub(super) view: View,
    pub(super) part: PathBuf,
}

impl Directory {
    /// How to mount it.
    pub(super) fn source(&self) -> MountSource {
        match &self.view {
            View::Directory(path) => MountSource::Bind { source: path.clone(), recursive: false },
            View::Overlay { lower, upper, work } => MountSource::Overlay(Overlay {
                lowers: vec![lower.clone()],
                upper: Some(Upper { dir: upper.clone(), work: work.clone() }),
                user_xattr: false,
                // The commit syncs what counts.
                volatile: true,
                redirects: true,
            }),
        }
    }
}

/// One cache mount as it is wanted.
struct Planned<'a> {
    at: usize,
    /// Its identity: the id, and what it was first filled with.
    name: String,
    /// What people know it by.
    id: &'a str,
    kind: &'a MountKind,
}

impl Planned<'_> {
    /// Whether what is written here counts only if the step succeeds.
    fn is_transaction(&self) -> bool {
        let on_success = Commit::OnSuccess;
        matches!(self.kind, MountKind::Cache { commit, read_only: false, .. } if *commit == on_success)
    }
}

impl Engine {
    /// Takes the cache mounts of `op` into use, in the order of their names: who holds one waits
    /// only for later ones. The same one twice is one.
    pub(super) fn cache_mounts(
        &self,
        op: &ExecOp,
        inputs: &[Output],
        setting: &Setting<'_>,
        context: &StepContext<'_>,
    ) -> Result<Caches, WorkerError> {
        let mut planned = Vec::new();
        for (at, mount) in op.mounts.iter().enumerate() {
            let kind = &mount.kind;
            if let MountKind::Cache { id, input, source, .. } = kind {
                let name = match input {
                    None => id.clone(),
                    Some(input) => {
                        let content = match inputs.get(*input) {
                            Some(Output::Tree(tree)) => tree.content,
                            _ => empty_content(),
                        };
                        format!("{id} from {content} {source}")
                    }
                };
                planned.push(Planned { at, name, id, kind });
            }
        }
        planned.sort_by(|a, b| a.name.cmp(&b.name));
        let mut caches = Caches { open: Vec::new(), places: Vec::new() };
        for same in planned.chunk_by(|a, b| a.name == b.name) {
            let mount = self.open_cache(same, inputs, setting, context)?;
            let purpose = same.first().and_then(|plan| purpose(op, plan));
            if let (Some(plan), Some(purpose)) = (same.first(), purpose)
                && let Err(error) = self.state.mounts().note_purpose(&plan.name, &purpose)
            {
                self.warn(&format!("du will not know a cache mount: {error}"));
            }
            let view = mount.view();
            caches.open.push(mount);
            for plan in same {
                let part = part_of(plan.kind);
                if !part.as_os_str().is_empty() {
                    // Of an overlay, nothing is in the upper directory yet.
                    let (View::Directory(dir) | View::Overlay { lower: dir, .. }) = &view;
                    check_part(dir, &part, plan.id)?;
                }
                caches.places.push((plan.at, Directory { view: view.clone(), part }));
            }
        }
        Ok(caches)
    }

    /// Takes one into use that is mounted at least once. One transaction makes all of it one.
    fn open_cache(
        &self,
        same: &[Planned<'_>],
        inputs: &[Output],
        setting: &Setting<'_>,
        context: &StepContext<'_>,
    ) -> Result<CacheMount, WorkerError> {
        let plan = same.iter().find(|plan| plan.is_transaction()).or(same.first());
        let Some(Planned { name, id, kind, .. }) = plan else {
            return Err(WorkerError::Internal("no cache mount".to_owned()));
        };
        let MountKind::Cache { sharing, input, source, mode, uid, gid, .. } = kind else {
            return Err(WorkerError::Internal("no cache mount".to_owned()));
        };
        let told = Cell::new(false);
        let cancelled = || {
            if !told.replace(true) {
                let line = format!("waiting for cache mount {id:?}, which is in use\n");
                context.log(Stream::Stderr, line.as_bytes());
            }
            // Others run first; without them, this is nothing.
            context.give_way();
            context.cancel.is_cancelled()
        };
        let fill = |dir: &Path| -> Result<(), Cause> {
            let root = Root::at(dir)?;
            let (mode, owner) = match input.and_then(|at| inputs.get(at)) {
                // `mode`, `uid` and `gid` are those of an empty one.
                Some(output) => self.seed(output, source, &root, context)?,
                None => (mode.unwrap_or(MODE), (*uid, *gid)),
            };
            // chown clears bits of the mode: it comes first.
            root.chown("", owner.0, owner.1)?;
            root.chmod("", mode)?;
            Ok(())
        };
        let copy = |from: &Path, to: &Path| -> Result<(), Cause> {
            Ok(duplicate(from, to, &|| context.cancel.is_cancelled())?)
        };
        // An overlay cannot be mounted twice; what is mounted once cannot be bound again before it
        // is attached somewhere.
        let overlay = self.snapshotter.kind() == SnapshotKind::Overlay && same.len() == 1;
        let method = || if overlay { Method::Overlay } else { Method::Copy(&copy) };
        let wanted = Wanted {
            name,
            shown: id,
            sharing: match sharing {
                graph::Sharing::Shared => Sharing::Shared,
                graph::Sharing::Private => Sharing::Private,
                graph::Sharing::Locked => Sharing::Locked,
            },
            fresh: setting.fresh,
            fill: &fill,
            cancelled: &cancelled,
            transaction: same.iter().any(Planned::is_transaction).then(method),
        };
        match self.state.mounts().open(&wanted) {
            Ok(mount) => mount.ok_or(WorkerError::Cancelled),
            Err(_) if context.cancel.is_cancelled() => Err(WorkerError::Cancelled),
            Err(error) => Err(error.into()),
        }
    }

    /// Fills a new cache mount with the directory `source` of `output`; the mode and the owner
    /// that the directory has there.
    fn seed(
        &self,
        output: &Output,
        source: &str,
        root: &Root,
        context: &StepContext<'_>,
    ) -> Result<(u32, (u32, u32)), Cause> {
        let tree: std::sync::Arc<dyn SourceTree> = match output {
            Output::Tree(tree) => self.result_tree(Some(tree))?,
            Output::Context(context) => context.clone(),
            Output::File(file) => file.clone(),
        };
        let selected = select_path(&*tree, source, "the source of the cache mount")?;
        if matches!(selected.kind, Kind::Single(_)) {
            return Err(format!("{source:?} is no directory in its source").into());
        }
        let contents = Contents::default();
        let cancelled = || context.cancel.is_cancelled();
        let (owner, mode, replace) = (None, None, false);
        let (contents, landing, cancelled) = (&contents, &Landing::default(), &cancelled);
        let target = Target { root, owner, mode, replace, contents, landing, cancelled };
        target.copy(&*tree, &selected, "/", false)?;
        let entry = tree.entry(&selected.source)?;
        let meta = entry.map(|entry| entry.meta).filter(|_| tree.has_owners());
        Ok(meta.map_or((MODE, (0, 0)), |meta| (meta.mode, (meta.uid, meta.gid))))
    }
}

/// What a cache mount is for, as BuildKit tells it (solver/llbsolver/mounts: `CacheMountRef`).
fn purpose(op: &ExecOp, plan: &Planned<'_>) -> Option<String> {
    let target = &op.mounts.get(plan.at)?.target;
    let id = if plan.id == target { String::new() } else { format!(" with id {:?}", plan.id) };
    let command: String = op.args.join(" ").chars().take(COMMAND).collect();
    Some(format!("cached mount {target} from exec {command}{id}"))
}

/// The directory or file in a cache mount that is shown; one that was filled has it as its root.
fn part_of(kind: &MountKind) -> PathBuf {
    match kind {
        MountKind::Cache { input: None, source, .. } => {
            PathBuf::from(source.trim_start_matches('/'))
        }
        _ => PathBuf::new(),
    }
}

/// A step may have planted links in a cache mount: none is followed (CVE-2024-9675).
fn check_part(path: &Path, part: &Path, name: &str) -> Result<(), WorkerError> {
    let problem = |reason: &'static str| WorkerError::CacheSource {
        name: name.to_owned(),
        source_path: part.display().to_string(),
        reason,
    };
    let root = Root::at(path).map_err(crate::copy::CopyError::from)?;
    let mut at = PathBuf::new();
    let mut components = part.components().peekable();
    while let Some(component) = components.next() {
        at.push(component);
        let is_last = components.peek().is_none();
        let inside = TreePath::new(at.as_os_str().as_encoded_bytes()).is_ok();
        let stat = root.try_stat(&at).map_err(crate::copy::CopyError::from)?;
        match stat {
            Some(stat) if stat.is_dir() && inside => {}
            Some(stat) if stat.kind == FileKind::File && inside && is_last => {}
            None => return Err(problem("there is no such file or directory in it")),
            Some(_) => return Err(problem("it leads through what is no directory")),
        }
    }
    Ok(())
}
