//! Caches whose digests are right and whose records are not.

use std::fs;
use std::io::Write;

use oci::{Digest, media_type};
use serde_json::json;
use tests::base_image::{TarBuilder, gzip};
use tests::context::Context;
use tests::drydock::{Drydock, Output};
use tests::require_root;

use super::place::*;

const SMALL: &str =
    "FROM busybox\nRUN --network=none echo 1 > /1\nRUN --network=none cat /1 > /2\n";

/// Has the layer with `file` be another one, which holds `tar`.
fn replace(cache: &mut Cache, file: &str, tar: &[u8]) {
    let at = cache.layer_with(file);
    let blob = cache.put(media_type::OCI_LAYER_GZIP, &gzip(tar));
    cache.manifest["layers"][at] = serde_json::to_value(blob).unwrap();
    for tree in cache.document["trees"].as_array_mut().unwrap() {
        if tree["made"]["layer"]["blob"] == json!(at) {
            tree["made"]["layer"]["diff"] = json!(Digest::of(tar).to_string());
        }
    }
    cache.rewrite();
}

#[test]
fn privileged_a_layer_that_is_another_one() {
    require_root!();
    let other = TarBuilder::new().file("1", 0o644, "evil\n").finish();
    let marked = TarBuilder::new().file("1", 0o644, "1\n").file(".wh..wh..opq", 0, "").finish();
    let nothing = b"no tar at all".to_vec();
    for tar in [other, marked, nothing] {
        let (_home, mut cache) = cache_of(&Context::new(SMALL), ",mode=max");
        replace(&mut cache, "1", &tar);
        // Where its bytes are needed by a step, and where only an archive wants them.
        for more in ["RUN --network=none cat /1 /2 > /3\n", ""] {
            let context = Context::new(&format!("{SMALL}{more}"));
            let (_machine, run) = fresh(&context, &from_dir(&cache.dir));
            let (image, output) = run.image_and_output();
            assert_eq!((image.text("1"), image.text("2")), ("1\n".into(), "1\n".into()));
            assert!(output.stderr.contains("is done again"), "{output}");
            assert!(output.executed().iter().any(|it| it.contains("echo 1 > /1")), "{output}");
        }
    }
}

/// Changes the records, has a fresh machine use them, and has one use them that has all of it: both
/// make the same as one without a cache.
fn lie(name: &str, change: impl Fn(&mut Cache)) -> Vec<Output> {
    let dockerfile = format!("{SMALL}COPY --link one /one\nRUN --network=none cat /1 /2 > /3\n");
    let context = |text: &str| Context::new(text).file("one", "one\n");
    let (home, mut cache) = cache_of(&context(&dockerfile), ",mode=max");
    let honest = home.build(&context(&dockerfile)).image();
    change(&mut cache);
    let more = format!("{dockerfile}RUN --network=none cat /1 /2 /3 > /4\n");
    let mut told = Vec::new();
    for (machine, no_own_records) in [(Drydock::new(), false), (home, true)] {
        for text in [&dockerfile, &more] {
            let mut run =
                machine.build(&context(text)).args(["--cache-from", &from_dir(&cache.dir)]);
            if no_own_records {
                // The trees are here, and found by no record.
                let other =
                    format!("FROM busybox\nLABEL a=b\n{}", text.replace("FROM busybox\n", ""));
                run = machine.build(&context(&other)).args(["--cache-from", &from_dir(&cache.dir)]);
            }
            let (image, output) = run.image_and_output();
            if text == &dockerfile {
                assert_eq!(image.root.differences(&honest.root), Vec::<String>::new(), "{name}");
            }
            let files = ["1", "2", "3", "one"].map(|file| image.text(file));
            assert_eq!(files, ["1\n", "1\n", "1\n1\n", "one\n"], "{name}: {output}");
            told.push(output);
        }
    }
    told
}

#[test]
fn privileged_records_of_other_steps() {
    require_root!();
    let point = |cache: &mut Cache, to: &dyn Fn(u64) -> u64| {
        for record in cache.document["records"].as_array_mut().unwrap() {
            record["tree"] = json!(to(record["tree"].as_u64().unwrap()));
        }
        cache.rewrite();
    };
    let count = |cache: &Cache| cache.document["trees"].as_array().unwrap().len() as u64;
    for by in 1..5 {
        let told = lie(&format!("{by} further"), |cache| {
            let all = count(cache);
            point(cache, &|tree| (tree + by) % all);
        });
        let told = told[0].stderr.matches("is a layer on something else than it is").count();
        assert!(told > 0);
    }
    let told = lie("the base image", |cache| point(cache, &|_| 0));
    assert!(told[0].stderr.contains("its record is not used"), "{}", told[0]);
    // Of a tree of which nothing is said but what it is, that cannot be told before somebody has it.
    lie("trees that are not carried", |cache| {
        let trees = cache.document["trees"].as_array_mut().unwrap();
        let contents: Vec<_> = trees.iter().map(|tree| tree["content"].clone()).collect();
        for (at, tree) in trees.iter_mut().enumerate() {
            tree["content"] = contents[(at + 2) % contents.len()].clone();
            tree["made"] = json!({"elsewhere": {}});
        }
        cache.rewrite();
    });
}

#[test]
fn privileged_a_base_that_is_another_one() {
    require_root!();
    for layers in [json!([]), json!([Digest::of(b"other").to_string()])] {
        let told = lie("the base", |cache| {
            for tree in cache.document["trees"].as_array_mut().unwrap() {
                if tree["made"].get("image").is_some() {
                    tree["made"]["image"]["layers"] = layers.clone();
                }
            }
            cache.rewrite();
        });
        assert!(!told[0].executed().is_empty(), "{}", told[0]);
    }
}

#[test]
fn privileged_a_layer_whose_type_is_wrong() {
    require_root!();
    let typed = |kind: &'static str| {
        move |cache: &mut Cache| {
            for layer in cache.manifest["layers"].as_array_mut().unwrap() {
                layer["mediaType"] = json!(kind);
            }
            cache.rewrite();
        }
    };
    for kind in ["application/x-other", "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"] {
        let told = lie(kind, typed(kind));
        assert!(told[0].stderr.contains("which cannot be read"), "{}", told[0]);
        assert!(told[0].stderr.contains(kind), "{}", told[0]);
    }
    // An image would have it with that type, and others would go by it.
    let told = lie("zstd", typed(media_type::OCI_LAYER_ZSTD));
    assert!(told[0].stderr.contains("and it is gzip"), "{}", told[0]);
    let told = lie("docker", typed(media_type::DOCKER_LAYER_GZIP));
    assert_nothing_ran(&told[0]);
}

#[test]
fn privileged_names_that_lead_elsewhere() {
    require_root!();
    let outside = Drydock::new().place("outside");
    for name in [format!("../../../../../../../..{}", outside.display()), "a/".repeat(50_000)] {
        let (_home, mut cache) = cache_of(&Context::new(SMALL), ",mode=max");
        replace(&mut cache, "1", &long_name(&name));
        let context = Context::new(&format!("{SMALL}RUN --network=none cat /1 /2 > /3\n"));
        let (_machine, run) = fresh(&context, &from_dir(&cache.dir));
        let (image, output) = run.image_and_output();
        assert_eq!(image.text("3"), "1\n1\n");
        assert!(output.stderr.contains("is done again"), "{output}");
        assert!(!outside.exists());
    }
}

/// A tar with one file, whose name stands in a PAX header.
fn long_name(name: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_pax_extensions([("path", name.as_bytes())]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_path("short").unwrap();
    header.set_mode(0o644);
    header.set_size(1);
    header.set_cksum();
    tar.append(&header, &b"x"[..]).unwrap();
    tar.into_inner().unwrap()
}

#[test]
fn privileged_a_diff_id_that_is_wrong() {
    require_root!();
    let (_home, mut cache) = cache_of(&Context::new(SMALL), ",mode=max");
    let at = cache.layer_with("2");
    for tree in cache.document["trees"].as_array_mut().unwrap() {
        if tree["made"]["layer"]["blob"] == json!(at) {
            tree["made"]["layer"]["diff"] = json!(Digest::of(b"other").to_string());
        }
    }
    cache.rewrite();
    let (_machine, run) = fresh(&Context::new(SMALL), &from_dir(&cache.dir));
    let (image, output) = run.image_and_output();
    assert_eq!(image.text("2"), "1\n");
    assert_eq!(output.executed().len(), 1, "{output}");
}

#[test]
fn privileged_wrong_answers_about_files() {
    require_root!();
    let dockerfile = "FROM busybox AS a\nRUN --network=none echo 1 > /1\nFROM busybox\n\
                      COPY --from=a /1 /copied\n";
    let (_home, mut cache) = cache_of(&Context::new(dockerfile), ",mode=max");
    let wrong = "ab".repeat(32);
    cache.document["answers"][0]["digest"] = json!(wrong);
    cache.rewrite();
    let (_machine, run) = fresh(&Context::new(dockerfile), &from_dir(&cache.dir));
    let (image, output) = run.image_and_output();
    assert_eq!(image.text("copied"), "1\n");
    assert!(output.stderr.contains("wrongly what is selected"), "{output}");
    // The stage came from the cache, and the right key was found in the end.
    assert_eq!(output.executed(), Vec::<String>::new(), "{output}");
}

#[test]
fn privileged_random_damage_never_makes_a_wrong_image() {
    require_root!();
    let mut random = tests::random::Random::new(7);
    let context = Context::new(SMALL);
    let (home, cache) = cache_of(&context, ",mode=max");
    let digest: Digest = cache.manifest["config"]["digest"].as_str().unwrap().parse().unwrap();
    let text = fs::read_to_string(cache.path(&digest)).unwrap();
    for round in 0..12 {
        let dir = home.place(&format!("damaged{round}"));
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        let mut damaged = Cache { dir, manifest: cache.manifest.clone(), document: json!(null) };
        for layer in cache.layers() {
            fs::copy(cache.path(&layer.digest), damaged.path(&layer.digest)).unwrap();
        }
        // Digits for digits: it stays a document of records, of other things.
        let mut bytes = text.clone().into_bytes();
        let digits: Vec<usize> =
            (0..bytes.len()).filter(|at| bytes[*at].is_ascii_digit()).collect();
        let at = digits[random.below(digits.len() as u64) as usize];
        bytes[at] = b'0' + (bytes[at] - b'0' + 1) % 10;
        let Ok(document) = serde_json::from_slice(&bytes) else { continue };
        damaged.document = document;
        damaged.rewrite();
        fs::File::create(damaged.dir.join("oci-layout")).unwrap().write_all(b"{}").unwrap();
        let (_machine, run) = fresh(&context, &from_dir(&damaged.dir));
        let (image, output) = run.image_and_output();
        assert_eq!((image.text("1"), image.text("2")), ("1\n".into(), "1\n".into()), "{output}");
    }
}
