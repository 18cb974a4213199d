//! Tools written in Go accept our layers: members of gzip in a row, frames of zstd, whiteouts.

use std::fs;
use std::path::Path;
use std::process::Command;

use oci::Digest;
use oci::layer::*;
use tempfile::TempDir;

use crate::make::*;

/// Writes `blob` into the layout and returns the JSON of its descriptor's fields.
fn put(layout: &Path, media_type: &str, blob: &[u8]) -> String {
    let digest = Digest::of(blob);
    fs::write(layout.join("blobs/sha256").join(digest.hex()), blob).unwrap();
    format!(r#""mediaType":"{media_type}","digest":"{digest}","size":{}"#, blob.len())
}

/// An image layout with the tag `t`.
fn layout(at: &Path, compression: Compression, tars: &[Vec<u8>]) {
    const OCI: &str = "application/vnd.oci.image";
    fs::create_dir_all(at.join("blobs/sha256")).unwrap();
    let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
    for tar in tars {
        let mut encoder = Encoder::new(compression, None, Vec::new()).unwrap();
        std::io::copy(&mut &tar[..], &mut encoder).unwrap();
        let kind = format!("{OCI}.layer.v1.tar+{compression}");
        layers.push(format!("{{{}}}", put(at, &kind, &encoder.finish().unwrap())));
        diff_ids.push(format!("\"{}\"", Digest::of(tar)));
    }
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        diff_ids.join(",")
    );
    let config = put(at, &format!("{OCI}.config.v1+json"), config.as_bytes());
    let kind = format!("{OCI}.manifest.v1+json");
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{{{config}}},"layers":[{}]}}"#,
        layers.join(",")
    );
    let manifest = put(at, &kind, manifest.as_bytes());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{{manifest},"annotations":{{"org.opencontainers.image.ref.name":"t"}}}}]}}"#
    );
    fs::write(at.join("index.json"), index).unwrap();
    fs::write(at.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// Runs `program` in `at`; false, with the reason printed, if it is not there.
fn run(at: &Path, program: &str, args: &[&str]) -> bool {
    let command = Command::new(program).args(args).current_dir(at).env("HOME", at).output();
    let Ok(out) = command else {
        println!("skipped: no {program}");
        return false;
    };
    assert!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr));
    true
}

fn tars() -> (Vec<u8>, Vec<Vec<u8>>) {
    // More than one member.
    let big: Vec<u8> = (0..3 * BLOCK_SIZE as u32).map(|i| (i / 7) as u8).collect();
    let mut contents = Contents::default();
    let base = layer(vec![
        dir("d"),
        contents.file("d/big", &big),
        link("d/link", "d/big"),
        contents.file("d/gone", b"x"),
        dir("o"),
        contents.file("o/old", b"x"),
    ]);
    let step = layer(vec![dir("d"), gone("d/gone"), opaque("o"), contents.file("o/new", b"n")]);
    let options = WriteOptions::default();
    let tars = vec![contents.write(&base, options), contents.write(&step, options)];
    (big, tars)
}

#[test]
fn umoci_unpacks_our_layers() {
    let (big, tars) = tars();
    let tmp = TempDir::new().unwrap();
    layout(&tmp.path().join("l"), Compression::Gzip, &tars);
    if !run(tmp.path(), "umoci", &["unpack", "--rootless", "--image", "l:t", "b"]) {
        return;
    }
    let rootfs = tmp.path().join("b/rootfs");
    assert!(fs::read(rootfs.join("d/link")).unwrap() == big);
    assert!(!rootfs.join("d/gone").exists() && !rootfs.join("o/old").exists());
    assert_eq!(fs::read(rootfs.join("o/new")).unwrap(), b"n");
}

#[test]
fn skopeo_decompresses_our_layers() {
    let (_, tars) = tars();
    for compression in [Compression::Gzip, Compression::Zstd] {
        let tmp = TempDir::new().unwrap();
        layout(&tmp.path().join("l"), compression, &tars);
        let policy = tmp.path().join("policy.json");
        fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
        let args = ["--policy", "policy.json", "copy", "--dest-decompress", "oci:l:t", "dir:out"];
        if !run(tmp.path(), "skopeo", &args) {
            return;
        }
        for tar in &tars {
            let blob = tmp.path().join("out").join(Digest::of(tar).hex());
            assert!(fs::read(blob).unwrap() == *tar, "{compression}");
        }
    }
}
