//! The commands on the local store.

use serde_json::Value;
use tests::context::Context;
use tests::drydock::Drydock;
use tests::image_view::ImageView;
use tests::registry_server::RegistryServer;
use tests::{require_programs, require_root};

fn sample() -> Context {
    Context::new("FROM scratch\nCOPY a /a\nLABEL kind=sample\nCMD [\"/a\"]\n").file("a", "A")
}

fn built(tags: &[&str]) -> Drydock {
    let drydock = Drydock::new();
    let mut run = drydock.build(&sample());
    for tag in tags {
        run = run.args(["-t", tag]);
    }
    run.ok();
    drydock
}

fn images(drydock: &Drydock) -> String {
    drydock.command("images").ok().text()
}

#[test]
fn privileged_images_are_listed() {
    require_root!();
    let drydock = built(&["app", "example.org/team/tool:2"]);
    let table = images(&drydock);
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.contains("app") && table.contains("latest"), "{table}");
    assert!(table.contains("example.org/team/tool") && table.contains('2'), "{table}");
    let ids = drydock.command("images").args(["-q", "--no-trunc"]).ok().text();
    let id = drydock.build(&sample()).image().config_digest.to_string();
    assert!(ids.lines().all(|l| l == id), "{ids}");
    let only = drydock.command("images").arg("app").ok().text();
    assert!(only.contains("app") && !only.contains("tool"), "{only}");
    let json = drydock.command("images").arg("--json").ok().text();
    assert_eq!(json.lines().count(), 2, "{json}");
    for line in json.lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
    assert_eq!(images(&Drydock::new()).lines().count(), 1, "an empty store has a heading");
}

#[test]
fn privileged_an_image_is_inspected_by_name_and_id() {
    require_root!();
    let drydock = built(&["app"]);
    let id = drydock.command("images").args(["-q", "--no-trunc"]).ok().text();
    let by_name = drydock.command("inspect").arg("app").ok().text();
    let document: Value = serde_json::from_str(&by_name).unwrap();
    let text = document.to_string();
    assert!(text.contains("\"kind\":\"sample\"") && text.contains(&id), "{text}");
    let short = id.trim_start_matches("sha256:")[..12].to_owned();
    for name in [id.as_str(), &short, "app:latest", "docker.io/library/app"] {
        assert_eq!(drydock.command("inspect").arg(name).ok().text(), by_name, "{name}");
    }
    let output = drydock.command("inspect").arg("nothing").fails();
    assert!(output.stderr.contains("nothing"), "{output}");
}

#[test]
fn privileged_names_are_given_and_taken() {
    require_root!();
    let drydock = built(&["app"]);
    drydock.command("tag").args(["app", "other:2"]).ok();
    assert!(images(&drydock).contains("other"));
    drydock.command("rmi").arg("app").ok();
    let table = images(&drydock);
    assert!(table.contains("other") && !table.contains("app"), "{table}");
    drydock.command("inspect").arg("app").fails();
    drydock.command("rmi").arg("app").fails();
    drydock.command("rmi").args(["-f", "app"]).ok();
    drydock.command("rmi").arg("other:2").ok();
    assert_eq!(images(&drydock).lines().count(), 1);
    drydock.command("tag").args(["app", "again"]).fails();
}

#[test]
fn privileged_a_tag_moves_to_the_new_image() {
    require_root!();
    let drydock = built(&["app"]);
    let before = drydock.command("images").args(["-q", "app"]).ok().text();
    let other = sample().file("a", "other");
    drydock.build(&other).args(["-t", "app"]).ok();
    let after = drydock.command("images").args(["-q", "app"]).ok().text();
    assert_ne!(before, after);
    assert_eq!(after.lines().count(), 1);
}

#[test]
fn privileged_archives_are_loaded() {
    require_root!();
    let drydock = Drydock::new();
    for kind in ["oci", "docker"] {
        let archive = drydock.place(&format!("{kind}.tar"));
        let to = format!("type={kind},dest={}", archive.display());
        drydock.build(&sample()).args(["-t", "app:5", "-o", &to]).ok();
        let other = Drydock::new();
        let output = other.command("load").arg("-i").arg(&archive).ok();
        assert!(output.text().contains("app:5"), "{output}");
        assert!(images(&other).contains("app"));
        let again = Drydock::new();
        again.command("load").stdin(std::fs::read(&archive).unwrap()).ok();
        let on_top = Context::new("FROM app:5\nLABEL more=1\n");
        let image = again.bare_build(&on_top).image();
        assert_eq!(image.text("a"), "A");
        assert_eq!(image.runtime("Labels")["kind"], "sample");
    }
    let mut bytes = std::fs::read(drydock.place("oci.tar")).unwrap();
    let at = bytes.windows(3).position(|w| w == [0x1f, 0x8b, 8]).unwrap();
    bytes[at + 20] ^= 0xff;
    let other = Drydock::new();
    other.command("load").stdin(bytes).fails();
    other.command("load").stdin("this is no archive").fails();
    other.command("load").stdin("").fails();
    assert_eq!(images(&other).lines().count(), 1, "nothing of it is there");
}

#[test]
fn privileged_images_go_to_registries_and_back() {
    require_root!();
    require_programs!("docker-registry");
    let server = RegistryServer::start().unwrap();
    let name = format!("{}/team/app:1", server.address());
    let drydock = built(&["app", &name]);
    drydock.command("push").arg(&name).ok();
    let manifest = server.manifest("team/app", "1").unwrap().unwrap();
    let other = Drydock::new();
    other.command("pull").arg(&name).ok();
    let listed = other.command("images").args(["-q", "--no-trunc"]).ok().text();
    let document: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(document["config"]["digest"], listed.as_str());
    let digest = oci::Digest::of(&manifest);
    let pinned = format!("{}/team/app@{digest}", server.address());
    Drydock::new().command("pull").arg(&pinned).ok();
    other.command("push").arg(format!("{}/not/here:1", server.address())).fails();
    other.command("pull").arg(format!("{}/not/there:1", server.address())).fails();
}

#[test]
fn privileged_a_local_image_is_a_base() {
    require_root!();
    let drydock = Drydock::new();
    drydock.build(&Context::new("FROM busybox\nRUN echo one > /one\n")).args(["-t", "mine:1"]).ok();
    let image = drydock.bare_build(&Context::new("FROM mine:1\nRUN cat /one > /two\n")).image();
    assert_eq!(image.text("two"), "one\n");
    assert_eq!(image.layers.len(), 3);
    let image =
        drydock.bare_build(&Context::new("FROM scratch\nCOPY --from=mine:1 /one /\n")).image();
    assert_eq!(image.text("one"), "one\n");
}

#[test]
fn privileged_usage_and_pruning() {
    require_root!();
    let drydock = built(&["app"]);
    let context = sample().file("Dockerfile", "FROM scratch\nCOPY a /other\nCOPY a /third\n");
    drydock.build(&context).ok();
    let table = drydock.command("du").ok().text();
    assert!(table.contains("Total"), "{table}");
    drydock.command("du").arg("--verbose").ok();
    for line in drydock.command("du").arg("--json").ok().text().lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
    let output = drydock.build(&context).ok();
    assert!(output.executed().is_empty(), "{output}");
    let output = drydock.command("prune").arg("-f").ok();
    assert!(output.text().contains("Total") || output.stderr.contains("Total"), "{output}");
    let output = drydock.build(&context).ok();
    assert_eq!(output.executed().len(), 2, "what no image needs is gone: {output}");
    let dest = drydock.place("x.tar");
    drydock.build(&sample()).arg("-o").arg(format!("type=oci,dest={}", dest.display())).ok();
    assert_eq!(ImageView::archive(&dest).text("a"), "A");
    drydock.command("prune").args(["-af", "--filter", "until=24h"]).ok();
    assert!(drydock.build(&context).ok().executed().is_empty(), "what was used lately stays");
    drydock.command("rmi").arg("app").ok();
    drydock.command("prune").args(["-af"]).ok();
    let left = drydock.command("du").arg("--json").ok().text();
    assert!(left.lines().all(|line| line.contains(r#""Type":"internal""#)), "{left}");
    // Without -f and without a terminal nobody can agree.
    drydock.build(&context).ok();
    drydock.command("prune").stdin("n\n").output();
    assert!(drydock.build(&context).ok().executed().is_empty());
}

#[test]
fn versions_and_help() {
    let drydock = Drydock::new();
    let version = drydock.command("version").ok().text();
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let help = drydock.command("--help").ok().text();
    for name in ["build", "images", "inspect", "tag", "rmi", "load", "push", "pull", "du", "prune"]
    {
        assert!(help.contains(name), "{help}");
    }
    let help = drydock.command("build").arg("--help").ok().text();
    assert!(help.contains("--metadata-file") && help.contains("--build-context"), "{help}");
    drydock.command("frobnicate").fails();
}
