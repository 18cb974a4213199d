//! Where copies land, on real directories: the rules of destinations, and what is kept of files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use cache::{Dialect, State};
use graph::ModeChange;
use graph::ignore::IgnoreList;
use oci::layer::{ContentHash, Entry, Node, TreePath};
use sys::root::Root;

use super::{Chmod, Contents, Ids, Keep, Request, SourceError, SourceTree, Target, digest, select};
use crate::context::{ContextOptions, ContextTree};
use crate::testing::{is_root, tar};

/// A source and a root file system in a directory of their own.
struct Place {
    dir: tempfile::TempDir,
    state: State,
}

/// What an instruction says besides its paths.
#[derive(Default)]
struct How<'a> {
    owner: Option<Ids>,
    mode: Option<&'a Chmod>,
    unpack: bool,
    replace: bool,
    /// As COPY --from does it.
    from_image: bool,
}

impl Place {
    fn new(source: &[&str], root: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(
            &dir.path().join("state"),
            &Dialect { whiteouts: "trusted".into(), owner_uid: 0 },
        );
        let place = Self { state: state.unwrap(), dir };
        fill(&place.source(), source);
        fill(&place.root(), root);
        place
    }

    fn source(&self) -> std::path::PathBuf {
        self.dir.path().join("source")
    }

    fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("root")
    }

    fn copy(&self, paths: &[&str], dest: &str, how: &How<'_>) -> Result<Contents, String> {
        let context = ContextTree::open(
            &self.state,
            &self.source(),
            &IgnoreList::default(),
            ContextOptions::default(),
        )
        .unwrap();
        let image = Owned(context);
        let tree: &dyn SourceTree = if how.from_image { &image } else { &image.0 };
        let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
        let request =
            Request { paths: &paths, exclude: &[], parents: false, tree: "the build context" };
        let selection = select(tree, &request).map_err(|e| e.to_string())?;
        assert_eq!(digest(&selection), digest(&select(tree, &request).unwrap()));
        let root = Root::at(&self.root()).unwrap();
        let contents = Contents::default();
        let target = Target {
            root: &root,
            owner: how.owner,
            mode: how.mode,
            replace: how.replace,
            contents: &contents,
            landing: &super::Landing::default(),
            cancelled: &|| false,
        };
        target.copy_all(tree, &selection, dest, how.unpack).map_err(|e| e.to_string())?;
        Ok(contents)
    }
}

/// A context as if it were an image: its owners count.
struct Owned(ContextTree);

impl Owned {
    fn own(entry: Entry) -> Entry {
        let capability = matches!(entry.node, Node::File { .. }).then(capability);
        let mut entry = entry;
        entry.meta.uid = 12;
        entry.meta.gid = 34;
        entry.meta.capability = capability;
        entry
    }
}

/// `cap_net_raw=ep`, version 2.
fn capability() -> Box<[u8]> {
    let mut bytes = 0x0200_0001_u32.to_le_bytes().to_vec();
    bytes.extend((1_u32 << 13).to_le_bytes());
    bytes.extend([0; 12]);
    bytes.into()
}

impl SourceTree for Owned {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, SourceError> {
        Ok(self.0.entry(path)?.map(Self::own))
    }

    fn list(&self, path: &TreePath) -> Result<Vec<Entry>, SourceError> {
        self.0.list(path)
    }

    fn walk(
        &self,
        path: &TreePath,
        keep: &(dyn Fn(&TreePath, bool) -> Keep + Sync),
    ) -> Result<Vec<Entry>, SourceError> {
        Ok(self.0.walk(path, keep)?.into_iter().map(Self::own).collect())
    }

    fn hashed(&self, entry: Entry) -> Result<Entry, SourceError> {
        Ok(Self::own(self.0.hashed(entry)?))
    }

    fn open(&self, path: &TreePath) -> Result<fs::File, SourceError> {
        self.0.open(path)
    }

    fn has_owners(&self) -> bool {
        true
    }
}

/// `a/` is a directory, `a -> b` a link, `a = b` a further name of b, else a file that contains
/// its name, or what stands after a colon.
fn fill(dir: &Path, lines: &[&str]) {
    fs::create_dir_all(dir).unwrap();
    for line in lines {
        let parent = |path: &Path| fs::create_dir_all(path.parent().unwrap()).unwrap();
        if let Some((name, target)) = line.split_once(" -> ") {
            parent(&dir.join(name));
            symlink(target, dir.join(name)).unwrap();
        } else if let Some((name, other)) = line.split_once(" = ") {
            fs::hard_link(dir.join(other), dir.join(name)).unwrap();
        } else if line.ends_with('/') {
            fs::create_dir_all(dir.join(line)).unwrap();
        } else {
            let (name, data) = line.split_once(':').unwrap_or((line, line));
            parent(&dir.join(name));
            fs::write(dir.join(name), data).unwrap();
        }
    }
}

/// The same notation; further names as files.
fn listing(dir: &Path) -> Vec<String> {
    fn walk(dir: &Path, base: &Path, out: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(base).unwrap().display();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_symlink() {
                out.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
            } else if kind.is_dir() {
                out.push(format!("{name}/"));
                walk(&path, base, out);
            } else {
                out.push(format!("{name}:{}", fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut out = Vec::new();
    walk(dir, dir, &mut out);
    out.sort();
    out
}

type Row = (
    &'static [&'static str],
    &'static [&'static str],
    &'static str,
    Result<&'static [&'static str], &'static str>,
);

const SOURCE: &[&str] = &["f:1", "g:2", "d/x:3", "d/sub/y:4", "d/l -> /etc", "e/"];

const ROWS: &[Row] = &[
    // A file: renamed, or into a directory.
    (&[], &["f"], "/a", Ok(&["a:1"])),
    (&[], &["f"], "/a/", Ok(&["a/", "a/f:1"])),
    (&[], &["f"], "/a/.", Ok(&["a/", "a/f:1"])),
    (&[], &["f"], "/", Ok(&["f:1"])),
    (&["a/"], &["f"], "/a", Ok(&["a/", "a/f:1"])),
    (&["a:old"], &["f"], "/a", Ok(&["a:1"])),
    (&["a:old"], &["f"], "/a/", Err("cannot copy to non-directory: /a")),
    (&["a/f/"], &["f"], "/a", Err("cannot replace to directory /a/f with file")),
    (&[], &["f"], "/../../a", Ok(&["a:1"])),
    // Links on the way and at the end, inside the root.
    (&["real/", "l -> /real"], &["f"], "/l/", Ok(&["l -> /real", "real/", "real/f:1"])),
    (&["real/", "l -> ../../real"], &["f"], "/l", Ok(&["l -> ../../real", "real/", "real/f:1"])),
    (&["l -> /not/there"], &["f"], "/l", Ok(&["l -> /not/there", "not/", "not/there:1"])),
    (&["l -> /not"], &["f"], "/l/", Ok(&["l -> /not", "not/", "not/f:1"])),
    (&["t:old", "l -> t"], &["f"], "/l", Ok(&["l -> t", "t:1"])),
    (&["a/f -> /t", "t:old"], &["f"], "/a/", Ok(&["a/", "a/f:1", "t:old"])),
    (&["l -> l"], &["f"], "/l", Err("too many levels of symbolic links")),
    // `..` in a link's target starts where the link really is.
    (
        &["x/y/", "l -> x/y", "x/y/up -> ../c", "c:old", "x/c:old"],
        &["f"],
        "/l/up",
        Ok(&["c:old", "l -> x/y", "x/", "x/c:1", "x/y/", "x/y/up -> ../c"]),
    ),
    // Directories: their contents.
    (&[], &["d"], "/a", Ok(&["a/", "a/l -> /etc", "a/sub/", "a/sub/y:4", "a/x:3"])),
    (&["a/z:0"], &["d"], "/a", Ok(&["a/", "a/l -> /etc", "a/sub/", "a/sub/y:4", "a/x:3", "a/z:0"])),
    (&[], &["e"], "/a", Ok(&["a/"])),
    (&["a:old"], &["d"], "/a", Err("cannot copy to non-directory: /a")),
    (&["a/sub:old"], &["d"], "/a", Err("cannot copy to non-directory: /a/sub")),
    (&["a/x/"], &["d"], "/a", Err("cannot replace to directory /a/x with file")),
    (&["t/", "a/sub -> /t"], &["d"], "/a", Err("cannot copy to non-directory: /a/sub")),
    (
        &["r/", "a -> r"],
        &["e", "d"],
        "/a/",
        Ok(&["a -> r", "r/", "r/l -> /etc", "r/sub/", "r/sub/y:4", "r/x:3"]),
    ),
    // Several.
    (&[], &["f", "g"], "/a/", Ok(&["a/", "a/f:1", "a/g:2"])),
    (&["a/"], &["f", "g"], "/a", Ok(&["a/", "a/f:1", "a/g:2"])),
    (&[], &["f", "g"], "/a", Err("several sources match, and /a is no directory")),
    (&[], &["[fg]"], "/a", Ok(&["a:2"])),
    (&[], &["[f]"], "/a", Ok(&["a:1"])),
    (&[], &["nothing*"], "/a/", Ok(&[])),
    (&[], &["nothing"], "/a/", Err("\"nothing\": not found in the build context")),
    // Names that mean something in a layer.
    (&[], &["f"], "/.wh.a", Err("names that begin with .wh.")),
    (&[], &["f"], "/.wh.a/b", Err("names that begin with .wh.")),
];

#[test]
fn privileged_destinations() {
    if !is_root() {
        return;
    }
    for (root, paths, dest, want) in ROWS {
        let place = Place::new(SOURCE, root);
        let what = format!("{root:?} {paths:?} {dest}");
        match (place.copy(paths, dest, &How::default()), want) {
            (Ok(_), Ok(want)) => assert_eq!(listing(&place.root()), *want, "{what}"),
            (Err(error), Err(want)) => assert!(error.contains(want), "{what}: {error}"),
            (got, _) => panic!("{what}: {:?} instead of {want:?}", got.map(|_| ())),
        }
    }
}

/// What was noted is what is on the disk, by paths without links.
#[test]
fn privileged_contents_are_noted() {
    if !is_root() {
        return;
    }
    let place = Place::new(&["f:1", "d/x:3", "d/y:4", "d/z = d/x"], &["r/", "l -> r"]);
    let noted = |contents: Contents| -> BTreeMap<String, (u64, ContentHash)> {
        contents.into_hints().contents.into_iter().map(|(k, v)| (k.to_string(), v)).collect()
    };
    let all = noted(place.copy(&["f", "d"], "/l/n/", &How::default()).unwrap());
    assert_eq!(all.keys().map(String::as_str).collect::<Vec<_>>(), ["/r/n/f", "/r/n/x", "/r/n/y"]);
    for (path, (size, content)) in all {
        let data = fs::read(place.root().join(path.trim_start_matches('/'))).unwrap();
        assert_eq!((size, content.0), (data.len() as u64, *blake3::hash(&data).as_bytes()));
    }
    let stat = |name: &str| fs::metadata(place.root().join("r/n").join(name)).unwrap();
    assert_eq!(stat("x").ino(), stat("z").ino());
}

#[test]
fn privileged_a_linked_copy_replaces_what_is_of_another_kind() {
    if !is_root() {
        return;
    }
    let place = Place::new(SOURCE, &["a/x/deep:old", "a/sub -> /t", "a/l/", "t/", "b:old"]);
    let how = How { replace: true, ..How::default() };
    place.copy(&["d"], "/a", &how).unwrap();
    let want = ["a/", "a/l -> /etc", "a/sub/", "a/sub/y:4", "a/x:3", "b:old", "t/"];
    assert_eq!(listing(&place.root()), want);
    // What the destination is called after is no exception.
    let error = place.copy(&["d"], "/b", &how).unwrap_err();
    assert!(error.contains("cannot copy to non-directory: /b"), "{error}");
}

#[test]
fn privileged_metadata() {
    if !is_root() {
        return;
    }
    let place = Place::new(&["f:1", "d/s/y:2", "d/l -> y"], &["old/s/"]);
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&place.source().join("f"), 0o4755);
    mode(&place.source().join("d/s"), 0o700);
    mode(&place.root().join("old"), 0o711);
    let at = |name: &str| {
        let stat = fs::symlink_metadata(place.root().join(name)).unwrap();
        (stat.mode() & 0o7777, stat.uid(), stat.gid())
    };
    let caps = |name: &str| {
        Root::at(&place.root()).unwrap().get_xattr(name, b"security.capability").unwrap()
    };
    // A context has no owners and no capabilities, and keeps setuid.
    place.copy(&["f"], "/new/f", &How::default()).unwrap();
    assert_eq!((at("new"), at("new/f"), caps("new/f")), ((0o755, 0, 0), (0o4755, 0, 0), None));
    // An image has both, and they survive a change of owner.
    let owner = Some(Ids { uid: 7, gid: 8 });
    let how = How { owner, from_image: true, ..How::default() };
    place.copy(&["f"], "/owned/f", &how).unwrap();
    assert_eq!((at("owned"), at("owned/f")), ((0o755, 7, 8), (0o4755, 7, 8)));
    assert!(caps("owned/f").is_some());
    // The directory that is copied to stays as it was, those below take the source's metadata.
    place.copy(&["d"], "/old", &How { from_image: true, ..How::default() }).unwrap();
    assert_eq!(
        (at("old"), at("old/s"), at("old/s/y")),
        ((0o711, 0, 0), (0o700, 12, 34), (0o644, 12, 34))
    );
    // --chmod: files, directories and created parents; links have no mode.
    let chmod = Chmod::new(&ModeChange::Octal(0o750)).unwrap();
    place.copy(&["d"], "/p/q", &How { mode: Some(&chmod), ..How::default() }).unwrap();
    for path in ["p", "p/q", "p/q/s", "p/q/s/y"] {
        assert_eq!(at(path).0, 0o750, "{path}");
    }
    assert_eq!(at("p/q/l").0, 0o777);
}

#[test]
fn privileged_sockets_are_empty_files() {
    if !is_root() {
        return;
    }
    let place = Place::new(&["f:1", "d/x:2"], &[]);
    let _one = std::os::unix::net::UnixListener::bind(place.source().join("s")).unwrap();
    let _two = std::os::unix::net::UnixListener::bind(place.source().join("d/s")).unwrap();
    place.copy(&["*"], "/a/", &How::default()).unwrap();
    assert_eq!(listing(&place.root()), ["a/", "a/f:1", "a/s:", "a/x:2"]);
    place.copy(&["s"], "/b", &How::default()).unwrap();
    assert_eq!(fs::metadata(place.root().join("b")).unwrap().len(), 0);
}

/// A tar of headers with any names.
fn odd_tar(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, extra) in entries {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_uid(5);
        header.set_gid(6);
        header.set_mtime(1_000);
        let data = if *kind == tar::EntryType::Regular { extra.as_bytes() } else { b"" };
        if data.is_empty() && !extra.is_empty() {
            header.set_link_name_literal(extra).unwrap();
        }
        if *kind == tar::EntryType::Char {
            header.set_device_major(0).unwrap();
            header.set_device_minor(0).unwrap();
        }
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn privileged_archives() {
    use tar::EntryType::{Char, Directory, Link, Regular, Symlink};
    if !is_root() {
        return;
    }
    type Case<'a> = (&'a [(&'a str, tar::EntryType, &'a str)], Result<&'a [&'a str], &'a str>);
    let cases: &[Case<'_>] = &[
        (&[("../../a", Regular, "1"), ("/b", Regular, "2")], Ok(&["in/", "in/a:1", "in/b:2"])),
        (&[("l", Symlink, "/"), ("l/x", Regular, "1")], Ok(&["in/", "in/l -> /", "in/x:1"])),
        (
            &[("a/f", Regular, "1"), ("h", Link, "/a/f")],
            Ok(&["in/", "in/a/", "in/a/f:1", "in/h:1"]),
        ),
        (&[("f", Regular, "1"), ("f", Link, "f")], Ok(&["in/", "in/f:1"])),
        (
            &[
                ("l", Symlink, "d"),
                ("d/", Directory, ""),
                ("l/x", Regular, "1"),
                ("l", Regular, "2"),
                ("d/y", Regular, "3"),
            ],
            Ok(&["in/", "in/d/", "in/d/x:1", "in/d/y:3", "in/l:2"]),
        ),
        (
            &[
                ("l", Symlink, "d"),
                ("d/", Directory, ""),
                ("l/e/", Directory, ""),
                ("d", Regular, "2"),
            ],
            Ok(&["in/", "in/d:2", "in/l -> d"]),
        ),
        (&[("./", Directory, ""), ("./f", Regular, "1")], Ok(&["in/", "in/f:1"])),
        (&[(".wh.f", Regular, "1")], Err("names that begin with .wh.")),
        (&[("c", Char, "")], Err("the character device 0:0 means a deletion")),
        (&[("h", Link, "/etc/passwd")], Err("cannot extract /a.dat: ")),
    ];
    for (entries, want) in cases {
        let place = Place::new(&[], &[]);
        fs::write(place.source().join("a.dat"), odd_tar(entries)).unwrap();
        let how = How { unpack: true, ..How::default() };
        match (place.copy(&["a.dat"], "/in", &how), want) {
            (Ok(_), Ok(want)) => assert_eq!(listing(&place.root()), *want, "{entries:?}"),
            (Err(error), Err(want)) => assert!(error.contains(want), "{entries:?}: {error}"),
            (got, _) => panic!("{entries:?}: {:?} instead of {want:?}", got.map(|_| ())),
        }
    }
}

#[test]
fn privileged_what_is_no_archive_is_copied() {
    if !is_root() {
        return;
    }
    let place = Place::new(&["empty.tar:", "text.tar.gz:no archive"], &[]);
    fs::write(place.source().join("t"), tar(&[("x", b"1")])).unwrap();
    let how = How { unpack: true, ..How::default() };
    let noted = place.copy(&["empty.tar", "text.tar.gz", "t"], "/in/", &how).unwrap();
    assert_eq!(
        listing(&place.root()),
        ["in/", "in/empty.tar:", "in/text.tar.gz:no archive", "in/x:1"]
    );
    // An archive may have replaced anything.
    assert!(noted.into_hints().contents.is_empty());
}
