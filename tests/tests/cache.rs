//! What is run again and what is not.

use std::time::Duration;

use tests::context::Context;
use tests::drydock::{Drydock, Output};
use tests::image_view::ImageView;
use tests::progress;
use tests::{require_programs, require_root, skip};

/// Two stages and a few files.
fn sample() -> Context {
    Context::new(
        "FROM busybox AS build\nWORKDIR /src\nCOPY main .\nRUN cat main > out\n\
         FROM busybox\nCOPY --from=build /src/out /out\nCOPY extra/ /extra/\nRUN wc -c /out > /size\nENV X=1\n",
    )
    .file("main", "main")
    .file("extra/one", "1")
    .file("extra/two", "2")
    .file("unused", "u")
    .settle()
}

fn again(drydock: &Drydock, context: &Context) -> (ImageView, Output) {
    drydock.build(context).image_and_output()
}

#[test]
fn privileged_an_unchanged_build_runs_nothing() {
    require_root!();
    let drydock = Drydock::new();
    let context = sample();
    let (first, output) = again(&drydock, &context);
    assert_eq!(output.executed().len(), 6, "{output}");
    let (second, output) = again(&drydock, &context);
    assert_eq!(output.executed(), Vec::<String>::new(), "{output}");
    assert_eq!(first.manifest_digest, second.manifest_digest);
    let elsewhere = sample();
    let (third, output) = again(&drydock, &elsewhere);
    assert_eq!(
        output.executed(),
        Vec::<String>::new(),
        "another directory, the same files: {output}"
    );
    assert_eq!(first.manifest_digest, third.manifest_digest);
}

#[test]
fn privileged_what_counts_and_what_does_not() {
    require_root!();
    let drydock = Drydock::new();
    let context = sample();
    again(&drydock, &context);
    let executed = |what: &str| -> usize {
        let (_, output) = again(&drydock, &context);
        let executed = output.executed();
        eprintln!("{what}: {executed:?}");
        executed.len()
    };
    context.set_time("main", std::time::UNIX_EPOCH);
    assert_eq!(executed("touch"), 0);
    std::os::unix::fs::chown(context.join("main"), Some(77), Some(77)).unwrap();
    assert_eq!(executed("chown on the host"), 0);
    context.write("unused", "other");
    assert_eq!(executed("a file that nobody copies"), 0);
    context.write("main", "main");
    assert_eq!(executed("the same bytes in a new file"), 0);
    let context_mode = |mode| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(context.join("extra/one"), std::fs::Permissions::from_mode(mode))
            .unwrap();
    };
    context_mode(0o600);
    assert_eq!(executed("chmod"), 2, "the copy and what follows");
    context_mode(0o644);
    assert_eq!(executed("chmod back"), 0);
    std::fs::create_dir(context.join("extra/empty")).unwrap();
    assert_eq!(executed("a new empty directory"), 2);
    std::fs::rename(context.join("extra/two"), context.join("extra/three")).unwrap();
    assert_eq!(executed("a new name"), 2);
    context.write("main", "changed");
    assert_eq!(executed("a changed file"), 5, "all but the WORKDIR before it");
}

#[test]
fn privileged_an_edit_with_a_restored_time_is_seen() {
    require_root!();
    let drydock = Drydock::new();
    let context =
        Context::new("FROM busybox\nCOPY f /f\nRUN cat /f > /g\n").file("f", "one").settle();
    assert_eq!(again(&drydock, &context).0.text("g"), "one");
    let time = context.time("f");
    context.overwrite("f", "two");
    context.set_time("f", time);
    assert_eq!(context.time("f"), time);
    assert_eq!(again(&drydock, &context).0.text("g"), "two");
    // And one within the same tick as the build's look at it.
    for round in 0..10 {
        let text = format!("{round:03}");
        context.overwrite("f", &text);
        assert_eq!(again(&drydock, &context).0.text("g"), text);
    }
}

#[test]
fn privileged_kinds_that_change() {
    require_root!();
    let drydock = Drydock::new();
    let context =
        Context::new("FROM busybox\nCOPY d /d\nRUN ls -lR /d\n").file("d/x", "file").settle();
    again(&drydock, &context);
    context.remove("d/x");
    let context = context.symlink("d/x", "target").settle();
    assert_eq!(again(&drydock, &context).0.root.line("d/x"), "l 0:0 -> target");
    context.remove("d/x");
    let context = context.file("d/x/y", "deep").settle();
    assert_eq!(again(&drydock, &context).0.text("d/x/y"), "deep");
}

#[test]
fn privileged_equal_results_cut_a_rebuild_off() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(
        "FROM busybox\nCOPY source /source\nRUN grep -v '^#' /source > /stripped; rm /source\n\
         FROM busybox\nCOPY --from=0 /stripped /s\nRUN cat /s > /result\n",
    )
    .file("source", "# one\ncode\n");
    again(&drydock, &context);
    context.write("source", "# another comment\ncode\n");
    let output = again(&drydock, &context).1;
    assert!(!output.cached("RUN grep"), "{output}");
    assert!(output.cached("COPY --from=0") && output.cached("RUN cat"), "{output}");
    // Within one chain: a step that puts back what was there.
    let chain =
        Context::new("FROM busybox\nARG N=1\nRUN echo $N > /n && rm /n\nRUN echo after > /after\n");
    let output = drydock.build(&chain).ok();
    assert!(!output.cached("RUN echo 1"));
    let output = drydock
        .build(&chain.file("Dockerfile", "FROM busybox\nRUN true; true\nRUN echo after > /x\n"))
        .ok();
    assert!(!output.cached("RUN true"));
}

#[test]
fn privileged_metadata_does_not_key_steps() {
    require_root!();
    let drydock = Drydock::new();
    let build = |middle: &str| {
        let text = format!("FROM busybox\n{middle}\nRUN echo step\nCOPY f /f\n");
        drydock.build(&Context::new(&text).file("f", "f")).ok()
    };
    build("LABEL a=1\nCMD one");
    let output = build("LABEL a=2\nEXPOSE 80\nCMD two\n# comment");
    assert!(output.cached("RUN echo step") && output.cached("COPY"), "{output}");
    let output = build("ENV unused=1");
    assert!(!output.cached("RUN echo step"), "the environment is an input of RUN: {output}");
    assert!(output.cached("COPY"), "but not of COPY, whose inputs are the same: {output}");
    let output = build("ARG declared=1");
    assert!(!output.cached("RUN echo step"), "{output}");
    let text = "FROM busybox\nRUN  echo step\nCOPY f /f\n";
    let output = drydock.build(&Context::new(text).file("f", "f")).ok();
    assert!(output.has_step("echo step"));
}

#[test]
fn privileged_unused_stages_are_not_built() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(
        "FROM busybox AS broken\nRUN exit 1\nFROM 127.0.0.1:1/gone AS gone\nRUN exit 2\nFROM busybox\nRUN echo fine\n",
    );
    let output = drydock.build(&context).ok();
    assert!(!output.has_step("exit 1") && !output.has_step("gone"), "{output}");
    drydock.build(&context).args(["--target", "broken"]).fails();
}

#[test]
fn privileged_equal_steps_run_once() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(
        "FROM busybox AS a\nRUN cat /proc/sys/kernel/random/uuid > /id\nFROM busybox AS b\nRUN cat /proc/sys/kernel/random/uuid > /id\n\
         FROM scratch\nCOPY --from=a /id /a\nCOPY --from=b /id /b\n",
    );
    let (image, output) = again(&drydock, &context);
    assert_eq!(image.text("a"), image.text("b"));
    assert_eq!(output.executed().iter().filter(|s| s.contains("RUN")).count(), 1, "{output}");
}

#[test]
fn privileged_no_cache() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(
        "FROM busybox AS one\nRUN cat /proc/sys/kernel/random/uuid > /id\nFROM busybox AS two\nRUN cat /proc/sys/kernel/random/uuid >> /id\n\
         FROM scratch\nCOPY --from=one /id /one\nCOPY --from=two /id /two\n",
    );
    let ids = |args: &[&str]| {
        let image = drydock.build(&context).args(args).image();
        (image.text("one"), image.text("two"))
    };
    let first = ids(&[]);
    assert_eq!(ids(&[]), first);
    let fresh = ids(&["--no-cache"]);
    assert!(fresh.0 != first.0 && fresh.1 != first.1);
    assert_eq!(ids(&[]), fresh, "the new result replaces the old one");
    let filtered = ids(&["--no-cache-filter", "two"]);
    assert!(filtered.0 == fresh.0 && filtered.1 != fresh.1);
    assert_eq!(ids(&["--no-cache=false"]), filtered);
}

#[test]
fn privileged_independent_steps_overlap() {
    require_root!();
    let drydock = Drydock::new();
    // Each waits for the other: one after the other they would never end.
    let meet = |own: &str, other: &str| {
        format!(
            "RUN --mount=type=cache,target=/meet touch /meet/{own}; i=0; until [ -e /meet/{other} ]; \
             do i=$((i+1)); test $i -lt 300 || exit 1; sleep 0.1; done; echo met > /{own}\n"
        )
    };
    let text = format!(
        "FROM busybox AS a\n{}FROM busybox AS b\n{}FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n",
        meet("a", "b"),
        meet("b", "a")
    );
    let context = Context::new(&text);
    let image =
        drydock.build(&context).args(["--jobs", "2"]).limit(Duration::from_secs(60)).image();
    assert_eq!((image.text("a"), image.text("b")), ("met\n".to_owned(), "met\n".to_owned()));
}

#[test]
fn privileged_jobs_is_a_limit() {
    require_root!();
    let drydock = Drydock::new();
    let stages: String =
        (0..4).map(|n| format!("FROM busybox AS s{n}\nRUN sleep 0.2; echo {n} > /n\n")).collect();
    let copies: String = (0..4).map(|n| format!("COPY --from=s{n} /n /{n}\n")).collect();
    let context = Context::new(&format!("{stages}FROM scratch\n{copies}"));
    let output = drydock.build(&context).args(["--jobs", "1", "--progress", "rawjson"]).ok();
    let mut runs: Vec<_> = progress::rawjson(&output.stderr)
        .into_iter()
        .filter(|v| v.name.contains("RUN sleep"))
        .collect();
    assert_eq!(runs.len(), 4, "{output}");
    runs.sort_by(|a, b| a.started.cmp(&b.started));
    for pair in runs.windows(2) {
        assert!(pair[0].completed <= pair[1].started, "{pair:?}");
    }
}

#[test]
fn privileged_a_failure_cancels_the_rest() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(
        "FROM busybox AS slow\nRUN sleep 5531.5\nFROM busybox AS bad\nRUN sleep 0.5; exit 3\n\
         FROM scratch\nCOPY --from=slow / /\nCOPY --from=bad / /\n",
    );
    let output =
        drydock.build(&context).args(["--jobs", "2"]).limit(Duration::from_secs(60)).fails();
    assert_eq!(output.step("RUN sleep 5531.5").end, progress::End::Cancelled, "{output}");
    assert!(output.stderr.contains("exit code: 3"), "{output}");
    assert!(!output.stderr.contains("context canceled\n"), "{output}");
    assert!(tests::host::processes_with("5531.5").is_empty());
}

#[test]
fn privileged_what_was_done_before_a_failure_is_kept() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new("FROM busybox\nRUN echo one > /1\nRUN test -e /never\n");
    drydock.build(&context).fails();
    let fixed = Context::new("FROM busybox\nRUN echo one > /1\nRUN true\n");
    let output = drydock.build(&fixed).ok();
    assert!(output.cached("RUN echo one"), "{output}");
}

#[test]
fn privileged_known_files_of_the_context_are_not_opened() {
    require_root!();
    require_programs!("strace");
    let drydock = Drydock::new();
    let context = (0..20).fold(Context::new("FROM busybox\nCOPY . /c\nRUN true\n"), |c, n| {
        c.file(&format!("deep/content-{n}"), format!("{n}"))
    });
    let context = context.settle();
    drydock.build(&context).args(["-t", "app"]).ok();
    let trace = drydock.place("trace");
    let strace = ["strace", "-f", "-e", "trace=open,openat,openat2", "-o", trace.to_str().unwrap()];
    let output = drydock.build(&context).args(["-t", "app"]).wrapped(strace).output();
    if !output.status.success() && output.stderr.contains("ptrace") {
        skip::say("context files under strace", output.stderr.lines().next().unwrap_or_default());
        return;
    }
    assert!(output.status.success(), "{output}");
    assert_eq!(output.executed(), Vec::<String>::new(), "{output}");
    let calls = std::fs::read_to_string(&trace).unwrap();
    assert!(calls.contains("openat"), "the trace has calls");
    let opened: Vec<&str> = calls.lines().filter(|l| l.contains("content-")).collect();
    assert!(opened.is_empty(), "{opened:?}");
}

#[test]
fn privileged_user_names_depend_on_the_image() {
    require_root!();
    let drydock = Drydock::new();
    let build = |id: u32| {
        let text = format!(
            "FROM busybox\nRUN echo who:x:{id}:{id}::/:/bin/sh >> /etc/passwd\nCOPY --chown=who f /f\n"
        );
        drydock.build(&Context::new(&text).file("f", "f")).image()
    };
    assert_eq!(build(501).root.line("f"), "f 644 501:501 \"f\"");
    assert_eq!(build(502).root.line("f"), "f 644 502:502 \"f\"");
}

#[test]
fn privileged_a_vanished_result_is_a_miss() {
    require_root!();
    let drydock = Drydock::new();
    let context =
        Context::new("FROM scratch\nCOPY a /a\nCOPY b /b\n").file("a", "A").file("b", "B");
    drydock.build(&context).image();
    for bucket in ["snapshots-v1", "blobs-v1"] {
        let dir = drydock.state().join(bucket);
        assert!(dir.is_dir(), "{bucket} is not there");
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                std::fs::remove_dir_all(&path).unwrap();
                std::fs::create_dir(&path).unwrap();
            }
        }
        let image = drydock.build(&context).image();
        assert_eq!(image.text("b"), "B", "without {bucket}");
    }
}
