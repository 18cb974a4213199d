//! The merged view: what hides what, order, symbolic links.

use std::collections::BTreeMap;
use std::sync::Arc;

use oci::layer::*;
use proptest::prelude::*;

use crate::make::*;

fn seen(tree: &Tree, at: &str) -> Vec<String> {
    tree.walk(&path(at)).map(|e| e.path.to_string()).collect()
}

fn names(tree: &Tree, at: &str) -> Vec<String> {
    tree.children(&path(at)).into_iter().map(|e| e.path.to_string()).collect()
}

#[test]
fn empty_trees() {
    for t in [Tree::default(), tree(vec![vec![], vec![]])] {
        assert!(t.get(&path("a")).is_none() && t.get(&path("")).is_none());
        assert!(seen(&t, "").is_empty() && names(&t, "").is_empty());
        assert_eq!(t.resolve(&path(""), true), Ok(Resolved { path: path(""), exists: true }));
    }
}

#[test]
fn whiteout_hides_entry_and_subtree() {
    let base = vec![dir("a"), file("a/x", b"1"), dir("a/d"), file("a/d/y", b""), file("b", b"")];
    let t = tree(vec![base.clone(), vec![dir("a"), gone("a/d")]]);
    assert_eq!(seen(&t, ""), ["/a", "/a/x", "/b"]);
    assert!(t.get(&path("a/d")).is_none() && t.get(&path("a/d/y")).is_none());
    assert_eq!(names(&t, "a"), ["/a/x"]);
    assert!(seen(&t, "a/d").is_empty() && names(&t, "a/d").is_empty());
    // Made again by a later layer: only what that one has.
    let t = tree(vec![base, vec![gone("a")], vec![dir("a"), file("a/z", b"")]]);
    assert_eq!(seen(&t, ""), ["/a", "/a/z", "/b"]);
    assert!(t.get(&path("a/x")).is_none());
}

#[test]
fn dash_sorts_behind_the_directory() {
    let base = vec![dir("dir"), file("dir/x", b""), dir("dir-x"), file("dir-x/y", b"")];
    let t = tree(vec![base, vec![gone("dir")]]);
    assert_eq!(seen(&t, ""), ["/dir-x", "/dir-x/y"]);
    assert!(t.get(&path("dir/x")).is_none());
    assert!(t.get(&path("dir-x/y")).is_some());
    let t = tree(vec![
        vec![dir("dir"), file("dir/x", b""), dir("dir-x"), file("dir-x/y", b"")],
        vec![gone("dir-x"), dir("dir"), file("dir/z", b"")],
    ]);
    assert_eq!(seen(&t, ""), ["/dir", "/dir/x", "/dir/z"]);
}

#[test]
fn opaque_hides_lower_content_only() {
    let t = tree(vec![
        vec![dir("a"), file("a/x", b""), dir("a/d"), file("a/d/y", b"")],
        vec![opaque("a"), file("a/n", b"")],
    ]);
    assert_eq!(seen(&t, ""), ["/a", "/a/n"]);
    assert_eq!(names(&t, "a"), ["/a/n"]);
    assert!(t.get(&path("a/d/y")).is_none() && t.get(&path("a/n")).is_some());
    assert!(names(&t, "a/d").is_empty());
}

#[test]
fn replaced_directories_hide_what_they_had() {
    let base = vec![dir("a"), file("a/x", b"")];
    for other in [file("a", b"f"), symlink("a", "b"), entry("a", Node::Fifo, 0o600)] {
        let t = tree(vec![base.clone(), vec![other.clone()]]);
        assert_eq!(t.get(&path("a")), Some(&other));
        assert!(t.get(&path("a/x")).is_none());
        assert_eq!(seen(&t, ""), ["/a"]);
        // And a directory again.
        let t = tree(vec![base.clone(), vec![other], vec![dir("a"), file("a/y", b"")]]);
        assert_eq!(seen(&t, ""), ["/a", "/a/y"]);
        assert!(t.get(&path("a/x")).is_none());
        assert_eq!(names(&t, "a"), ["/a/y"]);
    }
}

#[test]
fn upper_entry_wins_and_says_its_layer() {
    let t = tree(vec![vec![file("a", b"1"), file("b", b"2")], vec![file("a", b"3")]]);
    assert_eq!(t.entry_with_layer(&path("a")), Some((1, &file("a", b"3"))));
    assert_eq!(t.entry_with_layer(&path("b")), Some((0, &file("b", b"2"))));
    assert_eq!(t.walk_with_layer(&path("")).map(|(l, _)| l).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(seen(&t, "b"), ["/b"]);
}

#[test]
fn content_survives_its_first_name() {
    let t = tree(vec![vec![file("a", b"1"), link("b", "a")], vec![gone("a")]]);
    let (layer, entry) = t.entry_with_layer(&path("b")).unwrap();
    assert_eq!(t.content_of(layer, entry).unwrap().node, file("a", b"1").node);
}

#[test]
fn directories_without_entries_still_lead_somewhere() {
    let t = tree(vec![vec![file("a/b/c", b"")]]);
    assert_eq!(seen(&t, ""), ["/a/b/c"]);
    assert_eq!(seen(&t, "a"), ["/a/b/c"]);
    assert_eq!(names(&t, "a/b"), ["/a/b/c"]);
    let missing = Tree::default().missing_parents(&t.layers()[0]);
    assert_eq!(missing, [path("a"), path("a/b")]);
    let lower = tree(vec![vec![dir("a")]]);
    assert_eq!(lower.missing_parents(&t.layers()[0]), [path("a/b")]);
    assert!(tree(vec![vec![dir("a"), dir("a/b")]]).missing_parents(&t.layers()[0]).is_empty());
}

#[test]
fn symlinks_stay_inside() {
    let t = tree(vec![vec![
        dir("bin"),
        file("bin/sh", b""),
        symlink("abs", "/bin"),
        symlink("rel", "../../bin/./sh"),
        dir("d"),
        symlink("d/up", ".."),
        symlink("d/out", "/../../../bin"),
        symlink("dangling", "no/where"),
        symlink("loop", "loop"),
        symlink("chain", "abs"),
        symlink("here", "."),
    ]]);
    for (raw, follow, want, exists) in [
        ("abs/sh", true, "bin/sh", true),
        ("abs", true, "bin", true),
        ("abs", false, "abs", true),
        ("rel", true, "bin/sh", true),
        ("d/up/d/up/bin", true, "bin", true),
        ("d/out/sh", true, "bin/sh", true),
        ("dangling", true, "no/where", false),
        ("dangling", false, "dangling", true),
        ("dangling/x", true, "no/where/x", false),
        ("chain/sh", true, "bin/sh", true),
        ("here/here/bin", true, "bin", true),
        ("missing/a/b", true, "missing/a/b", false),
        ("", true, "", true),
    ] {
        let want = Resolved { path: path(want), exists };
        assert_eq!(t.resolve(&path(raw), follow), Ok(want), "{raw}");
    }
    assert!(matches!(t.resolve(&path("loop"), true), Err(ResolveError::TooManyLinks { .. })));
    assert!(t.resolve(&path("loop"), false).unwrap().exists);
    let error = t.resolve(&path("bin/sh/x"), true).unwrap_err();
    assert!(matches!(error, ResolveError::NotADirectory { at, .. } if at == path("bin/sh")));
    // The parent of where a link leads, not of the link.
    assert_eq!(t.resolve_raw(b"/abs/../d", true).unwrap().path, path("d"));
    assert_eq!(
        t.resolve_raw(b"missing/../bin", true),
        Ok(Resolved { path: path("bin"), exists: true })
    );
    assert_eq!(t.resolve_raw(b"/../../..", true), Ok(Resolved { path: path(""), exists: true }));
}

#[test]
fn exactly_forty_links() {
    let chain = |n: usize| {
        let mut entries = vec![file("l0", b"")];
        entries.extend((1..=n).map(|i| symlink(&format!("l{i}"), &format!("l{}", i - 1))));
        tree(vec![entries])
    };
    assert!(chain(40).resolve(&path("l40"), true).unwrap().exists);
    assert!(chain(41).resolve(&path("l41"), true).is_err());
    // Targets that grow without end are stopped by the length of paths.
    let t = tree(vec![vec![symlink("a", &"a/".repeat(1000))]]);
    assert!(t.resolve(&path("a"), true).is_err());
}

#[test]
fn many_layers_and_entries() {
    let mut big = vec![dir("usr"), dir("usr/lib")];
    big.extend((0..20_000).map(|i| file(&format!("usr/lib/file{i:06}"), b"")));
    let mut layers = vec![Arc::new(layer(big))];
    for i in 0..200 {
        layers.push(Arc::new(layer(vec![dir("etc"), file(&format!("etc/{i:03}"), b"")])));
    }
    let t = Tree::new(layers);
    for i in (0..20_000).step_by(7) {
        assert!(t.get(&path(&format!("usr/lib/file{i:06}"))).is_some());
    }
    assert_eq!(t.children(&path("etc")).len(), 200);
    assert_eq!(t.walk(&TreePath::root()).count(), 20_000 + 2 + 1 + 200);
}

/// What a chain of layers means, said as simply as possible.
fn merged(layers: &[LayerManifest]) -> BTreeMap<TreePath, Entry> {
    let mut all: BTreeMap<TreePath, Entry> = BTreeMap::new();
    for layer in layers {
        for entry in layer.entries().iter().filter(|e| e.hides_lower()) {
            all.retain(|known, _| !known.starts_with(&entry.path));
        }
        for entry in layer.entries().iter().filter(|e| !e.is_whiteout()) {
            all.insert(entry.path.clone(), entry.clone());
        }
    }
    all
}

/// Makes a manifest that a builder could have made: every parent is a directory.
fn sound(m: LayerManifest) -> LayerManifest {
    let mut kept: BTreeMap<TreePath, Entry> = BTreeMap::new();
    for entry in m.into_entries() {
        let mut at = entry.path.parent();
        let mut parents = Vec::new();
        while let Some(p) = at.filter(|p| !p.is_root()) {
            at = p.parent();
            parents.push(p);
        }
        if parents.iter().all(|p| kept.get(p).is_none_or(Entry::is_directory)) {
            for p in parents {
                kept.entry(p.clone())
                    .or_insert_with(|| dir(std::str::from_utf8(p.as_bytes()).unwrap()));
            }
            kept.insert(entry.path.clone(), entry);
        }
    }
    LayerManifest::new(kept.into_values().collect())
}

proptest! {
    #[test]
    fn agrees_with_a_full_merge(layers in prop::collection::vec(manifests().prop_map(sound), 0..5)) {
        let want = merged(&layers);
        let t: Tree = layers.iter().cloned().map(Arc::new).collect();
        let walked: Vec<Entry> = t.walk(&TreePath::root()).cloned().collect();
        prop_assert_eq!(walked, want.values().cloned().collect::<Vec<_>>());
        let asked = layers.iter().flat_map(|l| l.entries()).map(|e| e.path.clone());
        for p in asked.chain([TreePath::root()]) {
            prop_assert_eq!(t.get(&p), want.get(&p));
            let below = want.values().filter(|e| e.path.parent().as_ref() == Some(&p));
            prop_assert_eq!(t.children(&p), below.collect::<Vec<_>>());
            let below = want.values().filter(|e| e.path.starts_with(&p));
            prop_assert_eq!(t.walk(&p).collect::<Vec<_>>(), below.collect::<Vec<_>>());
        }
    }

    #[test]
    fn resolving_ends_inside(layers in prop::collection::vec(manifests().prop_map(sound), 0..4), raw in "[a-z/.-]{0,20}") {
        let t: Tree = layers.into_iter().map(Arc::new).collect();
        if let Ok(got) = t.resolve_raw(raw.as_bytes(), true) {
            prop_assert_eq!(got.exists, got.path.is_root() || t.get(&got.path).is_some());
        }
    }
}
