//! The conformance cases that lie beside a checkout, where there are some.

use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tests::{binary, host, require_programs, require_root, skip, temp};

/// Cases that have to pass.
const ENOUGH: u32 = 131;
/// Where the cases expect the registry with their base image.
const ADDRESS: &str = "127.0.0.1:5000";

struct Registry(Child);

impl Drop for Registry {
    fn drop(&mut self) {
        // The script ends its server when it is asked to.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

fn cases() -> PathBuf {
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a member of a workspace");
    workspace.join("../shared/conformance")
}

#[test]
fn privileged_conformance() {
    require_root!();
    require_programs!("python3", "docker-registry");
    let cases = cases();
    if !cases.join("check").is_file() {
        skip::say("conformance", &format!("there is no {}", cases.join("check").display()));
        return;
    }
    let data = temp::directory();
    let base = base_image(&cases, data.path());
    let mut registry = None;
    if TcpStream::connect(ADDRESS).is_ok() {
        // One that already has the very image will do.
        if served().as_deref() != Some(&base) {
            let reason = format!("something else serves {ADDRESS}, where the base image has to be");
            skip::say("conformance", &reason);
            return;
        }
    } else {
        let child = Command::new(cases.join("base"))
            .arg("registry")
            .arg(data.path().join("registry"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the registry script runs");
        registry = Some(Registry(child));
        let up = host::wait_until(Duration::from_secs(30), || served().as_deref() == Some(&base));
        assert!(up, "no registry came up on {ADDRESS}");
    }

    let state = temp::directory();
    let output = Command::new(cases.join("check"))
        .arg(binary::drydock())
        .arg("build")
        .env("DRYDOCK_ROOT", state.path().join("state"))
        .env("TMPDIR", state.path())
        .stdin(Stdio::null())
        .output()
        .expect("the check runs");
    drop(registry);
    let text = String::from_utf8_lossy(&output.stdout);
    let _ = write!(std::io::stderr(), "{text}");
    let passed = text.lines().last().and_then(|l| l.split(' ').next()).and_then(|n| n.parse().ok());
    let passed: u32 = passed
        .unwrap_or_else(|| panic!("no result: {text}{}", String::from_utf8_lossy(&output.stderr)));
    assert!(passed >= ENOUGH, "{passed} of {ENOUGH} passed");
}

/// The manifest of the cases' base image, whose bytes depend on the busybox that is installed.
fn base_image(cases: &Path, dir: &Path) -> Vec<u8> {
    let layout = dir.join("layout");
    let status = Command::new(cases.join("base")).arg("layout").arg(&layout).status();
    assert!(status.is_ok_and(|s| s.success()), "the cases' base image cannot be made");
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    std::fs::read(layout.join("blobs").join(digest)).unwrap()
}

/// The manifest that is served in its place.
fn served() -> Option<Vec<u8>> {
    let target = "/v2/library/busybox/manifests/latest";
    let accept = [("accept", "application/vnd.oci.image.manifest.v1+json")];
    let answer = tests::http::request(ADDRESS, "GET", target, &accept, b"").ok()?;
    (answer.status() == 200).then_some(answer.body)
}
