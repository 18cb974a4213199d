//! `type=bind`: files of a stage, an image or a context.
//!
//! Results are shown where they are, read-only, or through an overlay of their own whose upper
//! half is thrown away. A context is not: its files are somebody else's to change, its owners are
//! not those of the image, and some are ignored. What is selected of it is copied once into a
//! snapshot, which the next step with the same selection finds again.

use std::path::PathBuf;
use std::sync::Arc;

use executor::Volume;
use graph::{ExecOp, MountKind};
use oci::layer::TreePath;
use solver::{ContentId, KeyBuilder, StepContext};
use sys::mount::Mount;
use sys::root::Root;

use super::StepMounts;
use crate::ceiling::teller;
use crate::copy::{Contents, Landing, Selected, SourceTree, Target, digest, select_path};
use crate::engine::Engine;
use crate::error::WorkerError;
use crate::key::empty_content;
use crate::output::{Output, Rewrite, TreeOutput};
use crate::remote_cache::question;

/// Where a copied selection is in its snapshot.
const PLACE: &str = "selection";

/// What one bind mount shows.
pub(crate) struct Shown {
    /// The position of the mount in its op.
    pub(crate) mount: usize,
    /// What counts in the key.
    pub(crate) digest: String,
    /// What that is the digest of; none if it is more.
    pub(crate) counted: Option<Arc<Selected>>,
    /// What a cache may know the digest as the answer to.
    pub(crate) question: Option<ContentId>,
    source: Source,
}

impl Shown {
    /// Whether the files are known, not only their digest.
    pub(crate) fn is_here(&self) -> bool {
        !matches!(self.source, Source::Elsewhere)
    }

    /// The position of the input that it shows.
    pub(crate) fn input_of(&self, op: &ExecOp) -> Option<usize> {
        match op.mounts.get(self.mount).map(|mount| &mount.kind) {
            Some(MountKind::Bind { input, .. }) => *input,
            _ => None,
        }
    }

    /// The path in its source that it shows.
    pub(crate) fn path_of<'a>(&self, op: &'a ExecOp) -> &'a str {
        match op.mounts.get(self.mount).map(|mount| &mount.kind) {
            Some(MountKind::Bind { source, .. }) => source,
            _ => "",
        }
    }
}

enum Source {
    /// A path, without links, of a result.
    Result { tree: TreeOutput, path: TreePath },
    /// What is selected of something that is no result.
    Copy { tree: Arc<dyn SourceTree>, selected: Arc<Selected> },
    /// A path of a result that is elsewhere.
    Elsewhere,
}

impl Engine {
    /// What the bind mounts of `op` show; those of an empty source are left out. Of what is
    /// elsewhere, `answer` tells the digests.
    pub(crate) fn shown(
        &self,
        op: &ExecOp,
        inputs: &[Output],
        answer: &dyn Fn(&ContentId) -> Option<ContentId>,
    ) -> Result<Vec<Shown>, WorkerError> {
        let mut all = Vec::new();
        for (at, mount) in op.mounts.iter().enumerate() {
            let MountKind::Bind { input, source, writable } = &mount.kind else { continue };
            let Some(input) = input else { continue };
            let output = inputs
                .get(*input)
                .ok_or_else(|| WorkerError::Internal(format!("a mount has no input {input}")))?;
            all.push(match elsewhere(at, output, source, *writable, answer)? {
                Some(shown) => shown,
                None => self.show(at, output, source, *writable)?,
            });
        }
        Ok(all)
    }

    fn show(
        &self,
        mount: usize,
        output: &Output,
        source: &str,
        writable: bool,
    ) -> Result<Shown, WorkerError> {
        let (tree, name): (Arc<dyn SourceTree>, &str) = match output {
            Output::Tree(tree) => (self.result_tree(Some(tree))?, "the source of the mount"),
            Output::Context(context) => (context.clone(), "the build context"),
            Output::File(file) => (file.clone(), "the downloaded file"),
        };
        let selected = Arc::new(select_path(&*tree, source, name)?);
        // What is written may lead elsewhere in the source: then all of it counts.
        let counted = match (writable, output) {
            (true, Output::Tree(tree)) => whole(tree, source),
            (true, _) => format!("{} {source}", digest(&[select_path(&*tree, "/", name)?])),
            (false, _) => digest(std::slice::from_ref(&*selected)),
        };
        let listed = (!writable).then(|| selected.clone());
        let tree_of = output.tree().filter(|_| !writable);
        let question = tree_of.map(|tree| question::of_bind(&tree.content, source));
        let source = match output {
            Output::Tree(tree) => {
                Source::Result { tree: tree.clone(), path: selected.source.clone() }
            }
            _ => Source::Copy { tree, selected },
        };
        Ok(Shown { mount, digest: counted, counted: listed, question, source })
    }

    /// A snapshot with what is selected of a tree that is no result, at [`PLACE`].
    fn copied(
        &self,
        tree: &dyn SourceTree,
        selected: &Selected,
        context: &StepContext<'_>,
    ) -> Result<TreeOutput, WorkerError> {
        let content = copied_content(selected);
        let known = self.state.adopted(&content);
        if let Some(found) = known.and_then(|payload| self.load_payload(content, &payload)) {
            return Ok(found);
        }
        let active = self.prepare(None)?;
        let contents = Contents::default();
        let cancelled = || active.growing.pass() || context.cancel.is_cancelled();
        let written = active.growing.watched(&teller(context), || {
            self.snapshotter.rootfs(&active.active).map_err(WorkerError::from).and_then(|m| {
                let root = Root::new(m.open().map_err(|e| WorkerError::Mount(Box::new(e)))?);
                let (owner, mode, replace) = (None, None, false);
                let (root, contents, cancelled) = (&root, &contents, &cancelled);
                let landing = &Landing::default();
                let target = Target { root, owner, mode, replace, contents, landing, cancelled };
                Ok(target.copy(tree, selected, &format!("/{PLACE}"), false)?)
            })
        });
        if let Err(error) = written {
            self.discard(active);
            let cancelled = context.cancel.is_cancelled();
            return Err(if cancelled { WorkerError::Cancelled } else { error });
        }
        let hints = contents.into_hints();
        let snapshot = self.snapshotter.commit(active.active, &hints)?;
        self.state.wrote();
        active.growing.is_now(self, &snapshot.id);
        Ok(self.agree(content, &snapshot.id, Rewrite::Clamp)?.output)
    }
}

/// What a mount shows of a result that is elsewhere; none if it is here.
fn elsewhere(
    mount: usize,
    output: &Output,
    source: &str,
    writable: bool,
    answer: &dyn Fn(&ContentId) -> Option<ContentId>,
) -> Result<Option<Shown>, WorkerError> {
    let Some(tree) = output.tree().filter(|tree| tree.elsewhere().is_some()) else {
        return Ok(None);
    };
    let (question, digest) = if writable {
        (None, whole(tree, source))
    } else {
        let question = question::of_bind(&tree.content, source);
        let digest = answer(&question).ok_or_else(|| {
            WorkerError::Internal("a mount of a tree that is elsewhere".to_owned())
        })?;
        (Some(question), digest.to_string())
    };
    Ok(Some(Shown { mount, digest, counted: None, question, source: Source::Elsewhere }))
}

/// What counts where all of a result does.
fn whole(tree: &TreeOutput, source: &str) -> String {
    format!("{} {source}", tree.content)
}

/// The identity of a copied selection.
fn copied_content(selected: &Selected) -> ContentId {
    let mut key = KeyBuilder::new("content/mount");
    key.part(empty_content().as_bytes()).part(digest(std::slice::from_ref(selected)).as_bytes());
    key.content_id()
}

impl StepMounts<'_> {
    /// Adds a bind mount; without anything to show an empty directory.
    pub(super) fn bind(
        &mut self,
        target: &str,
        shown: Option<&Shown>,
        writable: bool,
        context: &StepContext<'_>,
    ) -> Result<(), WorkerError> {
        let engine = self.engine;
        let (tree, part) = match shown.map(|s| &s.source) {
            None => (None, PathBuf::new()),
            Some(Source::Result { tree, path }) => {
                (Some(tree.clone()), path.as_path().to_path_buf())
            }
            Some(Source::Elsewhere) => {
                let message = "a mount of a tree that is elsewhere";
                return Err(WorkerError::Internal(message.to_owned()));
            }
            Some(Source::Copy { tree, selected }) => {
                (Some(engine.copied(&**tree, selected, context)?), PathBuf::from(PLACE))
            }
        };
        let mut mount = if writable {
            let scratch = engine.prepare(tree.as_ref())?;
            let mount = engine.snapshotter.rootfs(&scratch.active);
            self.scratch.push(scratch);
            mount?
        } else {
            engine.snapshotter.view(tree.as_ref().and_then(|t| t.snapshot.as_ref()))?
        };
        mount.target = target.into();
        self.volumes.push(Volume { mount: Mount { ..mount }, part });
        self.held.extend(tree);
        Ok(())
    }
}
