//! Where contexts come from: directories, standard input, URLs, and named ones.

use std::path::Path;
use std::process::Command;

use base64::prelude::{BASE64_STANDARD, Engine};
use tests::base_image::{BaseImage, TarBuilder, gzip};
use tests::context::Context;
use tests::drydock::{Drydock, Output, Run};
use tests::git_server::{COMMITTED, GitServer, Repository};
use tests::http_server::{HttpServer, Page};
use tests::image_view::ImageView;
use tests::{require_programs, require_root};

/// A context that has most of what an archive can have.
fn files() -> Context {
    Context::new("FROM scratch\nCOPY . /ctx/\n")
        .file("a.txt", "a")
        .file("sub/b.txt", "b")
        .mode("sub/b.txt", 0o600)
        .symlink("sub/link", "../a.txt")
        .file("Other.d", "FROM scratch\nCOPY sub/b.txt /other\n")
        .file(".dockerignore", "a.txt\n")
}

/// A tar by GNU tar, compressed by a program of its own.
fn archive(dir: &Path, compressor: &str) -> Vec<u8> {
    let mut tar = Command::new("tar");
    tar.args(["--owner=12", "--group=34", "--mtime=@1000", "-C"]).arg(dir);
    if compressor != "cat" {
        tar.arg("-I").arg(compressor);
    }
    let output = tar.args(["-cf", "-", "."]).output().unwrap();
    assert!(output.status.success(), "{compressor}");
    output.stdout
}

/// A build of something that is no directory.
fn build(drydock: &Drydock, context: &str) -> Run {
    let base = format!("busybox=oci-layout://{}:latest", BaseImage::layout().display());
    drydock.command("build").args(["--progress=plain", "--build-context", &base, context])
}

fn told(output: &Output, part: &str) {
    assert!(output.stderr.contains(part), "{part:?}: {output}");
}

#[test]
fn privileged_archives_on_standard_input() {
    require_root!();
    require_programs!("tar", "gzip", "bzip2", "xz", "zstd");
    let drydock = Drydock::new();
    let context = files();
    for compressor in ["cat", "gzip", "bzip2", "xz", "zstd"] {
        let tar = archive(context.path(), compressor);
        let image = build(&drydock, "-").stdin(tar.clone()).image();
        // An ignore file in an archive counts for nothing (BuildKit).
        assert_eq!(image.root.line("ctx/a.txt"), "f 644 12:34 \"a\"", "{compressor}");
        assert_eq!(image.root.line("ctx/sub/b.txt"), "f 600 12:34 \"b\"");
        assert_eq!(image.root.line("ctx/sub/link"), "l 12:34 -> ../a.txt");
        assert!(image.root.has("ctx/.dockerignore"));
        assert_eq!(image.root.get("ctx/a.txt").unwrap().seconds(), 1000);
        let (image, output) =
            build(&drydock, "-").args(["-f", "./Other.d"]).stdin(tar.clone()).image_and_output();
        assert_eq!(image.text("other"), "b");
        told(&output, "[internal] load build definition from Other.d");
        let again = build(&drydock, "-").stdin(tar).ok();
        assert!(again.executed().is_empty(), "{again}");
        assert!(again.cached("[internal] extract build context"), "{again}");
    }
}

#[test]
fn privileged_the_dockerfile_in_an_archive() {
    require_root!();
    let drydock = Drydock::new();
    let text = "FROM scratch\nLABEL from=inside\n";
    for tar in [
        TarBuilder::new().file("dockerfile", 0o644, text),
        TarBuilder::new().file("./Dockerfile", 0o644, text),
        TarBuilder::new().symlink("Dockerfile", "x/real").file("x/real", 0o644, text),
        // A link does not lead out.
        TarBuilder::new().symlink("Dockerfile", "/../../real").file("real", 0o644, text),
    ] {
        let image = build(&drydock, "-").stdin(gzip(&tar.finish())).image();
        assert_eq!(image.runtime("Labels")["from"], "inside");
    }
    let tar = TarBuilder::new().file("sub/dockerfile", 0o644, text).dir("Dockerfile/", 0o755);
    let tar = tar.symlink("loop", "loop").finish();
    let image = build(&drydock, "-").args(["-f", "/sub/Dockerfile"]).stdin(tar.clone()).image();
    assert_eq!(image.runtime("Labels")["from"], "inside");
    for (args, part) in [
        (&[][..], "it is a directory"),
        (&["-f", "nothing"], "there is no file nothing in the context"),
        (&["-f", "loop"], "too many levels of symbolic links"),
    ] {
        let output = build(&drydock, "-").args(args).stdin(tar.clone()).fails();
        told(&output, part);
    }
    let empty = TarBuilder::new().file("x", 0o644, "x").finish();
    told(&build(&drydock, "-").stdin(empty).fails(), "there is no Dockerfile in the context");
    let output = build(&drydock, "-").stdin(gzip(b"FROM scratch\n")).fails();
    told(&output, "no tar archive");
    let mut broken =
        gzip(&TarBuilder::new().file("Dockerfile", 0o644, vec![b'#'; 90_000]).finish());
    broken.truncate(broken.len() - 20);
    build(&drydock, "-").stdin(broken).fails();
}

#[test]
fn privileged_a_dockerfile_on_standard_input() {
    require_root!();
    let drydock = Drydock::new();
    let image = build(&drydock, "-").stdin("FROM scratch\nCOPY . /x/\nLABEL a=1\n").image();
    assert_eq!(image.root.paths(), ["x"]);
    let output = build(&drydock, "-").stdin("FROM scratch\nCOPY a /\n").fails();
    told(&output, "\"a\": not found in the build context");
    let output = build(&drydock, "-").args(["-f", "Dockerfile"]).stdin("FROM scratch\n").fails();
    told(&output, "the context is a Dockerfile itself");
    let context = Context::empty().file("a", "A");
    let run = drydock.bare_build(&context).args(["-f", "-"]);
    assert_eq!(run.stdin("FROM scratch\nCOPY a /b\n").image().text("b"), "A");
    let output = build(&drydock, "-").args(["-f", "-"]).stdin("FROM scratch\n").fails();
    told(&output, "cannot both come from standard input");
    let tar = TarBuilder::new().file("Dockerfile", 0o644, "FROM scratch\n").finish();
    let output = drydock.bare_build(&context).args(["-f", "-"]).stdin(tar).fails();
    told(&output, "standard input is an archive");
}

#[test]
fn privileged_contexts_behind_urls() {
    require_root!();
    require_programs!("tar", "gzip", "xz");
    let drydock = Drydock::new();
    let server = HttpServer::start();
    let context = files();
    server.put("/c.tar", Page::new(archive(context.path(), "cat")).etag("\"1\""));
    server.put("/c.txz", Page::new(archive(context.path(), "xz")));
    server.put("/moved", Page::redirect("/c.tar"));
    for path in ["/c.tar", "/c.txz", "/moved"] {
        let (image, output) = build(&drydock, &server.url(path)).image_and_output();
        assert_eq!(image.root.line("ctx/a.txt"), "f 644 12:34 \"a\"", "{path}");
        told(&output, "[internal] load remote build context");
    }
    let before = server.bodies("/c.tar");
    let output = build(&drydock, &server.url("/c.tar")).ok();
    assert_eq!(server.bodies("/c.tar"), before, "{output}");
    assert!(output.executed().is_empty(), "{output}");
    let image = build(&drydock, &server.url("/c.tar")).args(["-f", "Other.d"]).image();
    assert_eq!(image.text("other"), "b");
    // A file of this machine, and a here-document of a Dockerfile.
    let local = Context::empty().file("D", "FROM scratch\nCOPY a.txt /local\n");
    let run = build(&drydock, &server.url("/c.tar")).arg("-f").arg(local.join("D"));
    assert_eq!(run.image().text("local"), "a");
    let run = build(&drydock, &server.url("/c.tar")).args(["-f", "-"]);
    assert_eq!(run.stdin("FROM scratch\nCOPY a.txt /in\n").image().text("in"), "a");
    // The Dockerfile alone: it is the only file of the context.
    server.put("/d", Page::new("FROM scratch\nCOPY . /\nLABEL a=1\n"));
    let image = build(&drydock, &server.url("/d")).image();
    assert_eq!((image.root.paths(), &image.runtime("Labels")["a"]), (vec!["context"], &"1".into()));
    assert!(image.root.line("context").starts_with("f 600 0:0"), "as dockerd 20.10 has it");
    let output = build(&drydock, &server.url("/d")).args(["-f", "x"]).fails();
    told(&output, "the context is a Dockerfile itself");
    let output = build(&drydock, &server.url("/none")).fails();
    told(&output, &server.url("/none"));
    told(&output, "404");
    told(&build(&drydock, "ftp://h/x").fails(), "unknown kind \"ftp\"");
    // The Dockerfile of a directory.
    server.put("/Dockerfile", Page::new("FROM scratch\nCOPY a.txt /x\n"));
    let context = Context::empty().file("a.txt", "here");
    let run = drydock.bare_build(&context).arg("-f").arg(server.url("/Dockerfile"));
    assert_eq!(run.image().text("x"), "here");
}

/// A repository with two branches.
fn repository(server: &GitServer, name: &str) -> Repository {
    let repository = server.repository(name);
    repository
        .write("Dockerfile", "FROM scratch\nCOPY . /ctx/\n")
        .write("a.txt", "old")
        .write("sub/dockerfile", "FROM scratch\nCOPY . /sub/\n")
        .write(".dockerignore", "a.txt\n");
    repository.commit("one");
    repository.git(&["branch", "old"]);
    repository.write("a.txt", "new");
    repository.commit("two");
    repository
}

#[test]
fn privileged_repositories() {
    require_root!();
    require_programs!("git");
    let drydock = Drydock::new();
    let server = GitServer::start();
    let repository = repository(&server, "r");
    let url = server.url("r");
    for url in [&url, &server.daemon_url("r")] {
        let (image, output) = build(&drydock, url).image_and_output();
        // An ignore file in a repository counts for nothing (BuildKit).
        assert_eq!(image.root.line("ctx/a.txt"), "f 644 0:0 \"new\"", "{url}");
        assert!(!image.root.has("ctx/.git"));
        told(&output, &format!("[internal] load git source {url}"));
    }
    let again = build(&drydock, &url).ok();
    assert!(again.executed().is_empty() && again.cached("load git source"), "{again}");
    let at = |suffix: &str| build(&drydock, &format!("{url}{suffix}"));
    assert_eq!(at("#old").image().text("ctx/a.txt"), "old");
    assert_eq!(at("?ref=old").image().text("ctx/a.txt"), "old");
    assert_eq!(at("#main:sub").image().root.below("sub"), ["dockerfile"]);
    let image = at("#old").args(["-f", "sub/Dockerfile"]).image();
    assert_eq!(image.text("sub/a.txt"), "old");
    let keep = ["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"];
    assert!(at("").args(keep).image().root.has("ctx/.git/HEAD"));
    assert!(at("?keep-git-dir=true").image().root.has("ctx/.git/HEAD"));
    // A Dockerfile that is not in it.
    let local = Context::empty().file("D", "FROM scratch\nCOPY a.txt /local\n");
    let run = at("").arg("-f").arg(local.join("D"));
    assert_eq!(run.image().text("local"), "new");
    let run = at("").args(["-f", "-"]).stdin("FROM scratch\nCOPY a.txt /in\n");
    assert_eq!(run.image().text("in"), "new");
    for (suffix, args, part) in [
        ("#none", &[][..], "none"),
        ("#main:none", &[], "none"),
        ("#main:../x", &[], "../x"),
        ("?nope=1", &[], "nope"),
        ("", &["-f", "none"], "there is no file none in the context"),
        ("", &["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=x"], "neither true nor false"),
    ] {
        told(&at(suffix).args(args).fails(), part);
    }
    // A link does not lead out of it.
    repository.write("real", "FROM scratch\nLABEL from=inside\n");
    std::fs::remove_file(repository.work.join("Dockerfile")).unwrap();
    std::os::unix::fs::symlink("/../real", repository.work.join("Dockerfile")).unwrap();
    repository.commit("three");
    assert_eq!(at("").image().runtime("Labels")["from"], "inside");
    let run = at("").args(["--build-arg", "SOURCE_DATE_EPOCH=context"]);
    assert_eq!(image_created(&run.image()), COMMITTED as u64);
}

#[test]
fn privileged_repositories_as_named_contexts() {
    require_root!();
    require_programs!("git");
    let drydock = Drydock::new();
    let server = GitServer::start();
    repository(&server, "lib");
    let context = Context::new(
        "FROM scratch AS lib\nCOPY f /a.txt\nFROM lib AS from\nFROM scratch\n\
         COPY --from=lib a.txt /copied\nCOPY --from=from a.txt /based\n",
    );
    let context = context.file("f", "main");
    let text = |value: &str| {
        let named = format!("lib={value}");
        let image = drydock.build(&context).args(["--build-context", &named]).image();
        (image.text("copied"), image.text("based"))
    };
    assert_eq!(text(&server.url("lib")), ("new".into(), "new".into()));
    assert_eq!(text(&format!("{}#old", server.daemon_url("lib"))), ("old".into(), "old".into()));
    let run = drydock.build(&context).args(["--build-context", "lib=https://h/x.git#a:../b"]);
    told(&run.fails(), "--build-context lib=https://h/x.git#a:../b");
    let lib = format!("lib={}", server.url("lib"));
    let run = drydock.build(&context).args(["--build-context", &lib]);
    let run = run.args(["--build-arg", "SOURCE_DATE_EPOCH=lib"]);
    assert_eq!(image_created(&run.image()), COMMITTED as u64);
    // With a secret, which is nowhere afterwards.
    const TOKEN: &str = "s3cret-Git-4711";
    let basic = BASE64_STANDARD.encode(format!("x-access-token:{TOKEN}"));
    server.only_for(&format!("basic {basic}"));
    repository(&server, "private");
    let url = server.url("private");
    build(&drydock, &url).fails();
    for id in ["GIT_AUTH_TOKEN".to_owned(), format!("GIT_AUTH_TOKEN.{}", server.host())] {
        let drydock = Drydock::new();
        let run = build(&drydock, &url).args(["--secret", &format!("id={id},env=TOKEN")]);
        let output = run.env("TOKEN", TOKEN).args(["--progress=rawjson"]).ok();
        assert!(!output.stderr.contains(TOKEN) && !output.stderr.contains(&basic), "{output}");
        nowhere(&drydock, &[TOKEN, &basic]);
    }
}

/// No file of the state directory has any of `texts` in it.
fn nowhere(drydock: &Drydock, texts: &[&str]) {
    for text in texts {
        let mut grep = Command::new("grep");
        let found = grep.args(["-rlF", text]).arg(drydock.state()).output().unwrap();
        assert_eq!(String::from_utf8(found.stdout).unwrap(), "", "{text}");
        assert_eq!(found.status.code(), Some(1), "grep looked through everything");
    }
}

#[test]
fn privileged_dockerfiles_of_directories() {
    require_root!();
    let drydock = Drydock::new();
    let text = "FROM scratch\nCOPY a /a\n";
    let context = Context::empty().file("a", "A").file("docker/real", text);
    let context = context.symlink("Dockerfile", "docker/real");
    assert_eq!(drydock.bare_build(&context).image().text("a"), "A");
    let run = drydock.bare_build(&context).args(["-f", "docker/real"]);
    assert_eq!(run.cwd(context.path()).image().text("a"), "A");
    let context = Context::empty().file("a", "A").file("x/dockerfile", text);
    let run = drydock.bare_build(&context).args(["-f", "x/Dockerfile"]);
    assert_eq!(run.cwd(context.path()).image().text("a"), "A");
    told(&drydock.bare_build(&context).fails(), "there is no Dockerfile in");
    let output = drydock.bare_build(&context).args(["-f", "x/dockerfile"]).fails();
    told(&output, "hint: there is such a file in the context");
    let run = drydock.bare_build(&context).args(["-f", "x/Dockerfiel"]);
    told(&run.cwd(context.path()).fails(), "x/Dockerfiel");
    // It may be left out, and is read all the same.
    let context = Context::new(text).file("a", "A").file(".dockerignore", "Dockerfile\n.docker*\n");
    assert_eq!(drydock.bare_build(&context).image().text("a"), "A");
}

#[test]
fn privileged_named_contexts() {
    require_root!();
    let drydock = Drydock::new();
    let one = Context::empty().file("f", "one").file("g", "g").file(".dockerignore", "g\n");
    let two = Context::empty().file("f", "two");
    let server = HttpServer::start();
    let tar = TarBuilder::new().dir("d/", 0o755).file("d/f", 0o644, "tar").finish();
    server.put("/x.tar.gz", Page::new(gzip(&tar)));
    let is = |name: &str, value: &str| format!("{name}={value}");
    let (one_dir, two_dir) = (one.path().to_str().unwrap(), two.path().to_str().unwrap());
    let text = |dockerfile: &str, contexts: &[String], path: &str| {
        let context = Context::new(dockerfile).file("f", "main");
        let mut run = drydock.build(&context);
        for named in contexts {
            run = run.args(["--build-context", named]);
        }
        run.image().text(path)
    };
    // In place of a stage, and of an image; the last one of a name counts, whatever it is.
    let stages = "FROM scratch AS lib\nCOPY f /f\nFROM scratch\nCOPY --from=lib f /f\n";
    assert_eq!(text(stages, &[], "f"), "main");
    assert_eq!(text(stages, &[is("lib", one_dir)], "f"), "one");
    assert_eq!(text(stages, &[is("lib", one_dir), is("LIB", two_dir)], "f"), "two");
    let twice = [is("lib", "docker-image://no.such.host/x"), is("lib", two_dir)];
    assert_eq!(text(stages, &twice, "f"), "two");
    let image = "FROM alpine:latest AS a\nFROM scratch\nCOPY --from=a f /f\n";
    assert_eq!(text(image, &[is("alpine", one_dir)], "f"), "one");
    assert_eq!(text("FROM lib\n", &[is("lib", one_dir)], "f"), "one");
    let tar = [is("lib", &server.url("/x.tar.gz"))];
    assert_eq!(text("FROM scratch\nCOPY --from=lib d/f /f\n", &tar, "f"), "tar");
    let stage = "FROM scratch AS real\nCOPY f /s\nFROM scratch\nCOPY --from=other s /f\n";
    assert_eq!(text(stage, &[is("other", "target:real")], "f"), "main");
    // Each with the ignore file of its own.
    let context = Context::new("FROM scratch\nCOPY --from=lib g /\n").file("g", "main");
    let run = drydock.build(&context).args(["--build-context", &is("lib", one_dir)]);
    told(&run.fails(), "\"g\" is not in the build context: line 1 of .dockerignore, pattern \"g\"");
    for (value, part) in [
        ("ftp://h/x", "unknown kind \"ftp\" (a directory, a git repository"),
        ("target:", "no stage"),
        ("target:none", "none"),
        ("/no/such/place", "\"/no/such/place\" not found"),
    ] {
        let context = Context::new(stages).file("f", "main");
        let run = drydock.build(&context).args(["--build-context", &is("lib", value)]);
        told(&run.fails(), part);
    }
}

#[test]
fn privileged_secrets_are_used_and_not_kept() {
    require_root!();
    const TOKEN: &str = "s3cret-Value-0815";
    let drydock = Drydock::new();
    let server = HttpServer::start();
    let tar = TarBuilder::new().file("Dockerfile", 0o644, "FROM scratch\nCOPY . /\n").finish();
    server.put("/c.tar", Page::new(tar).only_for(&format!("Bearer {TOKEN}")));
    server.put("/f", Page::new("added").only_for(&format!("Bearer {TOKEN}")));
    let url = server.url("/c.tar");
    let id = format!("HTTP_AUTH_TOKEN_{}", server.address());
    build(&drydock, &url).fails();
    let run = build(&drydock, &url).args(["--secret", &format!("id={id},env=TOKEN")]);
    let output = run.env("TOKEN", TOKEN).args(["--progress=rawjson", "-D"]).ok();
    assert!(!output.stderr.contains(TOKEN), "{output}");
    let file = drydock.place("token");
    std::fs::write(&file, TOKEN).unwrap();
    let context = Context::new(&format!("FROM scratch\nADD {} /f\n", server.url("/f")));
    let secret = format!("id={id},src={}", file.display());
    let output = drydock.bare_build(&context).args(["--secret", &secret, "-t", "x"]).ok();
    assert!(!output.stderr.contains(TOKEN), "{output}");
    let context = Context::new(
        "FROM busybox\nRUN --mount=type=secret,id=t wc -c < /run/secrets/t > /n\n\
         RUN --mount=type=secret,id=t,env=T [ ${#T} = 17 ]\n",
    );
    let secret = format!("type=file,id=t,source={}", file.display());
    let (image, output) = drydock.build(&context).args(["--secret", &secret]).image_and_output();
    assert_eq!(image.text("n").trim(), "17", "{output}");
    assert!(!output.stderr.contains(TOKEN), "{output}");
    std::fs::remove_file(file).unwrap();
    nowhere(&drydock, &[TOKEN]);
    for (arg, part) in [
        ("id=x,src=/no/such/file", "--secret id=x: cannot use \"/no/such/file\""),
        ("id=no-such-file", "--secret id=no-such-file"),
        ("src=x", "no id"),
        ("id=x,sorce=x", "did you mean \"source\""),
    ] {
        let output = drydock.bare_build(&context).args(["--secret", arg]).fails();
        told(&output, part);
        assert!(output.steps().is_empty(), "{output}");
    }
    let context = Context::new("FROM scratch\nLABEL a=1\n");
    let output = drydock.bare_build(&context).args(["--secret", "id=x,env=NOT_SET"]).ok();
    told(&output, "NOT_SET is not set");
}

#[test]
fn privileged_what_steps_are_allowed() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new("FROM busybox\nRUN --network=host echo hello\n");
    let output = drydock.build(&context).fails();
    told(&output, "network.host");
    for args in [&["--allow", "network.host"][..], &["--network=host"]] {
        drydock.build(&context).args(args).ok();
    }
    let output = drydock.build(&context).args(["--allow", "network.hots"]).fails();
    told(&output, "did you mean \"network.host\"");
}

#[test]
fn privileged_the_time_of_a_context() {
    require_root!();
    const TIME: &str = "Sun, 09 Sep 2001 01:46:40 GMT";
    let drydock = Drydock::new();
    let server = HttpServer::start();
    let created = |run: Run| image_created(&run.image());
    let dockerfile = "ARG SOURCE_DATE_EPOCH=context\nFROM scratch\nARG SOURCE_DATE_EPOCH\n\
                      LABEL epoch=\"$SOURCE_DATE_EPOCH\"\n";
    let context = Context::new(dockerfile).file("a", "a");
    let tar = archive(context.path(), "gzip");
    server.put("/timed", Page::new(tar.clone()).modified(TIME));
    server.put("/bare", Page::new(tar.clone()));
    server.put("/Dockerfile", Page::new(dockerfile).modified(TIME));
    for (path, seconds) in
        [("/timed", 1_000_000_000), ("/bare", 1000), ("/Dockerfile", 1_000_000_000)]
    {
        let image = build(&drydock, &server.url(path)).image();
        assert_eq!(image_created(&image), seconds, "{path}");
        assert_eq!(image.runtime("Labels")["epoch"], seconds.to_string(), "{path}");
    }
    assert_eq!(created(build(&drydock, "-").stdin(tar)), 1000);
    // A directory has no time; a number, or nothing, wins over the file.
    let now = created(drydock.bare_build(&context));
    assert!(now > 1_700_000_000, "{now}");
    let with = |value: &str| {
        let arg = format!("SOURCE_DATE_EPOCH={value}");
        build(&drydock, &server.url("/timed")).args(["--build-arg", &arg])
    };
    assert_eq!(created(with("7")), 7);
    assert!(created(with("")) > 1_700_000_000);
    // A named context, and a stage that adds one file.
    let named = format!("other={}", server.url("/timed"));
    let run = drydock.bare_build(&context).args(["--build-context", &named]);
    assert_eq!(created(run.args(["--build-arg", "SOURCE_DATE_EPOCH=other"])), 1_000_000_000);
    let url = server.url("/timed");
    let stages = format!(
        "FROM scratch AS src\nARG V=/timed\nADD {} /\nFROM scratch\nLABEL a=1\n",
        url.replace("/timed", "${V}")
    );
    let context = Context::new(&stages);
    let run = drydock.bare_build(&context).args(["--build-arg", "SOURCE_DATE_EPOCH=SRC"]);
    assert_eq!(created(run), 1_000_000_000);
    for (stage, part) in [
        ("FROM scratch AS src\nADD a /\n", "one ADD of one URL"),
        ("FROM scratch AS src\nADD a /\nWORKDIR /x\n", "nothing but ARG and one ADD"),
        ("FROM scratch AS other\n", "expected a number of seconds"),
    ] {
        let context = Context::new(&format!("{stage}FROM scratch\nLABEL a=1\n")).file("a", "a");
        let run = drydock.bare_build(&context).args(["--build-arg", "SOURCE_DATE_EPOCH=src"]);
        told(&run.fails(), part);
    }
}

fn image_created(image: &ImageView) -> u64 {
    let text = image.config["created"].as_str().unwrap();
    let time = Command::new("date").args(["+%s", "-d", text]).output().unwrap();
    String::from_utf8(time.stdout).unwrap().trim().parse().unwrap()
}
