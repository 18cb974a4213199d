//! Why a tree of a git repository cannot be had.

use std::io;
use std::path::PathBuf;

use crate::error::WorkerError;

/// A failure with a git repository. Remotes in it have no passwords.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no git.
    #[error(
        "git repositories need the program git, which is not in {path}: install it (package git)"
    )]
    Missing {
        /// Where it was looked for.
        path: String,
    },
    /// git cannot be started or followed.
    #[error("cannot run git: {0}")]
    Run(#[source] io::Error),
    /// git said no.
    #[error("cannot {what}: git {status}{}", tail(detail))]
    Failed {
        /// What was being done, as a verb with its object.
        what: String,
        /// As in `exited with 128`.
        status: String,
        /// The last lines it wrote, and what to do.
        detail: String,
    },
    /// git wrote more than is read.
    #[error("cannot {what}: git wrote more than {limit} bytes")]
    TooLong {
        /// What was being done.
        what: String,
        /// The bound in bytes.
        limit: u64,
    },
    /// git wrote what nobody understands.
    #[error("cannot {what}: git answered {answer:?}")]
    Answer {
        /// What was being done.
        what: String,
        /// What it wrote.
        answer: String,
    },
    /// The URL of a repository makes no sense.
    #[error("invalid git URL {url:?}: {reason}")]
    Url {
        /// Which.
        url: String,
        /// Why.
        reason: String,
    },
    /// Nothing in the repository has that name.
    #[error("{remote} has no branch, tag or commit {reference:?}")]
    NoRef {
        /// The repository.
        remote: String,
        /// What was asked for.
        reference: String,
    },
    /// The repository has no commit.
    #[error("{remote} has no default branch: it is empty, or its HEAD leads nowhere")]
    Empty {
        /// The repository.
        remote: String,
    },
    /// The server does not give a commit.
    #[error(
        "{remote} does not give commit {commit}: there is none, or no branch and no tag leads to \
         it any more"
    )]
    NoCommit {
        /// The repository.
        remote: String,
        /// Which.
        commit: String,
    },
    /// What was asked for is not what its checksum says.
    #[error("expected {reference} of {remote} to be commit {expected}, but it is {actual}")]
    Checksum {
        /// The repository.
        remote: String,
        /// What was asked for.
        reference: String,
        /// The checksum.
        expected: String,
        /// What it is.
        actual: String,
    },
    /// A commit is to be fetched that is not named.
    #[error(
        "fetch-by-commit of {remote} needs a whole commit: write checksum= with its 40 digits (64 \
         in a repository of SHA-256)"
    )]
    FetchByCommit {
        /// The repository.
        remote: String,
    },
    /// A submodule cannot be had.
    #[error("submodule {path:?} of {remote} has the URL {url:?}: {reason}")]
    Submodule {
        /// The repository that it is a part of.
        remote: String,
        /// Where it is in it.
        path: String,
        /// Where it comes from.
        url: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// There are more submodules than anybody could want.
    #[error("{remote}: more than {limit} {what} of submodules")]
    TooManySubmodules {
        /// The repository.
        remote: String,
        /// The bound.
        limit: usize,
        /// What there are too many of.
        what: &'static str,
    },
    /// The directory that was asked for is none.
    #[error("cannot use the directory {subdir:?} of {remote}: {source}")]
    Subdir {
        /// The repository.
        remote: String,
        /// Which.
        subdir: String,
        /// Why.
        source: io::Error,
    },
    /// A secret that should let us in cannot be used.
    #[error("cannot use the secret {id}: {reason}")]
    Secret {
        /// Its id.
        id: String,
        /// Why.
        reason: String,
    },
    /// A file cannot be made or changed.
    #[error("cannot {operation} {}: {source}", path.display())]
    File {
        /// What was being done, as a verb.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The state directory cannot be used.
    #[error(transparent)]
    Cache(#[from] cache::CacheError),
    /// The step was cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// What git wrote, under the message.
fn tail(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(":\n{detail}") }
}

impl From<GitError> for WorkerError {
    fn from(error: GitError) -> Self {
        match error {
            GitError::Cancelled => Self::Cancelled,
            GitError::Cache(cache::CacheError::Full(full)) => Self::Full(full),
            GitError::Cache(error) => Self::Cache(error),
            other => Self::Git(Box::new(other)),
        }
    }
}

impl From<WorkerError> for GitError {
    fn from(error: WorkerError) -> Self {
        match error {
            WorkerError::Cancelled => Self::Cancelled,
            WorkerError::Full(full) => Self::Cache(cache::CacheError::Full(full)),
            WorkerError::Cache(error) => Self::Cache(error),
            other => Self::Run(io::Error::other(other)),
        }
    }
}

/// Adds what was done to what to an IO error.
pub(super) trait At<T> {
    fn at(self, operation: &'static str, path: impl Into<PathBuf>) -> Result<T, GitError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, operation: &'static str, path: impl Into<PathBuf>) -> Result<T, GitError> {
        self.map_err(|e| GitError::File { operation, path: path.into(), source: e.into() })
    }
}

/// What to do about something that git complained about.
pub(super) fn advice(stderr: &str) -> Option<&'static str> {
    let any = |words: &[&str]| words.iter().any(|word| stderr.contains(word));
    if any(&["could not read Username", "Authentication failed", "HTTP 401", "HTTP 403"]) {
        return Some(
            "the repository is private, or is not there: give a token with \
             --secret id=GIT_AUTH_TOKEN, or a header with --secret id=GIT_AUTH_HEADER",
        );
    }
    if any(&["Host key verification failed"]) {
        return Some(
            "the server's key is not known: connect once with ssh, or put it into \
             ~/.ssh/known_hosts",
        );
    }
    if any(&["Permission denied (publickey"]) {
        return Some("the server knows none of your ssh keys: load one into ssh-agent (ssh-add)");
    }
    None
}

/// Whether git may have failed because of the repository that we keep: it is made again then, and
/// git asked once more. So all that is known to have nothing to do with it is left out.
pub(super) fn may_be_damage(error: &GitError) -> bool {
    let GitError::Failed { detail, .. } = error else { return false };
    let elsewhere = [
        // The server, or the way to it.
        "unable to access",
        "unable to connect",
        "Could not read from remote repository",
        "hung up unexpectedly",
        "early EOF",
        "RPC failed",
        "read error",
        "remote error",
        "not our ref",
        "could not read Username",
        "could not read Password",
        "Authentication failed",
        "not found",
        "transport",
        // The disk.
        "No space left on device",
        "Disk quota exceeded",
        "File name too long",
    ];
    !elsewhere.iter().any(|word| detail.contains(word))
}
