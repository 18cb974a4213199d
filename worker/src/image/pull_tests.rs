//! Pulling from layouts whose documents and blobs do not agree: nothing unpacked stays.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use oci::layer::{Compression, Encoder};
use oci::{Descriptor, Digest, Platform, media_type};

use super::{ImageHandle, ImageRequest, Location, PullPolicy, Resolver};
use crate::engine::Engine;
use crate::testing::{Layer, Silent, engine, is_root, layout, tar};

fn handle(engine: &Engine, dir: &Path) -> Arc<ImageHandle> {
    let request = ImageRequest {
        reference: "example.org/x:latest".parse().unwrap(),
        platform: Platform::host(),
        location: Location::Layout { path: dir.to_owned(), image: None },
    };
    Resolver::new(engine, PullPolicy::IfMissing).resolve(&request).unwrap()
}

/// The names below the snapshots that are snapshots or parts of some.
fn snapshots(engine: &Engine) -> Vec<String> {
    let entries = std::fs::read_dir(engine.snapshotter.dir()).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|n| n != "kind" && n != "empty").collect()
}

fn gzip(tar: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::new(Compression::Gzip, None, Vec::new()).unwrap();
    encoder.write_all(tar).unwrap();
    encoder.finish().unwrap()
}

fn good() -> Vec<Layer> {
    (0..3).map(|n| Layer::plain(tar(&[(&format!("f{n}"), b"content")]))).collect()
}

#[test]
fn privileged_layers_that_lie_leave_nothing() {
    if !is_root() {
        return;
    }
    let bytes = tar(&[("late", b"content")]);
    let zipped = gzip(&bytes);
    let cut = zipped[..zipped.len() / 2].to_vec();
    let plain = Layer::plain(bytes.clone());
    let of = |blob: &[u8], diff_id, descriptor| Layer { blob: blob.to_vec(), diff_id, descriptor };
    let said = plain.descriptor.clone();
    let cases = [
        ("unpacks to", of(&bytes, Digest::of(b"other"), said.clone())),
        ("instead of", of(b"other bytes", plain.diff_id, said.clone())),
        (
            "instead of",
            of(&bytes, plain.diff_id, Descriptor { size: said.size + 1, ..said.clone() }),
        ),
        (
            "larger than its descriptor",
            of(&bytes, plain.diff_id, Descriptor { size: said.size - 1, ..said.clone() }),
        ),
        (
            "cannot unpack",
            of(&cut, plain.diff_id, Descriptor::of(media_type::OCI_LAYER_GZIP, &cut)),
        ),
        (
            "cannot unpack",
            of(
                b"no tar at all",
                Digest::of(b"no tar at all"),
                Descriptor::of(media_type::OCI_LAYER, b"no tar at all"),
            ),
        ),
    ];
    for (want, bad) in cases {
        for position in [0, 1, 3] {
            let dir = tempfile::tempdir().unwrap();
            let engine = engine(&dir.path().join("root"));
            let mut layers = good();
            let bad = Layer {
                blob: bad.blob.clone(),
                diff_id: bad.diff_id,
                descriptor: bad.descriptor.clone(),
            };
            layers.insert(position, bad);
            layout(&dir.path().join("layout"), &layers);
            let handle = handle(&engine, &dir.path().join("layout"));
            let sink = Silent::default();
            let error = engine.pull(&handle, &sink.context()).err().expect(want).to_string();
            assert!(error.contains(want), "{want}: {error}");
            assert_eq!(snapshots(&engine), Vec::<String>::new(), "{want}");
        }
    }
}

#[test]
fn privileged_equal_lower_layers_are_shared() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(&dir.path().join("root"));
    let sink = Silent::default();
    layout(&dir.path().join("a"), &good());
    let mut more = good();
    let bytes = tar(&[("more", b"content")]);
    let zipped = gzip(&bytes);
    let descriptor = Descriptor::of(media_type::OCI_LAYER_GZIP, &zipped);
    more.push(Layer { diff_id: Digest::of(&bytes), descriptor, blob: zipped });
    layout(&dir.path().join("b"), &more);
    engine.pull(&handle(&engine, &dir.path().join("a")), &sink.context()).unwrap();
    assert_eq!(snapshots(&engine).len(), 3);
    let made = engine.pull(&handle(&engine, &dir.path().join("b")), &sink.context()).unwrap();
    assert_eq!(snapshots(&engine).len(), 4);
    assert_eq!(engine.snapshotter.chain(&made.output.snapshot.unwrap()).unwrap().len(), 4);
}

#[test]
fn privileged_a_damaged_blob_is_fetched_again() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(&dir.path().join("root"));
    let layers = good();
    layout(&dir.path().join("a"), &layers);
    let path = engine.state.blobs().path(&layers[1].descriptor.digest);
    std::fs::write(&path, vec![7; layers[1].blob.len()]).unwrap();
    let sink = Silent::default();
    engine.pull(&handle(&engine, &dir.path().join("a")), &sink.context()).unwrap();
    assert!(engine.state.blobs().verify(&layers[1].descriptor.digest).unwrap());
}
