//! COPY, ADD and WORKDIR: file actions on a snapshot.

use std::path::Path;
use std::sync::Arc;

use graph::{CopyAction, CopySource, FileAction, FileOp, MkdirAction, Unpack};
use solver::StepContext;
use sys::root::Root;

use crate::copy::{
    Accounts, Chmod, Request, ResultTree, Selected, SourceTree, Target, digest, select,
};
use crate::engine::Engine;
use crate::error::WorkerError;
use crate::output::{Output, Rewrite, TreeOutput};
use crate::result::{Made, root_of};

/// A copy's source tree and what is selected of it.
struct Selection {
    tree: Arc<dyn SourceTree>,
    selected: Vec<Selected>,
}

impl Engine {
    /// The digests of what each copy of `op` selects, in order: the part of its key that its
    /// sources make.
    pub(crate) fn selections(
        &self,
        op: &FileOp,
        inputs: &[Output],
    ) -> Result<Vec<String>, WorkerError> {
        let mut digests = Vec::new();
        for action in &op.actions {
            if let FileAction::Copy(copy) = action
                && let Some(selection) = self.selection(copy, inputs)?
            {
                digests.push(digest(&selection.selected));
            }
        }
        Ok(digests)
    }

    /// Applies the actions of `op` to the root among `inputs`, and commits what changed.
    pub(crate) fn run_file(
        &self,
        op: &FileOp,
        inputs: &[Output],
        context: &StepContext<'_>,
    ) -> Result<Made, WorkerError> {
        let root = root_of(op.root, inputs)?;
        let active = self.prepare(root.as_ref())?;
        let applied =
            self.snapshotter.rootfs(&active.active).map_err(WorkerError::from).and_then(|m| {
                let fd = m.open().map_err(|e| WorkerError::Mount(Box::new(e)))?;
                let target = Root::new(fd);
                op.actions.iter().try_for_each(|action| match action {
                    FileAction::Copy(copy) => self.copy(copy, inputs, &target, context),
                    FileAction::Mkdir(mkdir) => make_directory(mkdir, &target),
                })
            });
        match applied {
            Ok(()) => self.commit(active, root.as_ref(), rewrite_of(op, inputs)),
            Err(error) => {
                self.discard(active);
                if context.cancel.is_cancelled() {
                    return Err(WorkerError::Cancelled);
                }
                Err(error)
            }
        }
    }

    fn copy(
        &self,
        copy: &CopyAction,
        inputs: &[Output],
        root: &Root,
        context: &StepContext<'_>,
    ) -> Result<(), WorkerError> {
        let mode =
            copy.mode.as_ref().map(Chmod::new).transpose().map_err(crate::copy::CopyError::from)?;
        let owner = match &copy.owner {
            Some(owner) => Some(Accounts::read(root)?.resolve(owner)?),
            None => None,
        };
        let cancelled = || context.cancel.is_cancelled();
        let target = Target { root, owner, mode: mode.as_ref(), cancelled: &cancelled };
        if let CopySource::Inline(files) = &copy.source {
            for file in files {
                target.inline(&file.name, &file.data, &copy.dest)?;
            }
            return Ok(());
        }
        let Some(selection) = self.selection(copy, inputs)? else { return Ok(()) };
        let unpack = copy.unpack == Unpack::Auto;
        Ok(target.copy_all(&*selection.tree, &selection.selected, &copy.dest, unpack)?)
    }

    /// What `copy` selects; none for files that stand in the Dockerfile.
    fn selection(
        &self,
        copy: &CopyAction,
        inputs: &[Output],
    ) -> Result<Option<Selection>, WorkerError> {
        let CopySource::Input { input, paths, .. } = &copy.source else { return Ok(None) };
        let source =
            match input {
                None => None,
                Some(position) => Some(inputs.get(*position).ok_or_else(|| {
                    WorkerError::Internal(format!("a copy has no input {position}"))
                })?),
            };
        let (tree, name): (Arc<dyn SourceTree>, &str) = match source {
            Some(Output::Context(context)) => (context.clone(), "the build context"),
            other => (self.result_tree(other.and_then(Output::tree))?, "the source image"),
        };
        let request = Request { paths, exclude: &copy.exclude, parents: copy.parents, tree: name };
        let selected = select(&*tree, &request)?;
        Ok(Some(Selection { tree, selected }))
    }

    fn result_tree(&self, output: Option<&TreeOutput>) -> Result<Arc<dyn SourceTree>, WorkerError> {
        let snapshot = output.and_then(|o| o.snapshot.as_ref());
        Ok(Arc::new(ResultTree::open(&self.snapshotter, snapshot)?))
    }
}

/// WORKDIR: the missing directories belong to USER.
fn make_directory(mkdir: &MkdirAction, root: &Root) -> Result<(), WorkerError> {
    let path = mkdir.path.trim_start_matches('/');
    let created =
        root.mkdir_all(Path::new(path), mkdir.mode).map_err(crate::copy::CopyError::from)?;
    if created.is_empty() {
        return Ok(());
    }
    let user = executor::user::resolve(root.fd(), &mkdir.user)?;
    for dir in created {
        root.chown(&dir, user.uid, user.gid).map_err(crate::copy::CopyError::from)?;
        root.chmod(&dir, mkdir.mode).map_err(crate::copy::CopyError::from)?;
    }
    Ok(())
}

/// Files that come from a context, straight or through a stage, have the times of a checkout.
fn rewrite_of(op: &FileOp, inputs: &[Output]) -> Rewrite {
    let from_checkout = op.actions.iter().any(|action| match action {
        FileAction::Copy(CopyAction {
            source: CopySource::Input { input: Some(at), .. }, ..
        }) => match inputs.get(*at) {
            Some(Output::Context(_)) => true,
            Some(Output::Tree(tree)) => tree.rewrite != Rewrite::Never,
            None => false,
        },
        _ => false,
    });
    if from_checkout { Rewrite::Set } else { Rewrite::Clamp }
}
