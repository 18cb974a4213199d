//! The canonical tar: exact bytes where they matter, errors instead of damage.

use std::io::{self, Read};

use oci::layer::*;
use oci::{Digest, Timestamp};

use crate::make::*;

fn try_write(manifest: &LayerManifest, content: &'static [u8]) -> Result<Vec<u8>, WriteError> {
    let mut open = |_: &Entry| -> io::Result<Box<dyn Read>> { Ok(Box::new(content)) };
    write_layer(manifest, &mut open, &WriteOptions::default(), Vec::new())
}

#[test]
fn an_empty_layer_has_the_known_digest() {
    let tar = try_write(&layer(vec![]), b"").unwrap();
    assert_eq!(tar, [0; 1024]);
    let digest = Digest::of(&tar).to_string();
    assert_eq!(digest, "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef");
}

#[test]
fn ustar_headers_where_they_suffice() {
    let mut contents = Contents::default();
    let m = layer(vec![dir("d"), contents.file("d/f", b"hello"), gone("d/g"), opaque("o")]);
    let tar = contents.write(&m, WriteOptions::default());
    // Four headers, one block of content, the opaque marker, two blocks of end.
    assert_eq!(tar.len(), 512 * (4 + 1 + 1 + 2));
    let name = |block: usize| {
        let raw = &tar[block * 512..block * 512 + 100];
        String::from_utf8(raw.iter().copied().take_while(|b| *b != 0).collect()).unwrap()
    };
    assert_eq!(
        [name(0), name(1), name(3), name(4), name(5)],
        ["d/", "d/f", "d/.wh.g", "o/", "o/.wh..wh..opq"]
    );
    let whiteout = &tar[3 * 512..4 * 512];
    assert_eq!(
        &whiteout[100..148],
        b"0000000\x000000000\x000000000\x0000000000000\x0000000000000\0"
    );
    assert_eq!(whiteout[156], b'0');
    assert_eq!(&tar[512 + 257..512 + 265], b"ustar\x0000");
    // No user or group names.
    assert_eq!(tar[512 + 265..512 + 329], [0; 64]);
}

#[test]
fn what_ustar_cannot_say() {
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(200));
    let mut contents = Contents::default();
    let mut big = contents.file(&long, b"x");
    big.meta.uid = 4_000_000_000;
    big.meta.gid = 2_097_152;
    big.meta.mtime = Timestamp { seconds: -2, nanos: 500_000_000 };
    big.meta.capability =
        Some(vec![1, 0, 0, 2, 10, 10, 0, 0, b'=', b'\n', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].into());
    let target = "t/".repeat(120);
    let m = layer(vec![
        dir(&"d".repeat(90)),
        big,
        symlink("link", &target),
        link("zlink", &long),
        entry("dev", Node::BlockDevice { major: 4095, minor: 0xf_ffff }, 0o660),
    ]);
    let tar = contents.write(&m, WriteOptions::default());
    assert_eq!(read_layer(&tar), m);
    assert_eq!(tar, contents.write(&m, WriteOptions::default()));
}

#[test]
fn eight_gibibytes_need_an_extended_size() {
    const SIZE: u64 = 1 << 33;
    let e = entry("big", Node::File { size: SIZE, content: ContentHash([0; 32]) }, 0o644);
    let mut head = Vec::new();
    let mut writer = LayerWriter::new(&mut head, WriteOptions::default());
    // The content itself is not worth the time: an early end is the expected error.
    let error = writer.append(&e, &mut io::empty()).unwrap_err();
    assert!(matches!(error, WriteError::SizeChanged { expected: SIZE, longer: false, .. }));
    let entry = LayerReader::new(&head[..]).next().unwrap().unwrap();
    assert_eq!(entry.kind, TarKind::File { size: SIZE });
}

#[test]
fn the_epoch_clamps_newer_times_only() {
    let mut contents = Contents::default();
    let mut old = contents.file("old", b"");
    old.meta.mtime = Timestamp { seconds: 99, nanos: 7 };
    let new = contents.file("new", b"");
    let epoch = Timestamp::from_seconds(100);
    let tar = contents.write(&layer(vec![old, new]), WriteOptions { epoch: Some(epoch) });
    let back = read_layer(&tar);
    assert_eq!(back.get(&path("old")).unwrap().meta.mtime, Timestamp { seconds: 99, nanos: 7 });
    assert_eq!(back.get(&path("new")).unwrap().meta.mtime, epoch);
}

#[test]
fn files_that_changed_are_errors() {
    for (content, longer) in [(&b"hell"[..], false), (b"hello!", true), (b"", false)] {
        let error = try_write(&layer(vec![file("f", b"hello")]), content).unwrap_err();
        let WriteError::SizeChanged { expected: 5, longer: got, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(got, longer);
    }
    let error = try_write(&layer(vec![file("f", b"")]), b"x").unwrap_err();
    assert!(matches!(error, WriteError::SizeChanged { longer: true, .. }));
}

#[test]
fn other_errors_say_what_and_where() {
    let error = try_write(&layer(vec![file("d/.wh.x", b"")]), b"").unwrap_err();
    assert!(matches!(error, WriteError::ReservedName { .. }), "{error}");
    let device = entry("d", Node::CharDevice { major: 1 << 21, minor: 0 }, 0);
    let error = try_write(&layer(vec![device]), b"").unwrap_err();
    assert!(matches!(error, WriteError::DeviceNumber { .. }), "{error}");
    let mut open = |_: &Entry| -> io::Result<Box<dyn Read>> { Err(io::Error::other("no disk")) };
    let m = layer(vec![file("a/f", b"")]);
    let error = write_layer(&m, &mut open, &WriteOptions::default(), Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "writing a layer: reading /a/f: no disk");
}
