//! What a build gives: archives, directories, images in the store and in registries.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tests::context::Context;
use tests::drydock::Drydock;
use tests::image_view::ImageView;
use tests::registry_server::RegistryServer;
use tests::tree::Tree;
use tests::{require_programs, require_root, skip};

/// A small image with several kinds of files, made without running anything.
fn plain() -> Context {
    Context::new(
        "FROM scratch AS s\nCOPY dir /d\nFROM s\nCOPY a /a\nCOPY b /d/f\nWORKDIR /w\nENV X=1\nCMD [\"/a\"]\n",
    )
    .file("a", "A")
    .file("b", "B")
    .file("dir/f", "F")
    .file("dir/g", "G")
    .symlink("dir/link", "g")
    .mode("a", 0o755)
}

/// An image with steps that ran, and the traps of layers.
fn rich() -> Context {
    Context::new(
        "FROM busybox\nRUN mkdir -p /d/e && echo 1 > /d/e/f && ln /d/e/f /d/h && ln -s e /d/l && mkfifo /d/p && chown 7:8 /d/h\n\
         RUN rm /bin/vi && rm -r /home && mkdir /home && touch /home/new\nCOPY a /a\nRUN chmod 4755 /a\nUSER app\n",
    )
    .file("a", "A")
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {args:?}: {}{text}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

#[test]
fn privileged_oci_archives() {
    require_root!();
    let drydock = Drydock::new();
    let dest = drydock.place("x.tar");
    let to = format!("type=oci,dest={},name=example.org/app:2", dest.display());
    drydock.build(&plain()).args(["-o", &to]).ok();
    let image = ImageView::archive(&dest);
    let descriptor = &image.index["manifests"][0];
    assert_eq!(descriptor["annotations"]["org.opencontainers.image.ref.name"], "2");
    assert_eq!(descriptor["annotations"]["io.containerd.image.name"], "example.org/app:2");
    assert_eq!(descriptor["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(image.layers.len(), 4);
    assert_eq!(image.text("d/f"), "B");
    for layer in &image.layers {
        assert_eq!(layer.descriptor["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    }
    assert_eq!(fs::metadata(&dest).unwrap().permissions().mode() & 0o777, 0o644);

    let dir = drydock.place("layout");
    drydock
        .build(&plain())
        .arg("-o")
        .arg(format!("type=oci,tar=false,dest={}", dir.display()))
        .ok();
    assert_eq!(ImageView::layout(&dir).config_digest, image.config_digest);
    let output = drydock.build(&plain()).args(["-o", "type=oci"]).ok();
    assert_eq!(ImageView::archive_bytes(&output.stdout).config_digest, image.config_digest);
}

#[test]
fn privileged_compressions() {
    require_root!();
    let drydock = Drydock::new();
    let mut ids = Vec::new();
    for (options, kind) in [
        ("compression=gzip,compression-level=9", "tar+gzip"),
        ("compression=zstd", "tar+zstd"),
        ("compression=uncompressed", "tar"),
    ] {
        let dest = drydock.place("c.tar");
        drydock
            .build(&plain())
            .arg("-o")
            .arg(format!("type=oci,dest={},{options}", dest.display()))
            .ok();
        let image = ImageView::archive(&dest);
        let types: Vec<&str> =
            image.layers.iter().map(|l| l.descriptor["mediaType"].as_str().unwrap()).collect();
        assert!(types.iter().all(|t| t.ends_with(kind)), "{options}: {types:?}");
        ids.push(image.layers.iter().map(|l| l.diff_id).collect::<Vec<_>>());
    }
    assert!(ids.windows(2).all(|w| w[0] == w[1]));
}

#[test]
fn privileged_docker_archives() {
    require_root!();
    let drydock = Drydock::new();
    let dest = drydock.place("docker.tar");
    let to = format!("type=docker,dest={}", dest.display());
    drydock.build(&plain()).args(["-t", "app:1", "-t", "example.org/x/app", "-o", &to]).ok();
    let (image, mut tags) = ImageView::docker(&dest);
    tags.sort();
    assert_eq!(tags, ["app:1", "example.org/x/app:latest"]);
    assert_eq!(image.config_digest, drydock.build(&plain()).image().config_digest);
}

#[test]
fn privileged_tars_and_directories() {
    require_root!();
    let drydock = Drydock::new();
    let want = drydock.build(&plain()).image().root;
    let dest = drydock.place("root.tar");
    drydock.build(&plain()).arg("-o").arg(format!("type=tar,dest={}", dest.display())).ok();
    let tree = Tree::of_tar(&fs::read(&dest).unwrap());
    assert_eq!(tree.differences(&want), Vec::<String>::new());
    let output = drydock.build(&plain()).args(["-o", "-"]).ok();
    assert_eq!(Tree::of_tar(&output.stdout).differences(&want), Vec::<String>::new());

    let dir = drydock.place("out");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("mine"), "stays").unwrap();
    drydock.build(&plain()).arg("-o").arg(&dir).ok();
    assert_eq!(fs::read(dir.join("mine")).unwrap(), b"stays");
    fs::remove_file(dir.join("mine")).unwrap();
    let tree = Tree::of_directory(&dir, false);
    assert_eq!(tree.paths(), want.paths());
    assert_eq!(tree.content("d/f"), b"B");
    assert_eq!(tree.line("a"), want.line("a"));
    // Once more over what is there.
    drydock.build(&plain()).arg("-o").arg(&dir).ok();
    assert_eq!(Tree::of_directory(&dir, false).paths(), want.paths());
}

#[test]
fn privileged_several_outputs_of_one_build() {
    require_root!();
    let drydock = Drydock::new();
    let (a, b, c) = (drydock.place("a.tar"), drydock.place("b.tar"), drydock.place("c"));
    let output = drydock
        .build(&plain())
        .args(["-t", "app"])
        .arg(format!("--output=type=oci,dest={}", a.display()))
        .arg(format!("--output=type=docker,dest={}", b.display()))
        .arg("-o")
        .arg(&c)
        .ok();
    assert_eq!(ImageView::archive(&a).config_digest, ImageView::docker(&b).0.config_digest);
    assert!(c.join("a").is_file());
    assert!(drydock.command("images").ok().text().contains("app"), "{output}");
}

#[test]
fn privileged_ids_and_metadata() {
    require_root!();
    let drydock = Drydock::new();
    let (id, meta, dest) = (drydock.place("id"), drydock.place("meta"), drydock.place("x.tar"));
    let context = plain();
    let build = || {
        drydock
            .build(&context)
            .args(["-t", "app:7", "-o"])
            .arg(format!("type=oci,dest={}", dest.display()))
            .arg("--iidfile")
            .arg(&id)
            .arg("--metadata-file")
            .arg(&meta)
    };
    build().ok();
    let image = ImageView::archive(&dest);
    assert_eq!(fs::read_to_string(&id).unwrap(), image.config_digest.to_string());
    let document: Value = serde_json::from_slice(&fs::read(&meta).unwrap()).unwrap();
    assert_eq!(document["containerimage.digest"], image.manifest_digest.to_string());
    assert_eq!(document["containerimage.config.digest"], image.config_digest.to_string());
    assert_eq!(document["containerimage.descriptor"]["size"], image.index["manifests"][0]["size"]);
    assert!(document["image.name"].as_str().unwrap().contains("app:7"), "{document}");

    let output = build().arg("-q").ok();
    assert_eq!(output.text(), image.config_digest.to_string());
    assert_eq!(output.stderr, "");
    let failing = Context::new("FROM scratch\nCOPY missing /\n");
    drydock.build(&failing).arg("--iidfile").arg(&id).args(["-t", "x"]).fails();
    assert!(!id.exists(), "a failed build leaves no id");
}

#[test]
fn privileged_without_an_output_it_says_so() {
    require_root!();
    let drydock = Drydock::new();
    let output = drydock.build(&plain()).ok();
    assert!(output.stderr.to_lowercase().contains("no output"), "{output}");
    let output = drydock.build(&plain()).args(["-t", "x"]).ok();
    assert!(!output.stderr.to_lowercase().contains("no output"), "{output}");
}

#[test]
fn privileged_archives_refuse_a_terminal() {
    require_root!();
    require_programs!("script");
    let drydock = Drydock::new();
    for kind in ["-", "type=oci", "type=tar"] {
        let context = plain();
        let bin = tests::binary::drydock();
        let command = format!(
            "{} build --root {} -o {kind} {}",
            bin.display(),
            drydock.state().display(),
            context.path().display()
        );
        let output = Command::new("script").args(["-qec", &command, "/dev/null"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("terminal"), "{text}");
    }
}

#[test]
fn privileged_a_failed_build_leaves_the_destination_alone() {
    require_root!();
    let drydock = Drydock::new();
    let dir = drydock.place("dest");
    fs::create_dir(&dir).unwrap();
    let dest = dir.join("out.tar");
    fs::write(&dest, "before").unwrap();
    let context = Context::new("FROM scratch\nCOPY a /a\nCOPY missing /b\n").file("a", "a");
    for kind in ["oci", "docker", "tar"] {
        drydock
            .build(&context)
            .arg("-o")
            .arg(format!("type={kind},dest={}", dest.display()))
            .fails();
        assert_eq!(fs::read(&dest).unwrap(), b"before");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing lies beside it");
    }
    let nowhere = format!("type=oci,dest={}/no/such/dir/x.tar", dir.display());
    let output = drydock.build(&plain()).args(["-o", &nowhere]).fails();
    assert!(output.stderr.contains("no/such/dir"), "{output}");
}

#[test]
fn privileged_a_second_export_compresses_nothing() {
    require_root!();
    let drydock = Drydock::new();
    let context = plain();
    let first = drydock.build(&context).image();
    let before = drydock.blobs();
    assert!(!before.is_empty(), "blobs are kept");
    std::thread::sleep(Duration::from_millis(20));
    let second = drydock.build(&context).image();
    assert_eq!(first.manifest_digest, second.manifest_digest);
    assert_eq!(drydock.blobs(), before, "no blob was written again");
}

#[test]
fn privileged_created_times_are_repeated_by_a_cached_build() {
    require_root!();
    let drydock = Drydock::new();
    let context = plain();
    let first = drydock.build(&context).image();
    std::thread::sleep(Duration::from_millis(1100));
    let second = drydock.build(&context).image();
    assert_eq!(first.config, second.config);
}

fn reproducible(context: &Context, dest: &Path) -> Vec<u8> {
    let drydock = Drydock::new();
    drydock
        .build(context)
        .env("SOURCE_DATE_EPOCH", "1600000000")
        .arg("-o")
        .arg(format!("type=oci,dest={},rewrite-timestamp=true", dest.display()))
        .ok();
    fs::read(dest).unwrap()
}

#[test]
fn privileged_a_full_run_again_gives_the_same_bytes() {
    require_root!();
    let drydock = Drydock::new();
    let context = rich();
    let first = reproducible(&context, &drydock.place("1.tar"));
    std::thread::sleep(Duration::from_millis(1100));
    context.set_time("a", std::time::SystemTime::now());
    let second = reproducible(&context, &drydock.place("2.tar"));
    assert!(first == second, "{}", why(&drydock));
    let image = ImageView::archive_bytes(&first);
    assert_eq!(image.config["created"], "2020-09-13T12:26:40Z");
    for entry in image.layers[1..].iter().flat_map(|l| &l.entries) {
        assert!(entry.seconds() <= 1_600_000_000, "{}: {}", entry.name, entry.mtime);
    }
    for entry in image.config["history"].as_array().unwrap().iter().skip(1) {
        assert_eq!(entry["created"], "2020-09-13T12:26:40Z");
    }
    // As a build argument, and from what is cached.
    let to = drydock.place("3.tar");
    let dest = format!("type=oci,dest={},rewrite-timestamp=true", to.display());
    drydock.build(&context).ok();
    drydock.build(&context).args(["--build-arg", "SOURCE_DATE_EPOCH=1600000000", "-o", &dest]).ok();
    let third = ImageView::archive(&to);
    assert_eq!(third.layers.len(), image.layers.len());
    assert_eq!(third.manifest_digest, image.manifest_digest, "what is cached gives the same image");
}

fn why(drydock: &Drydock) -> String {
    let (one, two) =
        (ImageView::archive(&drydock.place("1.tar")), ImageView::archive(&drydock.place("2.tar")));
    let mut lines = one.root.differences(&two.root);
    for (a, b) in one.layers.iter().zip(&two.layers).filter(|(a, b)| a.diff_id != b.diff_id) {
        let pairs = a.entries.iter().zip(&b.entries).filter(|(x, y)| x != y);
        lines
            .extend(pairs.map(|(x, y)| format!("{} {} | {} {}", x.name, x.mtime, y.name, y.mtime)));
    }
    format!("{lines:?}\n{}\n{}", one.config, two.config)
}

#[test]
fn privileged_other_tools_accept_the_images() {
    require_root!();
    require_programs!("skopeo", "umoci");
    let drydock = Drydock::new();
    for (name, context) in [("plain", plain()), ("rich", rich())] {
        let dest = drydock.place(&format!("{name}.tar"));
        drydock.build(&context).arg("-o").arg(format!("type=oci,dest={}", dest.display())).ok();
        let archive = format!("oci-archive:{}", dest.display());
        let view = ImageView::archive(&dest);
        let inspected: Value =
            serde_json::from_str(&run("skopeo", &["inspect", &archive])).unwrap();
        assert_eq!(inspected["Digest"], view.manifest_digest.to_string());
        assert_eq!(inspected["Layers"].as_array().unwrap().len(), view.layers.len());

        let layout = drydock.place(&format!("{name}-layout"));
        let image = format!("{}:x", layout.display());
        run("skopeo", &["--insecure-policy", "copy", &archive, &format!("oci:{image}")]);
        let bundle = drydock.place(&format!("{name}-bundle"));
        run("umoci", &["unpack", "--image", &image, bundle.to_str().unwrap()]);
        let tree = Tree::of_directory(&bundle.join("rootfs"), true);
        assert_eq!(tree.paths(), view.root.paths());
        for path in view.root.paths() {
            let (mut got, want) = (tree.line(path), view.root.line(path));
            if want.starts_with('l') {
                got = got.replace("l 0:0", want.split(" ->").next().unwrap());
            }
            if view.root.get(path).unwrap().xattrs.is_empty() {
                assert_eq!(got, want, "{path}");
            }
        }

        let docker = drydock.place(&format!("{name}-docker.tar"));
        drydock
            .build(&context)
            .args(["-t", "app", "-o"])
            .arg(format!("type=docker,dest={}", docker.display()))
            .ok();
        let output = run(
            "skopeo",
            &["inspect", "--config", &format!("docker-archive:{}", docker.display())],
        );
        assert_eq!(
            serde_json::from_str::<Value>(&output).unwrap()["rootfs"],
            view.config["rootfs"]
        );
    }
}

#[test]
fn privileged_buildah_accepts_the_images() {
    require_root!();
    require_programs!("buildah");
    let drydock = Drydock::new();
    let dest = drydock.place("rich.tar");
    drydock.build(&rich()).arg("-o").arg(format!("type=oci,dest={}", dest.display())).ok();
    let (root, runroot) = (drydock.place("containers"), drydock.place("containers-run"));
    let buildah = |args: &[&str]| {
        Command::new("buildah")
            .args([
                "--root",
                root.to_str().unwrap(),
                "--runroot",
                runroot.to_str().unwrap(),
                "--storage-driver",
                "vfs",
            ])
            .args(args)
            .output()
            .unwrap()
    };
    let probe = buildah(&["info"]);
    if !probe.status.success() {
        let reason = String::from_utf8_lossy(&probe.stderr);
        skip::say("buildah from", reason.lines().last().unwrap_or("buildah info fails"));
        return;
    }
    let archive = format!("oci-archive:{}", dest.display());
    let output = buildah(&[
        "from",
        "--signature-policy",
        policy(&drydock).to_str().unwrap(),
        "--name",
        "c",
        &archive,
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = buildah(&["inspect", "--format", "{{.OCIv1.Config.User}}", "c"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "app");
    buildah(&["rm", "--all"]);
}

fn policy(drydock: &Drydock) -> std::path::PathBuf {
    let path = drydock.place("policy.json");
    fs::write(&path, "{\"default\": [{\"type\": \"insecureAcceptAnything\"}]}").unwrap();
    path
}

#[test]
fn privileged_pushing() {
    require_root!();
    require_programs!("docker-registry");
    let server = RegistryServer::start().unwrap();
    let drydock = Drydock::new();
    let context = plain();
    let (one, two) =
        (format!("{}/team/app:1", server.address()), format!("{}/team/app:2", server.address()));
    let meta = drydock.place("meta");
    drydock
        .build(&context)
        .args(["-t", &one, "-t", &two, "--push", "--metadata-file"])
        .arg(&meta)
        .ok();
    let manifest = server.manifest("team/app", "1").unwrap().expect("it was pushed");
    assert_eq!(server.manifest("team/app", "2").unwrap().as_ref(), Some(&manifest));
    let document: Value = serde_json::from_slice(&fs::read(&meta).unwrap()).unwrap();
    assert_eq!(document["containerimage.digest"], oci::Digest::of(&manifest).to_string());
    let view = drydock.build(&context).image();
    assert_eq!(
        view.manifest_digest,
        oci::Digest::of(&manifest),
        "pushed and exported are the same"
    );

    let three = format!("type=registry,name={}/team/other:3", server.address());
    drydock.build(&context).args(["-o", &three]).ok();
    assert!(server.manifest("team/other", "3").unwrap().is_some());
    let nowhere = "127.0.0.1:1/app:1";
    let output = drydock.build(&context).args(["-t", nowhere, "--push"]).fails();
    assert!(output.stderr.contains("127.0.0.1:1"), "{output}");
}

#[test]
fn privileged_called_by_the_name_build() {
    require_root!();
    let drydock = Drydock::new();
    let context = plain();
    let link = drydock.place("build");
    let dest = drydock.place("x.tar");
    let to = format!("type=oci,dest={}", dest.display());
    drydock.build(&context).called(&link).without_command().args(["-t", "app", "-o", &to]).ok();
    ImageView::archive(&dest);
}

#[test]
fn privileged_loading_into_what_is_there() {
    require_root!();
    let drydock = Drydock::new();
    let bin = drydock.place("bin");
    fs::create_dir(&bin).unwrap();
    let context = plain();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let load = |args: &[&str]| drydock.build(&context).env("PATH", &path).args(args);
    let output = drydock
        .build(&context)
        .env("PATH", bin.display().to_string())
        .args(["-t", "app:1", "--load"])
        .fails();
    assert!(output.stderr.contains("docker") && output.stderr.contains("podman"), "{output}");

    let taken = drydock.place("taken.tar");
    let script = |program: &str, end: &str| {
        let text =
            format!("#!/bin/sh\ntest \"$1\" = load || exit 0\ncat > {}\n{end}\n", taken.display());
        fs::write(bin.join(program), text).unwrap();
        fs::set_permissions(bin.join(program), fs::Permissions::from_mode(0o755)).unwrap();
    };
    script("docker", "echo Loaded");
    for args in [&["-t", "app:1", "--load"][..], &["-t", "app:1", "-o", "type=docker"]] {
        load(args).ok();
        let (image, tags) = ImageView::docker(&taken);
        assert_eq!(tags, ["app:1"]);
        assert_eq!(image.text("d/f"), "B");
        fs::remove_file(&taken).unwrap();
    }
    script("docker", "echo no space left >&2; exit 3");
    let output = load(&["-t", "app:1", "--load"]).fails();
    assert!(output.stderr.contains("no space left"), "{output}");
}

#[test]
fn privileged_a_directory_is_not_written_through_links() {
    require_root!();
    let drydock = Drydock::new();
    let (out, victim) = (drydock.place("out"), drydock.place("victim"));
    fs::create_dir(&out).unwrap();
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("f"), "precious").unwrap();
    std::os::unix::fs::symlink(&victim, out.join("d")).unwrap();
    std::os::unix::fs::symlink(victim.join("f"), out.join("a")).unwrap();
    drydock.build(&plain()).arg("-o").arg(&out).ok();
    assert_eq!(fs::read(victim.join("f")).unwrap(), b"precious");
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);
    assert_eq!(fs::read(out.join("d/f")).unwrap(), b"B");
    assert_eq!(fs::read(out.join("a")).unwrap(), b"A");
}

#[test]
fn privileged_an_epoch_alone_sets_what_is_created() {
    require_root!();
    let drydock = Drydock::new();
    let context = plain();
    context.set_time("a", std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    let image = drydock.build(&context).env("SOURCE_DATE_EPOCH", "1600000000").image();
    assert_eq!(image.config["created"], "2020-09-13T12:26:40Z");
    assert_eq!(image.root.get("a").unwrap().seconds(), 1_700_000_000, "files are left alone");
    let image = drydock.build(&context).image();
    assert_ne!(image.config["created"], "2020-09-13T12:26:40Z");
    let output = drydock.build(&context).env("SOURCE_DATE_EPOCH", "yesterday").fails();
    assert!(output.stderr.contains("SOURCE_DATE_EPOCH"), "{output}");
}

#[test]
fn privileged_outputs_inside_the_context() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new("FROM scratch\nCOPY . /c\n").file("a", "A");
    for _ in 0..2 {
        drydock.build(&context).cwd(context.path()).args(["-o", "type=oci,dest=out.tar"]).ok();
        ImageView::archive(&context.join("out.tar"));
    }
    let image = drydock.build(&context).cwd(context.path()).args(["-o", "out"]).image();
    assert!(image.root.has("c/out.tar") && context.join("out/c/a").is_file());
    let relative =
        drydock.bare_build(&context).cwd(drydock.place("")).args(["--root", "other-state"]);
    relative.ok();
    assert!(drydock.place("other-state/format").is_file());
}
