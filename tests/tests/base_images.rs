//! Where base images come from, and that nothing unverified is used.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use oci::{Descriptor, ImageManifest, media_type};
use serde_json::json;
use tests::base_image::{BaseImage, TarBuilder, gzip, write_layout};
use tests::context::Context;
use tests::drydock::Drydock;
use tests::proxy::{ALWAYS, Access, Fault, FaultProxy, Kind};
use tests::random::Random;
use tests::registry_server::RegistryServer;
use tests::token_server::{Bearer, basic};
use tests::{require_programs, require_root};

/// A registry with the base image in it, and a proxy in front.
struct Place {
    server: RegistryServer,
    proxy: FaultProxy,
}

impl Place {
    fn new(access: Access) -> Self {
        let server = RegistryServer::start().unwrap();
        BaseImage::get().push(&server, "base", "1");
        let proxy = FaultProxy::start(server.address(), access).unwrap();
        Self { server, proxy }
    }

    fn name(&self) -> String {
        format!("{}/base:1", self.proxy.address())
    }

    fn context(&self, lines: &str) -> Context {
        Context::new(&format!("FROM {}\n{lines}\n", self.name()))
    }

    /// Puts an image with one small file into the registry under the name of the base.
    fn replace(&self, content: &str) {
        let tar = TarBuilder::new().file("version", 0o644, content).finish();
        let config = json!({"architecture": oci::Platform::host().architecture, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [oci::Digest::of(&tar).to_string()]}});
        self.server
            .seed(
                "base",
                "1",
                config.to_string().as_bytes(),
                &[(media_type::OCI_LAYER_GZIP, &gzip(&tar))],
            )
            .unwrap();
    }
}

fn login(drydock: &Drydock, config: &serde_json::Value) {
    let dir = drydock.home().join(".docker");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
}

#[test]
fn privileged_from_a_registry() {
    require_root!();
    require_programs!("docker-registry");
    let place = Place::new(Access::Open);
    let drydock = Drydock::new();
    let image = drydock.bare_build(&place.context("RUN echo x > /made")).image();
    assert_eq!(image.text("made"), "x\n");
    let base = ImageManifest::clone(&serde_json::from_slice(&BaseImage::get().manifest).unwrap());
    let digest = image.layers[0].descriptor["digest"].as_str().unwrap();
    assert_eq!(digest, base.layers[0].digest.to_string(), "a base layer is exported as it came");
    assert_eq!(place.proxy.count(Kind::BlobGet), 2, "config and layer, once each");
}

#[test]
fn privileged_a_tag_is_resolved_once_per_build() {
    require_root!();
    require_programs!("docker-registry");
    let place = Place::new(Access::Open);
    let name = place.name();
    let context = Context::new(&format!(
        "FROM {name} AS a\nRUN echo a > /a\nFROM {name} AS b\nRUN echo b > /b\nFROM {name}\nCOPY --from=a /a /\nCOPY --from=b /b /\nCOPY --from={name} /etc/passwd /p\n"
    ));
    let drydock = Drydock::new();
    drydock.bare_build(&context).ok();
    let asked = place.proxy.count(Kind::ManifestHead) + place.proxy.count(Kind::ManifestGet);
    assert!(asked <= 2, "asked {asked} times: {:?}", place.proxy.seen());
    assert_eq!(place.proxy.count(Kind::BlobGet), 2);
}

#[test]
fn privileged_a_digest_that_is_there_is_never_asked_for() {
    require_root!();
    require_programs!("docker-registry");
    let place = Place::new(Access::Open);
    let digest = BaseImage::get().descriptor().digest;
    let context = Context::new(&format!("FROM {}@{digest}\nRUN echo x > /x\n", place.name()));
    let drydock = Drydock::new();
    drydock.bare_build(&context).ok();
    place.proxy.forget();
    let output = drydock.bare_build(&context).ok();
    assert_eq!(place.proxy.count(Kind::Any), 0, "{:?}", place.proxy.seen());
    assert!(output.cached("RUN echo x"));
    // Not even where the registry is gone.
    let Place { proxy, server } = place;
    drop((proxy, server));
    drydock.bare_build(&context).image();
    let wrong = context
        .file("Dockerfile", format!("FROM 127.0.0.1:1/base@{}\n", oci::Digest::of(b"other")));
    drydock.bare_build(&wrong).fails();
}

#[test]
fn privileged_a_local_tag_wins_until_pull_is_asked_for() {
    require_root!();
    require_programs!("docker-registry");
    let place = Place::new(Access::Open);
    place.replace("one");
    let drydock = Drydock::new();
    let context = place.context("LABEL a=1");
    drydock.command("pull").arg(place.name()).ok();
    place.replace("two");
    place.proxy.forget();
    assert_eq!(drydock.bare_build(&context).image().text("version"), "one");
    assert_eq!(place.proxy.count(Kind::Any), 0, "{:?}", place.proxy.seen());
    assert_eq!(drydock.bare_build(&context).arg("--pull").image().text("version"), "two");
}

#[test]
fn privileged_basic_authentication() {
    require_root!();
    require_programs!("docker-registry");
    let place = Place::new(Access::Basic("user".into(), "secret".into()));
    let context = place.context("LABEL a=1");
    let drydock = Drydock::new();
    let output = drydock.bare_build(&context).fails();
    assert!(output.stderr.contains(place.proxy.address()), "{output}");
    let auth = basic("user", "secret").replace("Basic ", "");
    login(&drydock, &json!({"auths": {place.proxy.address(): {"auth": auth}}}));
    drydock.bare_build(&context).image();
    let wrong = Drydock::new();
    let auth = basic("user", "guess").replace("Basic ", "");
    login(&wrong, &json!({"auths": {place.proxy.address(): {"auth": auth}}}));
    let output = wrong.bare_build(&context).fails();
    assert!(!output.stderr.contains("guess") && !output.stderr.contains(&auth), "{output}");
}

#[test]
fn privileged_bearer_tokens_and_a_credential_helper() {
    require_root!();
    require_programs!("docker-registry");
    let place = Place::new(Access::Bearer(Bearer { anonymous_pull: false, ..Bearer::default() }));
    let context = place.context("LABEL a=1");
    let drydock = Drydock::new();
    drydock.bare_build(&context).fails();
    assert!(place.proxy.count(Kind::Token) > 0);

    let bin = drydock.place("bin");
    fs::create_dir(&bin).unwrap();
    let helper = bin.join("docker-credential-fake");
    fs::write(
        &helper,
        "#!/bin/sh\ntest \"$1\" = get || exit 1\nread server\n\
         echo \"{\\\"ServerURL\\\":\\\"$server\\\",\\\"Username\\\":\\\"user\\\",\\\"Secret\\\":\\\"secret\\\"}\"\n",
    )
    .unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    login(&drydock, &json!({"credHelpers": {place.proxy.address(): "fake"}}));
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let image = drydock.bare_build(&context).env("PATH", path).image();
    assert_eq!(image.layers.len(), 1);
}

#[test]
fn privileged_anonymous_tokens() {
    require_root!();
    require_programs!("docker-registry");
    let place = Place::new(Access::Bearer(Bearer::default()));
    Drydock::new().bare_build(&place.context("LABEL a=1")).image();
    assert!(place.proxy.count(Kind::Token) > 0);
}

#[test]
fn privileged_spoiled_blobs_are_refused() {
    require_root!();
    require_programs!("docker-registry");
    for fault in [Fault::Corrupt(5000), Fault::Truncate(1000), Fault::ExtendSilently(10)] {
        let place = Place::new(Access::Open);
        place.proxy.inject(Kind::BlobGet, ALWAYS, fault.clone());
        let drydock = Drydock::new();
        let context = place.context("RUN echo x > /made");
        let dest = drydock.place("out.tar");
        let to = format!("type=oci,dest={}", dest.display());
        let output = drydock.bare_build(&context).args(["-o", &to]).fails();
        assert!(!output.has_step("RUN echo x") || output.executed().is_empty(), "{output}");
        assert!(!dest.exists());
        let unpacked = walk(&drydock.state().join("snapshots-v1"));
        assert!(!unpacked.iter().any(|p| p.ends_with("bin/sh")), "{fault:?}: {unpacked:?}");
        place.proxy.heal();
        assert_eq!(drydock.bare_build(&context).image().text("made"), "x\n");
    }
}

fn walk(dir: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        found.push(entry.path().to_string_lossy().into_owned());
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            found.extend(walk(&entry.path()));
        }
    }
    found
}

#[test]
fn privileged_a_broken_download_goes_on_where_it_ended() {
    require_root!();
    require_programs!("docker-registry");
    let place = Place::new(Access::Open);
    place.proxy.inject(Kind::BlobGet, 3, Fault::DropAfter(400));
    place.proxy.inject(Kind::ManifestGet, 1, Fault::Status(503, None));
    let image = Drydock::new().bare_build(&place.context("LABEL a=1")).image();
    assert_eq!(image.layers.len(), 1);
    let resumed = place.proxy.seen().iter().filter(|s| s.header("range").is_some()).count();
    assert!(resumed >= 1, "no range was asked for");
}

#[test]
fn privileged_a_base_that_is_not_there() {
    require_root!();
    require_programs!("docker-registry");
    let place = Place::new(Access::Open);
    let drydock = Drydock::new();
    let context =
        Context::new(&format!("FROM scratch\nFROM {}/missing:tag\n", place.proxy.address()));
    let output = drydock.bare_build(&context).fails();
    assert!(
        output.stderr.contains("missing:tag") && output.stderr.contains("Dockerfile:2"),
        "{output}"
    );
    let context = Context::new("FROM 127.0.0.1:1/nobody/listens\n");
    let output = drydock.bare_build(&context).limit(Duration::from_secs(60)).fails();
    assert!(output.stderr.contains("127.0.0.1:1"), "{output}");
}

#[test]
fn privileged_layers_of_other_builders() {
    require_root!();
    let drydock = Drydock::new();
    // Opaque markers after their siblings, parents that are only implied, a link over a file.
    let lower = TarBuilder::new()
        .dir("d/", 0o711)
        .file("d/old", 0o644, "old")
        .file("e", 0o644, "e")
        .dir("keep/", 0o700)
        .file("keep/x", 0o644, "x")
        .finish();
    let upper = TarBuilder::new()
        .file("d/new", 0o644, "new")
        .file("d/.wh..wh..opq", 0, "")
        .file(".wh.e", 0, "")
        .file("keep/sub/implied", 0o644, "i")
        .hard_link("keep/again", "keep/x")
        .finish();
    let dir = drydock.place("layout");
    layout_of(&dir, &[lower, upper]);
    let context = Context::new(
        "FROM other\nCOPY --from=busybox /bin/busybox /busybox\nRUN [\"/busybox\", \"touch\", \"/ran\"]\n",
    );
    let image = drydock
        .build(&context)
        .args(["--build-context", &format!("other=oci-layout://{}", dir.display())])
        .image();
    let mut paths = image.root.paths();
    // A directory that is only implied has no entry of its own in the layer, which is exported as
    // it came.
    paths.retain(|p| !["keep/sub", "dev", "proc", "sys", "busybox"].contains(p));
    assert_eq!(paths, ["d", "d/new", "keep", "keep/again", "keep/sub/implied", "keep/x", "ran"]);
    assert_eq!(image.root.line("d"), "d 711 0:0");
    assert_eq!(image.root.line("keep"), "d 700 0:0", "a parent that is only implied is not reset");
    // What the step sees is what the image has: its layer holds nothing of the base.
    let names = image.layers.last().unwrap().names();
    assert!(
        !names.iter().any(|n| n.starts_with('d') && n.len() == 1 || n.starts_with("keep")),
        "{names:?}"
    );
}

fn layout_of(dir: &std::path::Path, tars: &[Vec<u8>]) {
    let ids: Vec<String> = tars.iter().map(|t| oci::Digest::of(t).to_string()).collect();
    let config =
        json!({"architecture": oci::Platform::host().architecture, "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": ids}})
        .to_string()
        .into_bytes();
    let layers = tars.iter().map(|t| Descriptor::of(media_type::OCI_LAYER, t)).collect();
    let manifest =
        ImageManifest::new(Descriptor::of(media_type::OCI_CONFIG, &config), layers).to_json();
    let mut blobs: Vec<&Vec<u8>> = tars.iter().collect();
    blobs.push(&config);
    write_layout(dir, &blobs, &manifest);
}

#[test]
fn privileged_hostile_layers_stay_inside() {
    require_root!();
    let drydock = Drydock::new();
    let victim = drydock.place("victim");
    fs::create_dir(&victim).unwrap();
    let up = format!("..{}/x", "/..".repeat(20));
    for tar in [
        TarBuilder::new().file("../../escape", 0o644, "x").finish(),
        TarBuilder::new().symlink("l", victim.to_str().unwrap()).file("l/x", 0o644, "x").finish(),
        TarBuilder::new()
            .symlink("l", &up[..up.len() - 2])
            .file("l/drydock-escape", 0o644, "x")
            .finish(),
        TarBuilder::new().hard_link("h", "../../../../../../etc/passwd").finish(),
        TarBuilder::new().file("a/../../../b", 0o644, "x").finish(),
        TarBuilder::new().raw("ovl", tar::EntryType::Char, 0o644, (0, 0), b"", "").finish(),
    ] {
        let dir = drydock.place("layout");
        layout_of(&dir, &[tar]);
        let context = Context::new("FROM evil\nCOPY f /f\n").file("f", "f");
        let named = format!("evil=oci-layout://{}", dir.display());
        let output = drydock.bare_build(&context).args(["--build-context", &named]).output();
        assert!(matches!(output.status.code(), Some(0 | 1)), "{output}");
        assert!(!output.stderr.contains("panicked"), "{output}");
        fs::remove_dir_all(dir).unwrap();
    }
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
    assert!(!std::path::Path::new("/drydock-escape").exists());
    assert!(
        walk(&drydock.place(""))
            .iter()
            .all(|p| !p.ends_with("/escape") || p.contains("snapshots-v1"))
    );
}

#[test]
fn privileged_a_layout_that_lies_is_refused() {
    require_root!();
    let place = Drydock::new();
    let build = |dir: &std::path::Path| {
        // A store of its own: a blob that is there already is not read again.
        let drydock = Drydock::new();
        let context = Context::new("FROM lying\nCOPY f /f\n").file("f", "f");
        let named = format!("lying=oci-layout://{}", dir.display());
        drydock.bare_build(&context).args(["--build-context", &named]).fails()
    };
    let tar = TarBuilder::new().file("x", 0o644, Random::new(1).bytes(5000)).finish();
    for (number, spoil) in ["diff", "blob", "missing", "index", "none"].iter().enumerate() {
        let dir = place.place(&format!("layout{number}"));
        layout_of(&dir, std::slice::from_ref(&tar));
        let blob = dir.join(oci::layout::blob_path(&oci::Digest::of(&tar)));
        match *spoil {
            "diff" => {
                let other = TarBuilder::new().file("x", 0o644, "other").finish();
                let config = json!({"architecture": oci::Platform::host().architecture, "os": "linux", "config": {},
                    "rootfs": {"type": "layers", "diff_ids": [oci::Digest::of(&other).to_string()]}})
                .to_string()
                .into_bytes();
                let manifest = ImageManifest::new(
                    Descriptor::of(media_type::OCI_CONFIG, &config),
                    vec![Descriptor::of(media_type::OCI_LAYER, &tar)],
                );
                write_layout(&dir, &[&config, &tar], &manifest.to_json());
            }
            "blob" => {
                let mut bytes = fs::read(&blob).unwrap();
                bytes[2000] ^= 1;
                fs::write(&blob, bytes).unwrap();
            }
            "missing" => fs::remove_file(&blob).unwrap(),
            "index" => fs::write(dir.join("index.json"), "{\"manifests\": 7}").unwrap(),
            _ => fs::remove_file(dir.join("index.json")).unwrap(),
        }
        build(&dir);
    }
}

#[test]
fn privileged_an_archive_as_base() {
    require_root!();
    let drydock = Drydock::new();
    let archive = drydock.place("base.tar");
    let context = Context::new("FROM busybox\nRUN echo x > /made\n");
    drydock.build(&context).arg("-o").arg(format!("type=oci,dest={}", archive.display())).ok();
    let other = Drydock::new();
    let context = Context::new("FROM made\nRUN cat /made > /copy\n");
    let named = format!("made=oci-layout://{}", archive.display());
    let image = other.bare_build(&context).args(["--build-context", &named]).image();
    assert_eq!(image.text("copy"), "x\n");
    assert_eq!(image.layers.len(), 3);
}

#[test]
fn privileged_images_by_another_name() {
    require_root!();
    require_programs!("docker-registry");
    let place = Place::new(Access::Open);
    let drydock = Drydock::new();
    let context = Context::new(
        "ARG BASE=nothing\nFROM ${BASE}\nCOPY --from=alpine /etc/passwd /p\nRUN cat /p > /q\n",
    );
    let named = format!("alpine=docker-image://{}", place.name());
    let image = drydock
        .bare_build(&context)
        .args(["--build-context", &named, "--build-arg", "BASE=alpine:latest"])
        .image();
    assert_eq!(image.text("q"), tests::base_image::PASSWD);
    let pinned = format!("{}@{}", place.name(), BaseImage::get().descriptor().digest);
    drydock.bare_build(&Context::new(&format!("FROM {pinned}\nLABEL a=1\n"))).ok();
}
