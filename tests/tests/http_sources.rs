//! ADD of files behind URLs, from a real server: what arrives, and when it is fetched again.

use oci::Digest;
use rustix::process::Signal;
use tests::base_image::{TarBuilder, gzip};
use tests::context::Context;
use tests::drydock::{Drydock, Output};
use tests::http_server::{HttpServer, Page};
use tests::image_view::ImageView;
use tests::require_root;

const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const OLD_SECONDS: i64 = 784_111_777;

fn dockerfile(lines: &str) -> Context {
    Context::new(&format!("FROM scratch\n{lines}\n"))
}

fn image(drydock: &Drydock, lines: &str) -> (ImageView, Output) {
    drydock.build(&dockerfile(lines)).image_and_output()
}

fn error(drydock: &Drydock, lines: &str) -> String {
    drydock.build(&dockerfile(lines)).fails().stderr
}

#[test]
fn privileged_what_arrives() {
    require_root!();
    let (server, drydock) = (HttpServer::start(), Drydock::new());
    server.put("/f", Page::new("text").modified(OLD));
    server.put("/timeless", Page::new("x"));
    let lines = format!("ADD {} {} /", server.url("/f"), server.url("/timeless"));
    let root = image(&drydock, &lines).0.root;
    assert_eq!(root.line("f"), "f 600 0:0 \"text\"");
    assert_eq!(root.get("f").unwrap().seconds(), OLD_SECONDS);
    assert_eq!(root.line("timeless"), "f 600 0:0 \"x\"");
    assert_eq!(root.get("timeless").unwrap().seconds(), 0);
    let lines = format!(
        "ADD --chown=12:34 --chmod=755 {url} /a/\nADD --chmod=u+x,g+r {url} /b",
        url = server.url("/f")
    );
    let root = image(&drydock, &lines).0.root;
    assert_eq!(root.line("a/f"), "f 755 12:34 \"text\"");
    assert_eq!(root.line("b"), "f 740 0:0 \"text\"");
    assert_eq!(root.get("b").unwrap().seconds(), OLD_SECONDS);
}

#[test]
fn privileged_names() {
    require_root!();
    let (server, drydock) = (HttpServer::start(), Drydock::new());
    let named = Page::new("x").header("content-disposition", "attachment; filename=other");
    server.put("/a/f", named);
    server.put("/a/sp%20ace", Page::new("x"));
    server.put("/", Page::new("x"));
    server.put("/moved", Page::redirect("/a/f"));
    for (line, want) in [
        ("ADD {/a/f} /", vec!["f"]),
        ("ADD {/a/f} /x", vec!["x"]),
        ("ADD {/a/f?v=1} /x/", vec!["x", "x/f"]),
        ("WORKDIR /w\nADD {/a/f} .", vec!["w", "w/f"]),
        ("ADD {/a/sp%20ace} /", vec!["sp ace"]),
        ("ADD {} /", vec!["__unnamed__"]),
        ("ADD {/moved} /", vec!["moved"]),
        ("ARG N=f\nADD {/a/${N}} /", vec!["f"]),
        ("ADD --link {/a/f} /d/", vec!["d", "d/f"]),
        ("ADD {/a/f} {/moved} /d/", vec!["d", "d/f", "d/moved"]),
    ] {
        let base = server.url("");
        // The braces of `${N}` are the Dockerfile's.
        let line = line.replace("${N}", "\0").replace('{', &base).replace('}', "");
        let line = line.replace('\0', "${N}");
        assert_eq!(image(&drydock, &line).0.root.paths(), want, "{line}");
    }
}

#[test]
fn privileged_nothing_new_is_not_fetched() {
    require_root!();
    let (server, drydock) = (HttpServer::start(), Drydock::new());
    let large = vec![b'x'; 16 << 20];
    server.put("/tag", Page::new("x").etag("\"1\""));
    server.put("/time", Page::new("x").modified(OLD));
    server.put("/deaf", Page::new(large).etag("W/\"1\"").deaf());
    server.put("/nothing", Page::new("x"));
    for (path, bodies) in [("/tag", 1), ("/time", 1), ("/deaf", 1), ("/nothing", 2)] {
        let file = Context::new(&format!(
            "FROM scratch AS base\nADD {} /f\nFROM scratch\nCOPY --from=base /f /g\n",
            server.url(path)
        ));
        let (first, _) = drydock.build(&file).image_and_output();
        let (second, output) = drydock.build(&file).image_and_output();
        assert_eq!(first.manifest_digest, second.manifest_digest, "{path}");
        assert_eq!(output.executed(), [""; 0], "{path}");
        assert!(output.cached("COPY --from=base"), "{path}");
        assert_eq!((server.count(path), server.bodies(path)), (2, bodies), "{path}");
    }
    let asked = &server.visits("/tag")[1];
    assert_eq!((asked.header("if-none-match"), asked.status), (Some("\"1\""), 304));
    assert_eq!(server.visits("/time")[1].header("if-modified-since"), Some(OLD));
}

#[test]
fn privileged_what_changed_is_built_again() {
    require_root!();
    let (server, drydock) = (HttpServer::start(), Drydock::new());
    let file = Context::new(&format!(
        "FROM scratch AS base\nADD {} /f\nFROM scratch\nCOPY --from=base /f /g\n",
        server.url("/f")
    ));
    let build = || drydock.build(&file).image_and_output();
    server.put("/f", Page::new("one").etag("\"1\"").modified(OLD));
    let (first, _) = build();
    // Only the time: nothing of it is another build.
    server.put("/f", Page::new("one").etag("\"2\"").modified("Mon, 07 Nov 1994 08:49:37 GMT"));
    let (second, output) = build();
    assert_eq!(server.bodies("/f"), 2);
    assert_eq!(output.executed(), [""; 0]);
    assert_eq!(first.manifest_digest, second.manifest_digest);
    server.put("/f", Page::new("two").etag("\"3\"").modified(OLD));
    let (third, output) = build();
    assert_eq!(third.root.content("g"), b"two");
    assert_eq!(output.executed().len(), 2);
    // Back again: its content is known, its steps as well.
    server.put("/f", Page::new("one").etag("\"1\"").modified(OLD));
    let (fourth, output) = build();
    assert_eq!((output.executed().len(), server.bodies("/f")), (0, 4));
    assert_eq!(first.manifest_digest, fourth.manifest_digest);
}

#[test]
fn privileged_checksums() {
    require_root!();
    let (server, drydock) = (HttpServer::start(), Drydock::new());
    server.put("/f", Page::new("text").modified(OLD));
    let add = |content: &str| {
        let checksum = Digest::of(content.as_bytes());
        format!("ARG SUM={checksum}\nADD --checksum=$SUM {} /f", server.url("/f"))
    };
    let failed = error(&drydock, &add("other"));
    let want = format!(
        "{}: digest mismatch: expected {}, got {}",
        server.url("/f"),
        Digest::of(b"other"),
        Digest::of(b"text")
    );
    assert!(failed.contains(&want), "{failed}");
    assert_eq!(drydock.blobs(), []);
    let (first, _) = image(&drydock, &add("text"));
    assert_eq!(first.root.content("f"), b"text");
    let visits = server.count("/f");
    let (second, output) = image(&drydock, &add("text"));
    assert_eq!(server.count("/f"), visits, "nobody was asked");
    assert_eq!(output.executed(), [""; 0]);
    assert_eq!(first.manifest_digest, second.manifest_digest);
    // A new step reads what is at hand, or fetches what is not.
    let (third, _) =
        image(&drydock, &format!("{} \nADD --checksum=$SUM {} /g", add("text"), server.url("/f")));
    assert_eq!((third.root.content("g"), server.count("/f")), (&b"text"[..], visits));
    for (blob, _) in drydock.blobs() {
        std::fs::remove_file(blob).unwrap();
    }
    assert_eq!(image(&drydock, &add("text")).0.root.content("f"), b"text");
    let other = add("text").replace(" /f", " /elsewhere");
    assert_eq!(image(&drydock, &other).0.root.content("elsewhere"), b"text");
    assert_eq!(server.count("/f"), visits + 1);
}

#[test]
fn privileged_refusals() {
    require_root!();
    let (server, drydock) = (HttpServer::start(), Drydock::new());
    server.put("/secret", Page::new("x").only_for("Bearer hunter2"));
    let add = |path: &str| format!("ADD {} /f", server.url(path));
    let failed = error(&drydock, &add("/f?key=hunter2"));
    let want = format!("download {}?…: not found: 404 Not Found", server.url("/f"));
    assert!(failed.contains(&want) && failed.contains("Dockerfile:2"), "{failed}");
    let failed = error(&drydock, &add("/secret"));
    assert!(failed.contains("authentication required: 401 Unauthorized"), "{failed}");
    let id = format!("HTTP_AUTH_TOKEN_{}", server.address());
    assert!(failed.contains(&format!("--secret id={id}")), "{failed}");
    let build = drydock.build(&dockerfile(&add("/secret"))).env("TOKEN", "hunter2");
    let (image, output) =
        build.args(["--secret", &format!("id={id},env=TOKEN")]).image_and_output();
    assert_eq!(image.root.line("f"), "f 600 0:0 \"x\"");
    assert!(!output.stderr.contains("hunter2"), "{output}");
    // Who is not let in gets nothing of what somebody else was given.
    assert!(error(&drydock, &add("/secret")).contains("401 Unauthorized"));
    // Nor does anybody get an old file for a server that is gone.
    server.put("/f", Page::new("x"));
    let lines = add("/f");
    self::image(&drydock, &lines);
    drop(server);
    assert!(error(&drydock, &lines).contains("network error"));
}

#[test]
fn privileged_archives_stay_whole_unless_told() {
    require_root!();
    let (server, drydock) = (HttpServer::start(), Drydock::new());
    let tar = TarBuilder::new().dir("d", 0o750).file("d/f", 0o640, b"inside").finish();
    server.put("/a.tar.gz", Page::new(gzip(&tar)).modified(OLD));
    server.put("/plain.tar", Page::new("no archive"));
    let build = |flags: &str, path: &str| {
        let lines = format!("ADD {flags} {} /x/", server.url(path));
        image(&drydock, &lines).0.root
    };
    for flags in ["", "--unpack=false"] {
        let root = build(flags, "/a.tar.gz");
        assert_eq!(root.content("x/a.tar.gz"), gzip(&tar), "{flags}");
    }
    for flags in ["--unpack", "--unpack=true"] {
        let root = build(flags, "/a.tar.gz");
        assert_eq!(root.paths(), ["x", "x/d", "x/d/f"], "{flags}");
        assert_eq!(root.line("x/d/f"), "f 640 0:0 \"inside\"");
    }
    let root = build("--unpack --chown=5:6", "/a.tar.gz");
    assert_eq!(root.line("x/d/f"), "f 640 5:6 \"inside\"");
    assert_eq!(build("--unpack", "/plain.tar").line("x/plain.tar"), "f 600 0:0 \"no archive\"");
}

#[test]
fn privileged_a_broken_line_is_picked_up() {
    require_root!();
    let (server, drydock) = (HttpServer::start(), Drydock::new());
    let body: Vec<u8> = (0..600_000u32).map(|n| (n % 251) as u8).collect();
    server.put("/f", Page::new(body.clone()).etag("\"1\"").ranges().cut(400_000));
    let (image, output) = image(&drydock, &format!("ADD {} /f", server.url("/f")));
    assert!(image.root.content("f") == body);
    assert_eq!(server.visits("/f")[1].header("range"), Some("bytes=400000-"));
    assert!(output.stderr.contains("trying again (attempt 1)"), "{output}");
}

#[test]
fn privileged_one_url_for_many_builds() {
    require_root!();
    let (server, drydock) = (HttpServer::start(), Drydock::new());
    let body = vec![b'x'; 4 << 20];
    server.put("/f", Page::new(body.clone()).etag("\"1\""));
    let url = server.url("/f");
    let names = ["a", "b", "c"].map(|n| format!("FROM scratch AS {n}\nADD {url} /{n}\n"));
    let last = "FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\nCOPY --from=c /c /\n";
    let file = Context::new(&format!("{}{last}", names.concat()));
    let runs: Vec<_> = (0..3)
        .map(|n| {
            let dest = drydock.place(&format!("{n}.tar"));
            let output = format!("type=oci,dest={}", dest.display());
            (drydock.build(&file).args(["-o", &output]).start(), dest)
        })
        .collect();
    for (run, dest) in runs {
        let output = run.finish();
        assert!(output.status.success(), "{output}");
        let image = ImageView::archive(&dest);
        for name in ["a", "b", "c"] {
            assert!(image.root.content(name) == body);
        }
    }
    assert!(server.bodies("/f") <= 3, "once in each build at most");
}

#[test]
fn privileged_a_silent_server_does_not_hold_a_build() {
    require_root!();
    let (server, drydock) = (HttpServer::start(), Drydock::new());
    server.put("/f", Page::new(vec![b'x'; 100_000]).stall());
    let lines = format!("ADD {} /f", server.url("/f"));
    let mut run = drydock.build(&dockerfile(&lines)).start();
    while server.visits("/f").iter().all(|v| v.sent == 0) {
        assert!(!run.is_over(), "{}", run.stderr());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    run.signal(Signal::INT);
    let output = run.finish();
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert_eq!(server.count("/f"), 1);
    assert_eq!(drydock.blobs(), []);
    let left = std::fs::read_dir(drydock.state().join("inflight")).unwrap().count();
    assert_eq!(left, 0, "{output}");
}
