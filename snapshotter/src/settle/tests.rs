//! Tests of the parent module. What is common is tested on disk, in the conformance suite.

use std::sync::Arc;

use oci::layer::{ContentHash, Entry, LayerManifest};

use super::*;

fn path(s: &str) -> TreePath {
    TreePath::new(s.as_bytes()).unwrap()
}

fn file() -> Node {
    Node::File { size: 1, content: ContentHash([0; 32]) }
}

/// `d/`, `f`, `link>target`.
fn below(names: &[&str]) -> Tree {
    let entry = |name: &&str| {
        let (name, node) = match name.split_once('>') {
            Some((name, target)) => (name, Node::Symlink { target: target.as_bytes().into() }),
            None if name.ends_with('/') => {
                (&name[..name.len() - 1], Node::Directory { opaque: false })
            }
            None => (*name, file()),
        };
        Entry { path: path(name), node, meta: Metadata { mode: 0o711, ..Metadata::default() } }
    };
    Tree::new(vec![Arc::new(LayerManifest::new(names.iter().map(entry).collect()))])
}

fn put(staging: &mut Staging, p: &str) {
    staging.other(&path(p), file(), Metadata::default(), &mut Vec::new()).unwrap();
}

fn names(staging: &Staging) -> Vec<String> {
    staging.names.keys().map(ToString::to_string).collect()
}

#[test]
fn links_below_lead_through_links() {
    let tree = below(&["a>b/x", "b>c", "c/", "c/x>/d", "d/", "d/keep"]);
    let mut staging = Staging::default();
    put(&mut staging, "a/new");
    let steps = settle(&mut staging, &tree).unwrap();
    assert_eq!(
        steps,
        [
            Step::Mkdir(path("d")),
            Step::Move { from: path("a/new"), to: path("d/new") },
            Step::Remove(path("a")),
        ]
    );
    assert_eq!(names(&staging), ["/d", "/d/new"]);
    assert!(staging.silent.contains(&path("d")));
}

#[test]
fn links_below_that_lead_nowhere_are_replaced() {
    let tree = below(&["a>a", "b>b/c", "c>/"]);
    for name in ["a", "b", "c"] {
        let mut staging = Staging::default();
        put(&mut staging, &format!("{name}/new"));
        assert_eq!(settle(&mut staging, &tree).unwrap(), []);
        let manifest = staging.manifest();
        assert_eq!(manifest.get(&path(name)).unwrap().meta, implied());
    }
}

#[test]
fn what_is_moved_meets_what_is_there() {
    let tree = below(&["bin>usr/bin", "usr/", "usr/bin/", "usr/bin/old"]);
    let mut staging = Staging::default();
    put(&mut staging, "usr/bin/tool");
    put(&mut staging, "bin/tool");
    put(&mut staging, "bin/sub/x");
    staging.whiteout(&path("bin/old")).unwrap();
    settle(&mut staging, &tree).unwrap();
    assert_eq!(
        names(&staging),
        ["/usr", "/usr/bin", "/usr/bin/old", "/usr/bin/sub", "/usr/bin/sub/x", "/usr/bin/tool"]
    );
    assert_eq!(staging.names[&path("usr/bin/old")], Name::Whiteout);
}

#[test]
fn links_see_nothing_behind_an_opaque_directory() {
    let tree = below(&["d/", "d/f", "g"]);
    let mut staging = Staging::default();
    staging.opaque(&path("d")).unwrap();
    staging.hard_link(&path("l"), &path("d/f")).unwrap();
    let error = settle(&mut staging, &tree).unwrap_err();
    assert!(matches!(error, Error::Link { .. }), "{error}");
    // One that was removed in the same layer is seen: order does not matter.
    let mut staging = Staging::default();
    staging.whiteout(&path("g")).unwrap();
    staging.hard_link(&path("l"), &path("g")).unwrap();
    let steps = settle(&mut staging, &tree).unwrap();
    assert_eq!(steps, [Step::CopyUp { layer: 0, source: path("g"), to: path("l") }]);
}
