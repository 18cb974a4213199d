//! What a build shows while it runs, in each view.

use std::process::Command;

use serde_json::Value;
use tests::context::Context;
use tests::drydock::Drydock;
use tests::progress::{End, rawjson};
use tests::{binary, require_programs, require_root};

fn sample() -> Context {
    Context::new(
        "FROM busybox AS build\nRUN echo one; echo two >&2\nFROM busybox\nCOPY --from=build /etc/passwd /p\nRUN printf 'a\\033[31mred\\n'\n",
    )
}

#[test]
fn privileged_plain() {
    require_root!();
    let drydock = Drydock::new();
    let output = drydock.build(&sample()).args(["-t", "app"]).ok();
    let step = output.step("RUN echo one");
    assert_eq!(step.name, "[build 2/2] RUN echo one; echo two >&2");
    assert_eq!(step.end, End::Done);
    assert!(output.has_step("[internal] load build definition from Dockerfile"), "{output}");
    assert!(output.steps().iter().any(|s| s.name.starts_with("[build 1/2] FROM ")), "{output}");
    assert!(output.steps().iter().any(|s| s.name.starts_with("[stage-1 2/3] COPY ")), "{output}");
    assert!(output.steps().iter().any(|s| s.name.contains("exporting to image")), "{output}");
    assert!(!output.stderr.contains('\u{1b}'), "no escape sequences: {output}");
    assert_eq!(output.step("RUN printf").log, ["ared"]);
    assert!(output.stdout.is_empty(), "{output}");
    assert!(output.steps().iter().all(|s| s.end != End::Open), "{output}");
    let again = drydock.build(&sample()).env("BUILDKIT_PROGRESS", "plain").args(["-t", "app"]).ok();
    assert!(again.cached("RUN echo one"));
}

#[test]
fn privileged_raw_json() {
    require_root!();
    let drydock = Drydock::new();
    let output = drydock.build(&sample()).arg("--progress=rawjson").ok();
    for line in output.stderr.lines() {
        let status: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        let known = ["vertexes", "statuses", "logs", "warnings"];
        assert!(status.as_object().unwrap().keys().all(|k| known.contains(&k.as_str())), "{line}");
    }
    let vertices = rawjson(&output.stderr);
    let run = vertices.iter().find(|v| v.name.contains("RUN echo one")).unwrap();
    assert!(run.log.contains("one\n") && run.log.contains("two\n"), "{run:?}");
    assert!(run.started < run.completed && !run.cached && run.error.is_none(), "{run:?}");
    let again = drydock.build(&sample()).arg("--progress=rawjson").ok();
    let vertices = rawjson(&again.stderr);
    assert!(vertices.iter().find(|v| v.name.contains("RUN echo one")).unwrap().cached);
    let failing = Context::new("FROM busybox\nRUN exit 9\n");
    let output = drydock.build(&failing).arg("--progress=rawjson").fails();
    let vertices = rawjson(&output.stderr);
    let run = vertices.iter().find(|v| v.name.contains("RUN exit 9")).unwrap();
    assert!(run.error.as_deref().is_some_and(|e| e.contains("exit code: 9")), "{run:?}");
}

#[test]
fn privileged_quiet() {
    require_root!();
    let drydock = Drydock::new();
    let output = drydock.build(&sample()).args(["-q", "-t", "app"]).ok();
    assert_eq!(output.stderr, "");
    assert!(output.text().starts_with("sha256:") && output.text().lines().count() == 1, "{output}");
    let output = drydock.build(&sample()).args(["--progress=quiet", "-t", "app"]).ok();
    assert_eq!((output.stderr.as_str(), output.text().as_str()), ("", ""));
}

#[test]
fn privileged_a_terminal() {
    require_root!();
    require_programs!("script");
    let drydock = Drydock::new();
    let context = sample();
    let base = tests::base_image::BaseImage::layout();
    let command = format!(
        "stty cols 60 rows 20; exec {} build --root {} --build-context busybox=oci-layout://{} -t app {}",
        binary::drydock().display(),
        drydock.state().display(),
        base.display(),
        context.path().display()
    );
    for no_color in ["", "1"] {
        let output = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .env("TERM", "xterm")
            .env("NO_COLOR", no_color)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        assert!(text.contains("[+] Building") && text.contains("FINISHED"), "{text}");
        assert!(text.contains("RUN echo one"), "{text}");
        assert!(text.contains('\u{1b}'), "it is redrawn");
        let colours = text.contains("\u{1b}[34m") || text.contains("\u{1b}[3");
        assert_eq!(colours, no_color.is_empty(), "{text:?}");
    }
}

#[test]
fn privileged_warnings_are_told_once() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new("from scratch as x\nMAINTAINER me\nENV a b\nLABEL c=1\n");
    let output = drydock.build(&context).args(["-t", "app"]).ok();
    for rule in ["MaintainerDeprecated", "LegacyKeyValueFormat"] {
        assert_eq!(output.stderr.matches(rule).count(), 1, "{rule}: {output}");
    }
}
