//! How old a step's result may be: `RUN --ttl` and `build --ttl`.

use std::time::Duration;

use tests::context::Context;
use tests::drydock::{Drydock, Output};
use tests::image_view::ImageView;
use tests::require_root;

/// Something else each time.
const NEW: &str = "cat /proc/sys/kernel/random/uuid";

fn build(drydock: &Drydock, text: &str, args: &[&str]) -> (ImageView, Output) {
    drydock.build(&Context::new(text)).args(args).image_and_output()
}

#[test]
fn privileged_a_result_is_used_until_it_is_too_old() {
    require_root!();
    let drydock = Drydock::new();
    let id = |flag: &str, args: &[&str]| {
        build(&drydock, &format!("FROM busybox\nRUN {flag} {NEW} > /id\n"), args).0.text("id")
    };
    let first = id("", &[]);
    assert_eq!(id("--ttl=24h", &[]), first, "the age is no part of what is done");
    assert_eq!(id("--ttl=7d", &["--ttl", "uuid=15m"]), first);
    let second = id("--ttl=0", &[]);
    assert_ne!(second, first);
    assert_eq!(id("--ttl=24h", &[]), second, "the new result replaces the old one");
    assert_eq!(id("", &[]), second);
    let third = id("", &["--ttl", "uuid=0s"]);
    assert_ne!(third, second);
    assert_eq!(id("--ttl=0", &["--ttl", "0:2=1w"]), third, "what is asked counts more");
    std::thread::sleep(Duration::from_millis(1010));
    let fourth = id("--ttl=1s", &[]);
    assert_ne!(fourth, third);
    assert_eq!(id("--ttl=1h", &[]), fourth);
    assert_ne!(id("--ttl=1h", &["--no-cache"]), fourth);
}

#[test]
fn privileged_a_refresh_that_changes_nothing_costs_only_its_step() {
    require_root!();
    let drydock = Drydock::new();
    let text = |list: &str| {
        format!(
            "FROM busybox AS base\nRUN --mount=type=cache,target=/c cat /c/list 2> /dev/null > /list || {list}\n\
             RUN {NEW} > /id\n\
             FROM busybox\nCOPY --from=base /id /\nRUN --mount=from=base,target=/b {NEW} > /more\n"
        )
    };
    let same = text("echo a > /list");
    let (first, output) = build(&drydock, &same, &[]);
    assert_eq!(output.executed().len(), 4, "{output}");
    let (second, output) = build(&drydock, &same, &["--ttl", "base:2=0"]);
    let [step] = &output.executed()[..] else { panic!("one step: {output}") };
    assert!(step.starts_with("[base 2/3] RUN "), "{output}");
    assert_eq!(second.config["rootfs"], first.config["rootfs"]);
    // All steps of a stage that make the same again; one that does not takes the rest along.
    let (third, output) = build(&drydock, &same, &["--ttl", "base=0", "--ttl", "base:2=1d"]);
    assert_eq!(output.executed().len(), 3, "{output}");
    assert_ne!(third.text("id"), first.text("id"));
    assert_ne!(third.text("more"), first.text("more"));
}

#[test]
fn privileged_a_cache_mount_stays_as_it_is() {
    require_root!();
    let drydock = Drydock::new();
    let text =
        "FROM busybox\nRUN --ttl=0 --mount=type=cache,target=/c echo >> /c/n; wc -l < /c/n > /n\n";
    let count = |args: &[&str]| build(&drydock, text, args).0.text("n");
    assert_eq!([count(&[]), count(&[]), count(&[])], ["1\n", "2\n", "3\n"]);
    assert_eq!(count(&["--no-cache"]), "1\n");
}

#[test]
fn privileged_copies_and_triggers_have_ages_too() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(
        "FROM busybox AS made\nRUN mkdir /d\nWORKDIR /w\nCOPY a b /\n\
         FROM made\nCOPY --link --from=made /a /linked\n",
    );
    let context = context.file("a", "a").file("b", "b");
    drydock.build(&context).ok();
    let ran = |step: &str| {
        let output = drydock.build(&context).args(["--ttl", &format!("{step}=0")]).ok();
        output.executed().len()
    };
    assert_eq!(
        ["a b", "WORKDIR", "made", "1", "stage-1:1", "mkdir /d"].map(ran),
        [1, 1, 3, 1, 1, 1]
    );
}

#[test]
fn what_makes_no_sense_is_told() {
    let drydock = Drydock::new();
    let output = drydock.build(&Context::new("FROM scratch\nRUN --ttl=soon make\n")).fails();
    for part in ["invalid age \"soon\" for --ttl", "Dockerfile:2", "^^^^", "such as 90s, 24h or 7d"]
    {
        assert!(output.stderr.contains(part), "{part}: {output}");
    }
    let context = Context::new("FROM scratch AS base\nCOPY a /\nFROM base\nWORKDIR /x\n");
    let output = drydock.build(&context).args(["--ttl", "bsae=24h"]).fails();
    for part in ["no step is \"bsae\"", "there is: base:1 (COPY a /), stage-1:1 (WORKDIR /x)\n"] {
        assert!(output.stderr.contains(part), "{part}: {output}");
    }
    for bad in ["base", "=24h", "base=", "base=24", "base=-1h", "base=1y"] {
        let output = drydock.build(&context).args(["--ttl", bad]).fails();
        assert!(output.stderr.contains("--ttl"), "{output}");
    }
}
