//! What a fresh machine does with a cache, and what it fetches.

use std::fs;

use tests::context::Context;
use tests::drydock::Drydock;
use tests::person::{Person, ok};
use tests::proxy::Kind;
use tests::{require_programs, require_root};

use super::place::*;

#[test]
fn privileged_a_fresh_machine_runs_nothing() {
    require_root!();
    require_programs!("docker-registry");
    let place = Place::new();
    let home = Drydock::new();
    let (context, name) = (project(), place.name("cache:min"));
    let dirs = [home.place("min"), home.place("max"), home.place("zstd")];
    let max = format!("type=registry,ref={},mode=max", place.name("cache:max"));
    let (image, _) = home
        .build(&context)
        .args(["--cache-to", &name, "--cache-to", &max])
        .args(["--cache-to", &to_dir(&dirs[0], ""), "--cache-to", &to_dir(&dirs[1], ",mode=max")])
        .args(["--cache-to", &to_dir(&dirs[2], ",mode=max,compression=zstd")])
        .image_and_output();
    let sizes = [&dirs[0], &dirs[1]].map(|dir| Cache::open(dir).layers().len());
    assert_eq!(sizes, [5, 10], "the result's layers, and those of every step");
    let sources = [
        name,
        format!("type=registry,ref={}", place.name("cache:max")),
        from_dir(&dirs[0]),
        from_dir(&dirs[1]),
        from_dir(&dirs[2]),
    ];
    for from in sources {
        let (machine, run) = fresh(&project(), &from);
        let (other, output) = run.image_and_output();
        assert_nothing_ran(&output);
        assert_eq!(other.root, image.root, "{from}");
        if !from.contains("zstd") {
            assert_eq!(other.manifest_digest, image.manifest_digest, "{from}");
        }
        assert!(output.stderr.contains("importing cache manifest from "), "{output}");
        // Files, not only blobs: all is unpacked and checked. Then nothing needs a cache.
        let out = machine.place("out");
        let to = format!("type=local,dest={}", out.display());
        assert_nothing_ran(
            &machine.build(&project()).args(["--cache-from", &from, "-o", &to]).ok(),
        );
        assert_eq!(fs::read_to_string(out.join("second")).unwrap(), "tool\n1\n2\n");
        let (again, output) = machine.build(&project()).image_and_output();
        assert!(output.cached("RUN --network=none chown"), "{output}");
        assert_eq!(again.root, image.root);
    }
}

#[test]
fn privileged_inside_the_image() {
    require_root!();
    require_programs!("docker-registry");
    let place = Place::new();
    let home = Drydock::new();
    let context = clone(&with_base(&place, PROJECT));
    let name = place.name("app:1");
    home.bare_build(&context).args(["-t", &name, "--push", "--cache-to", "type=inline"]).ok();
    let config: serde_json::Value = {
        let manifest = place.server.manifest("app", "1").unwrap().unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 6);
        let digest = manifest["config"]["digest"].as_str().unwrap().parse().unwrap();
        serde_json::from_slice(&place.server.blob("app", digest).unwrap().unwrap()).unwrap()
    };
    assert!(config["drydock.cache.v1"]["records"].is_array(), "{config}");
    assert!(config.get("moby.buildkit.cache.v0").is_none());
    let machine = Drydock::new();
    let run = machine.bare_build(&clone(&with_base(&place, PROJECT)));
    let (image, output) = run.args(["--cache-from", &name]).image_and_output();
    assert_nothing_ran(&output);
    assert_eq!(image.text("second"), "tool\n1\n2\n");
    assert!(image.config.get("drydock.cache.v1").is_none(), "it was not asked for again");
    // What is built on the image does not have its cache.
    let child = Context::new(&format!("FROM {name}\nLABEL a=b\n"));
    let image = Drydock::new().bare_build(&child).image();
    assert!(image.config.get("drydock.cache.v1").is_none());
}

#[test]
fn privileged_inside_images_of_every_kind() {
    require_root!();
    let (machine, context) = (Drydock::new(), project());
    let inline = |output: &[&str]| {
        machine.build(&context).args(["--cache-to", "type=inline"]).args(output).ok()
    };
    let place = |name: &str| machine.place(name).display().to_string();
    let nowhere = "the cache is nowhere, since no image is written";
    let bare = [vec![], vec!["-o", "type=cacheonly"]];
    let files = ["tar", "local"].map(|kind| format!("type={kind},dest={}", place(kind)));
    for output in bare.into_iter().chain(files.iter().map(|it| vec!["-o", it])) {
        let told = inline(&output);
        assert!(told.stderr.contains(nowhere), "{output:?}: {told}");
    }
    let layout = format!("type=oci,tar=false,name=a:latest,dest={}", place("layout"));
    let docker = format!("type=docker,name=a:latest,dest={}", place("docker.tar"));
    for output in [["-o", &layout], ["-o", &docker], ["-t", "stored:1"]] {
        let told = inline(&output);
        assert_no_complaint(&told);
    }
    // A layout is a cache in a directory, too.
    let (_machine, run) = fresh(&project(), &from_dir(&machine.place("layout")));
    let (image, output) = run.image_and_output();
    assert_nothing_ran(&output);
    assert_eq!(image.text("second"), "tool\n1\n2\n");
    let archive = fs::read(machine.place("docker.tar")).unwrap();
    let text = String::from_utf8_lossy(&archive).into_owned();
    assert!(text.contains("drydock.cache.v1"));
}

#[test]
fn privileged_only_what_somebody_needs_is_fetched() {
    require_root!();
    require_programs!("docker-registry");
    let place = Place::new();
    let context = clone(&with_base(&place, PROJECT));
    let to = format!("type=registry,ref={},mode=max", place.name("cache:1"));
    Drydock::new().bare_build(&context).args(["--cache-to", &to]).ok();
    let cache = Cache::of_registry(&place, "cache", "1");
    let machines: Vec<Drydock> = (0..4).map(|_| Drydock::new()).collect();
    let fresh = |machine: usize, dockerfile: &str| {
        place.proxy.forget();
        let context = clone(&with_base(&place, dockerfile));
        machines[machine].bare_build(&context).args(["--cache-from", &place.name("cache:1")])
    };
    // Nobody wants anything: manifest and config of base and cache, and no layer.
    assert_nothing_ran(&fresh(0, PROJECT).ok());
    assert_eq!(place.layers_fetched(&cache), 0);
    assert_eq!(place.proxy.count(Kind::BlobGet), 2, "{:?}", place.proxy.seen());
    // A registry that has the layers wants nothing of us, either.
    assert_nothing_ran(&fresh(1, PROJECT).args(["-t", &place.name("app:1"), "--push"]).ok());
    assert_eq!(place.layers_fetched(&cache), 0);
    assert_eq!(place.proxy.count(Kind::BlobGet), 2, "{:?}", place.proxy.seen());
    let child = Context::new(&format!("FROM {}\nLABEL a=b\n", place.name("app:1")));
    for machine in [&Drydock::new(), &machines[1]] {
        assert_eq!(machine.bare_build(&child).image().text("second"), "tool\n1\n2\n");
    }
    // An archive wants the layers of the result, once each, and its base's.
    let (image, output) = fresh(2, PROJECT).image_and_output();
    assert_nothing_ran(&output);
    assert_eq!(place.layers_fetched(&cache), 5);
    assert_eq!(place.proxy.count(Kind::BlobGet), 2 + 5 + 1, "{:?}", place.proxy.seen());
    assert_eq!(image.text("second"), "tool\n1\n2\n");
    // A step of one stage needs that stage alone.
    let changed = PROJECT.replace("echo big", "echo bigger");
    let output = fresh(3, &changed).ok();
    assert_eq!(output.executed().len(), 1, "{output}");
    assert_eq!(place.layers_fetched(&cache), 3, "WORKDIR, COPY and RUN of the stage");
}

#[test]
fn privileged_equal_results_cut_it_off_on_another_machine() {
    require_root!();
    let (home, cache) = cache_of(&project(), ",mode=max");
    // Another command that makes the same file: what copies it is known.
    let changed = PROJECT.replace("cat one two > /made", "cat one > /made; cat two >> /made");
    let (_machine, run) = fresh(&clone(&changed), &from_dir(&cache.dir));
    let (image, output) = run.image_and_output();
    let ran = output.executed();
    assert_eq!(ran.len(), 1, "{output}");
    assert!(ran[0].contains("cat two >> /made"), "{output}");
    assert_eq!(image.manifest_digest, home.build(&project()).image().manifest_digest);
    // Only what is copied counts, also where the stage is only known by name (mode=min).
    let (_home, cache) = cache_of(&project(), "");
    let changed = PROJECT.replace("echo big", "echo bigger");
    let (_machine, run) = fresh(&clone(&changed), &from_dir(&cache.dir));
    let output = run.ok();
    assert!(output.cached("COPY --from=build"), "{output}");
    assert!(output.cached("--mount=type=bind"), "{output}");
}

#[test]
fn privileged_a_stage_that_was_not_carried_runs_when_it_is_needed() {
    require_root!();
    let (_home, cache) = cache_of(&project(), "");
    // The stage is known without its layers, until another file of it is copied.
    let changed =
        PROJECT.replace("COPY --from=build /made /app/", "COPY --from=build /made /src/big /app/");
    let (_machine, run) = fresh(&clone(&changed), &from_dir(&cache.dir));
    let (image, output) = run.image_and_output();
    assert_eq!(image.text("app/big"), "big\n");
    assert_eq!(image.text("third"), "tool\n1\n2\n");
    let ran = output.executed();
    assert!(ran.iter().any(|it| it.contains("echo big")), "{output}");
    assert!(!ran.iter().any(|it| it.contains("echo first")), "{output}");
}

#[test]
fn privileged_several_caches_are_asked_in_turn() {
    require_root!();
    let other = Context::new("FROM busybox\nRUN --network=none echo other > /other\n");
    let (_one, first) = cache_of(&other, ",mode=max");
    let (_two, second) = cache_of(&project(), ",mode=max");
    for context in [other, project()] {
        let (_machine, run) = fresh(&context, &from_dir(&first.dir));
        let nowhere = from_dir(&first.dir.join("nowhere"));
        let run = run.args(["--cache-from", &nowhere, "--cache-from", &from_dir(&second.dir)]);
        let output = run.ok();
        assert_eq!(output.executed(), Vec::<String>::new(), "{output}");
    }
    // A cache that was imported can be carried on, without anything of it being run or unpacked.
    let (machine, run) = fresh(&project(), &from_dir(&second.dir));
    let third = machine.place("third");
    assert_nothing_ran(&run.args(["--cache-to", &to_dir(&third, ",mode=max")]).ok());
    let third = Cache::open(&third);
    assert_eq!(third.document, second.document);
    assert_eq!(third.layers(), second.layers());
}

#[test]
fn privileged_what_must_be_fresh_is_not_taken() {
    require_root!();
    let (_home, mut cache) = cache_of(&project(), ",mode=max");
    let (_machine, run) = fresh(&project(), &from_dir(&cache.dir));
    assert_eq!(run.arg("--no-cache").ok().executed().len(), 10);
    let (_machine, run) = fresh(&project(), &from_dir(&cache.dir));
    let output = run.args(["--no-cache-filter", "tools"]).ok();
    assert_eq!(output.executed().len(), 1, "{output}");
    let (_machine, run) = fresh(&project(), &from_dir(&cache.dir));
    assert_nothing_ran(&run.args(["--ttl", "echo first=10000h"]).ok());
    // Records carry the time when their step started: of years ago, here.
    for record in cache.document["records"].as_array_mut().unwrap() {
        record["started"] = "2020-01-01T00:00:00Z".into();
    }
    cache.rewrite();
    let (_machine, run) = fresh(&project(), &from_dir(&cache.dir));
    let output = run.args(["--ttl", "echo first=10000h"]).ok();
    assert_eq!(output.executed().len(), 1, "{output}");
    assert!(output.executed()[0].contains("echo first"), "{output}");
    let (_machine, run) = fresh(&project(), &from_dir(&cache.dir));
    assert_nothing_ran(&run.ok());
}

#[test]
fn privileged_a_plan_asks_caches_and_writes_nothing() {
    require_root!();
    let (_home, cache) = cache_of(&project(), ",mode=max");
    let (machine, run) = fresh(&project(), &from_dir(&cache.dir));
    let output = run.arg("--plan").ok();
    assert!(output.text().starts_with("nothing would run"), "{output}");
    let from = format!("(from {})", cache.dir.display());
    assert!(output.text().matches(&from).count() > 8, "{output}");
    assert!(!machine.state().join("snapshots-v1").exists());
    let changed = PROJECT.replace("echo first", "echo First");
    let (_machine, run) = fresh(&clone(&changed), &from_dir(&cache.dir));
    let output = run.arg("--plan").ok();
    let text = output.text();
    assert!(text.contains("run     [stage-2 2/6] RUN --network=none echo First"), "{output}");
    assert!(text.contains("cached  [stage-2 5/6] COPY --link"), "{output}");
    assert!(!text.contains("run     [build"), "{output}");
}

#[test]
fn privileged_several_builds_of_one_fresh_machine() {
    require_root!();
    let (_home, cache) = cache_of(&project(), ",mode=max");
    let machine = Drydock::new();
    let longer = format!("{PROJECT}RUN --network=none cat /second /third > /fourth\n");
    let running: Vec<_> = (0..4)
        .map(|n| {
            let out = machine.place(&format!("out{n}"));
            let to = format!("type=local,dest={}", out.display());
            let run = machine.build(&clone(&longer)).args(["-o", &to]);
            (out, run.args(["--cache-from", &from_dir(&cache.dir)]).start())
        })
        .collect();
    let mut ran = 0;
    for (out, running) in running {
        let output = running.finish();
        assert!(output.status.success(), "{output}");
        assert_no_complaint(&output);
        let steps = output.executed();
        assert!(steps.iter().all(|step| step.contains("/fourth")), "{output}");
        ran += steps.len();
        let text = fs::read_to_string(out.join("fourth")).unwrap();
        assert_eq!(text, "tool\n1\n2\ntool\n1\n2\n");
    }
    assert!(ran >= 1, "somebody ran it");
}

#[test]
fn privileged_layers_are_the_same_however_snapshots_are_stored() {
    require_root!();
    // Each way of changing a root file system, and linked copies with and without a base.
    let dockerfile = "FROM busybox AS a
RUN --network=none mkdir -p /d/e /gone/x && echo 1 > /d/e/f && ln /d/e/f /d/g && mkfifo /d/p
RUN --network=none rm -r /gone && rm /d/e/f && mkdir /gone && echo 2 > /gone/y && chmod 2750 /d
RUN --network=none mv /d /moved && rm -r /home && ln -s moved /d && chown -h 3:4 /d
COPY --link conf /linked/
RUN --network=none rm -r /linked && mkdir -p /linked/more && touch -d @5 /etc/passwd
FROM scratch AS b
COPY --link conf /one
COPY --link src /two
FROM b
COPY --from=a /moved /moved
COPY --from=a /linked /linked
COPY --from=a /gone /gone
";
    let context = clone(dockerfile);
    let home = Drydock::new();
    let image = home.build(&context).args(["--cache-to", &to_dir(&home.place("c"), ",mode=max")]);
    let (image, from) = (image.image(), from_dir(&home.place("c")));
    for kind in ["overlay", "copy"] {
        let (machine, run) = fresh(&context, &from);
        let run = run.args(["--snapshotter", kind]);
        // Its files: everything is unpacked here.
        let out = machine.place("out");
        let to = format!("type=local,dest={}", out.display());
        assert_nothing_ran(&run.clone().args(["-o", &to]).ok());
        let (other, output) = run.image_and_output();
        assert_nothing_ran(&output);
        assert_eq!(other.manifest_digest, image.manifest_digest, "{kind}");
        // And those of the stage, by a step on all of its layers.
        let more = clone(
            &dockerfile.replace("FROM scratch AS b", "RUN --network=none ls /d\nFROM scratch AS b"),
        );
        let run = machine.build(&more).args(["--snapshotter", kind, "--cache-from", &from]);
        let output = run.args(["--target", "a"]).ok();
        assert_no_complaint(&output);
        assert_eq!(output.executed().len(), 1, "{output}");
    }
}

#[test]
fn privileged_of_an_ordinary_user() {
    require_root!();
    let Some(person) = Person::new("privileged_of_an_ordinary_user", true) else { return };
    let files: Vec<(&str, &[u8])> = vec![("one", b"1\n")];
    let dockerfile = "FROM busybox AS a\nCOPY --chown=app:appg one /one\n\
                      RUN --network=none cat /one > /two && chown 4242:33 /two && chmod 4750 /two\n\
                      FROM busybox\nCOPY --from=a /two /\nRUN --network=none rm /etc/group\n";
    person.context("context", dockerfile, &files);
    let dir = person.place("home").join("cache");
    let to = to_dir(&dir, ",mode=max");
    ok(&person.build("context", &["--cache-to", &to]));
    let context = Context::new(dockerfile).file("one", "1\n");
    let (_machine, run) = fresh(&context, &from_dir(&dir));
    let (image, output) = run.env("SOURCE_DATE_EPOCH", "1000000000").image_and_output();
    assert_nothing_ran(&output);
    let machine = Drydock::new();
    let own = machine.build(&context).env("SOURCE_DATE_EPOCH", "1000000000").image();
    assert_eq!(image.root.differences(&own.root), Vec::<String>::new());
}
