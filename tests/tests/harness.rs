//! The harness itself: what it makes is what it says, and it sees what is wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;
use tests::base_image::{BaseImage, TarBuilder};
use tests::context::Context;
use tests::image_view::ImageView;
use tests::random::Random;
use tests::tree::{Tree, entries};
use tests::{host, require_programs, temp};

#[test]
fn the_base_image_is_one() {
    let image = ImageView::layout(BaseImage::layout());
    assert_eq!(image.layers.len(), 1);
    assert_eq!(image.root.line("tmp"), "d 1777 0:0");
    assert_eq!(image.root.line("home/app"), "d 755 1000:1001");
    assert_eq!(image.root.get("bin/sh").unwrap().linked_to.as_deref(), Some("bin/busybox"));
    assert!(image.text("etc/passwd").contains("app:x:1000:1001"));
    assert_eq!(image.list("Cmd"), ["sh"]);
}

#[test]
fn other_tools_read_the_base_image() {
    require_programs!("skopeo");
    let image = format!("oci:{}:latest", BaseImage::layout().display());
    let output = std::process::Command::new("skopeo").args(["inspect", &image]).output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["Digest"], BaseImage::get().descriptor().digest.to_string());
}

#[test]
fn damage_is_seen() {
    for file in ["index.json", "blob"] {
        let dir = temp::directory();
        BaseImage::get().write_layout(dir.path());
        let path = match file {
            "blob" => {
                let digest = oci::Digest::of(&BaseImage::get().layer);
                dir.path().join(oci::layout::blob_path(&digest))
            }
            name => dir.path().join(name),
        };
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        std::fs::write(path, bytes).unwrap();
        let read = catch_unwind(AssertUnwindSafe(|| ImageView::layout(dir.path())));
        assert!(read.is_err(), "{file}");
    }
}

#[test]
fn layers_lie_on_each_other() {
    let lower = TarBuilder::new()
        .dir("d/", 0o700)
        .file("d/a", 0o644, "a")
        .file("d/b", 0o644, "b")
        .file("e", 0o644, "e")
        .hard_link("f", "e")
        .finish();
    let upper = TarBuilder::new()
        .file("d/new", 0o600, "n")
        .file("d/.wh.a", 0, "")
        .file(".wh.e", 0, "")
        .finish();
    let mut tree = Tree::default();
    tree.apply(&entries(&lower));
    let before = tree.clone();
    tree.apply(&entries(&upper));
    assert_eq!(tree.paths(), ["d", "d/b", "d/new", "f"]);
    assert_eq!(tree.line("d"), "d 700 0:0");
    assert_eq!(tree.content("f"), b"e");
    assert_eq!(before.differences(&before), Vec::<String>::new());
    assert_eq!(before.differences(&tree).len(), 3);
    let opaque = TarBuilder::new().file("d/x", 0o644, "").file("d/.wh..wh..opq", 0, "").finish();
    tree.apply(&entries(&opaque));
    assert_eq!(tree.below("d"), ["x"]);
}

#[test]
fn directories_are_trees() {
    let context =
        Context::empty().file("a/b", "x").symlink("l", "a").mode("a/b", 0o600).dir("empty");
    let tree = Tree::of_directory(context.path(), false);
    assert_eq!(tree.paths(), ["a", "a/b", "empty", "l"]);
    assert_eq!(tree.line("a/b"), "f 600 0:0 \"x\"");
}

#[test]
fn the_host_is_seen() {
    assert!(!host::mounts_below("/".as_ref()).is_empty());
    assert!(host::mounts_below("/no/such/place".as_ref()).is_empty());
    let marker = format!("6611.{}", std::process::id());
    let mut child = std::process::Command::new("sleep").arg(&marker).spawn().unwrap();
    let seen = host::wait_until(std::time::Duration::from_secs(60), || {
        host::processes_with(&marker) == [child.id()]
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(seen);
    assert!(host::processes_with(&marker).is_empty());
}

#[test]
fn random_numbers_repeat() {
    let (mut one, mut two) = (Random::new(7), Random::new(7));
    assert_eq!(one.bytes(100), two.bytes(100));
    assert!((0..100).all(|_| one.below(3) < 3));
}
