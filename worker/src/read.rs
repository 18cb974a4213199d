//! Reading single files of results: a Dockerfile in a checkout.

use std::io::Read;

use oci::Timestamp;
use oci::layer::{Node, TreePath};

use crate::copy::{Keep, ResultTree, SourceError, SourceTree, resolve};
use crate::engine::Engine;
use crate::error::WorkerError;
use crate::key::empty_content;
use crate::output::{Rewrite, TreeOutput};
use crate::source::FileTree;

impl TreeOutput {
    /// An empty root file system: a context without any files.
    pub fn empty() -> Self {
        Self {
            snapshot: None,
            content: empty_content(),
            created: Timestamp::from_seconds(0),
            rewrite: Rewrite::Never,
            lease: None,
            lazy: None,
        }
    }
}

impl FileTree {
    /// When it was last changed, where that is known.
    ///
    /// # Errors
    /// If it is gone.
    pub fn modified(&self) -> Result<Option<Timestamp>, WorkerError> {
        let entries = self.list(&TreePath::root())?;
        let time = entries.first().map(|e| e.meta.mtime);
        Ok(time.filter(|t| *t != Timestamp::EPOCH))
    }
}

impl Engine {
    /// The time of the regular file in `tree` that was changed last; none if there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn newest_file(&self, tree: &TreeOutput) -> Result<Option<Timestamp>, WorkerError> {
        let tree = ResultTree::open(&self.snapshotter, tree.snapshot.as_ref())?;
        let entries = tree.walk(&TreePath::root(), &|_, _| Keep::Yes)?;
        let files = entries.iter().filter(|e| matches!(e.node, Node::File { .. }));
        Ok(files.map(|e| e.meta.mtime).max_by_key(|t| (t.seconds, t.nanos)))
    }

    /// The content of the file at `path` in `tree`; none if nothing is there. Symbolic links are
    /// followed inside the tree.
    ///
    /// # Errors
    /// If it is no regular file, cannot be read or is longer than `limit` bytes.
    pub fn read_file(
        &self,
        tree: &TreeOutput,
        path: &str,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, WorkerError> {
        let tree = ResultTree::open(&self.snapshotter, tree.snapshot.as_ref())?;
        let fail = |source: Box<dyn std::error::Error + Send + Sync>| SourceError::Read {
            path: path.to_owned(),
            source,
        };
        let wanted = TreePath::clean(path.as_bytes()).map_err(|e| fail(e.into()))?;
        let Some((at, entry)) = resolve(&tree, &wanted, true)? else { return Ok(None) };
        match entry.map(|e| e.node) {
            Some(Node::File { size, .. }) if size > limit => {
                Err(fail(format!("it has {size} bytes, and {limit} are allowed").into()).into())
            }
            Some(Node::File { .. } | Node::HardLink { .. }) => {
                let mut bytes = Vec::new();
                let mut file = tree.open(&at)?.take(limit + 1);
                file.read_to_end(&mut bytes).map_err(|e| fail(e.into()))?;
                if bytes.len() as u64 > limit {
                    let message = format!("it is longer than {limit} bytes");
                    return Err(fail(message.into()).into());
                }
                Ok(Some(bytes))
            }
            Some(Node::Directory { .. }) | None => Err(fail("it is a directory".into()).into()),
            Some(_) => Err(fail("it is no regular file".into()).into()),
        }
    }
}
