//! Brings the main context in, from wherever it is, and reads the Dockerfile in or beside it.
//!
//! What is not a directory of this machine comes by small builds of its own: a checkout, a
//! download, the content of an archive. They are cached as all builds are.

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graph::ignore::IgnoreList;
use graph::{
    Definition, FileOp, GitSource, HttpSource, LocalSource, Op, SourceOp, Unpack, Vertex,
    VertexMeta,
};
use oci::Timestamp;
use solver::{CancelToken, SolveError};
use worker::{BuildInput, ContextInput, Engine, FileTree, Output, TreeOutput, Wants};

use super::build::in_task;
use super::dockerfile::{self, DOCKERFILE, MAX_FILE, Source};
use super::failure::Failure;
use super::stdin::Stdin;
use super::task::Task;
use crate::contexts::{ContextSource, DockerfileSource};
use crate::errors::chain;
use crate::progress::Progress;
use crate::request::BuildRequest;
use crate::secrets::SecretStore;

/// What the archive of a context is called.
const ARCHIVE: &str = "context";
/// Enough of a file to tell an archive: one tar header.
const HEAD: u64 = 512;

/// Brings the main context in.
pub(crate) struct Loader<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) request: &'a BuildRequest,
    pub(crate) secrets: &'a SecretStore,
    pub(crate) progress: &'a Progress,
    pub(crate) cancel: &'a CancelToken,
    /// How many steps run at the same time.
    pub(crate) jobs: NonZeroUsize,
    /// When the build started.
    pub(crate) started: Timestamp,
}

/// The main context as it came in.
enum Main {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A checkout, or what was in an archive.
    Tree(TreeOutput),
    /// A Dockerfile alone, and what stands for the context.
    Dockerfile(Source, ContextInput),
}

impl Loader<'_> {
    /// The main context and the Dockerfile.
    ///
    /// # Errors
    /// If one of them cannot be had.
    pub(crate) fn load(&self) -> Result<(ContextInput, Source), Failure> {
        let main = match &self.request.context {
            ContextSource::Directory(dir) => Main::Directory(dir.clone()),
            ContextSource::Git(git) => Main::Tree(self.checkout(git)?),
            ContextSource::Http(http) => self.download(http)?,
            ContextSource::Stdin => self.stdin()?,
        };
        let title =
            format!("[internal] load build definition from {}", dockerfile::name_of(self.request));
        in_task(self.progress, self.cancel, &title, || self.dockerfile(main))
    }

    fn dockerfile(&self, main: Main) -> Result<(ContextInput, Source), Failure> {
        match main {
            Main::Directory(dir) => {
                let source = match self.elsewhere()? {
                    Some(source) => source,
                    None => dockerfile::read(self.request, self.cancel)?,
                };
                Ok((ContextInput::Directory(dir), source))
            }
            Main::Tree(tree) => {
                let source = match (self.elsewhere()?, &self.request.dockerfile) {
                    (Some(source), _) => source,
                    (None, DockerfileSource::File(path)) => self.read_in(&tree, path)?,
                    (None, _) => self.read_in(&tree, Path::new(DOCKERFILE))?,
                };
                Ok((ContextInput::Tree(tree), source))
            }
            Main::Dockerfile(own, context) => {
                let source = match (self.elsewhere()?, &self.request.dockerfile) {
                    (Some(source), _) => source,
                    (None, DockerfileSource::File(path)) => {
                        return Err(Failure::error(format!(
                            "the context is a Dockerfile itself: there is no file {} in it \
                             (leave -f out)",
                            path.display()
                        )));
                    }
                    (None, _) => own,
                };
                Ok((context, source))
            }
        }
    }

    /// A Dockerfile that has nothing to do with the context.
    fn elsewhere(&self) -> Result<Option<Source>, Failure> {
        let remote = matches!(self.request.context, ContextSource::Git(_) | ContextSource::Http(_));
        match &self.request.dockerfile {
            DockerfileSource::Http(http) => {
                let file = self.file(http, "[internal] load remote Dockerfile")?;
                Ok(Some(Source::new(DOCKERFILE, file.read(MAX_FILE)?)?))
            }
            DockerfileSource::Stdin => dockerfile::read_stdin(self.cancel).map(Some),
            DockerfileSource::File(path) if remote && path.is_absolute() => {
                dockerfile::read_path(path).map(Some)
            }
            DockerfileSource::File(_) | DockerfileSource::Default => Ok(None),
        }
    }

    /// Reads the Dockerfile `path` of a context that is no directory of this machine.
    fn read_in(&self, tree: &TreeOutput, path: &Path) -> Result<Source, Failure> {
        let lower = dockerfile::lower_case(path);
        for path in [Some(path), lower.as_deref()].into_iter().flatten() {
            let Some(text) = path.to_str() else { continue };
            let found = self
                .engine
                .read_file(tree, text, MAX_FILE)
                .map_err(|e| Failure::from(e).after("failed to read dockerfile"))?;
            if let Some(bytes) = found {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                return Source::new(&name, bytes);
            }
        }
        match self.request.dockerfile {
            DockerfileSource::Default => Err(dockerfile::no_dockerfile("the context")),
            _ => Err(Failure::error(format!(
                "failed to read dockerfile: there is no file {} in the context",
                path.display()
            ))),
        }
    }

    fn checkout(&self, git: &GitSource) -> Result<TreeOutput, Failure> {
        let mut definition = Definition::default();
        let op = Op::Source(SourceOp::Git(git.clone()));
        let name = format!("[internal] load git source {git}");
        definition.add(vertex(op, Vec::new(), name));
        self.tree(&definition, HashMap::new())
    }

    /// When the commit was made that `git` means.
    ///
    /// # Errors
    /// If the repository cannot be reached.
    pub(super) fn commit_time(&self, git: &GitSource) -> Result<Timestamp, Failure> {
        let name = format!("[internal] load time of {git}");
        let task = Task::start(self.progress, self.cancel, &name);
        let context = task.context();
        let commit = self.engine.git_commit(git, self.secrets, &context);
        let time = commit
            .and_then(|commit| self.engine.git_commit_time(git, &commit, self.secrets, &context));
        Ok(task.end(time)?)
    }

    fn download(&self, http: &HttpSource) -> Result<Main, Failure> {
        let file = self.file(http, "[internal] load remote build context")?;
        if file.is_archive()? {
            return Ok(Main::Tree(self.unpack(&file)?));
        }
        let source = Source::new(DOCKERFILE, file.read(MAX_FILE)?)?;
        // BuildKit: `dockerui/context.go`, `initContext`.
        Ok(Main::Dockerfile(source, ContextInput::File(file)))
    }

    /// The file behind a URL; `name` is the step's.
    ///
    /// # Errors
    /// If it cannot be had.
    pub(super) fn file(&self, http: &HttpSource, name: &str) -> Result<Arc<FileTree>, Failure> {
        let mut definition = Definition::default();
        let op = Op::Source(SourceOp::Http(http.clone()));
        definition.add(vertex(op, Vec::new(), name.to_owned()));
        match self.solve(&definition, HashMap::new())? {
            Some(Output::File(file)) => Ok(file),
            _ => Err(Failure::error(format!("internal error: {} is no file", http.url))),
        }
    }

    /// Standard input: what it is comes out when it is read.
    fn stdin(&self) -> Result<Main, Failure> {
        let fail = |e| Failure::error(format!("cannot read standard input: {e}"));
        let title = "[internal] load build context from standard input";
        let archive = in_task(self.progress, self.cancel, title, || {
            let mut stdin = Stdin::new(self.cancel);
            let mut head = Vec::new();
            (&mut stdin).take(HEAD).read_to_end(&mut head).map_err(fail)?;
            let archive = dockerfile::looks_like_archive(&head);
            let mut all = Cursor::new(head).chain(stdin);
            if archive {
                let file = self.engine.store_file(ARCHIVE, &mut all, self.cancel)?;
                return Ok(Ok(file));
            }
            Ok(Err(dockerfile::read_bounded(all).map_err(fail)?))
        })?;
        match archive {
            Ok(file) if file.is_archive()? => Ok(Main::Tree(self.unpack(&file)?)),
            Ok(_) => Err(Failure::error(
                "standard input is compressed, but what is in it is no tar archive",
            )),
            Err(text) => {
                let source = Source::new(DOCKERFILE, text)?;
                Ok(Main::Dockerfile(source, ContextInput::Tree(TreeOutput::empty())))
            }
        }
    }

    /// What is in an archive; owners, modes and times are those that it tells.
    ///
    /// # Errors
    /// If it is damaged.
    pub(super) fn unpack(&self, file: &Arc<FileTree>) -> Result<TreeOutput, Failure> {
        let mut definition = Definition::default();
        let import = FileOp::import(file.name(), false, Unpack::Auto)
            .with_modes(self.request.lower.context_modes.clone());
        let source = LocalSource { name: ARCHIVE.to_owned(), ignore: IgnoreList::default() };
        let archive = definition.add(vertex(
            Op::Source(SourceOp::Local(source)),
            Vec::new(),
            "[internal] load archive".to_owned(),
        ));
        definition.add(vertex(
            Op::File(import),
            vec![archive],
            "[internal] extract build context".to_owned(),
        ));
        let contexts = HashMap::from([(ARCHIVE.to_owned(), ContextInput::File(file.clone()))]);
        self.tree(&definition, contexts)
    }

    fn tree(
        &self,
        definition: &Definition,
        contexts: HashMap<String, ContextInput>,
    ) -> Result<TreeOutput, Failure> {
        match self.solve(definition, contexts)? {
            Some(Output::Tree(tree)) => Ok(tree),
            _ => Err(Failure::error("internal error: the context is no tree (please report this)")),
        }
    }

    /// The result of the last vertex.
    fn solve(
        &self,
        definition: &Definition,
        contexts: HashMap<String, ContextInput>,
    ) -> Result<Option<Output>, Failure> {
        let last = graph::VertexIndex(definition.vertices().len() - 1);
        let input = BuildInput {
            definition,
            targets: &[last],
            contexts: &contexts,
            context_options: worker::ContextOptions::default(),
            secrets: self.secrets,
            images: &HashMap::new(),
            jobs: self.jobs,
            started: self.started,
            limits: &worker::Limits::default(),
            dns: &worker::Dns::default(),
            devices: &worker::DeviceAccess::default(),
            explain: None,
            remote: None,
            wants: Wants::Files,
            carry: None,
            cancel: self.cancel,
        };
        let solution = self.engine.build(&input, self.progress).map_err(failure)?;
        Ok(solution.outputs.into_iter().next())
    }
}

fn vertex(op: Op, inputs: Vec<graph::VertexIndex>, name: String) -> Vertex {
    Vertex { op, inputs, meta: VertexMeta { name, ..VertexMeta::default() } }
}

fn failure(error: SolveError) -> Failure {
    match error {
        SolveError::Failed { source, .. } => {
            let message =
                format!("failed to load the build context: {}", chain::message(source.as_ref()));
            Failure::told(String::new(), message, Some(source))
        }
        other => Failure::error(other),
    }
}
