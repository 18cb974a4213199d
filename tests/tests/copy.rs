//! COPY and ADD: what is selected, where it lands, and what it looks like there.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use tests::base_image::{TarBuilder, gzip};
use tests::context::Context;
use tests::drydock::Drydock;
use tests::image_view::ImageView;
use tests::require_root;

/// A context with a few of everything.
fn sample(lines: &str) -> Context {
    Context::new(&format!("FROM scratch\n{lines}\n"))
        .file("a", "A")
        .file("b", "B")
        .file("dir/f", "F")
        .file("dir/sub/g", "G")
        .file("dir/.hidden", "H")
        .dir("dir/empty")
        .symlink("dir/link", "f")
        .mode("dir/sub", 0o700)
        .file("run.sh", "#!/bin/sh\n")
        .mode("run.sh", 0o4755)
}

fn build(lines: &str) -> ImageView {
    Drydock::new().build(&sample(lines)).image()
}

#[test]
fn privileged_destinations() {
    require_root!();
    for (lines, want) in [
        ("COPY a /x", vec!["x"]),
        ("COPY a /x/", vec!["x", "x/a"]),
        ("COPY a /", vec!["a"]),
        ("COPY a .", vec!["a"]),
        ("WORKDIR /w\nCOPY a b ./", vec!["w", "w/a", "w/b"]),
        ("WORKDIR /w\nCOPY a new", vec!["w", "w/new"]),
        ("COPY a b /d/", vec!["d", "d/a", "d/b"]),
        ("COPY a /p/q/r", vec!["p", "p/q", "p/q/r"]),
        ("WORKDIR /d\nCOPY a /d", vec!["d", "d/a"]),
        ("ENV D=/d/\nCOPY a ${D}", vec!["d", "d/a"]),
        ("COPY a /x/.", vec!["x", "x/a"]),
        ("COPY a ../../up", vec!["up"]),
        ("COPY /a ../b /d/", vec!["d", "d/a", "d/b"]),
        ("COPY [\"a\", \"/with space\"]", vec!["with space"]),
    ] {
        assert_eq!(build(lines).root.paths(), want, "{lines}");
    }
}

#[test]
fn privileged_directories_give_their_content() {
    require_root!();
    let all = [".hidden", "empty", "f", "link", "sub", "sub/g"];
    for line in ["COPY dir /x", "COPY dir/ /x/", "COPY dir/. /x", "COPY d?r /x", "COPY ./dir //x"] {
        assert_eq!(build(line).root.below("x"), all, "{line}");
    }
    let root = build("COPY dir dir/sub /x/").root;
    assert!(root.has("x/f") && root.has("x/g") && root.has("x/sub/g"));
    assert_eq!(root.line("x"), "d 755 0:0", "a new top directory has plain metadata");
    assert_eq!(root.line("x/sub"), "d 700 0:0");
    assert_eq!(root.line("x/link"), "l 0:0 -> f");
}

#[test]
fn privileged_metadata_comes_along() {
    require_root!();
    let context = sample("COPY . /c/");
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    context.set_time("a", old);
    context.set_time("dir/sub", old);
    let root = Drydock::new().build(&context).image().root;
    assert_eq!(root.line("c/run.sh"), "f 4755 0:0 \"#!/bin/sh\\n\"");
    assert_eq!(root.line("c/a"), "f 644 0:0 \"A\"");
    assert_eq!(root.get("c/a").unwrap().seconds(), 1_000_000_000);
    assert_eq!(root.get("c/dir/sub").unwrap().seconds(), 1_000_000_000);
}

#[test]
fn privileged_globs() {
    require_root!();
    for (lines, want) in [
        ("COPY ? /x/", vec!["a", "b"]),
        ("COPY [ab] /x/", vec!["a", "b"]),
        ("COPY *.sh /x/", vec!["run.sh"]),
        ("COPY dir/* /x/", vec![".hidden", "f", "g", "link"]),
        ("COPY a nomatch* /x/", vec!["a"]),
        ("COPY dir/*/g /x/", vec!["g"]),
        ("COPY [[]x] /x/", vec!["[x]"]),
    ] {
        let context = sample(lines).file("[x]", "bracket");
        let image = Drydock::new().build(&context).image();
        assert_eq!(image.root.below("x"), want, "{lines}");
    }
}

#[test]
fn privileged_a_wildcard_onto_one_name() {
    require_root!();
    // BuildKit takes each match onto the same name, and the last one stays.
    let context = sample("COPY [ab] /x\nCOPY *nothing [ab] /y");
    let image = Drydock::new().build(&context).image();
    assert_eq!((image.text("x").as_str(), image.text("y").as_str()), ("B", "B"));
}

#[test]
fn privileged_sources_that_are_not_there() {
    require_root!();
    let drydock = Drydock::new();
    for (line, part) in [
        ("COPY nothing /x", "nothing"),
        ("COPY a nothing /x/", "nothing"),
        ("COPY ../../etc/passwd /x", "etc/passwd"),
        ("COPY escape /x", "escape"),
        ("COPY dangling /x", "dangling"),
        ("COPY --from=busybox /nothing /x", "nothing"),
    ] {
        let context = sample(line).symlink("escape", "/etc/passwd").symlink("dangling", "gone");
        let output = drydock.build(&context).fails();
        assert!(output.stderr.contains(part), "{line}: {output}");
        assert!(output.stderr.contains("not found"), "{line}: {output}");
    }
}

#[test]
fn privileged_symlinks_in_the_context() {
    require_root!();
    let context = sample("COPY to-dir /d\nCOPY to-file /f\nCOPY through/f /t\nCOPY *-abs /g/")
        .symlink("to-dir", "dir")
        .symlink("to-file", "dir/sub/../f")
        .symlink("through", "/dir")
        .symlink("x-abs", "/../../dir/sub/g");
    let root = Drydock::new().build(&context).image().root;
    assert!(root.has("d/f") && root.has("d/link"));
    assert_eq!(root.line("f"), "f 644 0:0 \"F\"");
    assert_eq!(root.content("t"), b"F");
    assert_eq!(root.content("g/x-abs"), b"G");
}

#[test]
fn privileged_symlinks_in_the_image_stay_inside() {
    require_root!();
    let layer = TarBuilder::new()
        .dir("real/", 0o755)
        .symlink("to-real", "real")
        .symlink("abs", "/real")
        .symlink("out", "../../../../real")
        .symlink("dangling", "/not/there")
        .finish();
    let context = sample(
        "ADD links.tar /\nCOPY a /to-real/1\nCOPY a /abs/\nCOPY b /out/b\nCOPY a /dangling\n\
         COPY dir/sub /to-real\nCOPY a /../../top",
    )
    .file("links.tar", layer);
    let root = Drydock::new().build(&context).image().root;
    assert_eq!(root.below("real"), ["1", "a", "b", "g"]);
    assert_eq!(root.content("not/there"), b"A");
    assert_eq!(root.line("to-real"), "l 0:0 -> real");
    assert!(root.has("top"));
}

#[test]
fn privileged_what_cannot_replace_what() {
    require_root!();
    let drydock = Drydock::new();
    for (lines, part) in [
        ("COPY a /x\nCOPY dir /x", "/x"),
        ("COPY dir /x\nCOPY over /x/", "sub"),
        ("COPY a b /x", "/x"),
    ] {
        let output = drydock.build(&sample(lines).file("over/sub", "file")).fails();
        assert!(output.stderr.contains(part), "{lines}: {output}");
    }
    let image = build("COPY a /x\nCOPY b /x");
    assert_eq!(image.text("x"), "B");
    assert_eq!(image.layers.len(), 2);
    assert_eq!(image.layers[1].names(), ["x"]);
}

#[test]
fn privileged_an_existing_directory_keeps_its_metadata() {
    require_root!();
    let tar = TarBuilder::new().dir("d/", 0o711).dir("d/sub/", 0o711).finish();
    let context = sample("ADD t.tar /\nCOPY dir /d").file("t.tar", tar);
    let root = Drydock::new().build(&context).image().root;
    assert_eq!(root.line("d"), "d 711 0:0");
    assert_eq!(root.line("d/sub"), "d 700 0:0", "one below takes that of the source");
}

#[test]
fn privileged_modes() {
    require_root!();
    for (flag, want) in [
        ("--chmod=600", "f 600"),
        ("--chmod=4755", "f 4755"),
        ("--chmod=0640", "f 640"),
        ("--chmod=u=rwX,go=rX", "f 644"),
        ("--chmod=+x", "f 755"),
        ("--chmod=g=u", "f 664"),
    ] {
        let root = build(&format!("COPY {flag} a /new/a")).root;
        assert!(
            root.line("new/a").starts_with(&format!("{want} ")),
            "{flag}: {}",
            root.line("new/a")
        );
    }
    let root = build("ARG M=750\nCOPY --chmod=$M dir /new/").root;
    assert!(root.line("new").starts_with("d 750 ") && root.line("new/sub/g").starts_with("f 750 "));
    for bad in ["999", "-1", "rwx", "17777", "u+q"] {
        let output = Drydock::new().build(&sample(&format!("COPY --chmod={bad} a /"))).fails();
        assert!(output.stderr.contains(bad), "{output}");
    }
}

#[test]
fn privileged_ignore_files() {
    require_root!();
    let context = || {
        Context::new("FROM scratch\nCOPY . /c/\n")
            .file("keep.md", "")
            .file("drop.log", "")
            .file("deep/drop.log", "")
            .file("deep/keep", "")
            .file("node/a", "")
            .file("node/wanted/x", "")
            .file("secret", "")
    };
    let list = |context: &Context, args: &[&str]| -> Vec<String> {
        let image = Drydock::new().build(context).args(args).image();
        image.root.below("c").iter().map(|p| (*p).to_owned()).collect()
    };
    let ignored = context().file(
        ".dockerignore",
        "# comment\n\n*.log\n/secret\nnode\n!node/wanted\n.dockerignore\nDockerfile\n",
    );
    assert_eq!(
        list(&ignored, &[]),
        ["deep", "deep/drop.log", "deep/keep", "keep.md", "node", "node/wanted", "node/wanted/x"]
    );
    let deep = context().file(".dockerignore", "**/*.log\n*\n!deep/**\n!*.md\n");
    assert_eq!(list(&deep, &[]), ["deep", "deep/drop.log", "deep/keep", "keep.md"]);
    let own =
        context().file(".dockerignore", "*\n").file("Dockerfile.dockerignore", "**\n!secret\n");
    assert_eq!(list(&own, &[]), ["secret"], "the Dockerfile's own replaces the context's");
    let other = context()
        .file("x.Dockerfile", "FROM scratch\nCOPY . /c/\n")
        .file("x.Dockerfile.dockerignore", "**\n!keep.md\n");
    let file = other.join("x.Dockerfile");
    assert_eq!(list(&other, &["-f", file.to_str().unwrap()]), ["keep.md"]);
    let output = Drydock::new()
        .build(
            &context()
                .file("Dockerfile", "FROM scratch\nCOPY secret /\n")
                .file(".dockerignore", "secret\n"),
        )
        .fails();
    let why = "line 1 of .dockerignore, pattern \"secret\", excludes it";
    assert!(output.stderr.contains(why), "{output}");
}

#[test]
fn privileged_named_directories_as_sources() {
    require_root!();
    let drydock = Drydock::new();
    let other = Context::empty().file("x", "other").file("y", "no").file(".dockerignore", "y\n");
    let context = sample("COPY --from=more . /m/\nCOPY --from=more x /x");
    let named = format!("more={}", other.path().display());
    let image = drydock.build(&context).args(["--build-context", &named]).image();
    assert_eq!(image.text("x"), "other");
    assert!(!image.root.has("m/y"), "a named directory has its own ignore file");
}

#[test]
fn privileged_dockerfiles_elsewhere() {
    require_root!();
    let drydock = Drydock::new();
    let context = sample("COPY a /x");
    let text = "FROM scratch\nCOPY b /y\n";
    let outside = drydock.place("Other");
    std::fs::write(&outside, text).unwrap();
    let image = drydock.build(&context).arg("-f").arg(&outside).image();
    assert_eq!(image.root.paths(), ["y"]);
    let image = drydock.build(&context).args(["-f", "-"]).stdin(text).image();
    assert_eq!(image.root.paths(), ["y"]);
    let image = drydock.build(&context).cwd(drydock.place("")).args(["-f", "Other"]).image();
    assert_eq!(image.root.paths(), ["y"], "a relative name is one from the working directory");

    let output = drydock
        .command("build")
        .args(["--progress=plain", "-"])
        .stdin("FROM scratch\nLABEL a=1\n")
        .ok();
    assert!(output.stderr.contains("output"), "it says that no output was asked for: {output}");
    let lower = Context::empty().file("dockerfile", "FROM scratch\nCOPY a /\n").file("a", "A");
    assert_eq!(drydock.build(&lower).image().root.paths(), ["a"]);
    let linked =
        Context::empty().file("real", "FROM scratch\nLABEL a=1\n").symlink("Dockerfile", "real");
    drydock.build(&linked).ok();
}

#[test]
fn privileged_archives() {
    require_root!();
    let tar = TarBuilder::new()
        .file("f", 0o640, "tar")
        .raw("owned", tar::EntryType::Regular, 0o600, (7, 8), b"o", "")
        .hard_link("again", "f")
        .finish();
    let context = sample(
        "ADD t.tar /tar\nADD t.tgz /tgz/\nADD t.dat /dat/\nADD a.gz /gz/\nADD empty.tar.gz /e/\nCOPY t.tar /plain/\n\
         ADD --chown=3:4 t.tar /own/",
    )
    .file("t.tar", &tar)
    .file("t.tgz", gzip(&tar))
    .file("t.dat", gzip(&tar))
    .file("a.gz", gzip(b"text"))
    .file("empty.tar.gz", "");
    let root = Drydock::new().build(&context).image().root;
    for dir in ["tar", "tgz", "dat"] {
        assert_eq!(root.below(dir), ["again", "f", "owned"], "{dir}");
        assert_eq!(root.line(&format!("{dir}/owned")), "f 600 7:8 \"o\"");
        assert_eq!(root.line(&format!("{dir}/f")), "f 640 0:0 \"tar\"");
    }
    assert_eq!(root.content("gz/a.gz"), gzip(b"text"));
    assert_eq!(root.content("e/empty.tar.gz"), b"");
    assert_eq!(root.content("plain/t.tar"), tar);
    assert!(root.line("own/owned").starts_with("f 600 3:4"));
    let links = root.get("tar/f").unwrap().linked_to.clone().or(root
        .get("tar/again")
        .unwrap()
        .linked_to
        .clone());
    assert!(links.is_some(), "hard links stay hard links");
}

#[test]
fn privileged_archives_stay_in_their_destination() {
    require_root!();
    let tar = TarBuilder::new()
        .file("../up", 0o644, "1")
        .file("/abs", 0o644, "2")
        .symlink("l", "/")
        .file("l/through", 0o644, "3")
        .symlink("m", "../../..")
        .file("m/out", 0o644, "4")
        .finish();
    let context = sample("ADD bad.tar /d/e/").file("bad.tar", tar);
    let drydock = Drydock::new();
    let output = drydock.build(&context).args(["-o", "type=cacheonly"]).output();
    // Clamped or refused: nothing may land outside.
    if output.status.success() {
        let root = drydock.build(&context).image().root;
        let out: Vec<&str> = root
            .paths()
            .into_iter()
            .filter(|p| !"d/e".starts_with(p) && !p.starts_with("d/e"))
            .collect();
        assert!(out.is_empty(), "{out:?}");
    }
    for path in ["/abs", "/through", "/out", "/up"] {
        assert!(!std::path::Path::new(path).exists(), "{path} is on the host");
    }
}

#[test]
fn privileged_hard_links_and_pipes() {
    require_root!();
    let context = sample("COPY . /c/").hard_link("dir/second", "a");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        context.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let image = Drydock::new().build(&context).limit(std::time::Duration::from_secs(20)).image();
    assert_eq!(image.root.get("c/dir/second").unwrap().linked_to.as_deref(), Some("c/a"));
    assert!(image.root.line("c/pipe").starts_with('p'));
}

#[test]
fn privileged_names_that_are_not_plain() {
    require_root!();
    let long = "n".repeat(200);
    let context = sample("COPY . /c/")
        .file("test-äöü", "1")
        .file("-dash", "2")
        .file("new\nline", "3")
        .file(&format!("{long}/{long}"), "4");
    let root = Drydock::new().build(&context).image().root;
    for name in ["test-äöü", "-dash", "new\nline", &format!("{long}/{long}")] {
        assert!(root.has(&format!("c/{name}")), "{name}");
    }
}

#[test]
fn privileged_owners() {
    require_root!();
    let drydock = Drydock::new();
    for (flag, owner) in [
        ("", "0:0"),
        ("--chown=app", "1000:1001"),
        ("--chown=1000", "1000:1000"),
        ("--chown=app:extra", "1000:2000"),
        ("--chown=:appg", "0:1001"),
        ("--chown=12:34", "12:34"),
        ("--chown=late", "1234:1234"),
        ("--chown=app:nosuch", "1000:1001"),
        ("--chown=5:nosuch:x", "5:5"),
        ("--chown=$WHO", "1000:1001"),
    ] {
        let context = sample("").file(
            "Dockerfile",
            format!(
                "FROM busybox\nENV WHO=app\nRUN echo late:x:1234:1234::/:/bin/sh >> /etc/passwd\nUSER app\n\
                 COPY {flag} a /new/dir/a\n"
            ),
        );
        let root = drydock.build(&context).image().root;
        assert_eq!(root.line("new/dir/a"), format!("f 644 {owner} \"A\""), "{flag}");
        assert_eq!(root.line("new"), format!("d 755 {owner}"), "{flag}: parents that are made too");
    }
    let context = sample("").file("Dockerfile", "FROM busybox\nCOPY --chown=nobody-here a /\n");
    let output = drydock.build(&context).fails();
    assert!(output.stderr.contains("no such user in the image's /etc/passwd"), "{output}");
    // The word that it is about is marked.
    assert!(output.stderr.contains("Dockerfile:2:14"), "{output}");
    assert!(output.stderr.contains("\n     |                  ^^^^^^^^^^^\n"), "{output}");
}

#[test]
fn privileged_several_sources_onto_one_file() {
    require_root!();
    let drydock = Drydock::new();
    let build = |lines: &str| {
        let text = format!("FROM busybox\nRUN mkdir /there\nWORKDIR /w\n{lines}\n");
        let context = Context::new(&text).file("a", "A").file("b", "B").file("d/x", "X");
        drydock.build(&context.file("e/y", "Y"))
    };
    for (lines, path, line) in [
        ("COPY a b /there", "there/b", "f 644 0:0 \"B\""),
        ("COPY a b /w", "w/a", "f 644 0:0 \"A\""),
        ("COPY d e /new", "new/y", "f 644 0:0 \"Y\""),
        ("COPY d a /new", "new/a", "f 644 0:0 \"A\""),
        ("COPY --parents d/x a /new", "new/d/x", "f 644 0:0 \"X\""),
        ("COPY a <<EOF /there\nI\nEOF", "there/EOF", "f 644 0:0 \"I\\n\""),
    ] {
        assert_eq!(build(lines).image().root.line(path), line, "{lines}");
    }
    for lines in ["COPY a b /new", "COPY a <<EOF /new\nI\nEOF", "COPY <<E <<F /new\n1\nE\n2\nF"] {
        let output = build(lines).fails();
        assert!(output.stderr.contains("several sources match, and /new is no"), "{output}");
    }
}

#[test]
fn privileged_the_hosts_owners_do_not_enter() {
    require_root!();
    let context = sample("COPY . /c/");
    std::os::unix::fs::chown(context.join("a"), Some(4321), Some(8765)).unwrap();
    assert_eq!(std::fs::metadata(context.join("a")).unwrap().uid(), 4321);
    let root = Drydock::new().build(&context).image().root;
    assert_eq!(root.line("c/a"), "f 644 0:0 \"A\"");
}

#[test]
fn privileged_copies_between_stages_keep_owners() {
    require_root!();
    let image = Drydock::new().image_of(
        "FROM busybox AS src\nRUN mkdir -p /s/d && echo x > /s/d/f && ln -s d/f /s/l && chown -R 5:6 /s && \
         chmod 4711 /s/d/f && ln /s/d/f /s/h\n\
         FROM scratch\nCOPY --from=src /s /t\nCOPY --from=src --chown=1:2 /s/d/f /f\nCOPY --from=src /s/l /l\n",
    );
    assert_eq!(image.root.line("t"), "d 755 0:0", "a new top directory is root's");
    assert_eq!(image.root.line("t/d"), "d 755 5:6");
    assert_eq!(image.root.line("t/d/f"), "f 4711 5:6 \"x\\n\"");
    assert_eq!(image.root.line("t/l"), "l 5:6 -> d/f");
    assert!(image.root.get("t/h").unwrap().linked_to.is_some());
    assert_eq!(image.root.line("f"), "f 4711 1:2 \"x\\n\"", "owner first, then mode");
    assert_eq!(image.root.line("l"), "f 4711 5:6 \"x\\n\"", "a link that is named is followed");
}

#[test]
fn privileged_copy_replaces_files_of_lower_layers() {
    require_root!();
    let context = Context::new(
        "FROM busybox\nRUN mkdir /d && echo old > /d/f && ln /d/f /d/g\nCOPY f /d/f\nRUN cat /d/g > /kept\n",
    )
    .file("f", "new");
    let image = Drydock::new().build(&context).image();
    assert_eq!(image.text("d/f"), "new");
    assert_eq!(image.text("kept"), "old\n", "the other name of the old file is untouched");
}

#[test]
fn privileged_contexts_of_every_shape() {
    require_root!();
    let drydock = Drydock::new();
    let context = sample("COPY a /a");
    let link = drydock.place("link");
    std::os::unix::fs::symlink(context.path(), &link).unwrap();
    let run = drydock.command("build").arg("--progress=plain").arg(&link);
    assert_eq!(run.image().text("a"), "A");
    let run = drydock.command("build").arg("--progress=plain").arg(".").cwd(context.path());
    assert_eq!(run.image().text("a"), "A");
    let output = drydock.command("build").arg(context.join("a")).fails();
    assert!(output.stderr.contains("directory"), "{output}");
    let looped = sample("COPY one /x").symlink("one", "two").symlink("two", "one");
    let output = drydock.build(&looped).fails();
    assert!(output.stderr.contains("one"), "{output}");
    let whole = sample("COPY . /c").symlink("one", "two").symlink("two", "one");
    assert_eq!(drydock.build(&whole).image().root.line("c/one"), "l 0:0 -> two");
    let locked = sample("COPY . /c").mode("dir", 0o000).mode("a", 0o000);
    let image = drydock.build(&locked).image();
    assert!(image.root.line("c/a").starts_with("f 0 ") && image.root.has("c/dir/f"));
    let socket = sample("COPY . /c");
    let _listener = std::os::unix::net::UnixListener::bind(socket.join("socket")).unwrap();
    std::fs::set_permissions(socket.join("socket"), std::fs::Permissions::from_mode(0o640))
        .unwrap();
    assert_eq!(drydock.build(&socket).image().root.line("c/socket"), "f 640 0:0 \"\"");
}

#[test]
fn privileged_a_context_that_changes_meanwhile() {
    require_root!();
    let drydock = Drydock::new();
    let context = sample("COPY . /c");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut size = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                size = (size + 7919) % 100_000;
                context.overwrite("b", vec![b'x'; size]);
                context.write("dir/f", vec![b'y'; size]);
            }
        });
        for _ in 0..10 {
            // A file that does not hold still may fail a build; an image is never damaged.
            let dest = drydock.place("changing.tar");
            let run = drydock.build(&context).arg("-o");
            let output = run.arg(format!("type=oci,dest={}", dest.display())).output();
            assert!(matches!(output.status.code(), Some(0 | 1)), "{output}");
            assert!(!output.stderr.contains("panicked"), "{output}");
            if output.status.success() {
                ImageView::archive(&dest);
            }
            let _ = std::fs::remove_file(&dest);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    context.write("b", "still");
    assert_eq!(drydock.build(&context).image().text("c/b"), "still");
}
