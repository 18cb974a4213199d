//! Tests of the parent module.

use oci::layer::ContentHash;

use super::*;

fn path(s: &str) -> TreePath {
    TreePath::new(s.as_bytes()).unwrap()
}

fn dir(staging: &mut Staging, p: &str) -> Vec<Step> {
    staging.directory(&path(p), Metadata::default()).unwrap()
}

fn put(staging: &mut Staging, p: &str, node: Node) -> (Option<TreePath>, Vec<Step>) {
    let mut steps = Vec::new();
    let placed = staging.other(&path(p), node, Metadata::default(), &mut steps).unwrap();
    (placed.map(|(path, _)| path), steps)
}

fn file() -> Node {
    Node::File { size: 1, content: ContentHash([0; 32]) }
}

fn symlink(target: &str) -> Node {
    Node::Symlink { target: target.as_bytes().into() }
}

#[test]
fn parents_are_made_once() {
    let mut staging = Staging::default();
    let (placed, steps) = put(&mut staging, "a/b/c", file());
    assert_eq!(placed, Some(path("a/b/c")));
    assert_eq!(steps, [Step::Mkdir(path("a")), Step::Mkdir(path("a/b"))]);
    assert_eq!(put(&mut staging, "a/b/d", file()).1, []);
    // An entry for a directory that is there already says only what it is like.
    assert_eq!(dir(&mut staging, "a/b"), []);
    let explicit: Vec<_> = staging.explicit_directories().map(|(path, _)| path.clone()).collect();
    assert_eq!(explicit, [path("a/b")]);
}

#[test]
fn names_lead_through_links_and_never_out() {
    let mut staging = Staging::default();
    put(&mut staging, "up", symlink("../../../.."));
    put(&mut staging, "abs", symlink("/etc//./x/.."));
    put(&mut staging, "chain", symlink("abs/sub"));
    assert_eq!(put(&mut staging, "up/passwd", file()).0, Some(path("passwd")));
    assert_eq!(put(&mut staging, "abs/passwd", file()).0, Some(path("etc/passwd")));
    assert_eq!(put(&mut staging, "chain/f", file()).0, Some(path("etc/sub/f")));
    put(&mut staging, "loop", symlink("loop"));
    let mut steps = Vec::new();
    let looped = staging.other(&path("loop/x"), file(), Metadata::default(), &mut steps);
    assert!(matches!(looped, Err(Error::Refused { .. })));
    // The last component is never followed, only replaced.
    assert_eq!(put(&mut staging, "up", file()).1, [Step::Remove(path("up"))]);
}

#[test]
fn the_later_entry_wins() {
    let mut staging = Staging::default();
    put(&mut staging, "d/in", file());
    assert_eq!(put(&mut staging, "d", file()).1, [Step::Remove(path("d"))]);
    assert!(!staging.names.contains_key(&path("d/in")));
    // A file in the way of a directory.
    let (_, steps) = put(&mut staging, "d/x/y", file());
    // It is not the one below, which the file did away with.
    let made = [Step::Remove(path("d")), Step::Mkdir(path("d")), Step::Opaque(path("d"))];
    assert_eq!(steps, [&made[..], &[Step::Mkdir(path("d/x"))]].concat());
}

#[test]
fn whiteouts_and_entries_of_one_layer() {
    let mut staging = Staging::default();
    assert_eq!(staging.whiteout(&path("a")).unwrap(), [Step::Whiteout(path("a"))]);
    assert_eq!(staging.whiteout(&path("a")).unwrap(), []);
    // The directory is a new one: nothing of the lower one of that name is seen.
    let want = [Step::Remove(path("a")), Step::Mkdir(path("a")), Step::Opaque(path("a"))];
    assert_eq!(put(&mut staging, "a/f", file()).1, want);
    put(&mut staging, "b/f", file());
    assert_eq!(staging.whiteout(&path("b")).unwrap(), [Step::Opaque(path("b"))]);
    put(&mut staging, "c", file());
    assert_eq!(staging.whiteout(&path("c")).unwrap(), []);
    assert_eq!(
        staging.opaque(&path("e")).unwrap(),
        [Step::Mkdir(path("e")), Step::Opaque(path("e"))]
    );
    assert_eq!(staging.opaque(&path("e")).unwrap(), []);
    assert_eq!(staging.opaque(&TreePath::root()).unwrap(), []);
    assert!(staging.opaque_root);
}

#[test]
fn hard_links() {
    let mut staging = Staging::default();
    put(&mut staging, "d/f", file());
    put(&mut staging, "l", symlink("d"));
    let link = |s: &mut Staging, p: &str, t: &str| s.hard_link(&path(p), &path(t));
    let made = link(&mut staging, "a", "l/f").unwrap();
    assert_eq!(made, [Step::Link { existing: path("d/f"), path: path("a") }]);
    // The content stays with the other name.
    put(&mut staging, "d/f", symlink("x"));
    assert!(matches!(staging.manifest().get(&path("a")).unwrap().node, Node::File { .. }));
    assert_eq!(link(&mut staging, "below", "not/here").unwrap(), []);
    assert_eq!(staging.links().collect::<Vec<_>>(), [(path("below"), path("not/here"))]);
    assert!(link(&mut staging, "x", "d").is_err());
    // Taking the place of what it names.
    assert!(link(&mut staging, "d", "d/f").is_err());
}
