//! COPY, ADD and WORKDIR: file actions on a snapshot.

use std::path::Path;
use std::sync::Arc;

use executor::user::UserError;
use graph::{CopyAction, CopySource, FileAction, FileOp, MkdirAction, Owner, Unpack};
use oci::layer::{Entry, Node};
use solver::{ContentId, StepContext, Stream};
use sys::mount::MountSource;
use sys::root::Root;

use crate::ceiling::teller;
use crate::copy::{
    Accounts, Chmod, Contents, Ids, Kind, Landing, Request, ResultTree, Selected, SourceTree,
    Target, digest, select,
};
use crate::engine::Engine;
use crate::error::WorkerError;
use crate::output::{Output, Rewrite, TreeOutput};
use crate::remote_cache::question;
use crate::result::{Made, Writable, root_of};

/// A copy's source tree and what is selected of it.
pub(crate) struct Selection {
    /// None where the tree is elsewhere: then only the digest is known.
    tree: Option<Arc<dyn SourceTree>>,
    pub(crate) selected: Vec<Selected>,
    /// The position of the input that it is selected of.
    pub(crate) input: Option<usize>,
    /// The digest of what is selected.
    pub(crate) digest: String,
    /// What a cache may know the digest as the answer to.
    pub(crate) question: Option<ContentId>,
}

impl Selection {
    /// Whether the files are known, not only their digest.
    pub(crate) fn is_here(&self) -> bool {
        self.tree.is_some()
    }
}

impl Engine {
    /// What each copy of `op` selects of its input, in order: with its digests the part of the
    /// key that the sources make. Of what is elsewhere, `answer` tells the digests.
    pub(crate) fn selections(
        &self,
        op: &FileOp,
        inputs: &[Output],
        answer: &dyn Fn(&ContentId) -> Option<ContentId>,
    ) -> Result<Vec<Selection>, WorkerError> {
        let copies = op.actions.iter().filter_map(|action| match action {
            FileAction::Copy(copy) => self.selection(copy, inputs, answer).transpose(),
            FileAction::Mkdir(_) => None,
        });
        copies.collect()
    }

    /// Applies the actions of `op` to the root among `inputs`, and commits what changed. The
    /// copies take just `selections`, those that its key was made of.
    pub(crate) fn run_file(
        &self,
        op: &FileOp,
        inputs: &[Output],
        selections: &[Selection],
        context: &StepContext<'_>,
    ) -> Result<Made, WorkerError> {
        let root = root_of(op.root, inputs)?;
        let active = self.prepare_for(root.as_ref(), size_of(selections))?;
        let contents = Contents::default();
        let stopped = || active.growing.pass() || context.cancel.is_cancelled();
        let applied = active.growing.watched(&teller(context), || {
            self.writable_root(&active).and_then(|target| {
                let mut selections = selections.iter();
                let landing = Landing::default();
                op.actions.iter().try_for_each(|action| match action {
                    FileAction::Copy(copy) => {
                        let noted = (&contents, &landing);
                        copy_into(copy, &mut selections, &target, noted, (context, &stopped))
                    }
                    FileAction::Mkdir(mkdir) => make_directory(mkdir, &target),
                })
            })
        });
        match applied {
            Ok(()) => {
                let hints = contents.into_hints();
                self.commit(active, root.as_ref(), rewrite_of(op, inputs), &hints)
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

    /// The root of a snapshot that is written by this process.
    fn writable_root(&self, writable: &Writable) -> Result<Root, WorkerError> {
        if let Some(mount) = self.snapshotter.open_on_foundation(&writable.active)? {
            return Ok(Root::new(mount));
        }
        let mount = self.snapshotter.rootfs(&writable.active)?;
        match &mount.source {
            // A plain copy takes no mount, which a host may refuse.
            MountSource::Bind { source, .. } => {
                Ok(Root::at(source).map_err(crate::copy::CopyError::from)?)
            }
            _ => Ok(Root::new(mount.open().map_err(|e| WorkerError::Mount(Box::new(e)))?)),
        }
    }

    /// What `copy` selects; none for files that stand in the Dockerfile.
    fn selection(
        &self,
        copy: &CopyAction,
        inputs: &[Output],
        answer: &dyn Fn(&ContentId) -> Option<ContentId>,
    ) -> Result<Option<Selection>, WorkerError> {
        let CopySource::Input { input, paths, context } = &copy.source else { return Ok(None) };
        let source =
            match input {
                None => None,
                Some(position) => Some(inputs.get(*position).ok_or_else(|| {
                    WorkerError::Internal(format!("a copy has no input {position}"))
                })?),
            };
        let tree = source.and_then(Output::tree);
        let question = tree.map(|tree| question::of_copy(&tree.content, paths, copy));
        if let (Some(asked), Some(_)) = (&question, tree.and_then(TreeOutput::elsewhere)) {
            let digest = answer(asked).ok_or_else(|| {
                WorkerError::Internal("a copy from a tree that is elsewhere".to_owned())
            })?;
            let (digest, selected) = (digest.to_string(), Vec::new());
            return Ok(Some(Selection { tree: None, selected, input: *input, digest, question }));
        }
        let (tree, name): (Arc<dyn SourceTree>, &str) = match source {
            Some(Output::Context(context)) => (context.clone(), "the build context"),
            Some(Output::File(file)) => (file.clone(), "the downloaded file"),
            other => {
                let name = if *context { "the build context" } else { "the source image" };
                (self.result_tree(other.and_then(Output::tree))?, name)
            }
        };
        let request = Request { paths, exclude: &copy.exclude, parents: copy.parents, tree: name };
        let selected = select(&*tree, &request)?;
        let digest = digest(&selected);
        Ok(Some(Selection { tree: Some(tree), selected, input: *input, digest, question }))
    }

    pub(crate) fn result_tree(
        &self,
        output: Option<&TreeOutput>,
    ) -> Result<Arc<dyn SourceTree>, WorkerError> {
        let snapshot = output.and_then(|o| o.snapshot.as_ref());
        Ok(Arc::new(ResultTree::open(&self.snapshotter, snapshot)?))
    }
}

/// What the files and directories that are selected take at least, in bytes. An archive that is
/// extracted takes more, most likely.
fn size_of(selections: &[Selection]) -> u64 {
    const BLOCK: u64 = 4096;
    let of = |entry: &Entry| match &entry.node {
        Node::File { size, .. } => size.next_multiple_of(BLOCK),
        Node::Directory { .. } => BLOCK,
        _ => 0,
    };
    let all = selections.iter().flat_map(|selection| &selection.selected);
    all.map(|selected| match &selected.kind {
        Kind::Single(entry) => of(entry),
        Kind::Contents(entries) | Kind::Tree(entries) => entries.iter().map(of).sum(),
    })
    .sum()
}

/// Does one copy; `selections` are those of the copies that are still to do.
fn copy_into(
    copy: &CopyAction,
    selections: &mut std::slice::Iter<'_, Selection>,
    root: &Root,
    (contents, landing): (&Contents, &Landing),
    (context, stopped): (&StepContext<'_>, &dyn Fn() -> bool),
) -> Result<(), WorkerError> {
    let mode =
        copy.mode.as_ref().map(Chmod::new).transpose().map_err(crate::copy::CopyError::from)?;
    let owner = copy.owner.as_ref().map(|owner| owner_ids(owner, copy.replace, root, context));
    let owner = owner.transpose()?;
    let (mode, replace) = (mode.as_ref(), copy.replace);
    let cancelled = stopped;
    let target = Target { root, owner, mode, replace, contents, landing, cancelled };
    if let CopySource::Inline(files) = &copy.source {
        for (number, file) in files.iter().enumerate() {
            target.inline(number, &file.name, &file.data, &copy.dest)?;
        }
        landing.pass(files.len());
        return Ok(());
    }
    let selection = selections
        .next()
        .ok_or_else(|| WorkerError::Internal("a copy without a selection".to_owned()))?;
    let unpack = copy.unpack == Unpack::Auto;
    let tree = selection
        .tree
        .as_deref()
        .ok_or_else(|| WorkerError::Internal("a copy from a tree that is elsewhere".to_owned()))?;
    target.copy_all(tree, &selection.selected, &copy.dest, unpack)?;
    landing.pass(selection.selected.last().map_or(0, |last| last.argument + 1));
    Ok(())
}

/// The ids of `--chown`. `alone` are files that are copied apart from the image.
fn owner_ids(
    owner: &Owner,
    alone: bool,
    root: &Root,
    context: &StepContext<'_>,
) -> Result<Ids, WorkerError> {
    let accounts = if alone { Accounts::default() } else { Accounts::read(root)? };
    if let Some(group) = accounts.unknown_group(owner) {
        let line = format!("no group {group:?} in the image: --chown goes by the user alone\n");
        context.log(Stream::Stderr, line.as_bytes());
    }
    Ok(if alone { Accounts::resolve_alone(owner)? } else { accounts.resolve(owner)? })
}

/// WORKDIR: the missing directories belong to USER.
fn make_directory(mkdir: &MkdirAction, root: &Root) -> Result<(), WorkerError> {
    let path = mkdir.path.trim_start_matches('/');
    let created =
        root.mkdir_all(Path::new(path), mkdir.mode).map_err(crate::copy::CopyError::from)?;
    if created.is_empty() {
        return Ok(());
    }
    let owner = match executor::user::resolve(root.fd(), &mkdir.user) {
        Ok(user) => Ids { uid: user.uid, gid: user.gid },
        // A USER that nobody knows is an error only where something runs as it (BuildKit).
        Err(UserError::UnknownUser { .. } | UserError::UnknownGroup { .. }) => Ids::default(),
        Err(error) => return Err(error.into()),
    };
    for dir in created {
        root.chown(&dir, owner.uid, owner.gid).map_err(crate::copy::CopyError::from)?;
        root.chmod(&dir, mkdir.mode).map_err(crate::copy::CopyError::from)?;
    }
    Ok(())
}

/// Files that come from a context, straight or through a stage, have the times of a checkout.
pub(crate) fn rewrite_of(op: &FileOp, inputs: &[Output]) -> Rewrite {
    let from_checkout = op.actions.iter().any(|action| match action {
        FileAction::Copy(CopyAction {
            source: CopySource::Input { input: Some(at), .. }, ..
        }) => match inputs.get(*at) {
            Some(Output::Context(_)) => true,
            Some(Output::Tree(tree)) => tree.rewrite != Rewrite::Never,
            Some(Output::File(_)) | None => false,
        },
        _ => false,
    });
    if from_checkout { Rewrite::Set } else { Rewrite::Clamp }
}
