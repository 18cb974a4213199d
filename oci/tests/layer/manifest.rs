//! The entry list: order, ranges, identity, stored form.

use std::collections::HashSet;

use oci::Timestamp;
use oci::layer::*;
use proptest::prelude::*;

use crate::make::*;

fn paths<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<String> {
    entries.into_iter().map(|e| e.path.to_string()).collect()
}

#[test]
fn ranges_respect_components() {
    let m = layer(vec![
        dir("dir"),
        dir("dir/sub"),
        file("dir/sub/deep", b""),
        file("dir/x", b""),
        dir("dir-x"),
        file("dir-x/y", b""),
        file("dir.d", b""),
    ]);
    assert_eq!(paths(m.children(&path("dir"))), ["/dir/sub", "/dir/x"]);
    assert_eq!(paths(m.children(&path(""))), ["/dir", "/dir-x", "/dir.d"]);
    assert_eq!(paths(m.subtree(&path("dir"))), ["/dir", "/dir/sub", "/dir/sub/deep", "/dir/x"]);
    assert_eq!(m.subtree(&path("")).len(), 7);
    assert!(m.subtree(&path("di")).is_empty() && m.children(&path("nowhere")).next().is_none());
    assert!(m.children(&path("dir/x")).next().is_none());
}

#[test]
fn children_without_own_entries_are_skipped() {
    let m = layer(vec![file("a/b/c", b""), file("a/d", b"")]);
    assert_eq!(paths(m.children(&path("a"))), ["/a/d"]);
    assert!(m.children(&path("")).next().is_none());
}

#[test]
fn first_path_of_a_link_group_has_the_content() {
    let mut late = file("z", b"content");
    late.meta.uid = 7;
    let m = layer(vec![link("b", "z"), link("c", "b"), late]);
    assert_eq!(m.get(&path("b")).unwrap().node, file("z", b"content").node);
    for name in ["c", "z"] {
        let entry = m.get(&path(name)).unwrap();
        assert_eq!(entry.node, Node::HardLink { target: path("b") }, "{name}");
        assert_eq!(entry.meta.uid, 7);
        assert_eq!(m.content_of(entry).unwrap().path, path("b"));
    }
    assert_eq!(m.total_size(), 7);
    // Loops and links to nowhere stay what they are.
    let odd = layer(vec![link("a", "b"), link("b", "a"), link("c", "gone")]);
    assert!(odd.entries().iter().all(|e| odd.content_of(e).is_none()));
}

#[test]
fn digest_sees_everything_but_time() {
    let base = || file("a", b"x");
    let digest = |e: Entry| layer(vec![e]).diff_digest();
    let mut later = base();
    later.meta.mtime = Timestamp { seconds: 5, nanos: 5 };
    assert_eq!(digest(base()), digest(later));
    let mut others: Vec<Entry> = vec![
        base(),
        file("b", b"x"),
        file("a", b"y"),
        dir("a"),
        opaque("a"),
        symlink("a", "x"),
        symlink("a", "y"),
        link("a", "x"),
        entry("a", Node::CharDevice { major: 1, minor: 2 }, 0o644),
        entry("a", Node::BlockDevice { major: 1, minor: 2 }, 0o644),
        entry("a", Node::BlockDevice { major: 2, minor: 1 }, 0o644),
        entry("a", Node::Fifo, 0o644),
        gone("a"),
        entry("a", Node::File { size: 2, content: hash(b"x") }, 0o644),
    ];
    let changes: [fn(&mut Metadata); 4] =
        [|m| m.mode = 0o4644, |m| m.uid = 1, |m| m.gid = 1, |m| m.capability = Some(Box::new([]))];
    for change in changes {
        let mut other = base();
        change(&mut other.meta);
        others.push(other);
    }
    let count = others.len();
    let digests: HashSet<[u8; 32]> = others.into_iter().map(digest).collect();
    assert_eq!(digests.len(), count);
    assert_ne!(layer(vec![]).diff_digest(), digest(base()));
}

#[test]
fn decode_says_what_is_wrong() {
    let raw = layer(vec![dir("a"), file("a/b", b"x"), gone("c")]).encode();
    assert_eq!(LayerManifest::decode(b""), Err(ManifestDecodeError::Version));
    assert_eq!(LayerManifest::decode(&raw[..10]), Err(ManifestDecodeError::Checksum));
    for at in 0..raw.len() {
        let mut bad = raw.clone();
        bad[at] ^= 0x40;
        assert!(LayerManifest::decode(&bad).is_err(), "{at}");
        assert!(LayerManifest::decode(&raw[..at]).is_err(), "{at}");
    }
}

/// Bytes with a right checksum over whatever body.
fn sealed(body: &[u8]) -> Vec<u8> {
    let magic = &layer(vec![]).encode()[..8];
    [magic, &blake3::hash(body).as_bytes()[..16], body].concat()
}

#[test]
fn decode_refuses_what_no_manifest_says() {
    // Number of entries; shared, length, name; kind; mode, uid, gid, seconds, nanos.
    let fifo = |name: &[u8]| [&[0, name.len() as u8], name, &[7, 0, 0, 0, 0, 0]].concat();
    assert!(LayerManifest::decode(&sealed(&[&[1], &fifo(b"a")[..]].concat())).is_ok());
    let bodies: [Vec<u8>; 8] = [
        vec![],
        vec![0xff; 11],
        [&[0xff, 0xff, 0xff, 0xff, 0x0f], &fifo(b"a")[..]].concat(),
        [&[1], &fifo(b"/a")[..], &[0]].concat(),
        [&[1], &fifo(b"..")[..], &[0]].concat(),
        [&[2], &fifo(b"b")[..], &fifo(b"a")[..]].concat(),
        [&[2], &fifo(b"a")[..], &fifo(b"a")[..]].concat(),
        [&[1], &fifo(b"a")[..], &[0]].concat(),
    ];
    for body in bodies {
        let got = LayerManifest::decode(&sealed(&body));
        assert!(matches!(got, Err(ManifestDecodeError::Malformed { .. })), "{body:?}: {got:?}");
    }
}

proptest! {
    #[test]
    fn stored_form_round_trips(m in manifests()) {
        let raw = m.encode();
        let back = LayerManifest::decode(&raw).unwrap();
        prop_assert_eq!(&back, &m);
        prop_assert_eq!(back.diff_digest(), m.diff_digest());
        prop_assert_eq!(back.encode(), raw);
    }

    #[test]
    fn hostile_bodies_never_panic(m in manifests(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut body = m.encode()[24..].to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        if let Ok(got) = LayerManifest::decode(&sealed(&body)) {
            prop_assert_eq!(LayerManifest::decode(&got.encode()), Ok(got));
        }
    }

    #[test]
    fn random_bodies_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = LayerManifest::decode(&sealed(&body));
        let _ = LayerManifest::decode(&body);
    }

    #[test]
    fn ranges_agree_with_a_scan(m in manifests(), at in any::<prop::sample::Index>()) {
        let mut asked = vec![TreePath::root(), path("a"), path("a/b")];
        if !m.is_empty() {
            asked.push(m.entries()[at.index(m.len())].path.clone());
        }
        for p in asked {
            let below: Vec<&Entry> =
                m.entries().iter().filter(|e| e.path.starts_with(&p)).collect();
            prop_assert_eq!(m.subtree(&p).iter().collect::<Vec<_>>(), below);
            let direct: Vec<&Entry> =
                m.entries().iter().filter(|e| e.path.parent().as_ref() == Some(&p)).collect();
            prop_assert_eq!(m.children(&p).collect::<Vec<_>>(), direct);
        }
    }

    #[test]
    fn manifests_are_canonical(m in manifests()) {
        let mut entries = m.clone().into_entries();
        entries.reverse();
        prop_assert_eq!(LayerManifest::new(entries), m);
    }
}
