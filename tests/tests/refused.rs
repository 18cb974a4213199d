//! A host that refuses every namespace and every mount, as many a container does.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tests::context::Context;
use tests::drydock::Drydock;
use tests::host::mounts_below;
use tests::person::{Person, fails, make, ok};
use tests::program::{COMPILER, compile};
use tests::skip;

/// A program that executes its arguments on such a host. None, with a printed reason, where it
/// cannot be had.
fn refuse(case: &str) -> Option<PathBuf> {
    if !skip::is_root() {
        skip::say(case, "loading a filter without no_new_privs needs root");
        return None;
    }
    if skip::program(COMPILER).is_none() {
        skip::say(case, &format!("{COMPILER} is not installed"));
        return None;
    }
    let program = compile("refuse", include_str!("refused/refuse.c"));
    let tried = Command::new(&program).arg("true").output().unwrap();
    if !tried.status.success() {
        skip::say(case, String::from_utf8_lossy(&tried.stderr).trim());
        return None;
    }
    Some(program)
}

fn info(output: &[u8]) -> Value {
    serde_json::from_slice(output).unwrap()
}

#[test]
fn privileged_root_is_told_at_the_first_run() {
    let Some(refuse) = refuse("root without namespaces") else { return };
    let drydock = Drydock::new();
    // The first step works.
    let context = Context::new("FROM busybox\nCOPY Dockerfile /first\nRUN echo second > /second\n");
    let failed = drydock.build(&context).wrapped([&refuse]).fails();
    assert!(failed.stderr.contains("RUN is not possible here"), "{failed}");
    assert!(failed.stderr.contains("this host refuses new namespaces"), "{failed}");
    assert!(failed.stderr.contains("--privileged"), "{failed}");
    assert_eq!(failed.executed(), ["[2/3] COPY Dockerfile /first"], "{failed}");
    assert_eq!(mounts_below(drydock.state()), Vec::<String>::new());

    // Without a RUN, and where each is known, nothing is missing.
    let copies = Context::new("FROM busybox\nCOPY Dockerfile /first\n");
    drydock.build(&copies).wrapped([&refuse]).ok();
    let state = drydock.place("known");
    let build =
        || drydock.build(&context).arg("--root").arg(&state).args(["--snapshotter", "copy"]);
    build().ok();
    assert_eq!(build().wrapped([&refuse]).ok().executed(), Vec::<String>::new());

    let told = drydock.command("info").arg("--format=json").wrapped([&refuse]).ok();
    let report = info(&told.stdout);
    assert_eq!(
        (&report["builds"]["tier"], &report["builds"]["run"]),
        (&"root".into(), &false.into())
    );
    let reason = report["builds"]["run_reason"].as_str().unwrap();
    assert!(reason.contains("refuses new namespaces"), "{reason}");
    assert_eq!(report["networks"][0]["available"], false);
    assert!(report["hints"].to_string().contains("--privileged"), "{report}");
    assert!(
        drydock.command("info").wrapped([&refuse]).ok().text().contains("\nRUN              no\n")
    );
}

#[test]
fn privileged_users_are_told_before_anything() {
    let case = "a user without namespaces";
    let Some(refuse) = refuse(case) else { return };
    for ranges in [true, false] {
        let Some(person) = Person::new(case, ranges) else { return };
        // Others cannot reach the compiled one.
        let program = make(&person.place("bin")).join("refuse");
        std::fs::copy(&refuse, &program).unwrap();
        let by = [program.to_str().unwrap()];
        person.context("context", "FROM scratch\nRUN true\n", &[]);
        let context = person.place("context");
        let told =
            fails(&person.run_by(&by, ["build", "--progress=plain", context.to_str().unwrap()]));
        assert!(told.contains("cannot make a user namespace: Operation not permitted"), "{told}");
        assert!(
            told.contains("hint: in a container, allow the system calls unshare and mount"),
            "{told}"
        );
        assert!(!person.state.exists(), "nothing was begun");

        let output = person.run_by(&by, ["info", "--format=json"]);
        ok(&output);
        let report = info(&output.stdout);
        assert_eq!(report["builds"]["tier"], "none", "{report}");
        assert_eq!(report["builds"]["run"], false);
        assert!(report["hints"].to_string().contains("unshare and mount"), "{report}");
        // What needs no namespace works.
        ok(&person.run_by(&by, ["build", "--check", context.to_str().unwrap()]));
    }
}

#[test]
fn privileged_without_new_privileges_there_is_one_id() {
    let Some(person) = Person::new("no_new_privs", true) else { return };
    let by = ["setpriv", "--no-new-privs"];
    let output = person.run_by(&by, ["info", "--format=json"]);
    ok(&output);
    let report = info(&output.stdout);
    assert_eq!(report["builds"]["tier"], "one-id", "{report}");
    let reason = report["builds"]["tier_reason"].as_str().unwrap();
    assert!(reason.contains("no_new_privs"), "{reason}");
    assert!(report["hints"].to_string().contains("NoNewPrivileges=no"), "{report}");
}
