//! Tar dialects byte by byte, and what they mean in a layer.

use oci::Timestamp;
use oci::layer::*;
use tar_core::{EntryType, Header};

use crate::make::*;

/// One entry with its content, padded.
fn raw_entry(
    name: &[u8],
    kind: EntryType,
    content: &[u8],
    change: impl Fn(&mut Header),
) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.set_path(name).unwrap();
    header.set_entry_type(kind);
    header.set_mode(0o644).unwrap();
    header.set_uid(0).unwrap();
    header.set_gid(0).unwrap();
    header.set_size(content.len() as u64).unwrap();
    header.set_mtime(5).unwrap();
    change(&mut header);
    header.set_checksum();
    let mut out = header.as_bytes().to_vec();
    out.extend(content);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn plain(name: &[u8], kind: EntryType, content: &[u8]) -> Vec<u8> {
    raw_entry(name, kind, content, |_| {})
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (rest..).find(|n| rest + n.to_string().len() == *n).unwrap();
        body.extend(format!("{length} {key}=").as_bytes());
        body.extend(*value);
        body.push(b'\n');
    }
    plain(b"pax", EntryType::XHeader, &body)
}

fn archive(parts: &[Vec<u8>]) -> Vec<u8> {
    [&parts.concat()[..], &[0; 1024]].concat()
}

fn one(parts: &[Vec<u8>]) -> TarEntry {
    let mut entries = read_entries(&archive(parts)).unwrap();
    assert_eq!(entries.len(), 1);
    entries.remove(0).0
}

fn fails(parts: &[Vec<u8>]) -> String {
    read_entries(&archive(parts)).unwrap_err().to_string()
}

#[test]
fn ends() {
    let f = plain(b"f", EntryType::Regular, b"abc");
    let whole = archive(std::slice::from_ref(&f));
    assert_eq!(read_entries(&whole).unwrap().len(), 1);
    // Anything may follow the end.
    let long = [&whole[..], b"trailing garbage"].concat();
    let mut r = LayerReader::new(&long[..]);
    while r.next().unwrap().is_some() {}
    assert_eq!(r.position(), whole.len() as u64);
    assert_eq!(r.into_inner(), b"trailing garbage");
    // No end mark, half an end mark, nothing at all.
    assert_eq!(read_entries(&f).unwrap().len(), 1);
    assert_eq!(read_entries(&[&f[..], &[0; 512]].concat()).unwrap().len(), 1);
    assert!(read_entries(b"").unwrap().is_empty());
    // Cut inside.
    for cut in [1, 511, 513, 600, 1023] {
        let error = read_entries(&whole[..cut]).unwrap_err();
        let early = matches!(error, ReadError::Truncated { .. } | ReadError::Io { .. });
        assert!(early, "{cut}: {error}");
    }
    // A single zero block in the middle.
    let error = read_entries(&[&f[..], &[0; 512], &f].concat()).unwrap_err();
    assert!(matches!(error, ReadError::Malformed { position: 1024, .. }), "{error}");
}

#[test]
fn pax_overrides_and_binary_values() {
    let e = one(&[
        pax(&[
            ("path", b"long\nname"),
            ("uid", b"4000000000"),
            ("gid", b"7"),
            ("mtime", b"-1.5"),
            ("SCHILY.xattr.security.capability", b"\x01\n=\0\n"),
            ("comment", b"x"),
        ]),
        plain(b"f", EntryType::Regular, b""),
    ]);
    assert_eq!(e.raw_path, b"long\nname");
    assert_eq!((e.uid, e.gid), (4_000_000_000, 7));
    assert_eq!(e.mtime, Timestamp { seconds: -2, nanos: 500_000_000 });
    assert_eq!(e.xattrs, [(b"security.capability".to_vec(), b"\x01\n=\0\n".to_vec())]);
}

#[test]
fn pax_size_rules_the_stream() {
    let file = raw_entry(b"f", EntryType::Regular, b"hello", |h| h.set_size(0).unwrap());
    let tar = archive(&[pax(&[("size", b"5")]), file, plain(b"g", EntryType::Regular, b"")]);
    let entries = read_entries(&tar).unwrap();
    assert_eq!(entries[0].1, b"hello");
    assert_eq!(entries[1].0.raw_path, b"g");
}

#[test]
fn global_headers_are_defaults() {
    let mut global =
        pax(&[("uid", b"42"), ("path", b"ignored"), ("size", b"9"), ("comment", b"abc")]);
    let mut header = *global.first_chunk::<512>().unwrap();
    header[156] = b'g';
    let mut fixed = *Header::from_bytes(&header);
    fixed.set_checksum();
    global[..512].copy_from_slice(fixed.as_bytes());
    let tar = archive(&[
        global,
        plain(b"a", EntryType::Regular, b"1"),
        pax(&[("uid", b"43")]),
        plain(b"b", EntryType::Regular, b""),
        pax(&[("uid", b"")]),
        plain(b"c", EntryType::Regular, b""),
    ]);
    let entries = read_entries(&tar).unwrap();
    let got: Vec<(&[u8], u32)> = entries.iter().map(|(e, _)| (&e.raw_path[..], e.uid)).collect();
    assert_eq!(got, [(&b"a"[..], 42), (b"b", 43), (b"c", 0)]);
}

#[test]
fn old_and_gnu_headers() {
    let e =
        one(&[raw_entry(b"dir/", EntryType::Regular, b"", |h| h.as_ustar_mut().typeflag = [0])]);
    assert_eq!(e.kind, TarKind::Directory);
    let e = one(&[raw_entry(b"f", EntryType::Regular, b"", |h| {
        h.as_ustar_mut().uid = *b"\xff\xff\xff\xff\xff\xff\xff\xfe";
        h.as_ustar_mut().mtime = *b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
        h.as_ustar_mut().prefix[..6].copy_from_slice(b"before");
    })]);
    assert_eq!((e.uid, e.mtime.seconds), (u32::MAX - 1, -1));
    assert_eq!(e.raw_path, b"before/f");
    let e = one(&[
        plain(b"././@LongLink", EntryType::GnuLongName, b"the/long/name\0"),
        plain(b"././@LongLink", EntryType::GnuLongLink, b"the/target\0"),
        plain(b"cut", EntryType::Symlink, b""),
    ]);
    assert_eq!(e.raw_path, b"the/long/name");
    assert_eq!(e.kind, TarKind::Symlink { target: b"the/target".to_vec() });
}

#[test]
fn hostile_headers_are_errors() {
    let f = || plain(b"f", EntryType::Regular, b"");
    let sized = |kind, size: [u8; 12]| raw_entry(b"x", kind, b"", |h| h.as_ustar_mut().size = size);
    let huge = *b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff";
    for parts in [
        vec![sized(EntryType::XHeader, huge), f()],
        vec![sized(EntryType::XGlobalHeader, huge), f()],
        vec![sized(EntryType::GnuLongName, huge), f()],
        vec![sized(EntryType::Regular, huge)],
        vec![sized(EntryType::Regular, *b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")],
        vec![sized(EntryType::Regular, *b"99999999999\0")],
        vec![pax(&[("size", b"18446744073709551615")]), f()],
        vec![pax(&[("size", b"99999999999999999999999")]), f()],
        vec![pax(&[("uid", b"x")]), f()],
        vec![pax(&[("uid", b"4294967296")]), f()],
        vec![pax(&[("path", b"a\0b")]), f()],
        vec![pax(&[("path", &[b'x'; 20_000])]), f()],
        vec![pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0")]), f()],
        vec![pax(&[("GNU.sparse.map", b"0,5"), ("GNU.sparse.size", b"5")]), f()],
        vec![pax(&[("GNU.sparse.map", b"0,0,5"), ("GNU.sparse.size", b"5")]), f()],
        vec![pax(&[("GNU.sparse.map", b""), ("GNU.sparse.size", b"9999999999999999")]), f()],
        vec![plain(b"x", EntryType::XHeader, b"999 a=b\n"), f()],
        vec![pax(&[("uid", b"1")])],
        vec![plain(b"?", EntryType::Other(b'?'), b"")],
        (0..30).map(|_| pax(&[("uid", b"1")])).chain([f()]).collect(),
    ] {
        let message = fails(&parts);
        assert!(message.starts_with("reading a tar archive"), "{message}");
    }
}

#[test]
fn sparse_maps_in_the_data() {
    let mut body = b"2\n2\n3\n10\n2\n".to_vec();
    body.resize(512, 0);
    body.extend(b"abcde");
    let tar = archive(&[
        pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"real"),
            ("GNU.sparse.realsize", b"15"),
            // The size in an extended header counts the map as well.
            ("size", b"517"),
        ]),
        plain(b"GNUSparseFile.0/real", EntryType::Regular, &body),
        plain(b"next", EntryType::Regular, b"n"),
    ]);
    let entries = read_entries(&tar).unwrap();
    assert_eq!(entries[0].0.raw_path, b"real");
    assert_eq!(entries[0].0.kind, TarKind::File { size: 15 });
    assert_eq!(entries[0].1, b"\0\0abc\0\0\0\0\0de\0\0\0");
    let segments = entries[0].0.sparse.as_ref().unwrap();
    assert_eq!(segments[1], Segment { offset: 10, length: 2 });
    assert_eq!(entries[1].1, b"n");
}

fn item(e: &TarEntry) -> Result<LayerItem, LayerItemError> {
    to_layer_entry(e, Some(hash(b"")))
}

fn named(name: &[u8]) -> TarEntry {
    one(&[plain(name, EntryType::Regular, b"")])
}

#[test]
fn names_in_layers() {
    for (raw, want) in [
        (&b"./a/b"[..], LayerItem::Entry(file("a/b", b""))),
        (b"/abs", LayerItem::Entry(file("abs", b""))),
        (b"../../esc", LayerItem::Entry(file("esc", b""))),
        (b"./", LayerItem::Skip(SkipReason::Root)),
        (b"a/.wh.b", LayerItem::Entry(gone("a/b"))),
        (b".wh.b", LayerItem::Entry(gone("b"))),
        (b"a/.wh..wh..opq", LayerItem::Opaque(path("a"))),
        (b"./.wh..wh..opq", LayerItem::Opaque(path(""))),
        (b".wh..wh.aufs", LayerItem::Skip(SkipReason::Aufs)),
        (b".wh..wh.plnk/1.2", LayerItem::Skip(SkipReason::Aufs)),
    ] {
        let mut got = item(&named(raw)).unwrap();
        if let LayerItem::Entry(e) = &mut got
            && !e.is_whiteout()
        {
            e.meta.mtime = Timestamp::from_seconds(1_700_000_000);
        }
        assert_eq!(got, want, "{}", String::from_utf8_lossy(raw));
    }
    for raw in [&b"a/.wh."[..], b"a/.wh..", b"a/.wh...", b".wh.a/b"] {
        assert!(matches!(item(&named(raw)), Err(LayerItemError::Whiteout { .. })));
    }
}

#[test]
fn what_layers_refuse() {
    let device = one(&[raw_entry(b"d", EntryType::Char, b"", |_| {})]);
    assert!(matches!(item(&device), Err(LayerItemError::WhiteoutDevice { .. })));
    for name in ["trusted.overlay.opaque", "user.overlay.redirect"] {
        let e = one(&[
            pax(&[(&format!("SCHILY.xattr.{name}"), b"y")]),
            plain(b"f", EntryType::Directory, b""),
        ]);
        assert!(matches!(item(&e), Err(LayerItemError::OverlayAttribute { .. })), "{name}");
    }
    let e = one(&[
        pax(&[("SCHILY.xattr.security.capability", b"short")]),
        plain(b"f", EntryType::Regular, b""),
    ]);
    assert!(matches!(item(&e), Err(LayerItemError::Capability { .. })));
    let e = one(&[plain(b"l", EntryType::Symlink, b"")]);
    assert!(matches!(item(&e), Err(LayerItemError::Target { .. })));
    let e = one(&[raw_entry(b"l", EntryType::Link, b"", |h| h.set_link_name(b"./l").unwrap())]);
    assert!(matches!(item(&e), Err(LayerItemError::HardLink { .. })));
    assert!(matches!(to_layer_entry(&named(b"f"), None), Err(LayerItemError::NoContent { .. })));
    assert!(to_layer_entry(&named(b".wh.f"), None).is_ok());
}

#[test]
fn only_capabilities_stay() {
    let mut v3 = vec![1, 0, 0, 3];
    v3.extend([7; 16]);
    v3.extend([0xa0, 0x86, 1, 0]);
    let e = one(&[
        pax(&[
            ("SCHILY.xattr.security.capability", &v3),
            ("SCHILY.xattr.user.note", b"x"),
            ("SCHILY.xattr.security.selinux", b"x"),
        ]),
        plain(b"f", EntryType::Regular, b""),
    ]);
    let LayerItem::Entry(got) = item(&e).unwrap() else { panic!() };
    let capability = got.meta.capability.unwrap();
    assert_eq!((capability.len(), capability[3]), (20, 2));
}
