//! Why steps ran: each kind of change is named.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::Value;
use tests::base_image::BaseImage;
use tests::context::Context;
use tests::drydock::{Drydock, Output, Run};
use tests::person::{self, Person};
use tests::proxy::{Access, FaultProxy, Kind};
use tests::registry_server::RegistryServer;
use tests::{require_programs, require_root};

/// A build that says why steps run.
fn explained(drydock: &Drydock, context: &Context) -> Run {
    drydock.build(context).arg("--explain")
}

/// Why the step whose name contains `step` ran.
fn why(output: &Output, step: &str) -> String {
    let log = output.step(step).log;
    let found = log.iter().find_map(|line| line.strip_prefix("why: "));
    found.unwrap_or_else(|| panic!("{step:?} does not say why it ran\n{output}")).to_owned()
}

/// A change, the step that is asked about, and what it has to say.
struct Case {
    name: &'static str,
    dockerfile: &'static str,
    /// What to change before the second build, and how to run it.
    change: fn(&Context, Run) -> Run,
    step: &'static str,
    says: &'static [&'static str],
    never: &'static [&'static str],
}

const BASE: Case = Case {
    name: "",
    dockerfile: "FROM busybox\nCOPY dir /dir\nRUN cat /dir/* > /all\n",
    change: |_, run| run,
    step: "COPY dir",
    says: &[],
    never: &[],
};

/// The files of every case.
fn sample(dockerfile: &str) -> Context {
    let context = Context::new(dockerfile)
        .file("dir/one", "1")
        .file("dir/two", "2")
        .file("other", "o")
        .symlink("dir/link", "one");
    context.settle()
}

/// Builds, changes, builds again, and looks.
fn check(cases: &[Case]) {
    for case in cases {
        let drydock = Drydock::new();
        let context = sample(case.dockerfile);
        let first = explained(&drydock, &context).ok();
        assert_eq!(why(&first, case.step), "first build of this step", "{}", case.name);
        let output = (case.change)(&context, explained(&drydock, &context)).ok();
        let said = why(&output, case.step);
        for part in case.says {
            assert!(said.contains(part), "{}: {part:?} in {said:?}\n{output}", case.name);
        }
        for part in case.never {
            assert!(!said.contains(part), "{}: {part:?} in {said:?}\n{output}", case.name);
        }
    }
}

fn replace(context: &Context, old: &str, new: &str) {
    let text = fs::read_to_string(context.join("Dockerfile")).unwrap();
    assert!(text.contains(old), "{old:?}");
    context.write("Dockerfile", text.replace(old, new));
}

/// Changes of files.
const FILES: &[Case] = &[
    Case {
        name: "content",
        change: |context, run| {
            context.write("dir/one", "uno");
            run
        },
        says: &["dir/one changed (", "→"],
        never: &["more"],
        ..BASE
    },
    Case {
        name: "mode",
        change: |context, run| {
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(context.join("dir/two"), mode).unwrap();
            run
        },
        says: &["the mode of dir/two changed (0644 → 0755)"],
        ..BASE
    },
    Case {
        name: "added",
        change: |context, run| {
            context.write("dir/three", "3");
            run
        },
        says: &["dir/three was added"],
        ..BASE
    },
    Case {
        name: "removed",
        change: |context, run| {
            context.remove("dir/two");
            run
        },
        says: &["dir/two was removed"],
        ..BASE
    },
    Case {
        name: "renamed",
        change: |context, run| {
            fs::rename(context.join("dir/two"), context.join("dir/2")).unwrap();
            run
        },
        says: &["dir/two was renamed to dir/2"],
        ..BASE
    },
    Case {
        name: "symbolic link",
        change: |context, run| {
            context.remove("dir/link");
            symlink("two", context.join("dir/link")).unwrap();
            run
        },
        says: &["the link dir/link changed (\"one\" → \"two\")"],
        ..BASE
    },
    Case {
        name: "several files",
        change: |context, run| {
            context.write("dir/one", "uno");
            context.write("dir/two", "due");
            context.write("dir/three", "tre");
            run
        },
        says: &["dir/one changed", "and 2 more files"],
        ..BASE
    },
    Case {
        name: "ignore file",
        change: |context, run| {
            context.write(".dockerignore", "dir/two\n");
            run
        },
        says: &["dir/two was removed (the ignore file changed)"],
        ..BASE
    },
    Case {
        name: "bind mount",
        dockerfile: "FROM busybox\nRUN --mount=target=/c,source=dir cat /c/* > /all\n",
        change: |context, run| {
            context.write("dir/one", "uno");
            run
        },
        step: "RUN --mount",
        says: &["dir/one changed ("],
        ..BASE
    },
    Case {
        name: "copy from a stage",
        dockerfile: "FROM busybox AS b\nCOPY other /o\nRUN cat /o > /made\n\
                         FROM busybox\nCOPY --from=b /made /m\n",
        change: |context, run| {
            context.write("other", "another");
            run
        },
        step: "COPY --from",
        says: &["made changed (", "the result of [b 3/3] RUN cat /o > /made changed"],
        ..BASE
    },
    Case {
        name: "bind mount of another place",
        dockerfile: "FROM busybox\nRUN --mount=target=/c,source=dir ls /c > /all\n",
        change: |context, run| {
            replace(context, "source=dir", "source=other");
            run
        },
        step: "RUN --mount",
        says: &["the instruction changed: ", "source=dir", "source=other"],
        never: &["added", "removed"],
    },
    Case {
        name: "writable bind mount",
        dockerfile: "FROM busybox\nRUN --mount=target=/c,source=dir,rw cat /c/* > /all\n",
        change: |context, run| {
            context.write("dir/one", "uno");
            run
        },
        step: "RUN --mount",
        says: &["files that it takes changed"],
        ..BASE
    },
    Case {
        name: "copy from another stage",
        dockerfile: "FROM busybox AS b\nRUN echo b > /made\nFROM busybox AS c\nRUN echo c > /made\n\
                     FROM busybox\nCOPY --from=b /made /m\nCOPY --from=c /made /n\n",
        change: |context, run| {
            replace(context, "--from=b", "--from=c");
            run
        },
        step: "/made /m",
        says: &["the instruction changed: ", "--from=b", "--from=c"],
        never: &["result", "made changed"],
    },
    Case {
        name: "copy from a renamed stage",
        dockerfile: "FROM busybox AS b\nCOPY other /o\nRUN cat /o > /made\n\
                     FROM busybox\nCOPY --from=b /made /m\n",
        change: |context, run| {
            replace(context, "AS b", "AS c");
            replace(context, "--from=b", "--from=c");
            context.write("other", "another");
            run
        },
        step: "COPY --from",
        says: &["made changed (", "the result of [c 3/3] RUN cat /o > /made changed"],
        never: &["instruction"],
    },
];

#[test]
fn privileged_files_are_named() {
    require_root!();
    check(FILES);
}

/// Changes of the Dockerfile, of arguments and of flags.
const TOLD: &[Case] = &[
    Case {
        name: "build argument",
        dockerfile: "FROM busybox\nARG VERSION=1\nRUN true > /x\n",
        change: |_, run| run.args(["--build-arg", "VERSION=2"]),
        step: "RUN true",
        says: &["variable VERSION changed (\"1\" → \"2\")"],
        ..BASE
    },
    Case {
        name: "environment",
        dockerfile: "FROM busybox\nENV MODE=fast\nRUN true > /x\n",
        change: |context, run| {
            replace(context, "fast", "slow");
            run
        },
        step: "RUN true",
        says: &["variable MODE changed (\"fast\" → \"slow\")"],
        ..BASE
    },
    Case {
        name: "secret argument",
        dockerfile: "FROM busybox\nARG API_TOKEN=first\nRUN true > /x\n",
        change: |_, run| run.args(["--build-arg", "API_TOKEN=hunter2"]),
        step: "RUN true",
        says: &["variable API_TOKEN changed (value hidden)"],
        never: &["hunter2", "first"],
    },
    Case {
        name: "secret value",
        dockerfile: "FROM busybox\nARG WHAT=none\nRUN true > /x\n",
        change: |_, run| run.args(["--build-arg", "WHAT=ghp_abcdef0123456789"]),
        step: "RUN true",
        says: &["variable WHAT changed (value hidden)"],
        never: &["ghp_"],
    },
    Case {
        name: "instruction",
        dockerfile: "FROM busybox\nRUN echo one > /x\n",
        change: |context, run| {
            replace(context, "echo one", "echo two");
            run
        },
        step: "RUN echo",
        says: &["the instruction changed: RUN echo one > /x → RUN echo two > /x"],
        ..BASE
    },
    Case {
        name: "here-document",
        dockerfile: "FROM busybox\nRUN <<E\necho one > /x\necho two > /y\nE\n",
        change: |context, run| {
            replace(context, "echo two", "echo three");
            run
        },
        step: "RUN <<E",
        says: &["the command changed (\"echo two > /y\" → \"echo three > /y\")"],
        ..BASE
    },
    Case {
        name: "inserted",
        dockerfile: "FROM busybox\nRUN true > /a\nRUN true > /b\n",
        change: |context, run| {
            replace(context, "RUN true > /b", "RUN true > /new\nRUN true > /b");
            run
        },
        step: "RUN true > /b",
        says: &["it comes after a new step, [3/4] RUN true > /new"],
        ..BASE
    },
    Case {
        name: "removed instruction",
        dockerfile: "FROM busybox\nRUN true > /a\nRUN true > /gone\nRUN true > /b\n",
        change: |context, run| {
            replace(context, "RUN true > /gone\n", "");
            run
        },
        step: "RUN true > /b",
        says: &["a step before it was removed", "RUN true > /gone"],
        ..BASE
    },
    Case {
        name: "user",
        dockerfile: "FROM busybox\nUSER 0\nRUN id\n",
        change: |context, run| {
            replace(context, "USER 0", "USER 1000");
            run
        },
        step: "RUN id",
        says: &["the user changed (\"0\" → \"1000\")"],
        ..BASE
    },
    Case {
        name: "owner of the working directory",
        dockerfile: "FROM busybox\nUSER 1000\nWORKDIR /srv\n",
        change: |context, run| {
            replace(context, "USER 1000", "USER 1001");
            run
        },
        step: "WORKDIR /srv",
        says: &["the owner of the directory /srv changed (\"1000:1000\" → \"1001:1001\")"],
        ..BASE
    },
    Case {
        name: "mode of a copy",
        dockerfile: "FROM busybox\nARG MODE=640\nCOPY --chmod=$MODE dir /dir\n",
        change: |_, run| run.args(["--build-arg", "MODE=600"]),
        step: "COPY --chmod",
        says: &["the mode changed (\"0640\" → \"0600\")"],
        ..BASE
    },
    Case {
        name: "working directory",
        dockerfile: "FROM busybox\nWORKDIR /tmp\nRUN pwd\n",
        change: |context, run| {
            replace(context, "/tmp", "/var");
            run
        },
        step: "RUN pwd",
        says: &["the working directory changed (\"/tmp\" → \"/var\")"],
        ..BASE
    },
    Case {
        name: "network",
        dockerfile: "FROM busybox\nRUN true\n",
        change: |_, run| run.arg("--network=none"),
        step: "RUN true",
        says: &["the network changed (\"default\" → \"none\")"],
        ..BASE
    },
    Case {
        name: "mount",
        dockerfile: "FROM busybox\nRUN --mount=type=tmpfs,target=/t true\n",
        change: |context, run| {
            replace(context, "target=/t ", "target=/u ");
            run
        },
        step: "RUN --mount",
        says: &["the instruction changed: ", "target=/t", "target=/u"],
        ..BASE
    },
    Case {
        name: "platform",
        dockerfile: "FROM busybox\nRUN true\n",
        change: |_, run| {
            let host = oci::Platform::host();
            run.arg(format!("--platform={}/{}/v7", host.os, host.architecture))
        },
        step: "RUN true",
        says: &["the platform changed", "v7"],
        ..BASE
    },
    Case {
        name: "step before it",
        dockerfile: "FROM busybox\nRUN echo one > /x\nRUN cat /x\n",
        change: |context, run| {
            replace(context, "echo one", "echo two");
            run
        },
        step: "RUN cat",
        says: &["the result of [2/3] RUN echo two > /x changed"],
        ..BASE
    },
    Case {
        name: "changed places",
        dockerfile: "FROM busybox\nRUN true > /a\nRUN true > /b\n",
        change: |context, run| {
            context.write("Dockerfile", "FROM busybox\nRUN true > /b\nRUN true > /a\n");
            run
        },
        step: "RUN true > /b",
        says: &["it comes after [1/3] FROM busybox, no longer after [2/3] RUN true > /a"],
        never: &["changed"],
    },
    Case {
        name: "no cache",
        change: |_, run| run.arg("--no-cache"),
        says: &["--no-cache"],
        never: &["filter"],
        ..BASE
    },
    Case {
        name: "no cache for a stage",
        dockerfile: "FROM busybox AS one\nCOPY dir /dir\n",
        change: |_, run| run.arg("--no-cache-filter=one"),
        says: &["--no-cache-filter one"],
        ..BASE
    },
    Case {
        name: "too old",
        dockerfile: "FROM busybox\nRUN date > /d\n",
        change: |_, run| run.args(["--ttl", "RUN date=0s"]),
        step: "RUN date",
        says: &["its result is older than 0s"],
        ..BASE
    },
];

#[test]
fn privileged_what_steps_are_told_is_named() {
    require_root!();
    check(TOLD);
}

#[test]
fn privileged_a_new_instruction_is_new() {
    require_root!();
    let drydock = Drydock::new();
    let context = sample("FROM busybox\nRUN true > /a\nRUN true > /b\n");
    drydock.build(&context).ok();
    replace(&context, "RUN true > /b", "RUN true > /new\nRUN true > /b");
    let output = explained(&drydock, &context).ok();
    assert_eq!(why(&output, "RUN true > /new"), "new instruction");
    assert!(output.cached("RUN true > /a"), "{output}");
    // Of those with here-documents, too, whose first lines are alike.
    let context = sample("FROM busybox\nRUN <<E\ntrue > /b\nE\n");
    drydock.build(&context).ok();
    replace(&context, "RUN <<E", "RUN <<E\ntrue > /new\nE\nRUN <<E");
    let output = explained(&drydock, &context).ok();
    assert_eq!(why(&output, "true > /new"), "new instruction");
    let said = why(&output, "true > /b");
    assert!(said.starts_with("it comes after a new step, [2/3] RUN <<E"), "{said}");
}

#[test]
fn privileged_a_step_is_named_by_what_it_does() {
    require_root!();
    let drydock = Drydock::new();
    let context = sample(
        "FROM busybox\nRUN --mount=type=tmpfs,target=/t \\\n    --network=none \\\n    echo made \\\n    > /x\n\
         RUN --mount=type=tmpfs,target=/t true\n",
    );
    let text = plan(&drydock, &context).text();
    assert!(text.contains("[2/3] RUN … echo made…\n"), "{text}");
    assert!(text.contains("[3/3] RUN --mount=type=tmpfs,target=/t true\n"), "{text}");
    drydock.build(&context).ok();
    replace(&context, "target=/t \\", "target=/u \\");
    let said = why(&explained(&drydock, &context).ok(), "echo made");
    assert!(said.ends_with("target=/t → RUN --mount=type=tmpfs,target=/u"), "{said}");
}

#[test]
fn privileged_a_moved_tag_is_told_by_its_digests() {
    require_root!();
    let drydock = Drydock::new();
    let base = |text: &str| {
        let file = format!("FROM busybox\nRUN echo {text} > /base\n");
        drydock.build(&Context::new(&file)).args(["-t", "base:latest"]).ok();
    };
    base("one");
    let context = Context::new("FROM base:latest\nRUN cat /base > /x\n");
    let build = || drydock.bare_build(&context).arg("--explain").ok();
    build();
    base("two");
    let said = why(&build(), "RUN cat");
    assert!(said.starts_with("the image ") && said.contains("base:latest changed ("), "{said}");
    assert!(said.contains(" → "), "{said}");
}

#[test]
fn privileged_what_prune_took_is_told() {
    require_root!();
    let drydock = Drydock::new();
    let context = sample(BASE.dockerfile);
    drydock.build(&context).ok();
    drydock.command("prune").args(["--all", "--force"]).ok();
    let output = explained(&drydock, &context).ok();
    for step in ["COPY dir", "RUN cat"] {
        let said = why(&output, step);
        assert!(said.starts_with("its result was removed from the cache at 20"), "{said}");
        assert!(said.ends_with(" by drydock prune --all"), "{said}");
    }
    // It is there again: a later reason is another one.
    let output = explained(&drydock, &context).args(["--ttl", "RUN cat=0s"]).ok();
    assert_eq!(why(&output, "RUN cat"), "its result is older than 0s");
}

#[test]
fn privileged_a_failed_step_is_told_next_time() {
    require_root!();
    let drydock = Drydock::new();
    let context = sample("FROM busybox\nCOPY dir /dir\nRUN cat /dir/absent\nRUN true > /after\n");
    drydock.build(&context).fails();
    let output = explained(&drydock, &context).fails();
    assert_eq!(why(&output, "RUN cat"), "it did not end well when it was run last");
    // What was there before the failure is compared all the same.
    context.write("dir/absent", "now");
    let output = explained(&drydock, &context).ok();
    assert!(why(&output, "COPY dir").contains("dir/absent was added"), "{output}");
    assert!(why(&output, "RUN cat").contains("COPY dir /dir changed"), "{output}");
}

#[test]
fn privileged_causes_can_be_read_later() {
    require_root!();
    let drydock = Drydock::new();
    let explain = || drydock.command("explain");
    assert!(explain().fails().stderr.contains("no step of a build ran yet"));
    let context = sample("FROM busybox\nCOPY dir /dir\nRUN echo said; cat /dir/one > /x\n");
    drydock.build(&context).args(["-t", "app"]).ok();
    context.write("dir/one", "uno");
    drydock.build(&context).args(["-t", "app"]).ok();
    // A build that runs nothing has nothing to tell.
    drydock.build(&context).args(["-t", "app"]).ok();
    let text = explain().ok().text();
    assert!(text.contains("app:latest from ") && text.contains(": 2 steps ran"), "{text}");
    assert!(text.contains("[2/3] COPY dir /dir\n    dir/one changed ("), "{text}");
    assert!(text.contains("the result of [2/3] COPY dir /dir changed"), "{text}");
    let document: Value = serde_json::from_str(&explain().arg("--json").ok().text()).unwrap();
    let cause = &document["ran"][0]["causes"][0];
    assert_eq!((&cause["cause"], &cause["path"]), (&"files".into(), &"dir/one".into()));
    assert_eq!(cause["change"], "content");
    // What each took, and of one with processes what they used.
    assert!(text.contains("\n    took ") && text.contains(" of processor time"), "{text}");
    let (copy, run) = (&document["ran"][0], &document["ran"][1]);
    assert!(copy["millis"].is_u64() && copy["used"].is_null(), "{document}");
    assert!(run["millis"].is_u64() && run["used"]["cpu_micros"].is_u64(), "{document}");
    let list = explain().arg("--list").ok().text();
    assert_eq!(list.lines().count(), 3, "{list}");
    // The name is the one by which the logs are found.
    let id = document["build"].as_str().unwrap();
    assert!(drydock.command("logs").arg(id).ok().text().contains("said"));
    let by_beginning = explain().arg(&id[..id.len() - 1]).ok().text();
    assert!(by_beginning.starts_with(&format!("{id}: app:latest from ")), "{by_beginning}");
    assert!(explain().arg("nothing").fails().stderr.contains("nothing is known of a build"));
}

/// Every file of a directory, with its size and the time of its change.
fn listing(dir: &std::path::Path) -> Vec<(std::path::PathBuf, u64, i64, i64)> {
    use std::os::unix::fs::MetadataExt;
    let mut found = Vec::new();
    if let Ok(meta) = fs::metadata(dir) {
        found.push((dir.to_owned(), meta.size(), meta.mtime(), meta.mtime_nsec()));
    }
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                left.push(entry.path());
            }
            found.push((entry.path(), meta.size(), meta.mtime(), meta.mtime_nsec()));
        }
    }
    found.sort();
    found
}

#[test]
fn privileged_an_unchanged_build_writes_no_history() {
    require_root!();
    let drydock = Drydock::new();
    let context = sample(BASE.dockerfile);
    drydock.build(&context).ok();
    let history = drydock.state().join("history-v1");
    let before = listing(&history);
    assert!(before.iter().any(|(path, ..)| path.starts_with(history.join("lines"))));
    let output = explained(&drydock, &context).ok();
    assert_eq!(output.executed(), Vec::<String>::new());
    assert!(!output.stderr.contains("why: "), "{output}");
    assert_eq!(listing(&history), before);
    // Secrets are not in it.
    let context = sample("FROM busybox\nARG TOKEN\nRUN true > /x\n");
    drydock.build(&context).args(["--build-arg", "TOKEN=hunter2hunter2"]).ok();
    for (path, ..) in listing(&history) {
        if path.is_file() && path.parent() == Some(&history.join("lines")) {
            let bytes = fs::read(&path).unwrap();
            let text = zstd::decode_all(&bytes[32..]).unwrap();
            assert!(!String::from_utf8_lossy(&text).contains("hunter2"), "{}", path.display());
        }
    }
}

#[test]
fn privileged_missing_and_damaged_history_is_no_failure() {
    require_root!();
    let drydock = Drydock::new();
    let context = sample(BASE.dockerfile);
    drydock.build(&context).ok();
    let history = drydock.state().join("history-v1");
    fs::remove_dir_all(history.join("selections")).unwrap();
    context.write("dir/one", "uno");
    let output = explained(&drydock, &context).ok();
    assert!(why(&output, "COPY dir").starts_with("files that it takes changed"), "{output}");
    for (path, ..) in listing(&history) {
        if path.is_file() {
            fs::write(path, b"noise").unwrap();
        }
    }
    context.write("dir/one", "ein");
    let output = explained(&drydock, &context).ok();
    assert_eq!(why(&output, "COPY dir"), "first build of this step");
    fs::remove_dir_all(&history).unwrap();
    context.write("dir/one", "yksi");
    explained(&drydock, &context).ok();
}

fn plan(drydock: &Drydock, context: &Context) -> Output {
    drydock.build(context).arg("--plan").ok()
}

#[test]
fn privileged_a_plan_says_what_would_run_and_writes_nothing() {
    require_root!();
    let drydock = Drydock::new();
    let context = sample(
        "FROM busybox\nRUN true > /before\nCOPY dir /dir\nRUN cat /dir/one > /x\nRUN true > /last\nCOPY other /o\n",
    );
    // Nothing is there, and nothing is made.
    let text = plan(&drydock, &context).text();
    assert!(text.starts_with("6 of 6 steps would run"), "{text}");
    assert!(text.contains("first build of this step"), "{text}");
    assert!(!drydock.state().exists());
    drydock.build(&context).ok();
    let before = listing(drydock.state());
    let text = plan(&drydock, &context).text();
    assert!(text.starts_with("nothing would run\ncached  [1/6] FROM "), "{text}");
    context.write("dir/one", "uno");
    let output = plan(&drydock, &context);
    let text = output.text();
    assert!(text.starts_with("1 of 6 steps would run, and 3 may"), "{output}");
    assert!(text.contains("run     [3/6] COPY dir /dir"), "{text}");
    assert!(text.contains("dir/one changed ("), "{text}");
    assert!(text.contains("maybe   [4/6] RUN cat /dir/one > /x"), "{text}");
    assert!(text.contains("if the result of [3/6] COPY dir /dir changes"), "{text}");
    assert!(text.contains("cached  [2/6] RUN true > /before"), "{text}");
    assert_eq!(listing(drydock.state()), before);
    // What the plan says is what happens, and what would run for sure is told from what may.
    replace(&context, "RUN true > /last", "RUN false || true > /last");
    let json = drydock.build(&context).arg("--plan=json").ok().text();
    let document: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&document["run"], &document["maybe"]), (&2.into(), &2.into()), "{json}");
    let last = &document["steps"][4];
    assert_eq!(
        (&last["fate"], &last["causes"][0]["cause"]),
        (&"run".into(), &"instruction".into())
    );
    assert!(document["steps"][3]["last_millis"].is_u64(), "{json}");
    assert_eq!(listing(drydock.state()), before);
    let output = explained(&drydock, &context).ok();
    assert_eq!(output.executed().len(), 4, "{output}");
}

#[test]
fn privileged_a_plan_knows_no_cache_and_refuses_what_it_cannot_read() {
    require_root!();
    let drydock = Drydock::new();
    let context = sample(BASE.dockerfile);
    drydock.build(&context).args(["-t", "app"]).ok();
    let before = listing(drydock.state());
    let text = drydock.build(&context).args(["--plan", "--no-cache"]).ok().text();
    assert!(text.starts_with("2 of 3 steps would run"), "{text}");
    assert!(text.contains("        --no-cache\n"), "{text}");
    let dest = drydock.place("out.tar");
    let to = format!("type=oci,dest={}", dest.display());
    drydock.build(&context).args(["--plan", "-t", "other", "-o", &to]).ok();
    assert!(!dest.exists());
    let output = drydock.command("build").args(["--plan", "-"]).stdin("FROM scratch\n").fails();
    assert!(output.stderr.contains("--plan needs a context that is a directory"), "{output}");
    context.write("Dockerfile", "FROM busybox\nCOPY absent /\n");
    assert!(plan_fails(&drydock, &context).contains("absent"));
    assert_eq!(listing(drydock.state()), before);
}

fn plan_fails(drydock: &Drydock, context: &Context) -> String {
    drydock.build(context).arg("--plan").fails().stderr
}

#[test]
fn privileged_an_ordinary_user_plans_and_explains() {
    let Some(person) = Person::new("plans and explains", true) else { return };
    let dockerfile = "FROM busybox\nCOPY x /x\nRUN cat /x > /y\n";
    person.context("context", dockerfile, &[("x", b"1")]);
    let build = |arg: &str| {
        let output = person.build("context", &[arg]);
        let told = person::ok(&output);
        (String::from_utf8(output.stdout).unwrap(), told)
    };
    let (plan, _) = build("--plan");
    assert!(plan.starts_with("3 of 3 steps would run"), "{plan}");
    assert!(!person.state.exists());
    let (_, told) = build("--explain");
    assert!(told.contains("why: first build of this step"), "{told}");
    fs::write(person.place("context").join("x"), "2").unwrap();
    let before = listing(&person.state);
    let (plan, _) = build("--plan");
    assert!(plan.starts_with("1 of 3 steps would run, and 1 may"), "{plan}");
    assert!(plan.contains("x changed ("), "{plan}");
    assert_eq!(listing(&person.state), before);
    let (_, told) = build("--explain");
    assert!(told.contains("why: x changed ("), "{told}");
}

#[test]
fn privileged_a_plan_fetches_no_layers() {
    require_root!();
    require_programs!("docker-registry");
    let server = RegistryServer::start().unwrap();
    BaseImage::get().push(&server, "base", "1");
    let proxy = FaultProxy::start(server.address(), Access::Open).unwrap();
    let drydock = Drydock::new();
    let context =
        Context::new(&format!("FROM {}/base:1\nRUN true > /x\n", proxy.address())).settle();
    let plan = || drydock.bare_build(&context).arg("--plan").ok().text();
    let text = plan();
    assert!(text.starts_with("2 of 2 steps would run"), "{text}");
    assert_eq!(proxy.count(Kind::BlobGet), 1, "the config");
    assert!(!drydock.state().exists());
    drydock.bare_build(&context).ok();
    let (before, asked) = (listing(drydock.state()), proxy.count(Kind::BlobGet));
    assert!(plan().starts_with("nothing would run"));
    let text = drydock.bare_build(&context).args(["--plan", "--pull"]).ok().text();
    assert!(text.starts_with("nothing would run"), "{text}");
    assert_eq!((listing(drydock.state()), proxy.count(Kind::BlobGet)), (before, asked));
}
