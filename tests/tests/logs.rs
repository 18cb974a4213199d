//! What steps told is kept whole and can be read later.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::DirEntryExt;
use std::path::Path;
use std::time::Duration;

use tests::context::Context;
use tests::drydock::Drydock;
use tests::host::wait_until;
use tests::require_root;

/// How long a step may take to say its first word.
const PATIENCE: Duration = Duration::from_secs(60);

/// The output of `drydock logs ARGS`.
fn logs(drydock: &Drydock, args: &[&str]) -> String {
    String::from_utf8(drydock.command("logs").args(args).ok().stdout).unwrap()
}

/// Directories of kept builds.
fn kept(drydock: &Drydock) -> Vec<String> {
    let entries = fs::read_dir(drydock.state().join("builds-v1"));
    let mut ids: Vec<String> = entries
        .map(|entries| entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default();
    ids.sort();
    ids
}

/// Which of `needles` any file below `dir` has in it, each file looked at under one of its names.
fn held<'a>(dir: &Path, needles: &[&'a str], seen: &mut HashSet<u64>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(held(&entry.path(), needles, seen));
        } else if kind.is_file()
            && seen.insert(entry.ino())
            // One that went away meanwhile holds nothing.
            && let Ok(bytes) = fs::read(entry.path())
        {
            found.extend(needles.iter().filter(|needle| holds(&bytes, needle.as_bytes())));
        }
    }
    found
}

/// Whether `needle` is in `bytes`: where its first byte is, the rest is looked at.
fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == needle[0]) {
        if bytes[from + at..].starts_with(needle) {
            return true;
        }
        from += at + 1;
    }
    false
}

#[test]
fn privileged_output_is_kept_whole() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(
        "FROM busybox\nRUN seq 1 900000; echo end >&2\nRUN printf 'no newline'\nRUN true\n",
    );
    drydock.build(&context).args(["-t", "app"]).ok();
    let want: String = (1..=900_000).map(|n| format!("{n}\n")).collect::<String>() + "end\n";
    assert!(want.len() > 5 << 20, "more than any view shows");
    assert!(logs(&drydock, &["last", "1"]) == want);
    assert!(logs(&drydock, &["last", "seq 1"]) == want);
    assert_eq!(logs(&drydock, &["last", "2"]), "no newline");
    let all = logs(&drydock, &[]);
    assert!(all.starts_with("#1 [2/4] RUN seq 1 900000; echo end >&2\n1\n2\n"), "{}", &all[..80]);
    assert!(all.ends_with("\nend\n\n#2 [3/4] RUN printf 'no newline'\nno newline\n"));
    let list = logs(&drydock, &["--list"]);
    assert!(list.contains("done") && list.contains("app:latest from "), "{list}");
    let steps = logs(&drydock, &["--list", "last"]);
    assert_eq!(steps.lines().count(), 3, "{steps}");
    let stamped = logs(&drydock, &["-t", "last", "2"]);
    let (time, rest) = stamped.split_once(' ').unwrap();
    assert!(time.starts_with("20") && time.ends_with('Z') && rest == "no newline", "{stamped}");
}

#[test]
fn privileged_a_failed_build_says_where_to_read() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new("FROM busybox\nRUN seq 1 5000; echo broken; exit 3\n");
    for root in [None, Some(drydock.place("a b's"))] {
        let mut build = drydock.build(&context);
        if let Some(root) = &root {
            build = build.arg("--root").arg(root);
        }
        let output = build.fails();
        let last = output.stderr.lines().last().unwrap();
        let command = last.split_once("drydock logs").expect(last).1.to_owned();
        assert!(output.stderr.contains("broken"), "{output}");
        // The command as it stands there.
        let shell = format!("{} logs{command}", tests::binary::drydock().display());
        let mut sh = std::process::Command::new("sh");
        sh.args(["-c", &shell]).env("DRYDOCK_ROOT", drydock.state());
        let shown = sh.output().unwrap();
        assert!(shown.status.success(), "{shell}: {shown:?}");
        let want: String = (1..=5000).map(|n| format!("{n}\n")).collect::<String>() + "broken\n";
        assert!(String::from_utf8(shown.stdout).unwrap() == want);
    }
    assert!(logs(&drydock, &["--list"]).contains("failed"));
    assert!(logs(&drydock, &[]).ends_with("exit code: 3\n"));
}

#[test]
fn privileged_nothing_is_written_where_nothing_was_said() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new("FROM busybox\nRUN true\n");
    drydock.build(&context).ok();
    assert_eq!(kept(&drydock), Vec::<String>::new());
    let loud = Context::new("FROM busybox\nRUN echo hi\n");
    drydock.build(&loud).ok();
    let first = kept(&drydock);
    assert_eq!(first.len(), 1);
    drydock.build(&loud).ok();
    assert_eq!(kept(&drydock), first, "an unchanged build");
    drydock.build(&Context::new("FROM busybox\nNOPE\n")).fails();
    assert_eq!(kept(&drydock), first, "nothing was run");
}

#[test]
fn privileged_what_cannot_be_found_is_told() {
    require_root!();
    let drydock = Drydock::new();
    let none = drydock.command("logs").fails();
    assert!(none.stderr.contains("keeps no logs of builds"), "{none}");
    assert!(!drydock.state().exists(), "it only looks");
    drydock.build(&Context::new("FROM busybox\nRUN echo one\nRUN echo two\n")).ok();
    for (args, part) in [
        (&["ffff"][..], "no log is kept of a build \"ffff\""),
        (&["../.."], "no log is kept"),
        (&["last", "9"], "these did: 1 [2/3] RUN echo one; 2 [3/3] RUN echo two"),
        (&["last", "echo"], "say a number"),
    ] {
        let output = drydock.command("logs").args(args).fails();
        assert!(output.stderr.contains(part), "{output}");
    }
    drydock.command("prune").args(["--all", "--force"]).ok();
    assert_eq!(kept(&drydock), Vec::<String>::new());
}

#[test]
fn privileged_killed_builds_are_told_from_running_ones() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new("FROM busybox\nRUN echo said; sleep 7654321\n");
    let mut running = drydock.build(&context).start();
    let said = || {
        let list = drydock.command("logs").output();
        String::from_utf8_lossy(&list.stdout).contains("said\n")
    };
    assert!(wait_until(PATIENCE, said), "it never said a word");
    let list = logs(&drydock, &["--list"]);
    assert!(list.contains("running"), "{list}");
    // Its log is no garbage yet.
    drydock.command("prune").args(["--all", "--force"]).ok();
    running.kill();
    running.finish();
    let list = logs(&drydock, &["--list"]);
    assert!(list.contains("interrupted"), "{list}");
    assert!(logs(&drydock, &[]).contains("said\n"));
}

#[test]
fn privileged_secrets_are_in_no_log() {
    require_root!();
    let drydock = Drydock::new();
    let value = "hunter2-correct/horse+battery?staple";
    let context = Context::new(
        "FROM busybox\n\
         RUN --mount=type=secret,id=s cd /run/secrets; cat s; echo; base64 s; xxd -p s; \
         hexdump -v -e '1/1 \"%02X\"' s; echo; printf user: | cat - s | base64; \
         for n in $(seq 1 36); do cut -c $n s | tr -d '\\n'; sleep 0.01; done; echo; cat s >&2; exit 1\n",
    )
    .file("secret", value);
    let secret = format!("id=s,src={}", context.path().join("secret").display());
    drydock.build(&context).args(["--secret", &secret]).fails();
    let told = logs(&drydock, &[]);
    assert!(told.contains("***"), "{told}");
    let base64 = "aHVudGVyMi1jb3JyZWN0L2hvcnNlK2JhdHRlcnk/c3RhcGxl";
    let hex: String = value.bytes().map(|b| format!("{b:02x}")).collect();
    let upper = hex.to_uppercase();
    let needles = [value, base64, &hex, &upper, "hunter2", "horse+battery"];
    let found = held(drydock.state(), &needles, &mut HashSet::new());
    assert_eq!(found, Vec::<&str>::new(), "{told}");
}

#[test]
fn privileged_builds_beside_each_other() {
    require_root!();
    let drydock = Drydock::new();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let drydock = &drydock;
            scope.spawn(move || {
                let text = format!("FROM busybox\nRUN echo {n}; seq {n}000 {n}999\n");
                drydock.build(&Context::new(&text)).ok();
            });
        }
    });
    let mut told: Vec<String> =
        kept(&drydock).iter().map(|id| logs(&drydock, &[id, "1"])).collect();
    told.sort();
    let want = |n: u32| {
        let numbers = (n * 1000..n * 1000 + 1000).map(|n| format!("{n}\n"));
        format!("{n}\n") + &numbers.collect::<String>()
    };
    // seq 0000 0999 counts from 0.
    assert_eq!(told, (0..4).map(want).collect::<Vec<_>>());
}
