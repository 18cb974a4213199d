//! Git repositories as sources: their URLs, and what is asked of them.

mod options;
mod remote;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

use options::{percent_decode, percent_encode, read_fragment, read_query};
pub use remote::{Remote, Transport};

/// What a build context may leave the scheme away of.
const GITHUB: &str = "github.com/";
/// What the path of an HTTP(S) URL ends with that names a repository.
const SUFFIX: &str = ".git";

/// A tree of a git repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GitSource {
    /// The repository, as git takes it. It may hold a password: [`Display`](fmt::Display) masks
    /// it.
    pub remote: String,
    /// A branch, a tag, a full ref or a commit; none for the default branch.
    pub reference: Option<String>,
    /// The directory in it that is the root of the result.
    pub subdir: Option<String>,
    /// A commit or the beginning of one: what `reference` must lead to.
    pub checksum: Option<String>,
    /// Whether `.git` is part of the result.
    pub keep_git_dir: bool,
    /// Whether submodules are checked out too.
    pub submodules: bool,
    /// The times of the files.
    pub mtime: Mtime,
    /// Whether `checksum` is fetched by itself, so that `reference` need not lead to it any more.
    pub fetch_by_commit: bool,
}

/// The times of a checkout's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mtime {
    /// When they were checked out.
    #[default]
    Checkout,
    /// That of the commit.
    Commit,
}

/// Why the URL of a git repository makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid git URL {url:?}: {reason}")]
pub struct GitUrlError {
    /// What was given, its password masked.
    pub url: String,
    /// What is wrong with it.
    pub reason: String,
}

impl GitSource {
    /// The repository that `text` names; none if it names something else (`https://` needs a
    /// path that ends with `.git`). BuildKit: `frontend/dockerfile/dfgitutil`, `ParseGitRef`.
    ///
    /// # Errors
    /// If it names a repository with options that make no sense.
    pub fn parse(text: &str) -> Result<Option<Self>, GitUrlError> {
        Self::read(text, text)
    }

    /// As [`Self::parse`], for a build context: `github.com/owner/name` is a repository as well.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_context(text: &str) -> Result<Option<Self>, GitUrlError> {
        if !text.starts_with(GITHUB) {
            return Self::parse(text);
        }
        let (path, rest) = text.split_at(text.find(['?', '#']).unwrap_or(text.len()));
        let path = path.trim_end_matches('/').trim_end_matches(SUFFIX);
        Self::read(&format!("https://{path}{SUFFIX}{rest}"), text)
    }

    /// Reads `text`, which was `given` in other words.
    fn read(text: &str, given: &str) -> Result<Option<Self>, GitUrlError> {
        let fail = |reason| GitUrlError { url: remote::mask(given), reason };
        let (front, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (front, query) = front.split_once('?').unwrap_or((front, ""));
        if is_web_page(front) {
            return Ok(None);
        }
        let Some(remote) = Remote::parse(front).map_err(fail)? else { return Ok(None) };
        let mut source = Self::of(&remote);
        // In a URL, the fragment is escaped; the short form is no URL.
        let fragment = if remote.short {
            fragment.to_owned()
        } else {
            percent_decode(fragment).map_err(fail)?
        };
        read_fragment(&mut source, &fragment).map_err(fail)?;
        read_query(&mut source, query).map_err(fail)?;
        Ok(Some(source))
    }

    /// The default branch of a repository.
    fn of(remote: &Remote) -> Self {
        Self {
            remote: remote.to_string(),
            reference: None,
            subdir: None,
            checksum: None,
            keep_git_dir: false,
            submodules: true,
            mtime: Mtime::default(),
            fetch_by_commit: false,
        }
    }

    /// The repository as it may be shown and stored: without credentials.
    pub fn public_remote(&self) -> String {
        match Remote::parse(&self.remote) {
            Ok(Some(remote)) => remote.without_credentials().to_string(),
            _ => remote::mask(&self.remote),
        }
    }
}

/// Whether it is an HTTP(S) URL that names no repository.
fn is_web_page(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let http = ["http", "https"].iter().any(|s| s.eq_ignore_ascii_case(scheme));
    http && !rest.split_once('/').is_some_and(|(_, path)| path.ends_with(SUFFIX))
}

/// As one could have written it, the password masked.
impl fmt::Display for GitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&remote::mask(&self.remote))?;
        let switches = [
            (self.keep_git_dir, "keep-git-dir=true"),
            (!self.submodules, "submodules=false"),
            (self.mtime == Mtime::Commit, "mtime=commit"),
            (self.fetch_by_commit, "fetch-by-commit=true"),
        ];
        let checksum = self.checksum.as_ref().map(|c| format!("checksum={}", percent_encode(c)));
        let switches = switches.iter().filter(|(on, _)| *on).map(|(_, text)| (*text).to_owned());
        let query: Vec<String> = checksum.into_iter().chain(switches).collect();
        if !query.is_empty() {
            write!(f, "?{}", query.join("&"))?;
        }
        let short = !self.remote.contains("://");
        let escape = |text: &str| if short { text.to_owned() } else { percent_encode(text) };
        if self.reference.is_some() || self.subdir.is_some() {
            write!(f, "#{}", escape(self.reference.as_deref().unwrap_or_default()))?;
        }
        match &self.subdir {
            Some(subdir) => write!(f, ":{}", escape(subdir)),
            None => Ok(()),
        }
    }
}
