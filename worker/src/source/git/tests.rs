//! Checkouts from a real server: names, trees, times, submodules, `.git`, and what goes wrong.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graph::GitSource;
use tests::git_server::{COMMITTED, GitServer, Manner, git};

use crate::testing::{Silent, engine, is_root};
use crate::{Engine, NoSecrets, Secrets, WorkerError};

/// Secrets by id.
struct Given(HashMap<String, String>);

impl Secrets for Given {
    fn get(&self, id: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(id).map(|value| value.clone().into_bytes()))
    }
}

fn given(id: &str, value: &str) -> Given {
    Given(HashMap::from([(id.to_owned(), value.to_owned())]))
}

/// A server and an engine.
struct Case {
    server: GitServer,
    engine: Arc<Engine>,
    dir: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        let dir = tests::temp::directory();
        let engine = engine(&dir.path().join("state"));
        Self { server: GitServer::start(), engine, dir }
    }

    fn commit_of(&self, url: &str, secrets: &dyn Secrets) -> Result<String, WorkerError> {
        let source = GitSource::parse(url).unwrap().unwrap();
        self.engine.git_commit(&source, secrets, &Silent::default().context())
    }

    /// The commit that a URL means, and the directory with its tree.
    fn tree_with(
        &self,
        url: &str,
        secrets: &dyn Secrets,
    ) -> Result<(String, PathBuf), WorkerError> {
        let source = GitSource::parse(url).unwrap().unwrap();
        let silent = Silent::default();
        let commit = self.engine.git_commit(&source, secrets, &silent.context())?;
        let made = self.engine.git_checkout(&source, &commit, secrets, &silent.context())?;
        let id = made.output.snapshot.unwrap().to_string();
        let dir = self.engine.snapshotter.dir().join(id);
        let beside: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(beside.iter().all(|n| ["fs", "manifest", "meta"].iter().any(|w| n == w)));
        Ok((commit, dir.join("fs")))
    }

    fn tree(&self, url: &str) -> (String, PathBuf) {
        self.tree_with(url, &NoSecrets).unwrap()
    }

    fn error(&self, url: &str) -> String {
        self.tree_with(url, &NoSecrets).unwrap_err().to_string()
    }
}

fn read(dir: &Path, path: &str) -> String {
    fs::read_to_string(dir.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn privileged_names_of_commits() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    let repository = case.server.repository("r");
    let first = repository.write("f", "1").commit("first");
    repository.git(&["tag", "-a", "-m", "x", "v1"]);
    repository.git(&["tag", "light"]);
    repository.git(&["branch", "both"]);
    let second = repository.write("f", "2").commit("second");
    repository.git(&["tag", "both"]);
    repository.git(&["branch", "feature/x"]);
    repository.git(&["update-ref", "refs/pull/7/head", &first]);
    let third = repository.write("f", "3").commit("third");
    let url = case.server.url("r");
    for (suffix, commit, content) in [
        ("", &third, "3"),
        ("#HEAD", &third, "3"),
        ("#main", &third, "3"),
        ("#feature/x", &second, "2"),
        ("#v1", &first, "1"),
        ("?tag=v1", &first, "1"),
        ("#light", &first, "1"),
        ("#both", &first, "1"),
        ("?tag=both", &second, "2"),
        ("?branch=both", &first, "1"),
        ("#refs/heads/main", &third, "3"),
        ("#refs/tags/v1", &first, "1"),
        ("#pull/7/head", &first, "1"),
        (&format!("#{second}"), &second, "2"),
        (&format!("#{}", &second[..8]), &second, "2"),
        (&format!("?checksum={}", &first[..10]), &first, "1"),
        (&format!("?checksum={first}#v1"), &first, "1"),
    ] {
        let (got, tree) = case.tree(&format!("{url}{suffix}"));
        assert_eq!(
            (got.as_str(), read(&tree, "f").as_str()),
            (commit.as_str(), content),
            "{suffix}"
        );
        assert!(!tree.join(".git").exists());
    }
    let (_, tree) = case.tree(&format!("{}#v1", case.server.daemon_url("r")));
    assert_eq!(read(&tree, "f"), "1");
    // A whole commit is not asked for.
    case.server.take_requests();
    assert_eq!(case.commit_of(&format!("{url}#{first}"), &NoSecrets).unwrap(), first);
    let pinned = format!("{url}?fetch-by-commit=true&checksum={first}#main");
    assert_eq!(case.commit_of(&pinned, &NoSecrets).unwrap(), first);
    assert!(case.server.take_requests().is_empty());
    assert_eq!(read(&case.tree(&pinned).1, "f"), "1");
}

#[test]
fn privileged_servers_that_give_everything_or_nothing() {
    if !is_root() {
        return;
    }
    for manner in [Manner::Old, Manner::Plain] {
        let case = Case::new();
        case.server.speak(manner);
        let repository = case.server.repository("r");
        let first = repository.write("f", "1").commit("first");
        let second = repository.write("f", "2").commit("second");
        repository.git(&["tag", "-a", "-m", "x", "v1"]);
        let third = repository.write("f", "3").commit("third");
        repository.git(&["update-server-info"]);
        let url = case.server.url("r");
        for (suffix, commit, content) in [
            ("", &third, "3"),
            ("#v1", &second, "2"),
            (&format!("#{first}"), &first, "1"),
            (&format!("#{}", &second[..8]), &second, "2"),
        ] {
            let (got, tree) = case.tree(&format!("{url}{suffix}"));
            let got = (got.as_str(), read(&tree, "f"));
            assert_eq!(got, (commit.as_str(), content.to_owned()), "{manner:?} {suffix}");
        }
        let (_, kept) = case.tree(&format!("{url}?keep-git-dir#v1"));
        assert_eq!(git(&kept, &["describe"]), "v1", "{manner:?}");
    }
}

#[test]
fn privileged_a_branch_that_moves() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    let repository = case.server.repository("r");
    let first = repository.write("f", "1").commit("first");
    let url = case.server.url("r");
    assert_eq!(case.tree(&url).0, first);
    case.server.take_requests();
    assert_eq!(case.tree(&url).0, first);
    let requests = case.server.take_requests();
    let fetched = |requests: &[String]| requests.len() > 2;
    assert!(!fetched(&requests), "{requests:?}");
    let second = repository.write("f", "2").commit("second");
    let (commit, tree) = case.tree(&url);
    assert_eq!((commit, read(&tree, "f")), (second, "2".to_owned()));
    // One that nothing leads to any more comes from what is here; so does its parent's time.
    repository.git(&["update-ref", "refs/heads/main", &first]);
    assert_eq!(read(&case.tree(&format!("{url}#{first}")).1, "f"), "1");
}

#[test]
fn privileged_what_is_checked_out() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    let repository = case.server.repository("r");
    repository.write("dir/sub/run", "#!/bin/sh\n").write("dir/plain", "p").write("README", "r");
    let run = repository.work.join("dir/sub/run");
    fs::set_permissions(run, fs::Permissions::from_mode(0o755)).unwrap();
    symlink("plain", repository.work.join("dir/link")).unwrap();
    symlink("/etc", repository.work.join("out")).unwrap();
    symlink("dir/sub", repository.work.join("inside")).unwrap();
    repository.write("crlf.txt", "a\nb\n").write(".gitattributes", "crlf.txt eol=crlf\n");
    repository.write("ident", "$Id$\n");
    repository.commit("tree");
    let url = case.server.url("r");
    let (_, tree) = case.tree(&url);
    let mode = |path: &str| {
        let meta = fs::symlink_metadata(tree.join(path)).unwrap();
        (meta.mode() & 0o7777, meta.uid(), meta.gid())
    };
    assert_eq!(mode(""), (0o755, 0, 0));
    assert_eq!(mode("dir"), (0o755, 0, 0));
    assert_eq!(mode("dir/plain"), (0o644, 0, 0));
    assert_eq!(mode("dir/sub/run"), (0o755, 0, 0));
    assert_eq!(fs::read_link(tree.join("dir/link")).unwrap(), Path::new("plain"));
    assert_eq!(fs::read_link(tree.join("out")).unwrap(), Path::new("/etc"));
    assert_eq!(read(&tree, "crlf.txt"), "a\r\nb\r\n");
    assert_eq!(read(&tree, "ident"), "$Id$\n");

    let (_, sub) = case.tree(&format!("{url}#main:dir"));
    assert!(sub.join("sub/run").exists() && sub.join("link").is_symlink());
    assert!(!sub.join("README").exists());
    assert!(case.tree(&format!("{url}#:inside")).1.join("run").exists());
    for (subdir, reason) in [
        ("missing", "No such file"),
        ("dir/plain", "Not a directory"),
        ("out", "No such file"),
        ("out/ssh", "No such file"),
    ] {
        let error = case.error(&format!("{url}#main:{subdir}"));
        assert!(error.contains(&format!("{subdir:?} of {url}")), "{error}");
        assert!(error.contains(reason), "{error}");
    }
    // Nothing of the failed ones stays.
    let dir = case.engine.snapshotter.dir();
    let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name());
    assert!(names.into_iter().all(|n| !n.to_string_lossy().ends_with(".active")));
}

#[test]
fn privileged_times() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    let mut repository = case.server.repository("r");
    repository.write("d/f", "x").commit("one");
    symlink("f", repository.work.join("d/l")).unwrap();
    let first = repository.commit("two");
    let later = COMMITTED + 500;
    repository.at(later).git(&["commit", "-q", "--allow-empty", "-m", "same files"]);
    let second = repository.git(&["rev-parse", "HEAD"]);
    let url = case.server.url("r");
    let time = |tree: &Path, path: &str| fs::symlink_metadata(tree.join(path)).unwrap().mtime();
    let now = case.tree(&format!("{url}#{first}")).1;
    assert!(time(&now, "d/f") > later);
    for (commit, want) in [(&first, COMMITTED), (&second, later)] {
        let (_, tree) = case.tree(&format!("{url}?mtime=commit#{commit}"));
        for path in ["", "d", "d/f", "d/l"] {
            assert_eq!(time(&tree, path), want, "{path}");
        }
    }
    let source = GitSource::parse(&url).unwrap().unwrap();
    let silent = Silent::default();
    let known = case.engine.git_commit_time(&source, &second, &NoSecrets, &silent.context());
    assert_eq!(known.unwrap().seconds, later);
    let other = engine(&case.dir.path().join("other"));
    let fetched = other.git_commit_time(&source, &first, &NoSecrets, &silent.context());
    assert_eq!(fetched.unwrap().seconds, COMMITTED);
}

#[test]
fn privileged_git_directories() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    let repository = case.server.repository("r");
    repository.write("f", "1").commit("first");
    let tagged = repository.write("f", "2").commit("second");
    repository.git(&["tag", "-a", "-m", "x", "v1"]);
    let head = repository.write("f", "3").commit("third");
    let url = case.server.url("r");
    let private = url.replace("http://", "http://me:secret@");
    for (suffix, commit, at) in [
        ("#main", &head, "main"),
        ("", &head, "main"),
        ("#v1", &tagged, "HEAD"),
        (&format!("#{tagged}"), &tagged, "HEAD"),
    ] {
        let joint = if suffix.contains('?') { "&" } else { "?" };
        let (front, fragment) = suffix.split_once('#').unwrap_or((suffix, ""));
        let (_, tree) = case.tree(&format!("{private}{front}{joint}keep-git-dir=1#{fragment}"));
        let git = |args: &[&str]| git(&tree, args);
        assert_eq!(git(&["rev-parse", "HEAD"]), **commit, "{suffix}");
        assert_eq!(git(&["rev-parse", "--abbrev-ref", "HEAD"]), at, "{suffix}");
        assert_eq!(git(&["status", "--porcelain"]), "", "{suffix}");
        assert_eq!(git(&["config", "remote.origin.url"]), url, "{suffix}");
        assert_eq!(git(&["rev-list", "--count", "HEAD"]), "1", "{suffix}");
        let config = read(&tree, ".git/config");
        assert!(!config.contains("secret") && !config.contains("worktree"), "{config}");
        assert!(!tree.join(".git/hooks").exists());
        if suffix == "#v1" {
            assert_eq!(git(&["cat-file", "-t", "v1"]), "tag");
            assert_eq!(git(&["describe"]), "v1");
        }
    }
}

#[test]
fn privileged_submodules() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    let inner = case.server.repository("inner");
    let inner_commit = inner.write("i", "inner").commit("i");
    let middle = case.server.repository("middle");
    middle.submodule("deep/er", "../inner.git", &inner_commit);
    let middle_commit = middle.write("m", "middle").commit("m");
    inner.write("i", "newer").commit("newer");
    let outer = case.server.repository("outer");
    outer.submodule("lib/middle", "./../middle.git", &middle_commit);
    outer.submodule("again", &case.server.url("inner"), &inner_commit);
    outer.write("o", "outer").commit("o");
    let url = case.server.url("outer");
    let (_, tree) = case.tree(&url);
    assert_eq!(read(&tree, "lib/middle/m"), "middle");
    assert_eq!(read(&tree, "lib/middle/deep/er/i"), "inner");
    assert_eq!(read(&tree, "again/i"), "inner");
    assert!(!tree.join("again/.git").exists());
    let (_, bare) = case.tree(&format!("{url}?submodules=false"));
    assert!(bare.join("again").is_dir() && !bare.join("again/i").exists());
    let (_, kept) = case.tree(&format!("{url}?keep-git-dir"));
    assert_eq!(git(&kept, &["status", "--porcelain"]), "");
    let status = git(&kept, &["submodule", "status", "--recursive"]);
    assert_eq!(status.lines().count(), 3, "{status}");
    assert!(status.lines().all(|line| !line.starts_with(['-', '+'])), "{status}");

    for bad in ["file:///srv/x", "/srv/x", "ext::sh -c touch% /tmp/x", "-u./x"] {
        fs::write(outer.work.join(".gitmodules"), "").unwrap();
        outer.submodule("again", bad, &inner_commit);
        outer.commit("bad");
        let error = case.error(&url);
        assert!(error.contains("submodule \"again\"") && error.contains("no http"), "{error}");
    }
}

#[test]
fn privileged_checksums_and_missing_names() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    let repository = case.server.repository("r");
    let commit = repository.write("f", "1").commit("first");
    case.server.repository("empty");
    let url = case.server.url("r");
    let wrong = "0123456789abcdef0123456789abcdef01234567";
    for (url, words) in [
        (format!("{url}?checksum={wrong}#main"), vec!["main", wrong, &commit]),
        (format!("{url}?checksum={}#{commit}", &wrong[..9]), vec![&wrong[..9], &commit]),
        (format!("{url}#nowhere"), vec!["has no branch, tag or commit \"nowhere\"", &url]),
        (format!("{url}#abcdef0"), vec!["has no branch, tag or commit \"abcdef0\""]),
        (format!("{url}#{wrong}"), vec!["does not give commit", wrong]),
        (format!("{url}?fetch-by-commit=1#main"), vec!["needs a whole commit"]),
        (case.server.url("empty"), vec!["has no default branch"]),
        (case.server.url("none"), vec!["cannot list the refs of", "not found"]),
    ] {
        let error = case.error(&url);
        assert!(words.iter().all(|word| error.contains(word)), "{url}: {error}");
    }
}

#[test]
fn privileged_private_repositories() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    let inner = case.server.repository("inner");
    let commit = inner.write("i", "inner").commit("i");
    let repository = case.server.repository("r");
    repository.submodule("s", "../inner.git", &commit);
    repository.write("f", "1").commit("first");
    let url = case.server.url("r");
    case.server.only_for("basic eC1hY2Nlc3MtdG9rZW46c2VjcmV0");
    let error = case.error(&url);
    assert!(error.contains("--secret id=GIT_AUTH_TOKEN"), "{error}");
    let host = format!("GIT_AUTH_TOKEN.{}", case.server.host());
    for (id, value) in [
        ("GIT_AUTH_TOKEN", "secret\n"),
        ("GIT_AUTH_HEADER", "basic eC1hY2Nlc3MtdG9rZW46c2VjcmV0"),
        (host.as_str(), "secret"),
    ] {
        let (_, tree) = case.tree_with(&url, &given(id, value)).unwrap();
        assert_eq!(read(&tree, "s/i"), "inner");
    }
    let wrong = case.tree_with(&url, &given("GIT_AUTH_TOKEN", "wrong")).unwrap_err().to_string();
    assert!(!wrong.contains("wrong"), "{wrong}");
    let lines = case.tree_with(&url, &given("GIT_AUTH_TOKEN", "a\nb")).unwrap_err().to_string();
    assert!(lines.contains("GIT_AUTH_TOKEN: it has more than one line"), "{lines}");
    // That of the URL.
    let own = url.replace("http://", "http://x-access-token:secret@");
    assert_eq!(read(&case.tree(&own).1, "s/i"), "inner");
    let fetched = case.dir.path().join("state/git-v1");
    let grep = std::process::Command::new("grep").args(["-rl", "secret"]).arg(fetched).output();
    assert_eq!(String::from_utf8_lossy(&grep.unwrap().stdout), "");
}

#[test]
fn privileged_sha256() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    let repository = case.server.repository_of("r", "sha256");
    let first = repository.write("f", "1").commit("first");
    repository.write("f", "2").commit("second");
    assert_eq!(first.len(), 64);
    let url = case.server.url("r");
    assert_eq!(read(&case.tree(&url).1, "f"), "2");
    assert_eq!(read(&case.tree(&format!("{url}#{first}")).1, "f"), "1");
    assert_eq!(read(&case.tree(&format!("{url}#{}", &first[..9])).1, "f"), "1");
    let (_, kept) = case.tree(&format!("{url}?keep-git-dir"));
    assert_eq!(git(&kept, &["status", "--porcelain"]), "");
}

#[test]
fn privileged_damage_is_repaired() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    let repository = case.server.repository("r");
    repository.write("f", &"x".repeat(5000)).commit("first");
    let url = case.server.url("r");
    case.tree(&url);
    let stored = case.engine.state.repositories().list().unwrap().remove(0);
    assert_eq!(stored.name, url);
    let dir = case.dir.path().join("state/git-v1").join(&stored.id);
    let files = |dir: &Path| fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    // What a killed git and a loss of power leave.
    let damages: [&dyn Fn(); 5] = [
        &|| files(&dir.join("objects/pack")).for_each(|f| fs::remove_file(f).unwrap()),
        &|| {
            for file in files(&dir.join("objects/pack")) {
                fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
                fs::write(file, "").unwrap();
            }
        },
        &|| fs::write(dir.join("config"), "[broken").unwrap(),
        &|| fs::remove_file(dir.join("HEAD")).unwrap(),
        &|| {
            for lock in ["shallow.lock", "config.lock", "packed-refs.lock"] {
                fs::write(dir.join(lock), "").unwrap();
            }
            files(&dir.join("refs/commits")).for_each(|f| fs::remove_file(f).unwrap());
        },
    ];
    for (at, damage) in damages.iter().enumerate() {
        damage();
        let (_, tree) = case.tree(&format!("{url}?mtime=commit"));
        assert_eq!(read(&tree, "f").len(), 5000, "{at}");
    }
}

fn with_environment(root: &Path, variables: &[(&str, &str)]) -> Engine {
    let config = crate::EngineConfig {
        root: root.to_owned(),
        registry: registry::ClientConfig::default(),
        git: crate::GitEnvironment::new(variables.iter().copied()),
        uid: 0,
        snapshots: crate::SnapshotChoice::default(),
        pasta: None,
        cancel: solver::CancelToken::new(),
    };
    Engine::open(config).unwrap()
}

#[test]
fn privileged_ssh() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    let repository = case.server.repository("r");
    let commit = repository.write("f", "1").commit("first");
    // What ssh does on the other side; it leaves what it was called with.
    let (ssh, log) = (case.dir.path().join("ssh"), case.dir.path().join("log"));
    let script = format!(
        "#!/bin/sh\necho \"$HOME $SSH_AUTH_SOCK $*\" >> {}\nfor last; do :; done\neval \"$last\"\n",
        log.display()
    );
    fs::write(&ssh, script).unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let engine = with_environment(
        &case.dir.path().join("over-ssh"),
        &[
            ("PATH", &path),
            ("GIT_SSH_COMMAND", ssh.to_str().unwrap()),
            ("HOME", "/my/home"),
            ("SSH_AUTH_SOCK", "/my/agent"),
        ],
    );
    let case = Case { engine: Arc::new(engine), ..case };
    let dir = repository.dir.display();
    for url in [format!("git@host:{dir}"), format!("ssh://me@host:2222{dir}#main")] {
        let (got, tree) = case.tree(&url);
        assert_eq!((got.as_str(), read(&tree, "f").as_str()), (commit.as_str(), "1"));
    }
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("git@host git-upload-pack") && log.contains("me@host"), "{log}");
    assert!(log.lines().all(|line| line.starts_with("/my/home /my/agent ")), "{log}");
}

#[test]
fn privileged_cancelled_and_without_git() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    let repository = case.server.repository("r");
    repository.write("f", "1").commit("first");
    let source = GitSource::parse(&case.server.url("r")).unwrap().unwrap();
    let silent = Silent::default();
    silent.cancel.cancel();
    let error = case.engine.git_commit(&source, &NoSecrets, &silent.context()).unwrap_err();
    assert!(matches!(error, WorkerError::Cancelled), "{error}");

    // A server that never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let deaf = GitSource::parse(&format!("git://{address}/r")).unwrap().unwrap();
    let silent = Silent::default();
    let cancel = silent.cancel.clone();
    let connected = std::thread::spawn(move || {
        let connection = listener.accept().unwrap();
        cancel.cancel();
        connection
    });
    let error = case.engine.git_commit(&deaf, &NoSecrets, &silent.context()).unwrap_err();
    assert!(matches!(error, WorkerError::Cancelled), "{error}");
    drop(connected.join().unwrap());

    let engine = with_environment(&case.dir.path().join("bare"), &[("PATH", "/nonexistent")]);
    let silent = Silent::default();
    let error = engine.git_commit(&source, &NoSecrets, &silent.context()).unwrap_err().to_string();
    assert!(error.contains("/nonexistent") && error.contains("install it"), "{error}");
}
