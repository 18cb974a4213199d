//! Caches that are not there, or damaged: told once, and what they were for is done.

use std::fs;

use serde_json::json;
use tests::context::Context;
use tests::drydock::{Drydock, Output};
use tests::proxy::{ALWAYS, Access, Fault, Kind};
use tests::token_server::{Bearer, basic};
use tests::{require_programs, require_root};

use super::place::*;

/// It went on without the cache, and said so.
fn assert_ran_all(output: &Output, steps: usize) {
    assert_eq!(output.executed().len(), steps, "{output}");
    assert!(output.stderr.contains("cannot be used, going on without it"), "{output}");
}

/// A project of three steps.
const SMALL: &str = "FROM busybox\nRUN --network=none echo 1 > /1\nRUN --network=none echo 2 > /2\n\
                     RUN --network=none cat /1 /2 > /3\n";

/// The same with one more, which needs the bytes of those before.
fn longer() -> String {
    format!("{SMALL}RUN --network=none cat /1 /2 /3 > /4\n")
}

#[test]
fn privileged_a_registry_that_is_not_there() {
    require_root!();
    require_programs!("docker-registry");
    let context = Context::new(SMALL);
    // Nobody listens at this port: a registry that was there until now.
    let gone = Place::new().name("cache:1");
    let (_machine, run) = fresh(&context, &gone);
    assert_ran_all(&run.ok(), 3);
    let place = Place::new();
    let (_machine, run) = fresh(&context, &place.name("never:1"));
    assert_ran_all(&run.ok(), 3);
    tests::base_image::BaseImage::get().push(&place.server, "image", "1");
    let (_machine, run) = fresh(&context, &place.name("image:1"));
    let output = run.ok();
    assert_ran_all(&output, 3);
    assert!(output.stderr.contains("there is no cache in it"), "{output}");
    let place = Place::with(Access::Basic("user".into(), "secret".into()));
    let (machine, run) = fresh(&context, &place.name("cache:1"));
    assert_ran_all(&run.ok(), 3);
    // Where it cannot go, it does not: that is no failure, unless somebody says so.
    let name = place.name("cache:1");
    let output = machine.build(&context).args(["--cache-to", &name]).ok();
    assert!(output.stderr.contains("the cache was not exported"), "{output}");
    let must = format!("type=registry,ref={name},ignore-error=false");
    let image = machine.place("image.tar");
    let to = format!("type=oci,dest={}", image.display());
    let output = machine.build(&context).args(["--cache-to", &must, "-o", &to]).fails();
    assert!(output.stderr.contains("the image is complete, but its cache"), "{output}");
    assert_eq!(tests::image_view::ImageView::archive(&image).text("3"), "1\n2\n");
}

#[test]
fn privileged_a_registry_that_wants_tokens() {
    require_root!();
    require_programs!("docker-registry");
    let bearer = Bearer { anonymous_pull: false, ..Bearer::default() };
    let place = Place::with(Access::Bearer(bearer));
    let login = |machine: &Drydock| {
        let dir = machine.home().join(".docker");
        fs::create_dir_all(&dir).unwrap();
        let auth = basic("user", "secret").replace("Basic ", "");
        let config = json!({"auths": {place.proxy.address(): {"auth": auth}}});
        fs::write(dir.join("config.json"), config.to_string()).unwrap();
    };
    let (home, context) = (Drydock::new(), Context::new(SMALL));
    login(&home);
    let cache = place.name("cache:1");
    home.build(&context).args(["--cache-to", &cache]).ok();
    let (_machine, run) = fresh(&context, &cache);
    assert_ran_all(&run.ok(), 3);
    // Into another repository of the registry, which takes the layers from the cache's.
    let (machine, run) = fresh(&context, &cache);
    login(&machine);
    place.proxy.forget();
    assert_nothing_ran(&run.args(["-t", &place.name("app:1"), "--push"]).ok());
    let layers = Cache::of_registry(&place, "cache", "1");
    assert_eq!(place.layers_fetched(&layers), 0);
    let sent = place.proxy.count(Kind::UploadPut);
    assert_eq!(sent, 2, "the config, and the base's layer, which is in no registry");
}

#[test]
fn privileged_a_build_that_needs_nothing_does_not_wait() {
    require_root!();
    require_programs!("docker-registry");
    let place = Place::new();
    let (machine, context) = (Drydock::new(), Context::new(SMALL));
    let to = place.name("cache:1");
    machine.build(&context).args(["--cache-to", &to]).ok();
    place.proxy.inject(Kind::ManifestGet, ALWAYS, Fault::StallAfter(0));
    let output = machine.build(&context).args(["--cache-from", &to]).ok();
    assert_nothing_ran(&output);
    assert!(!output.has_step("importing cache manifest"), "{output}");
}

#[test]
fn privileged_a_build_that_is_stopped_has_no_complaint() {
    require_root!();
    require_programs!("docker-registry");
    let place = Place::new();
    let to = place.name("cache:1");
    Drydock::new().build(&Context::new(SMALL)).args(["--cache-to", &to]).ok();
    // While it waits for the manifest, for the records, for a layer.
    for (kind, shown) in [
        (Kind::ManifestGet, "importing cache manifest"),
        (Kind::BlobGet, "importing cache manifest"),
    ] {
        place.proxy.heal();
        place.proxy.inject(kind, ALWAYS, Fault::StallAfter(7));
        let (_machine, run) = fresh(&Context::new(SMALL), &to);
        let mut running = run.start();
        running.wait_for(shown);
        running.signal(rustix::process::Signal::INT);
        let output = running.finish();
        assert_eq!(output.status.code(), Some(1), "{output}");
        assert!(!output.stderr.contains("cannot be used"), "{output}");
        assert!(!output.stderr.contains("warning found"), "{output}");
    }
}

#[test]
fn privileged_damaged_documents_are_no_cache() {
    require_root!();
    type Damage = fn(&mut Cache);
    let cases: [(&str, Damage); 7] = [
        ("index", |it| fs::write(it.dir.join("index.json"), "{\"manifests\":").unwrap()),
        ("manifest", |it| {
            it.manifest["layers"] = json!("none");
            it.rewrite();
        }),
        ("bytes of the records", |it| {
            let digest = it.manifest["config"]["digest"].as_str().unwrap().parse().unwrap();
            let mut bytes = fs::read(it.path(&digest)).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(it.path(&digest), bytes).unwrap();
        }),
        ("records of another version", |it| {
            it.document["version"] = json!(2);
            it.rewrite();
        }),
        ("a chain that is a circle", |it| {
            it.document["trees"][1]["made"]["layer"]["below"] = json!(1);
            it.rewrite();
        }),
        ("a layer that is not there", |it| {
            it.manifest["layers"] = json!([]);
            it.rewrite();
        }),
        ("no layers at all", |it| {
            it.document["trees"] = json!([]);
            it.rewrite();
        }),
    ];
    let context = Context::new(SMALL);
    for (name, damage) in cases {
        let (_home, mut cache) = cache_of(&context, ",mode=max");
        damage(&mut cache);
        let (_machine, run) = fresh(&context, &from_dir(&cache.dir));
        let output = run.ok();
        assert_eq!(output.executed().len(), 3, "{name}: {output}");
        assert_ran_all(&output, 3);
    }
}

#[test]
fn privileged_layers_that_vanished_or_were_damaged_cost_their_step() {
    require_root!();
    type Damage = fn(&std::path::Path);
    let cases: [(&str, Damage); 3] = [
        ("vanished", |path| fs::remove_file(path).unwrap()),
        ("damaged", |path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x20;
            fs::write(path, bytes).unwrap();
        }),
        ("cut", |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
        }),
    ];
    for (name, damage) in cases {
        for file in ["1", "2", "3"] {
            let (_home, cache) = cache_of(&Context::new(SMALL), ",mode=max");
            let layer = &cache.layers()[cache.layer_with(file)];
            damage(&cache.path(&layer.digest));
            // Its bytes are needed by a step; by the output.
            for (dockerfile, own) in [(longer(), 1), (SMALL.to_owned(), 0)] {
                let (_machine, run) = fresh(&Context::new(&dockerfile), &from_dir(&cache.dir));
                let (image, output) = run.image_and_output();
                assert_eq!(image.text("3"), "1\n2\n", "{name} {file}");
                let ran = output.executed();
                assert_eq!(ran.len(), 1 + own, "{name} {file}: {output}");
                let again = |it: &String| it.ends_with(&format!("> /{file}"));
                assert!(ran.iter().any(again), "{name} {file}: {output}");
                assert!(output.stderr.contains("is done again"), "{name} {file}: {output}");
            }
        }
    }
}

#[test]
fn privileged_the_next_export_mends_a_cache() {
    require_root!();
    let (home, cache) = cache_of(&Context::new(SMALL), ",mode=max");
    let whole = fs::read(cache.path(&cache.layers()[1].digest)).unwrap();
    let path = cache.path(&cache.layers()[1].digest);
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(&path, &damaged).unwrap();
    // Who made it has what it takes, and no reason to look at it; who could not use it has both.
    let to = to_dir(&cache.dir, ",mode=max");
    home.build(&Context::new(SMALL)).args(["--cache-to", &to]).ok();
    assert_eq!(fs::read(&path).unwrap(), damaged);
    let (_machine, run) = fresh(&Context::new(&longer()), &from_dir(&cache.dir));
    assert_eq!(run.args(["--cache-to", &to]).ok().executed().len(), 2);
    for layer in Cache::open(&cache.dir).layers() {
        let bytes = fs::read(cache.path(&layer.digest)).unwrap();
        assert_eq!(oci::Digest::of(&bytes), layer.digest);
    }
    let (_machine, run) = fresh(&Context::new(&longer()), &from_dir(&cache.dir));
    let (_, output) = run.image_and_output();
    assert_nothing_ran(&output);
}

#[test]
fn privileged_everything_vanished() {
    require_root!();
    let (_home, cache) = cache_of(&project(), ",mode=max");
    for layer in cache.layers() {
        fs::remove_file(cache.path(&layer.digest)).unwrap();
    }
    let (_machine, run) = fresh(&project(), &from_dir(&cache.dir));
    let (image, output) = run.image_and_output();
    assert_eq!(image.text("third"), "tool\n1\n2\n");
    assert!(output.stderr.contains("is done again"), "{output}");
}

#[test]
fn privileged_a_registry_that_forgot_a_layer() {
    require_root!();
    require_programs!("docker-registry");
    let place = Place::new();
    let to = format!("type=registry,ref={},mode=max", place.name("cache:1"));
    Drydock::new().build(&Context::new(SMALL)).args(["--cache-to", &to]).ok();
    let cache = Cache::of_registry(&place, "cache", "1");
    let (_machine, run) = fresh(&Context::new(&longer()), &place.name("cache:1"));
    let output = run.ok();
    assert_eq!(output.executed().len(), 1, "{output}");
    assert_eq!(place.layers_fetched(&cache), 3);
    // What a registry forgot is done again.
    let digest = cache.layers()[0].digest;
    let target = format!("/v2/cache/blobs/{digest}");
    let gone = tests::http::request(place.server.address(), "DELETE", &target, &[], b"").unwrap();
    assert_eq!(gone.status(), 202);
    let (_machine, run) = fresh(&Context::new(&longer()), &place.name("cache:1"));
    let (image, output) = run.image_and_output();
    assert_eq!(image.text("4"), "1\n2\n1\n2\n");
    assert_eq!(output.executed().len(), 2, "{output}");
}

#[test]
fn privileged_a_layer_for_which_there_is_no_room() {
    require_root!();
    // While a layer is unpacked its blob is there as well: what a step writes needs less room.
    let text = "FROM busybox\nCOPY one /one\nCOPY two /two\nCOPY three /three\n\
                RUN --network=none ls /three > /list\n";
    let context = |text: &str| {
        let mut random = tests::random::Random::new(11);
        let names = ["one", "two", "three"].into_iter();
        names.fold(Context::new(text), |context, name| {
            let bytes: Vec<u8> = (0..10 << 20).map(|_| random.below(256) as u8).collect();
            context.file(name, bytes)
        })
    };
    let (_home, cache) = cache_of(&context(text), ",mode=max");
    let longer = context(&format!("{text}RUN --network=none cat /list > /four\n"));
    let (machine, run) = fresh(&longer, &from_dir(&cache.dir));
    let out = machine.place("out");
    let to = format!("type=local,dest={}", out.display());
    run.args(["-o", &to, "--max-cache", "38MB"]).ok();
    assert_eq!(fs::read_to_string(out.join("four")).unwrap(), "/three\n");
}
