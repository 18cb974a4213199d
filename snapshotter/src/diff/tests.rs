//! Tests of the parent module: what scripts can't make. The rest is in the conformance suite.

use std::sync::Arc;

use oci::layer::LayerManifest;

use super::*;

fn path(s: &str) -> TreePath {
    TreePath::new(s.as_bytes()).unwrap()
}

fn scanned(name: &str, kind: FileKind, inode: u64) -> Scanned {
    let stat = Stat {
        kind,
        mode: 0o755,
        uid: 0,
        gid: 0,
        size: 0,
        blocks: 0,
        links: 2,
        inode,
        device: (0, 1),
        special: (0, 0),
        mtime: (1, 0),
        ctime: (5, 0),
    };
    let whiteout = kind == FileKind::CharDevice;
    let (target, capability) = (None, None);
    Scanned { path: path(name), stat, target, capability, opaque: false, whiteout }
}

fn entry(name: &str, node: Node) -> Entry {
    let mtime = Timestamp::from_seconds(1);
    Entry { path: path(name), node, meta: Metadata { mode: 0o755, mtime, ..Metadata::default() } }
}

fn tree(entries: Vec<Entry>) -> Tree {
    Tree::new(vec![Arc::new(LayerManifest::new(entries))])
}

fn diff(scanned: &[Scanned], tree: &Tree, whole: bool) -> (Vec<String>, Vec<usize>) {
    let matched = Matched::new(scanned, tree, whole);
    let mut contents = matched.unknown_content(&|stat| stat.ctime < (5, 0));
    for index in std::mem::take(&mut contents.wanted) {
        contents.insert(&scanned[index].stat, 0, ContentHash([9; 32]));
    }
    let diff = matched.decide(&contents);
    let names = diff.entries.iter().map(|e| format!("{}{:?}", e.path, e.node));
    let names = names.map(|n| n.split([' ', '{']).next().unwrap_or_default().to_owned());
    (names.collect(), diff.surplus.iter().map(|s| s.index).collect())
}

#[test]
fn whiteouts_without_a_counterpart_go() {
    let d = || entry("d", Node::Directory { opaque: false });
    let lower = tree(vec![d(), entry("d/f", Node::Fifo)]);
    let upper = [
        scanned("d", FileKind::Directory, 1),
        scanned("d/f", FileKind::CharDevice, 2),
        scanned("d/g", FileKind::CharDevice, 3),
        scanned("h", FileKind::CharDevice, 4),
    ];
    let (names, surplus) = diff(&upper, &lower, false);
    assert_eq!(names, ["/dDirectory", "/d/fWhiteout"]);
    assert_eq!(surplus, [2, 3]);
}

#[test]
fn an_opaque_directory_is_searched_all_the_way_down() {
    let dir = |name| entry(name, Node::Directory { opaque: false });
    let lower = tree(vec![
        dir("d"),
        dir("d/e"),
        entry("d/e/a", Node::Fifo),
        entry("d/e/b", Node::Fifo),
        dir("d/x"),
        entry("d/x/y", Node::Fifo),
        entry("d-", Node::Fifo),
    ]);
    let mut upper = vec![
        scanned("d", FileKind::Directory, 1),
        scanned("d/e", FileKind::Directory, 2),
        scanned("d/e/b", FileKind::Fifo, 3),
        scanned("d/e/c", FileKind::Fifo, 4),
    ];
    upper[0].opaque = true;
    let (names, surplus) = diff(&upper, &lower, false);
    let want = ["/dDirectory", "/d/eDirectory", "/d/e/aWhiteout", "/d/e/cFifo", "/d/xWhiteout"];
    assert_eq!(names, want);
    // The mark hides what is below: `d/e/b`, as it was, has to stay on disk.
    assert_eq!(surplus, Vec::<usize>::new());
    // The same as a whole file system.
    upper[0].opaque = false;
    let (names, _) = diff(&upper, &lower, true);
    assert_eq!(names, [&want[..], &["/d-Whiteout"]].concat());
}

#[test]
fn only_untouched_copies_are_trusted() {
    let content = ContentHash([1; 32]);
    let lower = tree(vec![entry("f", Node::File { size: 0, content })]);
    let mut upper = [scanned("f", FileKind::File, 1)];
    // Touched in the tick in which the copy was complete: it is read, and is another.
    assert_eq!(diff(&upper, &lower, true).0, ["/fFile"]);
    upper[0].stat.ctime = (4, 999);
    assert_eq!(diff(&upper, &lower, true).0, Vec::<String>::new());
    upper[0].stat.mode = 0o700;
    assert_eq!(diff(&upper, &lower, true).0, ["/fFile"]);
}

#[test]
fn names_elsewhere_do_not_make_a_group() {
    let upper = [scanned("a", FileKind::File, 1), scanned("b", FileKind::File, 2)];
    assert_eq!(diff(&upper, &Tree::default(), false).0, ["/aFile", "/bFile"]);
    let upper = [scanned("a", FileKind::File, 1), scanned("b", FileKind::File, 1)];
    assert_eq!(diff(&upper, &Tree::default(), false).0, ["/aFile", "/bHardLink"]);
}
