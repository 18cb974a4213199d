//! Caches whose digests are right and whose records are not.

use std::fs;
use std::io::Write;

use oci::{Digest, media_type};
use serde_json::json;
use tests::base_image::{TarBuilder, gzip};
use tests::context::Context;
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
