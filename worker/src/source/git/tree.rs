//! Trees on the disk: checking one out, its submodules, its `.git`.

use std::fs;
use std::path::{Path, PathBuf};

use graph::GitSource;
use sys::walk;

use super::access::Access;
use super::command::{Call, Git, LOCAL};
use super::error::{At, GitError};
use super::resolve::{HEADS, Resolved, TAGS};
use super::store::{Store, format, kept};
use super::submodule::{self, Submodule};

/// How deep submodules may be in submodules.
const MAX_DEPTH: usize = 16;
/// How many submodules a tree may have in all.
const MAX_SUBMODULES: usize = 1000;
/// The index that a checkout without `.git` needs for a moment.
const INDEX: &str = "git-index";

/// One checkout.
pub(super) struct Checkout<'a> {
    pub(super) git: Git<'a>,
    pub(super) store: Store<'a>,
    pub(super) source: &'a GitSource,
    /// Whether `.git` becomes part of it.
    pub(super) keep: bool,
    /// A directory for what is needed meanwhile.
    pub(super) scratch: &'a Path,
    /// How many submodules there were.
    pub(super) submodules: usize,
}

impl Checkout<'_> {
    /// Checks `resolved` out into the empty directory `tree`, with its submodules; when it was
    /// committed, in seconds since the epoch.
    pub(super) fn all(
        &mut self,
        access: &Access<'_>,
        resolved: &Resolved,
        tree: &Path,
    ) -> Result<i64, GitError> {
        self.one(access, resolved, tree, 0)
    }

    fn one(
        &mut self,
        access: &Access<'_>,
        resolved: &Resolved,
        tree: &Path,
        depth: usize,
    ) -> Result<i64, GitError> {
        let (git, commit) = (self.git, resolved.commit.as_str());
        let object = resolved.tag.as_deref().filter(|_| self.keep).unwrap_or(commit);
        let keep = self.keep;
        let scratch = self.scratch;
        let wants_submodules = self.source.submodules;
        let read = |repository: &Path| {
            if keep {
                make_git_dir(git, access, resolved, object, repository, tree)?;
            } else {
                check_out(git, commit, repository, tree, scratch)?;
            }
            let time = commit_time(git, commit, repository)?;
            let submodules = match wants_submodules {
                true => submodule::list(git, &access.url(), repository, commit)?,
                false => Vec::new(),
            };
            Ok((time, submodules))
        };
        // A second try after a repair begins with an empty directory again.
        let mut read = |repository: &Path| read(repository).inspect_err(|_| empty(tree));
        let (time, submodules) = self.store.with(git, access, object, &mut read)?;
        for submodule in submodules {
            self.submodule(access, &submodule, tree, depth + 1)?;
        }
        Ok(time)
    }

    fn submodule(
        &mut self,
        access: &Access<'_>,
        submodule: &Submodule,
        tree: &Path,
        depth: usize,
    ) -> Result<(), GitError> {
        self.submodules += 1;
        let too_many =
            |what, limit| Err(GitError::TooManySubmodules { remote: access.url(), limit, what });
        if depth > MAX_DEPTH {
            return too_many("levels", MAX_DEPTH);
        }
        if self.submodules > MAX_SUBMODULES {
            return too_many("repositories", MAX_SUBMODULES);
        }
        let inner = access.submodule(&submodule.path, &submodule.url)?;
        let path = Path::new(&submodule.path);
        let below = tree.join(path);
        // The tree comes from the same repository: its links must not lead us elsewhere.
        let root = fs::File::open(tree).at("open", tree)?;
        walk::open_below(&root, path).at("open", &below)?;
        let resolved = Resolved { commit: submodule.commit.clone(), name: None, tag: None };
        self.one(&inner, &resolved, &below, depth)?;
        if self.keep {
            let set = |key: &str, value: &str| {
                let name = format!("submodule.{}.{key}", submodule.name);
                let call = Call::new("note a submodule", ["config", "--", &name, value]);
                self.git.run(&call.on(&tree.join(".git"))).map(drop)
            };
            set("url", &inner.url())?;
            set("active", "true")?;
        }
        Ok(())
    }
}

/// Empties a directory as far as that is possible.
fn empty(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let _ = match entry.file_type() {
            Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
            _ => fs::remove_file(&path),
        };
    }
}

/// Checks `commit` out without a `.git`.
fn check_out(
    git: Git<'_>,
    commit: &str,
    repository: &Path,
    tree: &Path,
    scratch: &Path,
) -> Result<(), GitError> {
    let index = scratch.join(INDEX);
    let call = Call::new(format!("check out {commit}"), ["read-tree", "-u", "--reset", commit]);
    let done = git.run(&call.on(repository).into(tree).index(&index));
    for file in [index, scratch.join(format!("{INDEX}.lock"))] {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).at("remove", file);
            }
            _ => {}
        }
    }
    done.map(drop)
}

/// Checks out with a `.git`: of one commit, with the remote as it may be shown.
fn make_git_dir(
    git: Git<'_>,
    access: &Access<'_>,
    resolved: &Resolved,
    object: &str,
    repository: &Path,
    tree: &Path,
) -> Result<(), GitError> {
    let dir: PathBuf = tree.join(".git");
    let commit = resolved.commit.as_str();
    let branch = resolved.name.as_deref().and_then(|name| name.strip_prefix(HEADS));
    let what = || format!("make the .git of {commit}");
    let run = |call: Call<'_>| git.run(&call.on(&dir)).map(drop);

    let object_format = format!("--object-format={}", format(commit.len()));
    let mut init = vec!["init".to_owned(), "--quiet".into(), "--template=".into(), object_format];
    init.extend(branch.map(|branch| format!("--initial-branch={branch}")));
    run(Call::new(what(), init).into(tree))?;

    let mut refspec = format!("+{}", kept(object));
    let known = |name: &&str| name.starts_with(HEADS) || name.starts_with(TAGS);
    if let Some(name) = resolved.name.as_deref().filter(known) {
        refspec = format!("{refspec}:{name}");
    }
    let fixed = ["fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head"];
    let mut fetch: Vec<&std::ffi::OsStr> = fixed.iter().map(AsRef::as_ref).collect();
    fetch.extend(["--update-head-ok".as_ref(), "--".as_ref(), repository.as_os_str()]);
    fetch.push(refspec.as_ref());
    run(Call::new(what(), fetch).over(LOCAL, Vec::new()))?;

    if branch.is_none() {
        run(Call::new(what(), ["update-ref", "--no-deref", "HEAD", commit]))?;
    }
    let all = "+refs/heads/*:refs/remotes/origin/*";
    for (key, value) in [("remote.origin.url", access.url().as_str()), ("remote.origin.fetch", all)]
    {
        run(Call::new(what(), ["config", "--", key, value]))?;
    }
    run(Call::new(what(), ["read-tree", "-u", "--reset", "HEAD"]).into(tree))
}

/// When `commit` was committed, in seconds since the epoch.
pub(super) fn commit_time(git: Git<'_>, commit: &str, repository: &Path) -> Result<i64, GitError> {
    let name = format!("{commit}^{{commit}}");
    let args = ["log", "--max-count=1", "--no-show-signature", "--format=%ct", &name, "--"];
    let call = Call::new(format!("read the time of {commit}"), args).on(repository);
    // git writes nothing for a time that is none; it is the epoch then, as in `git log`.
    Ok(git.text(&call)?.parse().unwrap_or_default())
}
