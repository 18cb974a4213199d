//! `drydock info`: what a host gives, told without changing anything.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tests::drydock::Drydock;
use tests::person::{Person, ok};

fn json(output: &[u8]) -> Value {
    serde_json::from_slice(output)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(output)))
}

/// The names of what is in a directory, and below it.
fn below(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        names.push(entry.path().display().to_string());
        if entry.file_type().unwrap().is_dir() {
            names.extend(below(&entry.path()));
        }
    }
    names.sort();
    names
}

#[test]
fn it_tells_and_leaves_nothing() {
    let drydock = Drydock::new();
    let run = drydock.command("info").ok();
    for name in [
        "builds as ",
        "RUN ",
        "state directory ",
        "snapshots ",
        "control groups ",
        "networks ",
        "limits ",
    ] {
        assert!(run.text().lines().any(|line| line.starts_with(name)), "{name}: {}", run.text());
    }
    let run = drydock.command("info").arg("--format=json").ok();
    let report = json(run.text().as_bytes());
    assert_eq!(report["state"]["path"], drydock.state().display().to_string());
    assert_eq!(report["state"]["exists"], false);
    assert!(report["state"]["free_bytes"].as_u64().is_some_and(|free| free > 0));
    assert!(report["hints"].is_array() && report["networks"].is_array());
    assert!(!drydock.state().exists());
    assert_eq!(below(&drydock.home()), Vec::<String>::new());
}

#[test]
fn privileged_of_a_directory_that_is_in_use() {
    tests::require_root!();
    let drydock = Drydock::new();
    drydock.image_of("FROM busybox\nRUN true\n");
    let before = below(drydock.state());
    let run = drydock.command("info").arg("--format=json").ok();
    let report = json(run.text().as_bytes());
    assert_eq!(report["builds"]["run"], true, "{report}");
    assert_eq!(report["snapshots"]["decided"], true);
    assert_eq!(report["state"]["owner"], 0);
    assert_eq!(below(drydock.state()), before);
}

#[test]
fn privileged_the_tiers_of_ordinary_users() {
    for (ranges, tier) in [(true, "ranges"), (false, "one-id")] {
        let Some(person) = Person::new("info of an ordinary user", ranges) else { return };
        let output = person.run(["info", "--format=json"]);
        ok(&output);
        let report = json(&output.stdout);
        assert_eq!(report["builds"]["tier"], tier, "{report}");
        assert_eq!(report["builds"]["run"], true, "{report}");
        let users = report["builds"]["users"].as_u64().unwrap();
        assert_eq!(users > 1, ranges);
        let hints = report["hints"].to_string();
        assert_eq!(
            hints.contains(&format!(
                "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {}",
                person.name
            )),
            !ranges,
            "{hints}"
        );
        let text = person.run(["info"]);
        ok(&text);
        assert!(
            String::from_utf8_lossy(&text.stdout).contains("builds as        ordinary user with")
        );
        assert_eq!(below(&person.place("home")), Vec::<String>::new());
        // Another user's directory is told.
        let output = person.run(["info", "--root", "/var/lib"]);
        ok(&output);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(told.contains("hint: the state directory /var/lib"), "{told}");
    }
}
