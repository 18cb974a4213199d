//! Trees of git repositories: the program `git` fetches them, into bare repositories of the state
//! directory, and checks them out into snapshots. The design is in `docs/design/git.md`.

mod access;
mod command;
mod environment;
mod error;
mod hold;
mod resolve;
mod settle;
mod store;
mod submodule;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use graph::{GitSource, Mtime};
use oci::Timestamp;
use snapshotter::Hints;
use solver::{KeyBuilder, StepContext};

use super::Secrets;
use crate::ceiling::teller;
use crate::engine::Engine;
use crate::error::WorkerError;
use crate::key::{empty_content, step_content};
use crate::output::Rewrite;
use crate::result::{Made, Writable};
use access::Access;
use command::Git;
pub use environment::GitEnvironment;
use error::At;
pub use error::GitError;
use hold::Hold;
use resolve::Resolved;
use store::Store;
use tree::Checkout;

/// The domain of facts that tell when a commit was committed.
const TIME_FACT: &str = "git-commit-time";
/// The domain of the identity of a tree whose files have the time of a commit.
const TIMES_DOMAIN: &str = "git-times/v1";
/// Beside the snapshot's tree: a checkout of which only a directory is wanted.
const WHOLE: &str = "checkout";
/// The snapshot's tree.
const TREE: &str = "fs";

/// What an engine knows of git.
pub(crate) struct GitState {
    environment: GitEnvironment,
    /// By source: what it meant when it was asked for last. `.git` tells by what name.
    resolved: Mutex<HashMap<GitSource, Resolved>>,
}

impl GitState {
    pub(crate) fn new(environment: GitEnvironment) -> Self {
        Self { environment, resolved: Mutex::default() }
    }
}

impl Engine {
    /// The commit that `source` means today, as 40 or 64 hexadecimal digits. A source that names
    /// a whole commit is not asked for.
    ///
    /// # Errors
    /// If the server cannot be asked, has nothing of that name, or something that is not what the
    /// source's checksum says.
    pub fn git_commit(
        &self,
        source: &GitSource,
        secrets: &dyn Secrets,
        context: &StepContext<'_>,
    ) -> Result<String, WorkerError> {
        let access = Access::new(source, secrets)?;
        let store = Store(self.state.repositories());
        let hold = Hold::of_questions(self);
        let resolved = resolve::resolve(self.git(context, &hold), store, &access, source)?;
        let commit = resolved.commit.clone();
        let mut all = self.git.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(source.clone(), resolved);
        Ok(commit)
    }

    /// When `commit` of `source` was committed. It is fetched if that is not known.
    ///
    /// # Errors
    /// If it cannot be fetched.
    pub fn git_commit_time(
        &self,
        source: &GitSource,
        commit: &str,
        secrets: &dyn Secrets,
        context: &StepContext<'_>,
    ) -> Result<Timestamp, WorkerError> {
        let known = self.state.get_fact(TIME_FACT, commit.as_bytes());
        let known = known.and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok());
        if let Some(seconds) = known {
            return Ok(Timestamp::from_seconds(seconds));
        }
        let hold = Hold::of_questions(self);
        let (git, access) = (self.git(context, &hold), Access::new(source, secrets)?);
        let mut read = |repository: &Path| tree::commit_time(git, commit, repository);
        let seconds = Store(self.state.repositories()).with(git, &access, commit, &mut read)?;
        self.note_time(commit, seconds)?;
        Ok(Timestamp::from_seconds(seconds))
    }

    fn note_time(&self, commit: &str, seconds: i64) -> Result<(), WorkerError> {
        let text = seconds.to_string();
        Ok(self.state.put_fact(TIME_FACT, commit.as_bytes(), text.as_bytes())?)
    }

    fn git<'a>(&'a self, context: &'a StepContext<'a>, hold: &'a Hold<'a>) -> Git<'a> {
        Git { environment: &self.git.environment, context, hold }
    }

    /// Checks `commit` of `source` out into a snapshot.
    pub(crate) fn git_checkout(
        &self,
        source: &GitSource,
        commit: &str,
        secrets: &dyn Secrets,
        context: &StepContext<'_>,
    ) -> Result<Made, WorkerError> {
        let writable = self.prepare(None)?;
        let hold = Hold::of_step(self, &writable.growing);
        let git = self.git(context, &hold);
        let time = writable.growing.watched(&teller(context), || {
            self.git_tree(&writable, source, commit, secrets, git).map_err(WorkerError::from)
        });
        let time = match time {
            Ok(time) => time,
            Err(error) => {
                self.discard(writable);
                return Err(error);
            }
        };
        self.note_time(commit, time)?;
        let (rewrite, below) = match source.mtime {
            Mtime::Checkout => (Rewrite::Set, empty_content()),
            // Identities have no times, and the first making of a content stays: the same files
            // with other times on purpose must be something else.
            Mtime::Commit => {
                let time = time.to_string();
                let below = KeyBuilder::new(TIMES_DOMAIN).part(time.as_bytes()).content_id();
                (Rewrite::Clamp, below)
            }
        };
        let snapshot = self.snapshotter.commit(writable.active, &Hints::default())?;
        self.state.wrote();
        writable.growing.is_now(self, &snapshot.id);
        self.agree(step_content(&below, &snapshot.diff_digest, rewrite), &snapshot.id, rewrite)
    }

    /// Fills the tree of an empty snapshot; the time of the commit.
    fn git_tree(
        &self,
        writable: &Writable,
        source: &GitSource,
        commit: &str,
        secrets: &dyn Secrets,
        git: Git<'_>,
    ) -> Result<i64, GitError> {
        let dir = self.snapshotter.dir().join(writable.active.dir_name());
        let dir = std::path::absolute(&dir).at("find", &dir)?;
        let tree = dir.join(TREE);
        // In a directory of the repository, `.git` has no place (BuildKit: `source/git`).
        let keep = source.keep_git_dir && source.subdir.is_none();
        let mut checkout = Checkout {
            git,
            store: Store(self.state.repositories()),
            source,
            keep,
            scratch: &dir,
            submodules: 0,
        };
        let access = Access::new(source, secrets)?;
        let resolved = self.resolved(source, commit);
        let time = match &source.subdir {
            None => checkout.all(&access, &resolved, &tree)?,
            Some(subdir) => {
                let whole = dir.join(WHOLE);
                fs::create_dir(&whole).at("create", &whole)?;
                let time = checkout.all(&access, &resolved, &whole)?;
                settle::lift(&whole, subdir, &tree).map_err(|cause| GitError::Subdir {
                    remote: access.url(),
                    subdir: subdir.clone(),
                    source: cause,
                })?;
                fs::remove_dir_all(&whole).at("remove", &whole)?;
                time
            }
        };
        if git.is_over() {
            return Err(GitError::Cancelled);
        }
        settle::settle(&tree, (source.mtime == Mtime::Commit).then_some(time))?;
        Ok(time)
    }

    /// By what name `commit` was found, if it was this engine that looked.
    fn resolved(&self, source: &GitSource, commit: &str) -> Resolved {
        let all = self.git.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(source).filter(|resolved| resolved.commit == commit).cloned();
        known.unwrap_or_else(|| Resolved { commit: commit.to_owned(), name: None, tag: None })
    }
}
