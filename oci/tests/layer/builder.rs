//! Archive order becomes a manifest.

use oci::layer::*;

use crate::make::*;

fn build(items: Vec<LayerItem>, lower: &Tree) -> LayerManifest {
    let mut builder = ManifestBuilder::new();
    items.into_iter().for_each(|item| builder.push(item));
    builder.finish(lower)
}

fn entries(list: Vec<Entry>) -> Vec<LayerItem> {
    list.into_iter().map(LayerItem::Entry).collect()
}

#[test]
fn opaque_markers_count_wherever_they_stand() {
    let lower = tree(vec![vec![dir("a"), file("a/x", b"")]]);
    let marker = LayerItem::Opaque(path("a"));
    let [before, after] = [0, 2].map(|at| {
        let mut items = entries(vec![dir("a"), file("a/n", b"")]);
        items.insert(at, marker.clone());
        build(items, &lower)
    });
    assert_eq!(before, after);
    assert_eq!(before, layer(vec![opaque("a"), file("a/n", b"")]));
    // Without an entry of its own the directory keeps the metadata it has.
    let mut own = dir("a");
    own.meta.mode = 0o700;
    let lower = tree(vec![vec![own.clone(), file("a/x", b"")]]);
    let m = build(vec![marker], &lower);
    own.node = Node::Directory { opaque: true };
    assert_eq!(m.entries(), [own]);
}

#[test]
fn an_opaque_root_is_whiteouts() {
    let lower = tree(vec![vec![dir("a"), file("a/x", b""), file("b", b""), dir("c")]]);
    let mut items = entries(vec![file("b", b"new"), dir("c")]);
    items.push(LayerItem::Opaque(TreePath::root()));
    let m = build(items, &lower);
    assert_eq!(m, layer(vec![gone("a"), file("b", b"new"), opaque("c")]));
}

#[test]
fn whiteout_then_directory_is_a_new_directory() {
    let lower = tree(vec![vec![dir("a"), file("a/x", b"")]]);
    let m = build(entries(vec![gone("a"), dir("a"), file("a/n", b"")]), &lower);
    assert_eq!(m, layer(vec![opaque("a"), file("a/n", b"")]));
    let m = build(entries(vec![gone("a"), file("a/n", b"")]), &lower);
    assert!(m.get(&path("a")).is_some_and(|e| e.node == Node::Directory { opaque: true }));
    let m = build(entries(vec![dir("a"), file("a/n", b""), gone("a")]), &lower);
    assert_eq!(m, layer(vec![gone("a")]));
}

#[test]
fn later_entries_win() {
    let none = Tree::default();
    let m = build(entries(vec![file("a", b"1"), file("a", b"2")]), &none);
    assert_eq!(m, layer(vec![file("a", b"2")]));
    let m = build(entries(vec![dir("a"), file("a/x", b""), symlink("a", "b")]), &none);
    assert_eq!(m, layer(vec![symlink("a", "b")]));
    assert!(build(vec![LayerItem::Skip(SkipReason::Root)], &none).is_empty());
}

#[test]
fn parents_that_are_nowhere_are_made() {
    let lower = tree(vec![vec![dir("a")]]);
    let m = build(entries(vec![file("a/b/c", b"")]), &lower);
    let b = m.get(&path("a/b")).unwrap();
    assert_eq!((b.meta.mode, b.meta.uid), (0o755, 0));
    assert!(m.get(&path("a")).is_none());
}

#[test]
fn links_to_lower_files_become_files() {
    let lower = tree(vec![vec![file("a", b"1"), link("b", "a")]]);
    let m = build(entries(vec![link("x", "b"), link("y", "b"), link("z", "nowhere")]), &lower);
    assert_eq!(m, layer(vec![file("x", b"1"), link("y", "x"), link("z", "nowhere")]));
}
