//! Bad input: one clear message, exit status 1, nothing half-written, and the cache intact.

use tests::context::Context;
use tests::drydock::Drydock;
use tests::require_root;

/// A bad Dockerfile, the line to blame, and a part of the message.
const BAD: &[(&str, usize, &str)] = &[
    ("FROM scratch\nFNTRYPOINT x\n", 2, "ENTRYPOINT"),
    ("FROM scratch\nCOPY --chonw=1 a /\n", 2, "--chown"),
    ("FROM scratch\nCOPY a\n", 2, "COPY"),
    ("FROM scratch\n\nENV A\n", 3, "ENV"),
    ("FROM scratch\nENV A=1 B\n", 2, "="),
    ("FROM\n", 1, "FROM"),
    ("FROM scratch AS 1x\n", 1, "1x"),
    ("FROM scratch as a b\n", 1, "FROM"),
    ("RUN true\n", 1, "FROM"),
    ("LABEL a=1\nFROM scratch\n", 1, "FROM"),
    ("FROM scratch\nLABEL a=${b\n", 2, "}"),
    ("FROM scratch\nLABEL a=${}\n", 2, "substitution"),
    ("FROM scratch\nLABEL a=${b:?must be given}\n", 2, "must be given"),
    ("FROM $undefined\n", 1, "undefined"),
    ("FROM Bad_Name\n", 1, "Bad_Name"),
    ("FROM scratch AS one\nCOPY --from=later / /\nFROM scratch AS later\nFROM one\n", 2, "later"),
    ("FROM scratch AS a\nCOPY --from=a / /\n", 2, "circular"),
    ("FROM scratch\nCOPY --from=7 / /\n", 2, "7"),
    ("FROM scratch\nEXPOSE 99999\n", 2, "99999"),
    ("FROM scratch\nEXPOSE 80/xyz\n", 2, "xyz"),
    ("FROM scratch\nSTOPSIGNAL SIGNOPE\n", 2, "SIGNOPE"),
    ("FROM scratch\nHEALTHCHECK --interval=x CMD true\n", 2, "interval"),
    ("FROM scratch\nHEALTHCHECK --retries=-1 CMD true\n", 2, "retries"),
    ("FROM scratch\nHEALTHCHECK SOMETIMES\n", 2, "HEALTHCHECK"),
    ("FROM scratch\nONBUILD ONBUILD RUN x\n", 2, "ONBUILD"),
    ("FROM scratch\nONBUILD FROM x\n", 2, "FROM"),
    ("FROM scratch\nONBUILD MAINTAINER x\n", 2, "MAINTAINER"),
    ("FROM scratch\nSHELL /bin/sh\n", 2, "SHELL"),
    ("FROM scratch\nCMD [1]\n", 2, "string"),
    ("FROM scratch\nVOLUME []\n", 2, "VOLUME"),
    ("FROM scratch\nUSER\n", 2, "USER"),
    ("FROM scratch\nWORKDIR\n", 2, "WORKDIR"),
    ("FROM scratch\nARG\n", 2, "ARG"),
    ("FROM scratch\nRUN\n", 2, "RUN"),
    ("FROM scratch\nCOPY a /x\nCOPY nothing-here /y\n", 3, "nothing-here"),
    ("FROM --platform=bad/platform/x/y scratch\n", 1, "platform"),
    ("# escape=x\nFROM scratch\n", 1, "escape"),
    ("FROM scratch\nRUN --mount=type=chache,target=/x true\n", 2, "cache"),
    ("FROM scratch\nADD --checksum=nope a /\n", 2, "checksum"),
];

#[test]
fn privileged_bad_dockerfiles() {
    require_root!();
    let drydock = Drydock::new();
    let dest = drydock.place("out.tar");
    let to = format!("type=oci,dest={}", dest.display());
    let mut wrong = Vec::new();
    for (text, line, part) in BAD {
        let context = Context::new(text).file("a", "A");
        let output = drydock.build(&context).args(["-o", &to]).output();
        let written = std::fs::remove_file(&dest).is_ok();
        let source = text.lines().nth(line - 1).unwrap();
        let stderr = &output.stderr;
        for (what, holds) in [
            ("exit status 1", output.status.code() == Some(1)),
            ("no panic", !stderr.contains("panicked")),
            ("file and line", stderr.contains(&format!("Dockerfile:{line}"))),
            ("the source line", stderr.contains(source)),
            (
                "a marker",
                stderr.lines().any(|l| l.contains(">>>") || l.contains("^") || l.contains("━")),
            ),
            ("the part", stderr.contains(part)),
            ("nothing written", !written),
        ] {
            if !holds {
                wrong.push(format!("{text:?} lacks {what} ({part:?}):\n{stderr}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), BAD.len(), wrong.join("\n"));
    drydock.build(&Context::new("FROM scratch\nLABEL a=1\n")).ok();
}

#[test]
fn privileged_files_that_are_no_dockerfiles() {
    require_root!();
    let drydock = Drydock::new();
    for text in ["", "# only a comment\n", "\n\n", "\u{feff}"] {
        let output = drydock.build(&Context::new(text)).fails();
        assert!(
            output.stderr.contains("empty") || output.stderr.contains("no instructions"),
            "{output}"
        );
    }
    let long = format!("FROM scratch\nLABEL a={}\n", "x".repeat(70_000));
    let output = drydock.build(&Context::new(&long)).fails();
    assert!(output.stderr.contains("65535"), "{output}");
    let binary: Vec<u8> = (0..=255).cycle().take(5000).collect();
    drydock.build(&Context::empty().file("Dockerfile", binary)).fails();
    let output = drydock.build(&Context::empty()).fails();
    assert!(output.stderr.contains("Dockerfile"), "{output}");
    let context = Context::empty().dir("Dockerfile");
    drydock.build(&context).fails();
    let context = Context::empty().symlink("Dockerfile", "Dockerfile");
    drydock.build(&context).fails();
}

#[test]
fn privileged_bad_command_lines() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new("FROM scratch\nRUN exit 1\n");
    for (args, part) in [
        (&["-t", "Bad Name"][..], "Bad Name"),
        (&["--target", "nope"], "nope"),
        (&["-o", "type=nope"], "nope"),
        (&["--ssh", "default"], "--ssh default: SSH_AUTH_SOCK is not set"),
        (&["--platform", "linux/s390x"], "s390x"),
        (&["--build-context", "x=oci-layout:///no/such/place"], "/no/such/place"),
        (&["-f", "/no/such/file"], "/no/such/file"),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["--push"], "name"),
    ] {
        let context = match args[0] {
            "--build-context" => Context::new("FROM x\n"),
            _ => Context::new("FROM scratch\nLABEL a=1\n"),
        };
        let output = drydock.build(&context).args(args).fails();
        assert!(output.stderr.contains(part), "{args:?}: {output}");
        assert!(output.executed().is_empty(), "{args:?}: {output}");
    }
    let output = drydock.command("build").arg("/no/such/context").fails();
    assert!(output.stderr.contains("/no/such/context"), "{output}");
    let output = drydock.build(&context).args(["-f", "-"]).stdin("").fails();
    assert!(!output.stderr.is_empty());
    let output = drydock.command("build").args(["-f", "-", "-"]).fails();
    assert!(output.stderr.contains("standard input"), "{output}");
}

#[test]
fn privileged_old_flags_are_ignored_with_a_warning() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new("FROM scratch\nLABEL a=1\n");
    let output = drydock.build(&context).args(["--rm", "--force-rm", "--compress"]).ok();
    for flag in ["--rm", "--force-rm", "--compress"] {
        assert!(output.stderr.contains(flag), "{output}");
    }
}

#[test]
fn privileged_the_first_cause_is_reported() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(
        "FROM scratch AS a\nCOPY missing-one /\nFROM scratch AS b\nCOPY --from=a / /\nFROM scratch\nCOPY --from=b / /\n",
    );
    let output = drydock.build(&context).fails();
    assert!(
        output.stderr.contains("missing-one") && output.stderr.contains("Dockerfile:2"),
        "{output}"
    );
    let errors = output.stderr.lines().filter(|l| l.starts_with("ERROR")).count();
    assert_eq!(errors, 1, "{output}");
}

#[test]
fn privileged_state_directories_that_cannot_be_used() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new("FROM scratch\nLABEL a=1\n");
    let file = drydock.place("file");
    std::fs::write(&file, "x").unwrap();
    let output = drydock.build(&context).arg("--root").arg(&file).fails();
    assert!(output.stderr.contains("file"), "{output}");
    drydock.build(&context).ok();
    std::fs::write(drydock.state().join("format"), "drydock-state 9\n").unwrap();
    let output = drydock.build(&context).fails();
    assert!(output.stderr.contains("format"), "{output}");
}
