//! `--context-modes` and `--context-trust`: what counts of the files of a context, clones of one
//! commit by several users, and file systems that are not trusted.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::base_image::TarBuilder;
use tests::context::Context;
use tests::drydock::{Drydock, Output, Run};
use tests::git_server::git;
use tests::http_server::{HttpServer, Page};
use tests::{require_programs, require_root, skip};

const GIT: &str = "--context-modes=git";
/// Somebody who needs no name.
const OTHER: u32 = 54321;

/// Files of all modes, as somebody with an odd umask has them.
fn odd(dockerfile: &str) -> Context {
    Context::new(dockerfile)
        .file("d/plain", "p")
        .file("d/run", "r")
        .file("d/group", "g")
        .file("d/special", "s")
        .symlink("d/link", "run")
        .dir("d/empty")
        .mode("d/plain", 0o600)
        .mode("d/run", 0o700)
        .mode("d/group", 0o654)
        .mode("d/special", 0o6711)
        .mode("d/empty", 0o1777)
        .mode("d", 0o700)
}

/// The same modes in an archive.
fn odd_tar(dockerfile: &str) -> Vec<u8> {
    let tar = TarBuilder::new().file("Dockerfile", 0o600, dockerfile).dir("d/", 0o700);
    tar.file("d/plain", 0o600, "p").file("d/run", 0o6700, "r").finish()
}

#[test]
fn privileged_only_one_bit_of_a_mode_counts() {
    require_root!();
    let drydock = Drydock::new();
    let context = odd("FROM scratch\nCOPY d/run /file\nCOPY --chmod=400 d/run /set\nCOPY . /c/\n");
    let kept = drydock.build(&context).image().root;
    for (path, line) in [
        ("c/d", "d 700 0:0"),
        ("c/d/plain", "f 600 0:0 \"p\""),
        ("c/d/special", "f 6711 0:0 \"s\""),
        ("c/d/empty", "d 1777 0:0"),
        ("file", "f 700 0:0 \"r\""),
    ] {
        assert_eq!(kept.line(path), line);
    }
    let (image, output) = drydock.build(&context).arg(GIT).image_and_output();
    assert_eq!(output.executed().len(), 3, "{output}");
    for (path, line) in [
        ("c/d", "d 755 0:0"),
        ("c/d/plain", "f 644 0:0 \"p\""),
        ("c/d/run", "f 755 0:0 \"r\""),
        ("c/d/group", "f 644 0:0 \"g\""),
        ("c/d/special", "f 755 0:0 \"s\""),
        ("c/d/link", "l 0:0 -> run"),
        ("c/d/empty", "d 755 0:0"),
        ("file", "f 755 0:0 \"r\""),
        ("set", "f 400 0:0 \"r\""),
    ] {
        assert_eq!(image.root.line(path), line);
    }
    let build = || drydock.build(&context).arg(GIT).ok();
    // Another umask.
    for (path, mode) in [("d/plain", 0o664), ("d/run", 0o775), ("d/group", 0o640), ("d", 0o775)] {
        fs::set_permissions(context.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let output = build();
    assert_eq!(output.executed(), Vec::<String>::new(), "{output}");
    // The one bit.
    fs::set_permissions(context.join("d/plain"), fs::Permissions::from_mode(0o744)).unwrap();
    let output = build();
    assert_eq!(output.executed(), ["[3/3] COPY . /c/"], "{output}");
    // Without it, files are as they are again.
    assert_eq!(drydock.build(&context).image().root.line("c/d"), "d 775 0:0");
}

#[test]
fn privileged_mounts_and_other_contexts_have_these_modes() {
    require_root!();
    let drydock = Drydock::new();
    let text = "FROM busybox AS see\n\
                RUN --mount=target=/m cd /m/d && stat -c '%a %n' * . > /seen\n\
                RUN --mount=target=/m,from=more cd /m/d && stat -c '%a %n' * . > /more\n\
                RUN --mount=target=/m,rw cd /m/d && stat -c '%a %n' * . > /written\n\
                FROM more AS whole\n\
                FROM scratch\n\
                COPY --from=see /seen /more /written /\n\
                COPY --from=more d /d/\n\
                COPY --from=whole /d /whole/\n\
                COPY --from=far d /far/\n";
    let context = odd(text).file("d/left", "").file(".dockerignore", "d/left\n");
    let server = HttpServer::start();
    server.put("/far.tar", Page::new(odd_tar("FROM scratch\n")));
    let more = odd("").file("d/left", "").file(".dockerignore", "**/left\n");
    let root = drydock
        .build(&context)
        .args([GIT, "--build-context", &format!("more={}", more.path().display())])
        .args(["--build-context", &format!("far={}", server.url("/far.tar"))])
        .image()
        .root;
    for name in ["seen", "more", "written"] {
        let seen = String::from_utf8_lossy(root.content(name)).into_owned();
        let expected = "755 empty\n644 group\n777 link\n644 plain\n755 run\n755 special\n755 .\n";
        assert_eq!(seen, expected, "{name}");
    }
    for dir in ["d", "whole"] {
        assert_eq!(root.line(&format!("{dir}/plain")), "f 644 0:0 \"p\"");
        assert_eq!(root.line(&format!("{dir}/special")), "f 755 0:0 \"s\"");
        assert_eq!(root.line(dir), "d 755 0:0");
        assert!(!root.has(&format!("{dir}/left")));
    }
    assert_eq!(root.line("far/plain"), "f 644 0:0 \"p\"");
    assert_eq!(root.line("far/run"), "f 755 0:0 \"r\"");
}

#[test]
fn privileged_archives_have_these_modes() {
    require_root!();
    let drydock = Drydock::new();
    let tar = odd_tar("FROM scratch\nCOPY . /\n");
    let server = HttpServer::start();
    server.put("/c.tar", Page::new(tar.clone()));
    let build = |context: &str| -> Run {
        drydock.command("build").args(["--progress=plain", context]).stdin(tar.clone())
    };
    for context in ["-", &server.url("/c.tar")] {
        let kept = build(context).image().root;
        assert_eq!(
            (kept.line("d/run"), kept.line("d")),
            ("f 6700 0:0 \"r\"".into(), "d 700 0:0".into())
        );
        let git = build(context).arg(GIT).image().root;
        assert_eq!(git.line("d/run"), "f 755 0:0 \"r\"", "{context}");
        assert_eq!(git.line("d/plain"), "f 644 0:0 \"p\"");
        assert_eq!(git.line("d"), "d 755 0:0");
    }
}

/// Clones a bundle into a directory of somebody's, whose files are made with a umask.
fn clone(bundle: &Path, to: &Path, user: u32, umask: &str) {
    fs::create_dir_all(to).unwrap();
    chown(to, Some(user), Some(user)).unwrap();
    let id = user.to_string();
    let script = format!("umask {umask} && git clone -q \"$0\" \"$1\"");
    let output = Command::new("setpriv")
        .args(["--reuid", &id, "--regid", &id, "--clear-groups", "sh", "-c", &script])
        .args([bundle, to])
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("HOME", "/")
        .current_dir(to)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn privileged_clones_of_one_commit_hit_the_same_records() {
    require_root!();
    require_programs!("git", "setpriv");
    let place = tempfile::Builder::new().prefix("e2e-").tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let work = Context::new(
        "FROM busybox\nWORKDIR /app\nCOPY . .\nRUN --mount=target=/m sh /m/bin/go > out\n\
         COPY --link lib lib2/\n",
    );
    let work = work
        .file(".dockerignore", ".git\n")
        .file("bin/go", "cat /m/lib/*; stat -c '%a %n' /m/* /m/*/*\n")
        .mode("bin/go", 0o755)
        .file("lib/a", "a\n")
        .file("lib/b", "b\n")
        .symlink("lib/c", "a");
    git(work.path(), &["init", "-q", "--initial-branch=main"]);
    git(work.path(), &["add", "."]);
    git(work.path(), &["commit", "-q", "-m", "all"]);
    let bundle = place.path().join("bundle");
    git(work.path(), &["bundle", "create", bundle.to_str().unwrap(), "main", "HEAD"]);
    fs::set_permissions(&bundle, fs::Permissions::from_mode(0o644)).unwrap();
    let drydock = Drydock::new();
    let build = |drydock: &Drydock, dir: &Path| {
        let to =
            format!("type=oci,rewrite-timestamp=true,dest={}", drydock.place("i.tar").display());
        let base = tests::base_image::BaseImage::layout().display();
        let output = drydock
            .command("build")
            .args(["--progress=plain", GIT, "-o", &to, dir.to_str().unwrap()])
            .args(["--build-context", &format!("busybox=oci-layout://{base}:latest")])
            .env("SOURCE_DATE_EPOCH", "1600000000")
            .ok();
        (tests::image_view::ImageView::archive(&drydock.place("i.tar")).manifest_digest, output)
    };
    let clones =
        [("one/app", 0, "022"), ("elsewhere/deep/two", OTHER, "077"), ("3", OTHER + 1, "002")];
    let mut digests = Vec::new();
    for (at, (name, user, umask)) in clones.into_iter().enumerate() {
        let dir = place.path().join(name);
        clone(&bundle, &dir, user, umask);
        let (digest, output) = build(&drydock, &dir);
        assert_eq!(output.executed().is_empty(), at > 0, "{name}: {output}");
        digests.push(digest);
        // As on another machine.
        digests.push(build(&Drydock::new(), &dir).0);
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "{digests:?}");
}

#[test]
fn other_values_are_refused_with_those_there_are() {
    let drydock = Drydock::new();
    let context = Context::new("FROM scratch\n");
    for (option, values) in [("--context-modes", "keep, git"), ("--context-trust", "stat, none")] {
        let output = drydock.build(&context).args([option, "other"]).output();
        assert!(!output.status.success(), "{output}");
        for part in ["invalid value 'other'", option, values] {
            assert!(output.stderr.contains(part), "{part}: {output}");
        }
    }
}

/// The files of the context that a build opened.
fn opened(drydock: &Drydock, run: Run) -> Option<(usize, Output)> {
    let trace = drydock.place("trace");
    let strace = ["strace", "-f", "-e", "trace=open,openat,openat2", "-o", trace.to_str().unwrap()];
    let output = run.wrapped(strace).output();
    if !output.status.success() && output.stderr.contains("ptrace") {
        skip::say("context files under strace", output.stderr.lines().next().unwrap_or_default());
        return None;
    }
    assert!(output.status.success(), "{output}");
    let calls = fs::read_to_string(&trace).unwrap();
    Some((calls.lines().filter(|line| line.contains("content-")).count(), output))
}

#[test]
fn privileged_without_trust_all_files_are_read() {
    require_root!();
    require_programs!("strace");
    let drydock = Drydock::new();
    let context = (0..5).fold(Context::new("FROM scratch\nCOPY . /c\n"), |context, n| {
        context.file(&format!("deep/content-{n}"), n.to_string())
    });
    let context = context.settle();
    let index = || fs::read_dir(drydock.state().join("context-v1")).unwrap().count();
    drydock.build(&context).arg("--context-trust=none").ok();
    assert_eq!(index(), 0, "what is not trusted is not kept");
    drydock.build(&context).ok();
    assert_eq!(index(), 1);
    for (trust, count) in [("stat", 0), ("none", 5), ("none", 5)] {
        let run = drydock.build(&context).args(["--context-trust", trust]);
        let Some((opened, output)) = opened(&drydock, run) else { return };
        assert_eq!(opened, count, "{trust}");
        assert_eq!(output.executed(), Vec::<String>::new(), "{output}");
    }
}

/// A directory that is served by fuse-overlayfs, until this goes.
struct Served(PathBuf);

impl Served {
    /// Shows `dir` at `place`; none, with a reason, where that is not possible.
    fn new(dir: &Path, place: &Path) -> Option<Self> {
        let [upper, work] = ["upper", "work"].map(|name| place.with_file_name(name));
        for dir in [&upper, &work, place] {
            fs::create_dir(dir).unwrap();
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            dir.display(),
            upper.display(),
            work.display()
        );
        let output = Command::new("fuse-overlayfs").args(["-o", &options]).arg(place).output();
        let output = output.unwrap();
        if !output.status.success() {
            skip::say("a context behind FUSE", String::from_utf8_lossy(&output.stderr).trim());
            return None;
        }
        Some(Self(place.to_owned()))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn privileged_files_behind_fuse_are_read_in_every_build() {
    require_root!();
    require_programs!("strace", "fuse-overlayfs", "umount");
    let drydock = Drydock::new();
    let context = Context::new("FROM scratch\nCOPY . /c\n").file("content-1", "1").settle();
    let place = drydock.place("served");
    let Some(_served) = Served::new(context.path(), &place) else { return };
    let build = || drydock.command("build").args(["--progress=plain", place.to_str().unwrap()]);
    let output = build().ok();
    assert!(output.stderr.contains("is on a FUSE file system: its files are read"), "{output}");
    let Some((opened, output)) = opened(&drydock, build()) else { return };
    assert_eq!(opened, 1, "{output}");
    assert_eq!(output.executed(), Vec::<String>::new(), "{output}");
}
