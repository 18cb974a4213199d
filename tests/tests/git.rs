//! Git repositories as sources of ADD and as contexts, from a real server: what arrives, when it
//! is fetched again, what lets us in, and what a killed or crowded build leaves.

use std::time::Duration;

use rustix::process::Signal;
use tests::context::Context;
use tests::drydock::{Drydock, Output};
use tests::git_server::{COMMITTED, GitServer, Repository, git};
use tests::image_view::ImageView;
use tests::require_root;

const UMASK: [&str; 4] = ["sh", "-c", "umask 077; exec \"$@\"", "sh"];

fn dockerfile(lines: &str) -> Context {
    Context::new(&format!("FROM scratch\n{lines}\n"))
}

fn image(drydock: &Drydock, lines: &str) -> (ImageView, Output) {
    drydock.build(&dockerfile(lines)).wrapped(UMASK).image_and_output()
}

fn error(drydock: &Drydock, lines: &str) -> String {
    drydock.build(&dockerfile(lines)).fails().stderr
}

/// A repository with most of what a tree can have, tagged `v1`.
fn full(server: &GitServer) -> (Repository, String) {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let repository = server.repository("r");
    repository.write("Dockerfile", "FROM scratch\nCOPY . /ctx/\n").write("dir/plain", "p");
    repository.write("dir/run", "#!/bin/sh\n").write(".dockerignore", "dir\n");
    let run = repository.work.join("dir/run");
    std::fs::set_permissions(run, std::fs::Permissions::from_mode(0o700)).unwrap();
    symlink("plain", repository.work.join("dir/link")).unwrap();
    let commit = repository.commit("all");
    repository.git(&["tag", "-a", "-m", "x", "v1"]);
    (repository, commit)
}

#[test]
fn privileged_what_arrives() {
    require_root!();
    let (server, drydock) = (GitServer::start(), Drydock::new());
    let (repository, commit) = full(&server);
    repository.write("dir/plain", "newer").commit("newer");
    let url = server.url("r");
    for lines in [
        format!("ADD {url}#v1 /src"),
        format!("ADD {url}?tag=v1 /src/"),
        format!("ADD {url}#{commit} /src"),
        format!("ARG REF=v1\nADD {url}#$REF /src"),
        format!("ADD --checksum={commit} {url}#v1 /src"),
        format!("ADD --link {}#v1 /src", server.daemon_url("r")),
    ] {
        let root = image(&drydock, &lines).0.root;
        assert_eq!(root.line("src/dir/plain"), "f 644 0:0 \"p\"", "{lines}");
        assert_eq!(root.line("src/dir/run"), "f 755 0:0 \"#!/bin/sh\\n\"");
        assert_eq!(root.line("src/dir/link"), "l 0:0 -> plain");
        assert!(root.line("src/dir").starts_with("d 755 0:0"), "{}", root.line("src/dir"));
        // An ignore file of a repository counts for nothing.
        assert!(root.has("src/.dockerignore") && !root.has("src/.git"));
    }
    let root = image(&drydock, &format!("ADD {url}#main:dir /src")).0.root;
    assert_eq!(root.line("src/plain"), "f 644 0:0 \"newer\"");
    assert!(!root.has("src/Dockerfile"));
    let lines = format!("ADD --keep-git-dir=true {url}#v1 /src");
    let root = image(&drydock, &lines).0.root;
    assert!(root.has("src/.git/HEAD") && root.has("src/.git/refs/tags/v1"));
    assert!(!root.has("src/.git/hooks"));
    assert_eq!(root.line("src/.git/HEAD"), format!("f 644 0:0 \"{commit}\\n\""));
    let fresh = Drydock::new();
    let root = image(&fresh, &format!("ADD {url}?mtime=commit#main:dir /src")).0.root;
    assert_eq!(root.get("src/plain").unwrap().seconds(), COMMITTED);
    assert_eq!(root.get("src/link").unwrap().seconds(), COMMITTED);
}

#[test]
fn privileged_nothing_new_is_not_fetched() {
    require_root!();
    let (server, drydock) = (GitServer::start(), Drydock::new());
    let (repository, commit) = full(&server);
    let lines = format!("ADD {} /src", server.url("r"));
    let first = image(&drydock, &lines).1;
    assert!(!first.cached("ADD http"), "{first}");
    server.take_requests();
    let again = image(&drydock, &lines).1;
    assert!(again.cached("ADD http") && again.executed().is_empty(), "{again}");
    let asked = server.take_requests();
    assert!(asked.len() <= 2 && asked.iter().all(|r| !r.contains("none")), "{asked:?}");
    // A commit is what it is: nobody is asked.
    let pinned = format!("ADD {}#{commit} /src", server.url("r"));
    let by_commit = image(&drydock, &pinned).1;
    assert!(by_commit.executed().is_empty(), "{by_commit}");
    assert!(server.take_requests().is_empty());
    // Another commit of the same tree is fetched; what is made of it is known.
    repository.commit("nothing");
    let same = image(&drydock, &lines).1;
    assert!(same.cached("ADD http"), "{same}");
    repository.write("new", "n").commit("something");
    let (image, moved) = image(&drydock, &lines);
    assert!(!moved.cached("ADD http") && image.root.has("src/new"), "{moved}");
}

#[test]
fn privileged_secrets_let_us_in() {
    require_root!();
    let (server, drydock) = (GitServer::start(), Drydock::new());
    full(&server);
    server.only_for("basic eC1hY2Nlc3MtdG9rZW46c2VjcmV0");
    let url = server.url("r");
    let context = dockerfile(&format!("ADD {url} /src"));
    let refused = drydock.build(&context).fails().stderr;
    assert!(refused.contains("--secret id=GIT_AUTH_TOKEN"), "{refused}");
    let secret = drydock.place("token");
    std::fs::write(&secret, "secret\n").unwrap();
    let secret = format!("id=GIT_AUTH_TOKEN,src={}", secret.display());
    let image = drydock.build(&context).args(["--secret", &secret]).image();
    assert!(image.root.has("src/Dockerfile"));
    // As a context, with the password in the URL, which is shown nowhere.
    let private = url.replace("http://", "http://x-access-token:secret@");
    let keep = ["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"];
    let run = drydock.command("build").args(["--progress=plain", &private]).args(keep);
    let (image, output) = run.image_and_output();
    let config = image.text("ctx/.git/config");
    assert!(config.contains(&url) && !config.contains("secret"), "{config}");
    assert!(!output.stderr.contains("secret"), "{output}");
    for bucket in ["git-v1", "done", "records-v1"] {
        let found = std::process::Command::new("grep")
            .args(["-rl", "x-access-token:secret"])
            .arg(drydock.state().join(bucket))
            .output()
            .unwrap();
        assert!(found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stdout));
    }
}

#[test]
fn privileged_errors_say_what_is_wrong() {
    require_root!();
    let (server, drydock) = (GitServer::start(), Drydock::new());
    let (_, commit) = full(&server);
    let url = server.url("r");
    let wrong = "0123456789abcdef0123456789abcdef01234567";
    for (lines, words) in [
        (format!("ADD {url}#nowhere /src"), vec!["has no branch, tag or commit \"nowhere\""]),
        (format!("ADD {url}#v1:none /src"), vec!["cannot use the directory \"none\" of", &url]),
        (format!("ADD --checksum={wrong} {url}#v1 /src"), vec![wrong, commit.as_str()]),
        (format!("ADD {url}?branch=x&tag=y /src"), vec!["tag (\"y\") conflicts with branch"]),
        (format!("ADD {url}?sub=x /src"), vec!["unknown key \"sub\""]),
        (format!("ADD {} /src", server.url("none")), vec!["cannot list the refs of", "not found"]),
    ] {
        let error = error(&drydock, &lines);
        assert!(words.iter().all(|word| error.contains(word)), "{lines}: {error}");
    }
}

#[test]
fn privileged_usage_and_pruning() {
    require_root!();
    let (server, drydock) = (GitServer::start(), Drydock::new());
    full(&server);
    let lines = format!("ADD {} /src", server.url("r"));
    image(&drydock, &lines);
    let named = format!("git repository {}", server.url("r"));
    let usage = drydock.command("du").arg("--verbose").ok().text();
    assert!(usage.contains(&named) && usage.contains("source.git.checkout"), "{usage}");
    drydock.command("prune").args(["--force", "--all"]).ok();
    let usage = drydock.command("du").arg("--verbose").ok().text();
    assert!(!usage.contains(&named), "{usage}");
    let (image, output) = image(&drydock, &lines);
    assert!(image.root.has("src/dir/run") && !output.cached("ADD http"), "{output}");
}

#[test]
fn privileged_many_builds_share_a_repository() {
    require_root!();
    let (server, drydock) = (GitServer::start(), Drydock::new());
    let repository = server.repository("r");
    for n in 0..4 {
        repository.write("f", &format!("{n}")).commit("next");
        repository.git(&["branch", &format!("b{n}")]);
    }
    let runs: Vec<_> = (0..8)
        .map(|number| {
            let (url, n) = (server.url("r"), number % 4);
            let lines = format!("ADD {url}#b{n} /src");
            let dest = drydock.place(&format!("out-{number}"));
            let run = drydock.build(&dockerfile(&lines));
            (n, dest.clone(), run.arg("-o").arg(dest).start())
        })
        .collect();
    for (n, dest, run) in runs {
        let output = run.finish();
        assert!(output.status.success(), "{output}");
        assert_eq!(std::fs::read_to_string(dest.join("src/f")).unwrap(), n.to_string());
    }
}

#[test]
fn privileged_killed_builds_leave_no_harm() {
    require_root!();
    let (server, drydock) = (GitServer::start(), Drydock::new());
    let repository = server.repository("r");
    for delay in [0, 5, 15, 30, 60, 100] {
        for n in 0..50 {
            repository.write(&format!("d{n}/f"), &format!("{delay} {}", "x".repeat(2000)));
        }
        repository.commit("next");
        server.take_requests();
        let lines = format!("ADD {} /src", server.url("r"));
        let mut run = drydock.build(&dockerfile(&lines)).start();
        while server.take_requests().is_empty() && !run.is_over() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(delay));
        run.signal(Signal::KILL);
        run.finish();
        let image = image(&drydock, &lines).0;
        assert!(image.text("src/d49/f").starts_with(&format!("{delay} x")), "{delay}");
    }
}

#[test]
fn privileged_nothing_of_a_repository_is_run() {
    require_root!();
    let (server, drydock) = (GitServer::start(), Drydock::new());
    let marker = drydock.place("marker");
    let touch = format!("touch {}", marker.display());
    let config = format!(
        "[filter \"evil\"]\n\tsmudge = {touch}\n\trequired\n[core]\n\tfsmonitor = {touch}\n\tsshCommand = {touch}\n\
         [credential]\n\thelper = \"!{touch}\"\n[url \"file:///nowhere/\"]\n\tinsteadOf = http://\n"
    );
    std::fs::write(drydock.home().join(".gitconfig"), &config).unwrap();
    std::fs::write(drydock.home().join(".netrc"), "default login a password b\n").unwrap();
    let repository = server.repository("r");
    repository.write(".gitattributes", "* filter=evil\n").write("f", "1").write("hooks/x", "");
    repository.write(".gitmodules", "[submodule \"x\"]\n\tpath = f\n\turl = ../inner.git\n");
    repository.write("config", &config).commit("all");
    let lines = format!("ADD {url} /a\nADD --keep-git-dir=true {url} /b", url = server.url("r"));
    let root = image(&drydock, &lines).0.root;
    assert_eq!(root.line("a/f"), "f 644 0:0 \"1\"");
    assert!(root.has("b/.gitmodules") && root.has("b/.git/HEAD"));
    server.only_for("nobody");
    let refused = error(&drydock, &lines);
    assert!(refused.contains("could not read Username"), "{refused}");
    assert!(!marker.exists());
}

#[test]
fn privileged_ssh_is_what_the_caller_says() {
    use std::os::unix::fs::PermissionsExt;
    require_root!();
    let (server, drydock) = (GitServer::start(), Drydock::new());
    let (repository, _) = full(&server);
    let ssh = drydock.place("ssh");
    let script = "#!/bin/sh\nfor last; do :; done\necho agent $SSH_AUTH_SOCK >&2\neval \"$last\"\n";
    std::fs::write(&ssh, script).unwrap();
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).unwrap();
    let lines = format!("ADD git@host:{}#v1:dir /src", repository.dir.display());
    let run = drydock.build(&dockerfile(&lines)).env("GIT_SSH_COMMAND", &ssh);
    let (image, output) = run.env("SSH_AUTH_SOCK", "/the/agent").image_and_output();
    assert!(image.root.has("src/run"));
    assert!(output.stderr.contains("agent /the/agent"), "{output}");
    let refused = drydock.build(&dockerfile(&lines)).env("GIT_SSH_COMMAND", "false").fails().stderr;
    assert!(refused.contains("Could not read from remote repository"), "{refused}");
}

#[test]
fn privileged_an_interrupted_fetch_ends() {
    require_root!();
    let drydock = Drydock::new();
    // A server that never answers.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let lines = format!("ADD git://{}/r /src", deaf.local_addr().unwrap());
    let mut run = drydock.build(&dockerfile(&lines)).start();
    let connection = deaf.accept().unwrap();
    run.signal(Signal::INT);
    let output = run.finish();
    assert!(!output.status.success(), "{output}");
    drop(connection);
}

#[test]
fn privileged_submodules_of_a_context() {
    require_root!();
    let (server, drydock) = (GitServer::start(), Drydock::new());
    let inner = server.repository("inner");
    let commit = inner.write("i", "inner").commit("i");
    let (repository, _) = full(&server);
    repository.submodule("lib", "../inner.git", &commit);
    repository.commit("with a submodule");
    let url = server.url("r");
    let run = |url: &str| drydock.command("build").args(["--progress=plain", url]);
    let root = run(&format!("{url}#main")).image().root;
    assert_eq!(root.line("ctx/lib/i"), "f 644 0:0 \"inner\"");
    // The ignore file of a repository is a file like others (BuildKit).
    assert!(root.has("ctx/dir/run"));
    let root = run(&format!("{url}?submodules=0#main")).image().root;
    assert!(root.has("ctx/lib") && !root.has("ctx/lib/i"));
    let out = drydock.place("kept");
    let kept = format!("{url}?keep-git-dir=1#main");
    run(&kept).arg("-o").arg(&out).ok();
    let tree = out.join("ctx");
    assert_eq!(
        git(&tree, &["-c", "safe.directory=*", "rev-parse", "--abbrev-ref", "HEAD"]),
        "main"
    );
}
