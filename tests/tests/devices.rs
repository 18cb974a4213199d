//! `RUN --device`, through the binary: devices of specifications that the case writes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tests::context::Context;
use tests::drydock::{Drydock, Run};
use tests::person::{Person, fails, make, ok};
use tests::{progress, require_root};

/// Harmless devices: what `full` is for every step, by other names.
const SPEC: &str = r#"cdiVersion: "0.7.0"
kind: vendor.test/card
containerEdits:
  env: [CARDS=yes]
devices:
- name: free
  annotations: {org.mobyproject.buildkit.device.autoallow: true}
  containerEdits:
    deviceNodes: [{path: /dev/free, hostPath: /dev/full}]
- name: hooked
  containerEdits:
    deviceNodes: [{path: /dev/hooked, hostPath: /dev/full}]
    hooks: [{hookName: createContainer, path: /usr/bin/false}]
- name: one
  annotations: {org.mobyproject.buildkit.device.class: good}
  containerEdits:
    env: [CARD=one, PATH=/opt/card:/bin]
    additionalGids: [4711]
    deviceNodes:
    - {path: /dev/cards/one, hostPath: /dev/full}
    mounts:
    - {hostPath: @LIB@, containerPath: /opt/card/lib, options: [ro, nosuid, rbind]}
- name: owned
  containerEdits:
    deviceNodes:
    - {path: /opt/nodes/own, hostPath: /dev/full, type: c, major: 1, minor: 7, uid: 3, gid: 4, fileMode: 0640}
    - {path: /dev/of-user, hostPath: /dev/full}
- name: secret
  containerEdits:
    deviceNodes: [{path: /dev/secret, hostPath: @SECRET@}]
"#;

/// Uses the first one in each of its parts.
const USES: &str = "(echo x > /dev/cards/one) 2>&1 | grep -o 'No space'; \
    echo $CARDS $CARD $PATH; cat /opt/card/lib/text; \
    (echo > /opt/card/lib/text) 2>&1 | grep -o 'Read-only'";

/// Writes the specification and what it mounts; the directory of the former.
fn describe(dir: &Path, secret: &Path) -> PathBuf {
    let (specs, lib) = (make(&dir.join("cdi")), make(&dir.join("lib")));
    fs::write(lib.join("text"), "from the host\n").unwrap();
    let text = SPEC.replace("@LIB@", lib.to_str().unwrap());
    fs::write(specs.join("card.yaml"), text.replace("@SECRET@", secret.to_str().unwrap())).unwrap();
    specs
}

struct Case {
    drydock: Drydock,
    specs: PathBuf,
}

impl Case {
    fn new() -> Self {
        let drydock = Drydock::new();
        let specs = describe(&drydock.home(), Path::new("/dev/full"));
        Self { drydock, specs }
    }

    fn build(&self, steps: &str, allow: &[&str]) -> Run {
        let context = Context::new(&format!("FROM busybox\n{steps}\n"));
        let allow = allow.iter().flat_map(|it| ["--allow", it]);
        self.drydock.build(&context).args(allow).env("DRYDOCK_CDI_DIRS", &self.specs)
    }
}

#[test]
fn privileged_nodes_mounts_variables_and_groups() {
    require_root!();
    let case = Case::new();
    let steps = format!(
        "RUN --device=vendor.test/card=one,required {USES}; id -G | grep -c 4711; touch /made\n\
         USER 1000\n\
         RUN --device=vendor.test/card=owned stat -c '%n %a %u:%g %t,%T' /opt/nodes/own /dev/of-user; \
         (echo x > /dev/of-user) 2>&1 | grep -o 'No space'"
    );
    let (image, output) = case.build(&steps, &["device"]).image_and_output();
    let log = output.step("card=one,required").log;
    let want = ["No space", "yes one /opt/card:/bin", "from the host", "Read-only", "1"];
    assert_eq!(log, want, "{output}");
    let log = output.step("card=owned").log;
    let want = ["/opt/nodes/own 640 3:4 1,7", "/dev/of-user 666 1000:1001 1,7", "No space"];
    assert_eq!(log, want, "{output}");
    assert!(image.root.has("made"));
    for stub in ["opt", "dev/cards", "dev/of-user"] {
        assert!(!image.root.has(stub), "{stub} only held what devices need");
    }
    assert!(!image.config.to_string().contains("CARDS="), "variables are the step's alone");
}

#[test]
fn privileged_leave_is_asked_for_before_the_first_step() {
    require_root!();
    let case = Case::new();
    let one = "RUN echo first\nRUN --device=vendor.test/card=one true";
    let output = case.build(one, &[]).fails();
    let text = &output.stderr;
    let message = "device vendor.test/card=one is requested by the build but not allowed";
    assert!(text.contains(message), "{output}");
    assert!(text.contains("--allow device=vendor.test/card=one"), "the hint: {output}");
    assert!(text.contains("Dockerfile:3"), "{output}");
    assert!(!output.has_step("RUN echo first"), "{output}");
    let output = case.build(one, &["device=vendor.test/card=free"]).fails();
    assert!(output.stderr.contains(message), "{output}");
    for allow in ["device=vendor.test/card=one", "device=vendor.test/card=*", "device"] {
        case.build(one, &[allow]).ok();
    }
    // Its specification gives leave.
    let free = "RUN --device=vendor.test/card=free test -c /dev/free -a ! -e /dev/hooked";
    case.build(free, &[]).ok();
}

#[test]
fn privileged_names_classes_and_aliases() {
    require_root!();
    let case = Case::new();
    let aliased = "RUN --device=any.org/gpu,required test -c /dev/cards/one";
    let allow = ["device=vendor.test/card=one,alias=any.org/gpu"];
    case.build(aliased, &allow).ok();
    assert!(case.build(aliased, &allow).ok().cached("RUN"));
    let output = case.build(aliased, &["device"]).fails();
    assert!(
        output.stderr.contains("required device \"any.org/gpu\" is not registered"),
        "{output}"
    );
    // Under its alias it is another device than before: the step runs again.
    let other = case.build(aliased, &["device=vendor.test/card=free,alias=any.org/gpu"]).fails();
    assert!(other.stderr.contains("exit code: 1"), "{other}");
    let class =
        "RUN --device=vendor.test/card=good ls /dev/cards/one && test -e /dev/free || echo only";
    let log = case.build(class, &["device"]).ok().step("RUN --device").log;
    assert_eq!(log.last().map(String::as_str), Some("only"), "{log:?}");
    case.build("RUN --device=vendor.test/card test -c /dev/free", &["device"]).ok();
    let output = case.build("RUN --device=../card=x true", &["device"]).fails();
    assert!(output.stderr.contains("invalid device \"../card=x\""), "{output}");
}

#[test]
fn privileged_what_is_missing() {
    require_root!();
    let case = Case::new();
    fs::write(case.specs.join("broken.json"), "{").unwrap();
    let output = case.build("RUN --device=vendor.test/none,required true", &["device"]).fails();
    let text = &output.stderr;
    assert!(text.contains("required device \"vendor.test/none\" is not registered"), "{output}");
    assert!(text.contains("vendor.test/card=free, vendor.test/card=hooked"), "{output}");
    assert!(text.contains("broken.json cannot be used"), "{output}");
    let absent = "RUN --device=vendor.test/none=x ls /dev/late 2>/dev/null || echo went on";
    let output = case.build(absent, &["device"]).ok();
    let log = output.step("RUN --device").log.join("\n");
    assert!(log.contains("device vendor.test/none=x is not registered: going on"), "{output}");
    assert!(log.contains("went on"), "{output}");
    assert!(case.build(absent, &["device"]).ok().cached("RUN"));
    // When it is there, the step is another one.
    let late = r#"{"cdiVersion":"0.5.0","kind":"vendor.test/none","devices":[{"name":"x",
        "containerEdits":{"deviceNodes":[{"path":"/dev/late","hostPath":"/dev/full"}]}}]}"#;
    fs::write(case.specs.join("late.json"), late).unwrap();
    let output = case.build(absent, &["device"]).ok();
    assert_eq!(output.step("RUN --device").log, ["/dev/late"], "{output}");
    // Two files of one directory that say different things say nothing.
    fs::write(case.specs.join("twice.json"), late).unwrap();
    let output = case.build("RUN --device=vendor.test/none=x,required true", &["device"]).fails();
    assert!(output.stderr.contains("so neither is used"), "{output}");
    let output = case.build("RUN --device=vendor.test/card=hooked true", &["device"]).fails();
    assert!(output.stderr.contains("the hook createContainer run (/usr/bin/false)"), "{output}");
}

/// Builds as this user, with the specifications of `specs`.
fn build(person: &Person, specs: &Path, dockerfile: &str) -> Output {
    let context = person.place("context");
    let _ = fs::remove_dir_all(&context);
    person.context("context", dockerfile, &[]);
    let base = format!("busybox=oci-layout://{}:latest", person.place("base").display());
    Command::new("setpriv")
        .args(["--reuid", &person.name, "--regid", &person.gid.to_string(), "--init-groups", "--"])
        .arg(person.place("drydock"))
        .args(["build", "--progress=plain", "--allow=device", "--build-context", &base])
        .arg(&context)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", person.place("home"))
        .env("DRYDOCK_CDI_DIRS", specs)
        .current_dir(person.place("home"))
        .output()
        .unwrap()
}

#[test]
fn privileged_ordinary_users_get_what_they_may_open() {
    let Some(person) = Person::new("devices", true) else { return };
    let secret = person.place("node");
    let made = Command::new("mknod").arg(&secret).args(["c", "1", "7"]).status().unwrap();
    assert!(made.success());
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let specs = describe(person.dir.path(), &secret);
    let told = ok(&build(
        &person,
        &specs,
        &format!("FROM busybox\nRUN --device=vendor.test/card=one,required {USES}\n"),
    ));
    let steps = progress::plain(&told);
    let log = &steps.iter().find(|it| it.name.contains("--device")).unwrap().log;
    assert_eq!(
        log,
        &["No space", "yes one /opt/card:/bin", "from the host", "Read-only"],
        "{told}"
    );
    let dockerfile = "FROM busybox\nRUN --device=vendor.test/card=secret true\n";
    let told = fails(&build(&person, &specs, dockerfile));
    assert!(told.contains(&format!("device {}", secret.display())), "{told}");
    assert!(told.contains("may not open it (its mode is 600)"), "{told}");
}
