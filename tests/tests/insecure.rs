//! RUN --security=insecure, through the binary.

use tests::context::Context;
use tests::drydock::Drydock;
use tests::{host, require_root};

const MOUNTS: &str = "FROM busybox\n\
    RUN --security=insecure mkdir /m && mount -t tmpfs none /m && touch /m/x && ls /m && grep Seccomp: /proc/self/status\n";

#[test]
fn insecure_steps_need_leave() {
    let output = Drydock::new().build(&Context::new(MOUNTS)).fails();
    assert!(output.stderr.contains("security.insecure is not allowed"), "{output}");
    assert!(output.stderr.contains("--allow security.insecure"), "{output}");
}

#[test]
fn privileged_insecure_steps_mount_and_leave_nothing() {
    require_root!();
    let drydock = Drydock::new();
    let (image, output) = drydock
        .build(&Context::new(MOUNTS))
        .args(["--allow", "security.insecure"])
        .image_and_output();
    let log = output.step("RUN --security=insecure").log;
    assert_eq!(log.first().map(String::as_str), Some("x"), "{output}");
    assert!(image.root.has("m") && !image.root.has("m/x"), "what is mounted is in no layer");
    assert_eq!(host::mounts_below(drydock.state()), Vec::<String>::new());
    let sandboxed = MOUNTS.replace("--security=insecure ", "--security=sandbox ");
    let output =
        drydock.build(&Context::new(&sandboxed)).args(["--allow", "security.insecure"]).fails();
    assert!(output.stderr.contains("ermitted") || output.stderr.contains("denied"), "{output}");
}

#[test]
fn privileged_insecure_is_another_step() {
    require_root!();
    let drydock = Drydock::new();
    let build = |flag: &str| {
        let context = Context::new(&format!("FROM busybox\nRUN {flag}echo same > /f\n"));
        drydock.build(&context).args(["--allow", "security.insecure"]).ok()
    };
    assert!(!build("").cached("RUN"));
    assert!(!build("--security=insecure ").cached("RUN"));
    assert!(build("--security=insecure ").cached("RUN"));
    assert!(build("--security=sandbox ").cached("RUN"), "the default by its name");
}
