//! Tests of what a COPY selects, on trees in memory.

use std::collections::BTreeMap;
use std::fs::File;

use oci::layer::{ContentHash, Entry, Metadata, Node, TreePath};

use super::select::{Kind, Request, Selected, digest, select};
use super::source::{Keep, SourceError, SourceTree, link_groups, resolve};

/// A tree in memory.
struct Memory(BTreeMap<TreePath, Entry>);

fn path(text: &str) -> TreePath {
    TreePath::clean(text.as_bytes()).unwrap()
}

/// `a/` is a directory, `a -> b` a link, `a = b` a further name of b, anything else a file whose
/// content is its name.
fn tree(lines: &[&str]) -> Memory {
    let mut entries = BTreeMap::new();
    for line in lines {
        let (name, node) = if let Some((name, target)) = line.split_once(" -> ") {
            (name, Node::Symlink { target: target.as_bytes().into() })
        } else if let Some((name, target)) = line.split_once(" = ") {
            (name, Node::HardLink { target: path(target) })
        } else if let Some(name) = line.strip_suffix('/') {
            (name, Node::Directory { opaque: false })
        } else {
            let content = ContentHash(*blake3::hash(line.as_bytes()).as_bytes());
            (*line, Node::File { size: line.len() as u64, content })
        };
        let meta = Metadata { mode: 0o644, ..Metadata::default() };
        entries.insert(path(name), Entry { path: path(name), node, meta });
    }
    Memory(entries)
}

impl SourceTree for Memory {
    fn entry(&self, at: &TreePath) -> Result<Option<Entry>, SourceError> {
        let mut found = self.0.get(at).cloned();
        if let Some(entry) = &mut found
            && let Node::HardLink { target } = &entry.node
        {
            entry.node = self.0[target].node.clone();
        }
        Ok(found)
    }

    fn list(&self, at: &TreePath) -> Result<Vec<Entry>, SourceError> {
        Ok(self.0.values().filter(|e| e.path.parent().as_ref() == Some(at)).cloned().collect())
    }

    fn walk(
        &self,
        at: &TreePath,
        keep: &(dyn Fn(&TreePath, bool) -> Keep + Sync),
    ) -> Result<Vec<Entry>, SourceError> {
        let mut out = Vec::new();
        for entry in self.list(at)? {
            self.visit(entry, at, keep, &mut out);
        }
        link_groups(&mut out, |e| match &self.0[&e.path].node {
            Node::File { .. } => Some((e.path.clone(), e.node.clone())),
            Node::HardLink { target } => Some((target.clone(), self.0[target].node.clone())),
            _ => None,
        });
        Ok(out)
    }

    fn hashed(&self, entry: Entry) -> Result<Entry, SourceError> {
        Ok(entry)
    }

    fn open(&self, at: &TreePath) -> Result<File, SourceError> {
        Err(SourceError::read(at, "a tree in memory has no files"))
    }

    fn has_owners(&self) -> bool {
        true
    }
}

impl Memory {
    fn visit(
        &self,
        entry: Entry,
        base: &TreePath,
        keep: &(dyn Fn(&TreePath, bool) -> Keep + Sync),
        out: &mut Vec<Entry>,
    ) {
        let directory = matches!(entry.node, Node::Directory { .. });
        let kept = keep(&entry.path.strip_prefix(base).unwrap(), directory);
        if kept == Keep::No || (kept == Keep::IfSomethingBelow && !directory) {
            return;
        }
        let at = out.len();
        out.push(entry.clone());
        if directory {
            for child in self.list(&entry.path).unwrap() {
                self.visit(child, base, keep, out);
            }
        }
        if kept == Keep::IfSomethingBelow && out.len() == at + 1 {
            out.pop();
        }
    }
}

fn chosen(
    tree: &Memory,
    paths: &[&str],
    exclude: &[&str],
    parents: bool,
) -> Result<Vec<Selected>, SourceError> {
    let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let (paths, exclude) = (own(paths), own(exclude));
    select(tree, &Request { paths: &paths, exclude: &exclude, parents, tree: "the tree" })
}

/// `name` for a single file, `name: a b c` for contents, `: a b c` for recreated parents.
fn shown(selection: &[Selected]) -> Vec<String> {
    let list = |entries: &[Entry]| {
        let names = entries.iter().map(|e| String::from_utf8_lossy(e.path.as_bytes()).into_owned());
        names.collect::<Vec<_>>().join(" ")
    };
    let name = |s: &Selected| String::from_utf8_lossy(s.name.as_bytes()).into_owned();
    selection
        .iter()
        .map(|s| match &s.kind {
            Kind::Single(_) => name(s),
            Kind::Contents(entries) => format!("{}: {}", name(s), list(entries)),
            Kind::Tree(entries) => format!(": {}", list(entries)),
        })
        .collect()
}

fn sample() -> Memory {
    tree(&[
        "a.txt",
        "b.txt",
        ".hidden",
        "dir/",
        "dir/c.txt",
        "dir/sub/",
        "dir/sub/d.txt",
        "dir-x",
        "file-link -> dir/c.txt",
        "dir-link -> /dir",
        "up -> ../../../a.txt",
        "dangling -> nowhere",
        "loop -> loop",
        "dir/inner -> c.txt",
        "hard = a.txt",
    ])
}

#[test]
fn plain_paths() {
    let t = sample();
    for (given, want) in [
        ("a.txt", "a.txt"),
        ("/a.txt", "a.txt"),
        ("../../a.txt", "a.txt"),
        ("./dir/../a.txt", "a.txt"),
        ("dir", "dir: c.txt inner sub sub/d.txt"),
        ("dir/", "dir: c.txt inner sub sub/d.txt"),
        ("dir/.", "dir: c.txt inner sub sub/d.txt"),
        ("file-link", "file-link"),
        ("dir-link", "dir-link: c.txt inner sub sub/d.txt"),
        ("dir-link/sub", "sub: d.txt"),
        ("up", "up"),
    ] {
        assert_eq!(shown(&chosen(&t, &[given], &[], false).unwrap()), [want], "{given}");
    }
    for missing in ["nothing", "dangling", "a.txt/x", "dir/nothing"] {
        let error = chosen(&t, &[missing], &[], false).unwrap_err().to_string();
        assert_eq!(error, format!("{missing:?}: not found in the tree"));
    }
    assert!(matches!(chosen(&t, &["loop"], &[], false), Err(SourceError::Loop { .. })));
    for (mistyped, near) in [
        ("dir/sub/e.txt", "dir/sub/d.txt"),
        ("/Dri/sub", "/dir/sub"),
        ("dir/sbu/d.txt", "dir/sub/d.txt"),
    ] {
        let error = chosen(&t, &[mistyped], &[], false).unwrap_err().to_string();
        let want = format!("{mistyped:?}: not found in the tree (did you mean {near:?}?)");
        assert_eq!(error, want);
    }
}

#[test]
fn wildcards() {
    let t = sample();
    let names = |p: &str| shown(&chosen(&t, &[p], &[], false).unwrap());
    assert_eq!(names("*.txt"), ["a.txt", "b.txt"]);
    assert_eq!(names("dir/*.txt"), ["c.txt"]);
    assert_eq!(names("?.txt"), ["a.txt", "b.txt"]);
    assert_eq!(names("[ab].*"), ["a.txt", "b.txt"]);
    assert_eq!(names("d*r"), ["dir: c.txt inner sub sub/d.txt"]);
    assert_eq!(names("*/sub"), ["sub: d.txt"]);
    assert_eq!(names("nothing*"), Vec::<String>::new());
    let error = chosen(&t, &["dang*"], &[], false).unwrap_err().to_string();
    assert!(error.contains("leads nowhere"), "{error}");
    // A link in the part before the wildcard is followed, one that the wildcard matches is too,
    // but none in between.
    assert_eq!(names("dir-link/*.txt"), ["c.txt"]);
    assert_eq!(names("file-l*"), ["file-link"]);
    assert_eq!(names("*-link/c.txt"), Vec::<String>::new());
}

#[test]
fn exclusions_are_relative_to_each_source() {
    let t = sample();
    let names = |p: &str, x: &[&str]| shown(&chosen(&t, &[p], x, false).unwrap());
    assert_eq!(names("dir", &["sub"]), ["dir: c.txt inner"]);
    assert_eq!(names("dir", &["dir/sub"]), ["dir: c.txt inner sub sub/d.txt"]);
    assert_eq!(names("dir", &["**/*.txt"]), ["dir: inner sub"]);
    assert_eq!(names("dir", &["*", "!sub/d.txt"]), ["dir: sub sub/d.txt"]);
    assert_eq!(names("*.txt", &["b*"]), ["a.txt"]);
}

#[test]
fn a_wildcard_before_the_pivot_matches_directories() {
    let t = sample();
    let selection = chosen(&t, &["d?r/./c.txt", "d?r/./sub/*"], &[], true).unwrap();
    assert_eq!(selection.len(), 2);
    assert_eq!(shown(&selection)[0].split(':').next_back(), Some(" c.txt"));
    assert_eq!(shown(&selection)[1].split(':').next_back(), Some(" sub sub/d.txt"));
    assert!(chosen(&t, &["x*/./nothing"], &[], true).unwrap().is_empty());
}

#[test]
fn parents_recreate_paths() {
    let t = sample();
    let names = |p: &str| shown(&chosen(&t, &[p], &[], true).unwrap());
    assert_eq!(names("dir/c.txt"), [": dir dir/c.txt"]);
    assert_eq!(names("dir/sub"), [": dir dir/sub dir/sub/d.txt"]);
    assert_eq!(names("./dir/./sub/d.txt"), [": sub sub/d.txt"]);
    assert_eq!(names("dir/./"), [": c.txt inner sub sub/d.txt"]);
    assert_eq!(names("**/d.txt"), [": dir dir/sub dir/sub/d.txt"]);
    assert!(chosen(&t, &["dir/nothing"], &[], true).is_err());
    assert!(chosen(&t, &["dir/nothing*"], &[], true).is_ok());
}

#[test]
fn hard_links_stay_inside_what_is_selected() {
    let t = tree(&["d/", "d/a", "d/b = d/a", "e/", "e/x = d/a", "e/y = d/a"]);
    let nodes = |p: &str| match chosen(&t, &[p], &[], false).unwrap().remove(0).kind {
        Kind::Contents(entries) => entries,
        other => panic!("{other:?}"),
    };
    assert_eq!(nodes("d")[1].node, Node::HardLink { target: path("a") });
    let outside = nodes("e");
    assert!(matches!(outside[0].node, Node::File { size: 3, .. }), "{outside:?}");
    assert_eq!(outside[1].node, Node::HardLink { target: path("x") });
}

#[test]
fn the_digest_is_of_what_is_selected() {
    let base = sample();
    let of = |t: &Memory, p: &str| digest(&chosen(t, &[p], &[], false).unwrap());
    let changed = |at: &str, change: &dyn Fn(&mut Entry)| {
        let mut t = sample();
        change(t.0.get_mut(&path(at)).unwrap());
        t
    };
    let later = changed("dir/c.txt", &|e| e.meta.mtime.seconds = 77);
    assert_eq!(of(&base, "dir"), of(&later, "dir"));
    assert_ne!(of(&base, "dir"), of(&changed("dir/c.txt", &|e| e.meta.mode = 0o755), "dir"));
    assert_ne!(of(&base, "dir"), of(&changed("dir/sub/d.txt", &|e| e.meta.uid = 1), "dir"));
    // Only the contents of the directory itself are copied, not its metadata.
    assert_eq!(of(&base, "dir"), of(&changed("dir", &|e| e.meta.mode = 0o700), "dir"));
    assert_ne!(of(&base, "a.txt"), of(&base, "b.txt"));
    assert_ne!(of(&base, "*.txt"), of(&base, "a.txt"));
}

#[test]
fn links_resolve_inside() {
    let t =
        tree(&["a/", "a/f", "abs -> /a", "rel -> a/../a", "out -> ../../../../a/f", "f -> a/f/x"]);
    let at = |p: &str| resolve(&t, &path(p), true).unwrap().map(|(p, _)| p.to_string());
    assert_eq!(at("abs/f").as_deref(), Some("/a/f"));
    assert_eq!(at("rel/f").as_deref(), Some("/a/f"));
    assert_eq!(at("out").as_deref(), Some("/a/f"));
    assert_eq!(at("f"), None);
    assert_eq!(at("").as_deref(), Some("/"));
    let kept = resolve(&t, &path("abs"), false).unwrap().unwrap();
    assert!(matches!(kept.1.unwrap().node, Node::Symlink { .. }));
}
