//! What was fetched: a bare repository per remote, in the state directory.
//!
//! Each object that was asked for has a ref `refs/commits/<object>` of its own, which tells the
//! next fetch what is here already. A ref is written after what it leads to, so one that is there
//! means that all of it is.

use std::fs;
use std::path::Path;

use cache::{Access as Mode, Repositories, Repository};

use super::access::Access;
use super::command::{Call, Git, REMOTE};
use super::error::{At, GitError, may_be_damage};

/// Where the refs are that we keep.
const KEPT: &str = "refs/commits/";
/// Where branches and tags of the remote are, for what has to be looked for in all of them.
const ALL: [&str; 2] = ["+refs/heads/*:refs/all/heads/*", "+refs/tags/*:refs/all/tags/*"];
/// How often a commit is fetched that is gone when it is to be read: garbage collection may be
/// faster than we are, but hardly again and again.
const ROUNDS: usize = 3;
/// Lock files of git, which a killed one leaves behind.
const LOCKS: [&str; 5] =
    ["shallow.lock", "config.lock", "HEAD.lock", "packed-refs.lock", "refs/commits.lock"];
/// Where packs are.
const PACKS: &str = "objects/pack";
/// What packs begin with that are not complete.
const PARTS: &str = "tmp_";

/// The repositories of the state directory.
#[derive(Clone, Copy)]
pub(super) struct Store<'a>(pub(super) &'a Repositories);

/// The ref that keeps `object`.
pub(super) fn kept(object: &str) -> String {
    format!("{KEPT}{object}")
}

impl<'a> Store<'a> {
    /// Calls `read` with a repository that has `object`, a commit or a tag, after fetching what is
    /// missing. Nobody changes the repository meanwhile; `read` may not ask for another one.
    pub(super) fn with<T>(
        &self,
        git: Git<'_>,
        access: &Access<'_>,
        object: &str,
        read: &mut dyn FnMut(&Path) -> Result<T, GitError>,
    ) -> Result<T, GitError> {
        let mut mended = false;
        for _ in 0..ROUNDS {
            {
                let repository = self.open(git, access, object.len(), Mode::Read)?;
                if has(git, repository.path(), object)? {
                    match read(repository.path()) {
                        Err(error) if !mended && may_be_damage(&error) => {
                            tell_damage(git, access, &error);
                        }
                        other => return other,
                    }
                    mended = true;
                }
            }
            let repository = self.open(git, access, object.len(), Mode::Write)?;
            if mended {
                repository.discard()?;
            }
            self.fill(git, access, &repository, object.len(), &|path| {
                if has(git, path, object)? {
                    return Ok(());
                }
                fetch(git, access, path, object)
            })?;
        }
        Err(GitError::NoCommit { remote: access.url(), commit: object.to_owned() })
    }

    /// The commit that a few digits are the beginning of; none if there is none. `length` is that
    /// of whole commits there.
    pub(super) fn short(
        &self,
        git: Git<'_>,
        access: &Access<'_>,
        digits: &str,
        length: usize,
    ) -> Result<Option<String>, GitError> {
        let find = |path: &Path| {
            let name = format!("{digits}^{{commit}}");
            let what = format!("look up {digits} of {}", access.url());
            git.ask(&Call::new(what, ["rev-parse", "--verify", &name]).on(path).quiet())
        };
        {
            let repository = self.open(git, access, length, Mode::Read)?;
            if repository.path().exists()
                && let Some(commit) = find(repository.path())?
            {
                return Ok(Some(commit));
            }
        }
        let repository = self.open(git, access, length, Mode::Write)?;
        self.fill(git, access, &repository, length, &|path| fetch_all(git, access, path))?;
        find(repository.path())
    }

    fn open(
        &self,
        git: Git<'_>,
        access: &Access<'_>,
        length: usize,
        mode: Mode,
    ) -> Result<Repository<'a>, GitError> {
        let name = match format(length) {
            SHA1 => access.url(),
            format => format!("{} ({format})", access.url()),
        };
        let cancelled = || git.context.cancel.is_cancelled();
        self.0.open(&name, mode, &cancelled)?.ok_or(GitError::Cancelled)
    }

    /// Makes the repository and fetches into it; once more from the beginning if what is here is
    /// damaged.
    fn fill(
        &self,
        git: Git<'_>,
        access: &Access<'_>,
        repository: &Repository<'_>,
        length: usize,
        fetch: &dyn Fn(&Path) -> Result<(), GitError>,
    ) -> Result<(), GitError> {
        let path = repository.path();
        git.hold.fetching(path, git.context, || {
            let filled = self.fill_counted(git, access, repository, length, fetch);
            if git.is_over() {
                // Nobody goes on with it.
                remove_parts(&path.join(PACKS));
            }
            filled
        })
    }

    fn fill_counted(
        &self,
        git: Git<'_>,
        access: &Access<'_>,
        repository: &Repository<'_>,
        length: usize,
        fetch: &dyn Fn(&Path) -> Result<(), GitError>,
    ) -> Result<(), GitError> {
        let path = repository.path();
        let new = !path.exists();
        let filled = prepare(git, access, path, length).and_then(|()| fetch(path));
        match filled {
            Err(error) if !new && may_be_damage(&error) => {
                tell_damage(git, access, &error);
                repository.discard()?;
                prepare(git, access, path, length)?;
                fetch(path)
            }
            other => other,
        }
    }
}

fn tell_damage(git: Git<'_>, access: &Access<'_>, error: &GitError) {
    let line = format!(
        "what was fetched of {} cannot be used and is fetched again: {error}\n",
        access.url()
    );
    git.context.log(solver::Stream::Stderr, line.as_bytes());
}

/// As git calls the format with digests of 40 digits.
const SHA1: &str = "sha1";

/// The format of objects whose names are so long.
pub(super) fn format(length: usize) -> &'static str {
    if length == 64 { "sha256" } else { SHA1 }
}

/// Whether `object`, and with it all of its tree, is in the repository at `path`.
fn has(git: Git<'_>, path: &Path, object: &str) -> Result<bool, GitError> {
    if !path.exists() {
        return Ok(false);
    }
    let name = format!("{}^{{commit}}", kept(object));
    let call = Call::new("look for a commit", ["rev-parse", "--verify", "--quiet", &name]);
    Ok(git.ask(&call.on(path).quiet())?.is_some())
}

/// Makes a repository, or what a killed git left of one, ready.
fn prepare(git: Git<'_>, access: &Access<'_>, path: &Path, length: usize) -> Result<(), GitError> {
    fs::create_dir_all(path).at("create", path)?;
    for lock in LOCKS {
        // Nobody else works here: we have the lock that counts.
        let _ = fs::remove_file(path.join(lock));
    }
    remove_parts(&path.join(PACKS));
    for entry in fs::read_dir(path.join(KEPT)).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|e| e == "lock") {
            let _ = fs::remove_file(entry.path());
        }
    }
    let object_format = format!("--object-format={}", format(length));
    let args = ["init", "--quiet", "--bare", "--template=", &object_format];
    git.run(&Call::new(format!("make a repository for {}", access.url()), args).on(path))?;
    Ok(())
}

fn remove_parts(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PARTS) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Fetches `object`: alone, or where the server does not allow that, among everything.
fn fetch(git: Git<'_>, access: &Access<'_>, path: &Path, object: &str) -> Result<(), GitError> {
    if is_here(git, path, object)? {
        return keep(git, path, object);
    }
    let refspec = format!("+{object}:{}", kept(object));
    match run_fetch(git, access, path, &["--depth=1"], &[&refspec]) {
        Err(GitError::Failed { detail, .. }) if refuses_part(&detail) => {}
        other => return other,
    }
    fetch_all(git, access, path)?;
    if !is_here(git, path, object)? {
        return Err(GitError::NoCommit { remote: access.url(), commit: object.to_owned() });
    }
    keep(git, path, object)
}

/// Whether a commit is here without a ref of its own.
fn is_here(git: Git<'_>, path: &Path, object: &str) -> Result<bool, GitError> {
    let name = format!("{object}^{{commit}}");
    // What a shallow fetch left out is not here, whatever its children say.
    let call = Call::new("look for a commit", ["cat-file", "-e", &name]).on(path).quiet();
    Ok(git.ask(&call)?.is_some())
}

fn keep(git: Git<'_>, path: &Path, object: &str) -> Result<(), GitError> {
    let call = Call::new(format!("keep {object}"), ["update-ref", &kept(object), object]);
    git.run(&call.on(path)).map(drop)
}

/// Fetches all branches and tags with their history.
fn fetch_all(git: Git<'_>, access: &Access<'_>, path: &Path) -> Result<(), GitError> {
    let shallow = path.join("shallow").exists();
    let options: &[&str] = if shallow { &["--prune", "--unshallow"] } else { &["--prune"] };
    run_fetch(git, access, path, options, &ALL)
}

fn run_fetch(
    git: Git<'_>,
    access: &Access<'_>,
    path: &Path,
    options: &[&str],
    refspecs: &[&str],
) -> Result<(), GitError> {
    let url = access.url();
    let fixed = ["--progress", "--force", "--no-tags", "--no-write-fetch-head"];
    let mut args = vec!["fetch"];
    args.extend(fixed.iter().chain(options).copied());
    args.extend(["--", &url]);
    args.extend(refspecs);
    let call = Call::new(format!("fetch from {url}"), args).on(path);
    git.run(&call.over(REMOTE, access.config())).map(drop)
}

/// Whether a server that was asked for one commit can only give everything: an old one, one that
/// gives only what its refs lead to, or one that is a plain web server.
fn refuses_part(stderr: &str) -> bool {
    let words = ["not our ref", "unadvertised object", "shallow", "--depth", "depth"];
    words.iter().any(|word| stderr.contains(word))
}
