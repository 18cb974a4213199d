//! Ignore files: what they leave out, what a COPY of that says, and `--call=ignore`.

use serde_json::Value;
use tests::context::Context;
use tests::drydock::{Drydock, Output};
use tests::require_root;

/// A context with a bit of everything.
fn context(ignore: &str) -> Context {
    Context::new("FROM scratch\nCOPY . /\n")
        .file(".dockerignore", ignore)
        .file("a.txt", "a")
        .file("b.txt", "b")
        .file("c", "c")
        .file("src/a.txt", "a")
        .file("src/main.c", "m")
        .file("src/keep/k", "k")
        .file("dir/f", "f")
        .file("dir/sub/f", "f")
        .file("dir/sub/g", "g")
}

fn ask(context: &Context, args: &[&str]) -> Output {
    let drydock = Drydock::new();
    let output = drydock.command("build").arg("--call=ignore").args(args).cwd(context.path()).ok();
    // Nothing is built, and nothing is kept.
    assert!(!drydock.state().exists(), "{output}");
    assert_eq!(output.stderr, "", "{output}");
    output
}

#[test]
fn every_path_with_its_line() {
    let ignore = "# no text\n\n*.txt\n!b.txt\nsrc\n!src/keep\ndir\n!dir/sub/f\n";
    let context = context(ignore);
    for (path, line) in [
        ("a.txt", "excluded  a.txt   .dockerignore:3: *.txt"),
        ("b.txt", "included  b.txt   .dockerignore:4: !b.txt"),
        ("c", "included  c   no rule matches"),
        ("./src/../src/a.txt", "excluded  src/a.txt   .dockerignore:5: src (matches src)"),
        ("src/keep/k", "included  src/keep/k   .dockerignore:6: !src/keep (matches src/keep)"),
        (
            "dir/",
            "excluded  dir   .dockerignore:7: dir; dir/sub/f is brought back by .dockerignore:8: \
             !dir/sub/f",
        ),
        ("dir/sub/g", "excluded  dir/sub/g   .dockerignore:7: dir (matches dir)"),
        ("dir/sub/f", "included  dir/sub/f   .dockerignore:8: !dir/sub/f"),
        ("Dockerfile", "included  Dockerfile   no rule matches"),
        (".", "included  .   it is the context"),
        (
            "no.txt",
            "missing   no.txt   it is not in .; it would be excluded: .dockerignore:3: *.txt",
        ),
        ("c/d", "missing   c/d   it is not in .; it would be included: no rule matches"),
    ] {
        assert_eq!(ask(&context, &[".", path]).text(), line, "{path}");
    }
    let two = ask(&context, &["--", "a.txt", "b.txt"]).text();
    assert_eq!(two.lines().count(), 2, "the working directory is the context: {two}");
    assert!(two.starts_with("excluded  a.txt"), "{two}");
    let absolute = context.join("src/main.c");
    let one = ask(&context, &[".", absolute.to_str().unwrap()]).text();
    assert!(one.starts_with("excluded  src/main.c"), "{one}");
}

#[test]
fn all_paths_and_as_json() {
    let context = context("*\n!src\nsrc/a.txt\n");
    let all = ask(&context, &["."]).text();
    let paths: Vec<&str> = all.lines().map(|l| l.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(
        paths,
        [
            ".dockerignore",
            "Dockerfile",
            "a.txt",
            "b.txt",
            "c",
            "dir",
            "dir/f",
            "dir/sub",
            "dir/sub/f",
            "dir/sub/g",
            "src",
            "src/a.txt",
            "src/keep",
            "src/keep/k",
            "src/main.c"
        ]
    );
    let included = all.lines().filter(|l| l.starts_with("included")).count();
    assert_eq!(included, 4, "{all}");
    let text = ask(&context, &["--call=ignore,format=json", ".", "src/a.txt", "dir", "x"]).text();
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["file"], ".dockerignore");
    let [file, dir, missing] = json["paths"].as_array().unwrap().as_slice() else { panic!() };
    assert_eq!(
        file["rule"],
        serde_json::json!({"file": ".dockerignore", "line": 3, "text": "src/a.txt"})
    );
    assert_eq!((&file["excluded"], &file["exists"]), (&Value::Bool(true), &Value::Bool(true)));
    assert_eq!((&dir["directory"], &dir["rule"]["line"]), (&Value::Bool(true), &Value::from(1)));
    assert_eq!(missing["exists"], false);
}

#[test]
fn which_file_and_which_context() {
    let context = context("c\n")
        .file("Dockerfile.dockerignore", "a.txt\n")
        .file("docker/Other", "FROM scratch\n")
        .file("docker/Other.dockerignore", "b.txt\n")
        .file("app/dockerfile", "FROM scratch\n")
        .file("app/x", "x");
    let one = |args: &[&str]| ask(&context, args).text();
    assert_eq!(one(&[".", "c"]), "included  c   no rule matches");
    assert!(one(&[".", "a.txt"]).ends_with("Dockerfile.dockerignore:1: a.txt"));
    assert!(one(&["-f", "docker/Other", ".", "b.txt"]).ends_with("Other.dockerignore:1: b.txt"));
    context.write("app/Dockerfile.dockerignore", "x\n");
    assert_eq!(one(&["app", "x"]), "excluded  x   Dockerfile.dockerignore:1: x");
    context.remove("app/Dockerfile.dockerignore");
    // A directory with a Dockerfile is a context, one without is a path.
    assert_eq!(one(&["app", "x"]), "included  x   there is no ignore file");
    assert_eq!(one(&["app"]).lines().count(), 2);
    assert_eq!(one(&["dir"]), "included  dir   no rule matches");
    context.remove("Dockerfile.dockerignore");
    assert_eq!(one(&["c"]), "excluded  c   .dockerignore:1: c");
    let drydock = Drydock::new();
    for (args, part) in [
        (&[".", "../x"][..], "is not in the context"),
        (&[".", "/etc/passwd"], "is not in the context"),
        (&["-"], "directory"),
        (&["https://h/x.tar"], "directory"),
        (&["-f", "no/such", "."], "no/such"),
    ] {
        let run = drydock.command("build").arg("--call=ignore").args(args).cwd(context.path());
        let output = run.fails();
        assert!(output.stderr.contains(part), "{output}");
    }
    context.write(".dockerignore", "a\n!\n");
    let output = drydock.command("build").args(["--call=ignore", "."]).cwd(context.path()).fails();
    assert!(output.stderr.contains(".dockerignore: line 2"), "{output}");
}

#[test]
fn names_and_lines_that_are_no_text() {
    let context = context("\u{feff}a.txt\r\n  c  \n").file("n\u{1b}[2J\n", "x");
    assert_eq!(ask(&context, &[".", "a.txt"]).text(), "excluded  a.txt   .dockerignore:1: a.txt");
    assert_eq!(ask(&context, &[".", "c"]).text(), "excluded  c   .dockerignore:2: c");
    let all = ask(&context, &["."]);
    assert!(!all.text().contains('\u{1b}'), "{all}");
    assert_eq!(all.text().lines().count(), 16, "{all}");
}

#[test]
fn privileged_a_build_has_what_the_call_says() {
    require_root!();
    let drydock = Drydock::new();
    for ignore in [
        "",
        "*.txt\n!b.txt\nsrc\n!src/keep\ndir\n!dir/sub/f\n",
        "*\n!src\nsrc/a.txt\n",
        "**/f\n",
        "**/*\n!**/k\n",
        "dir/**\n",
        "Dockerfile\n.dockerignore\n",
        "[ab].*\nsrc/*.c\n!src\n",
    ] {
        let context = context(ignore);
        let image = drydock.build(&context).image();
        let said = ask(&context, &["--call=ignore,format=json", "."]).text();
        let said: Value = serde_json::from_str(&said).unwrap();
        for item in said["paths"].as_array().unwrap() {
            let wanted = item["excluded"] == false || !item["broughtBack"].is_null();
            let path = item["path"].as_str().unwrap();
            assert_eq!(image.root.has(path), wanted, "{ignore:?}: {item}");
        }
    }
}

#[test]
fn privileged_a_copy_of_what_is_left_out() {
    require_root!();
    let drydock = Drydock::new();
    let build = |dockerfile: &str, own: bool| {
        let context = context("# first\n*.txt\n!b.txt\nsrc\n");
        context.write("Dockerfile", dockerfile);
        if own {
            context.write("Dockerfile.dockerignore", "c\n");
        }
        drydock.build(&context).fails().stderr
    };
    for (dockerfile, own, part) in [
        (
            "FROM scratch\nCOPY a.txt /\n",
            false,
            "\"a.txt\" is not in the build context: line 2 of .dockerignore, pattern \"*.txt\", \
             excludes it",
        ),
        (
            "FROM scratch\nCOPY src/main.c /\n",
            false,
            "\"src/main.c\" is not in the build context: line 4 of .dockerignore, pattern \"src\"",
        ),
        (
            "FROM scratch\nCOPY c /\n",
            true,
            "line 1 of Dockerfile.dockerignore, pattern \"c\", excludes it",
        ),
        ("FROM scratch\nCOPY d.txt /\n", false, "\"d.txt\": not found in the build context"),
    ] {
        let stderr = build(dockerfile, own);
        assert!(stderr.contains(part), "{dockerfile}: {stderr}");
        assert!(stderr.contains("Dockerfile:2"), "{dockerfile}: {stderr}");
    }
}
