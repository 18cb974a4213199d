//! Build contexts: what is seen, what is read, what is trusted.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cache::context::Trust;
use cache::{CacheError, Context, Everything, FileKind, State, Verdict};
use oci::layer::{ContentHash, Entry, Node, TreePath};

fn p(path: &str) -> TreePath {
    TreePath::new(path.as_bytes()).unwrap()
}

fn content(text: &str) -> ContentHash {
    ContentHash(*blake3::hash(text.as_bytes()).as_bytes())
}

struct Setup {
    _dir: tempfile::TempDir,
    state: State,
    tree: PathBuf,
}

fn setup(files: &[(&str, &str)]) -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for (path, text) in files {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    Setup { state: common::open(&dir.path().join("state")), _dir: dir, tree }
}

impl Setup {
    fn open(&self) -> Context {
        self.state.contexts().open(&self.tree).unwrap()
    }

    /// A build: everything is walked and the index saved. What was found, and how many files
    /// were read.
    fn build(&self) -> (Vec<Entry>, u64) {
        let context = self.open();
        let entries = context.walk(&TreePath::root(), &Everything).unwrap();
        context.save().unwrap();
        (entries, context.stats().hashed_files)
    }

    /// Builds after the clock has moved on, so that everything there is settled.
    fn settled_build(&self) -> (Vec<Entry>, u64) {
        std::thread::sleep(Duration::from_millis(30));
        self.build()
    }
}

fn paths(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|e| e.path.to_string()).collect()
}

fn contents(entries: &[Entry], path: &str) -> ContentHash {
    match &entries.iter().find(|e| e.path == p(path)).unwrap().node {
        Node::File { content, .. } => *content,
        other => panic!("{path} is {other:?}"),
    }
}

#[test]
fn known_files_are_not_opened() {
    let s = setup(&[("a", "one"), ("d/b", "two"), ("d/c", "three")]);
    let (first, read) = s.settled_build();
    assert_eq!(read, 3);
    assert_eq!(paths(&first), ["/a", "/d", "/d/b", "/d/c"]);
    assert_eq!(contents(&first, "d/b"), content("two"));
    let (second, read) = s.build();
    assert_eq!((second, read), (first, 0));
}

#[test]
fn two_walks_of_one_build_share_the_work() {
    let s = setup(&[("a", "one"), ("d/b", "two")]);
    let context = s.open();
    let first = context.walk(&p("d"), &Everything).unwrap();
    assert_eq!(paths(&first), ["/d", "/d/b"]);
    context.walk(&TreePath::root(), &Everything).unwrap();
    let stats = context.stats();
    context.walk(&TreePath::root(), &Everything).unwrap();
    assert_eq!(context.stats().hashed_files, 2);
    assert_eq!(context.stats().directories, 2);
    assert!(context.stats().stats <= stats.stats + 1);
}

#[test]
fn changes_are_seen() {
    let s =
        setup(&[("touched", "1"), ("moded", "2"), ("edited", "3"), ("old", "4"), ("kept", "5")]);
    let (first, _) = s.settled_build();
    let at = |name: &str| s.tree.join(name);
    // The mtime changes: read again, equal content.
    File::options()
        .write(true)
        .open(at("touched"))
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH)
        .unwrap();
    fs::set_permissions(at("moded"), fs::Permissions::from_mode(0o755)).unwrap();
    // The same size, and the mtime is put back: only the ctime tells.
    let before = fs::metadata(at("edited")).unwrap().modified().unwrap();
    fs::write(at("edited"), "X").unwrap();
    File::options().write(true).open(at("edited")).unwrap().set_modified(before).unwrap();
    fs::rename(at("old"), at("new")).unwrap();
    let (second, read) = s.settled_build();
    assert!(read >= 3);
    assert_eq!(contents(&second, "touched"), contents(&first, "touched"));
    assert_eq!(contents(&second, "edited"), content("X"));
    assert_eq!(contents(&second, "new"), content("4"));
    assert!(!paths(&second).contains(&"/old".to_owned()));
    let mode = |entries: &[Entry]| entries.iter().find(|e| e.path == p("moded")).unwrap().meta.mode;
    assert_eq!((mode(&first) & 0o111, mode(&second)), (0, 0o755));
    assert_eq!(s.build().1, 0);
}

#[test]
fn a_file_that_changes_in_the_tick_of_its_reading_is_seen() {
    for round in 0..20 {
        let s = setup(&[("f", "a")]);
        let path = s.tree.join("f");
        fs::write(&path, "b").unwrap();
        assert_eq!(contents(&s.build().0, "f"), content("b"));
        let before = fs::metadata(&path).unwrap();
        fs::write(&path, "c").unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(before.modified().unwrap())
            .unwrap();
        assert_eq!(contents(&s.build().0, "f"), content("c"), "round {round}");
    }
}

#[test]
fn types_may_flip() {
    let s = setup(&[("x", "file"), ("y/inside", "1")]);
    s.settled_build();
    fs::remove_file(s.tree.join("x")).unwrap();
    fs::create_dir(s.tree.join("x")).unwrap();
    fs::remove_dir_all(s.tree.join("y")).unwrap();
    symlink("/etc/passwd", s.tree.join("y")).unwrap();
    let (entries, read) = s.build();
    assert_eq!(read, 0);
    assert_eq!(entries[0].node, Node::Directory { opaque: false });
    assert_eq!(entries[1].node, Node::Symlink { target: (*b"/etc/passwd").into() });
    assert_eq!(entries[1].meta.mode, 0o777);
}

#[test]
fn links_are_not_followed_but_resolved_inside() {
    let s = setup(&[("real/f", "1")]);
    symlink("real", s.tree.join("dir")).unwrap();
    symlink("/real/f", s.tree.join("absolute")).unwrap();
    symlink("../../../real", s.tree.join("real/up")).unwrap();
    symlink("loop", s.tree.join("loop")).unwrap();
    let context = s.open();
    assert!(context.stat_entry(&p("dir/f")).unwrap().is_none());
    assert_eq!(context.stat_entry(&p("dir")).unwrap().unwrap().kind, FileKind::Symlink);
    assert!(context.walk(&p("dir/f"), &Everything).unwrap_err().is_not_found());
    let resolve = |path: &str, last| context.resolve(&p(path), last).unwrap();
    assert_eq!(resolve("dir/f", false), (p("real/f"), vec![p("dir")]));
    assert_eq!(resolve("dir", false), (p("dir"), vec![]));
    assert_eq!(resolve("dir", true), (p("real"), vec![p("dir")]));
    assert_eq!(resolve("absolute", true), (p("real/f"), vec![p("absolute")]));
    assert_eq!(resolve("dir/up/f", true), (p("real/f"), vec![p("dir"), p("real/up")]));
    assert_eq!(resolve("missing/x", true), (p("missing/x"), vec![]));
    assert!(matches!(context.resolve(&p("loop"), true), Err(CacheError::Loop(_))));
    assert!(context.open_file(&p("absolute")).is_err() && context.open_file(&p("real")).is_err());
    assert_eq!(context.read_file(&p("real/f"), 1).unwrap(), b"1");
    assert!(context.read_file(&p("real/f"), 0).is_err());
}

#[test]
fn a_selection_decides_what_is_looked_at() {
    let s = setup(&[
        ("a/x", "1"),
        ("a/y", "2"),
        ("b/c/x", "3"),
        ("big/x", "4"),
        ("e/f/y", "5"),
        ("z", "6"),
    ]);
    fs::create_dir(s.tree.join("hollow")).unwrap();
    let context = s.open();
    let only_x = |path: &TreePath, is_directory: bool| match path.file_name() {
        Some(b"big") => Verdict::Skip,
        Some(b"x") => Verdict::Take,
        _ if is_directory => Verdict::Pass,
        _ => Verdict::Skip,
    };
    let entries = context.walk(&TreePath::root(), &only_x).unwrap();
    assert_eq!(paths(&entries), ["/a", "/a/x", "/b", "/b/c", "/b/c/x"]);
    assert_eq!(context.stats().hashed_files, 2);
    assert_eq!(context.stats().directories, 7, "all but `big`");
    assert!(context.walk(&p("big"), &only_x).unwrap().is_empty());
    assert!(context.walk(&p("hollow"), &only_x).unwrap().is_empty());
    assert_eq!(paths(&context.walk(&p("hollow"), &Everything).unwrap()), ["/hollow"]);
    assert_eq!(paths(&context.walk(&p("z"), &Everything).unwrap()), ["/z"]);
    let names: Vec<_> = context.list(&p("a")).unwrap();
    assert_eq!(names, [((*b"x").into(), FileKind::File), ((*b"y").into(), FileKind::File)]);
}

#[test]
fn hard_links_are_groups_within_a_selection() {
    let s = setup(&[("b/first", "1")]);
    fs::hard_link(s.tree.join("b/first"), s.tree.join("b/second")).unwrap();
    fs::hard_link(s.tree.join("b/first"), s.tree.join("outside")).unwrap();
    let context = s.open();
    let entries = context.walk(&p("b"), &Everything).unwrap();
    assert!(matches!(entries[1].node, Node::File { size: 1, .. }));
    assert_eq!(entries[2].node, Node::HardLink { target: p("b/first") });
    let alone = context.walk(&p("outside"), &Everything).unwrap();
    assert!(matches!(alone[0].node, Node::File { size: 1, .. }));
}

#[test]
fn pipes_are_kept_and_sockets_are_empty_files() {
    let s = setup(&[("f", "1")]);
    let _socket = std::os::unix::net::UnixListener::bind(s.tree.join("socket")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o640);
    rustix::fs::mknodat(rustix::fs::CWD, s.tree.join("pipe"), rustix::fs::FileType::Fifo, mode, 0)
        .unwrap();
    let context = s.open();
    let entries = context.walk(&TreePath::root(), &Everything).unwrap();
    assert_eq!(paths(&entries), ["/f", "/pipe", "/socket"]);
    assert_eq!(entries[1].node, Node::Fifo);
    let content = ContentHash(*blake3::hash(b"").as_bytes());
    assert_eq!(entries[2].node, Node::File { size: 0, content });
    assert_eq!(context.open_file(&p("socket")).unwrap().metadata().unwrap().len(), 0);
    assert!(context.open_file(&p("pipe")).is_err());
}

#[test]
fn the_owner_is_root_and_special_bits_stay() {
    let s = setup(&[("f", "1")]);
    fs::set_permissions(s.tree.join("f"), fs::Permissions::from_mode(0o4755)).unwrap();
    let (entries, _) = s.build();
    let meta = &entries[0].meta;
    assert_eq!((meta.uid, meta.gid, meta.mode), (0, 0, 0o4755));
    assert_eq!(meta.mtime.seconds, fs::metadata(s.tree.join("f")).unwrap().mtime());
    assert_eq!(meta.capability, None);
}

#[test]
fn a_damaged_index_is_made_again() {
    let s = setup(&[("a", "one"), ("b", "two")]);
    let (first, _) = s.settled_build();
    let dir = s.state.root().join("context-v1");
    for damage in [&b""[..], b"DDCTX001", b"not an index at all, but long enough to be looked at"] {
        for entry in fs::read_dir(&dir).unwrap() {
            fs::write(entry.unwrap().path(), damage).unwrap();
        }
        assert_eq!(s.build(), (first.clone(), 2));
        assert_eq!(s.build().1, 0);
    }
}

#[test]
fn without_trust_everything_is_read() {
    let s = setup(&[("a", "one"), ("b", "two")]);
    s.settled_build();
    let context = s.state.contexts().open_with(&s.tree, Trust::None).unwrap();
    context.walk(&TreePath::root(), &Everything).unwrap();
    context.walk(&TreePath::root(), &Everything).unwrap();
    assert_eq!(context.stats().hashed_files, 2);
}

#[test]
fn large_files_have_the_same_hash() {
    let s = setup(&[]);
    let megabyte = 1 << 20;
    for size in [megabyte - 1, megabyte, megabyte + 1, 3 * megabyte, 3 * megabyte + 5] {
        let bytes: Vec<u8> = (0..size).map(|n| ((n * 31) >> 3) as u8).collect();
        fs::write(s.tree.join("f"), &bytes).unwrap();
        let (entries, _) = s.build();
        let expected = Node::File {
            size: size as u64,
            content: ContentHash(*blake3::hash(&bytes).as_bytes()),
        };
        assert_eq!(entries[0].node, expected, "{size}");
    }
}

#[test]
fn names_are_any_bytes_and_trees_are_deep() {
    use std::os::unix::ffi::OsStrExt;
    let s = setup(&[]);
    let name = std::ffi::OsStr::from_bytes(b"\xff\xfe \n");
    fs::write(s.tree.join(name), "1").unwrap();
    let deep: PathBuf = std::iter::repeat_n("d", 900).collect();
    fs::create_dir_all(s.tree.join(&deep)).unwrap();
    let (entries, _) = s.build();
    assert_eq!(entries.len(), 901);
    assert_eq!(entries[900].path.as_bytes(), b"\xff\xfe \n");
    let sorted = entries.windows(2).all(|w| w[0].path < w[1].path);
    assert!(sorted);
}

#[test]
fn many_files_in_one_directory() {
    let s = setup(&[]);
    for n in 0..5000 {
        fs::write(s.tree.join(format!("f{n}")), n.to_string()).unwrap();
    }
    let (entries, read) = s.settled_build();
    assert_eq!((entries.len(), read), (5000, 5000));
    assert!(entries.windows(2).all(|w| w[0].path < w[1].path));
    assert_eq!(s.build(), (entries, 0));
}

#[test]
fn two_processes_may_save_at_once() {
    let s = setup(&[("a", "1"), ("b", "2")]);
    std::thread::sleep(Duration::from_millis(30));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| s.build());
        }
    });
    assert_eq!(s.build().1, 0);
}

/// Root reads everything, so this needs an ordinary user's rights.
fn as_ordinary_user() -> bool {
    let path: &Path = Path::new("/proc/self/status");
    let status = fs::read_to_string(path).unwrap();
    let capabilities = status.lines().find_map(|l| l.strip_prefix("CapEff:")).unwrap().trim();
    u64::from_str_radix(capabilities, 16).unwrap() & 0b10 == 0
}

#[test]
fn an_unreadable_file_is_named_if_it_is_selected() {
    if !as_ordinary_user() {
        println!("skipped: with CAP_DAC_OVERRIDE every file can be read");
        return;
    }
    let s = setup(&[("good", "1"), ("d/secret", "2")]);
    fs::set_permissions(s.tree.join("d/secret"), fs::Permissions::from_mode(0o0)).unwrap();
    let context = s.open();
    let error = context.walk(&TreePath::root(), &Everything).unwrap_err().to_string();
    assert!(error.contains("d/secret"), "{error}");
    let not_secret = |path: &TreePath, _: bool| match path.file_name() {
        Some(b"secret") => Verdict::Skip,
        _ => Verdict::Take,
    };
    assert_eq!(context.walk(&TreePath::root(), &not_secret).unwrap().len(), 2);
}

#[test]
fn a_context_that_is_no_directory() {
    let s = setup(&[("f", "1")]);
    assert!(s.state.contexts().open(&s.tree.join("f")).is_err());
    assert!(s.state.contexts().open(&s.tree.join("none")).err().unwrap().is_not_found());
}

#[test]
fn a_file_that_does_not_hold_still_is_read_again_or_named() {
    use std::io::Write;
    let s = setup(&[("log", "")]);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut log = File::options().append(true).open(s.tree.join("log")).unwrap();
            // Few and small: the file must stay small however slow the machine is.
            for _ in 0..200 {
                log.write_all(&[b'x'; 512]).unwrap();
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        while !writer.is_finished() {
            match s.open().walk(&TreePath::root(), &Everything) {
                Ok(entries) => {
                    let Node::File { size, content } = entries[0].node else { panic!() };
                    let expected = blake3::hash(&vec![b'x'; size as usize]);
                    assert_eq!(content, ContentHash(*expected.as_bytes()));
                }
                Err(CacheError::Changed(path)) => assert!(path.ends_with("log")),
                Err(other) => panic!("{other}"),
            }
        }
    });
}
