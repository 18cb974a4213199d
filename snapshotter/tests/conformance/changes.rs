//! Changes of a root file system and the layers they make.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;

use snapshotter::Snapshot;

use crate::harness::{Bench, benches, shell};

/// The time of everything in [`BASE`].
const BASE: &str = "
mkdir -p dir/sub/deep dir-x empty
echo a > dir/a; echo b > dir/b; echo s > dir/sub/s; echo d > dir/sub/deep/d
echo x > dir-x/x; echo f > file; ln file link; ln -s dir sym
chmod 750 dir/sub; chown 7:8 dir-x/x
find . -mindepth 1 -exec touch -hd @1000 {} +
";

/// Makes every time in the tree that of the base again.
const RESTORE: &str = "find . -mindepth 1 -exec touch -hd @1000 {} +";

fn base(bench: &Bench) -> Snapshot {
    bench.step(None, BASE)
}

/// Runs each script on the base, in both kinds, and compares the layer with `want`.
fn check(cases: &[(&str, &[&str])]) {
    for bench in benches() {
        let base = base(&bench);
        for (script, want) in cases {
            let after = bench.step(Some(&base), script);
            assert_eq!(bench.lines(&after), *want, "{:?}: {script}", bench.snapshots.kind());
        }
    }
}

#[test]
fn privileged_a_first_layer() {
    for bench in benches() {
        let want = [
            "d dir 755",
            "f dir/a 644 2",
            "f dir/b 644 2",
            "d dir/sub 750",
            "d dir/sub/deep 755",
            "f dir/sub/deep/d 644 2",
            "f dir/sub/s 644 2",
            "d dir-x 755",
            "f dir-x/x 644 2 7:8",
            "d empty 755",
            "f file 644 2",
            "h link=file",
            "l sym>dir",
        ];
        let base = base(&bench);
        assert_eq!(bench.lines(&base), want);
        assert_eq!((base.parent, base.entries, base.size), (None, 13, 12));
    }
}

#[test]
fn privileged_deletions() {
    check(&[
        ("rm dir/a", &["d dir 755", "- dir/a"]),
        // One whiteout for all of it, and none for its neighbour in the alphabet.
        ("rm -r dir", &["- dir"]),
        ("rm -r dir-x", &["- dir-x"]),
        ("rm -r dir/sub", &["d dir 755", "- dir/sub"]),
        (
            "rm -r dir dir-x empty file link sym",
            &["- dir", "- dir-x", "- empty", "- file", "- link", "- sym"],
        ),
        // What was never there below leaves nothing, only its directory's time.
        ("echo n > new; rm new", &[]),
        ("mkdir -p new/n; rm -r new", &[]),
        ("touch dir/n; rm dir/n", &["d dir 755"]),
        ("touch dir/n; rm dir/n; touch -d @1000 dir", &[]),
    ]);
}

#[test]
fn privileged_replacements() {
    check(&[
        ("rm -r dir; echo f > dir", &["f dir 644 2"]),
        ("rm -r dir; ln -s nowhere dir", &["l dir>nowhere"]),
        ("rm file; mkdir file; echo n > file/n", &["d file 755", "f file/n 644 2"]),
        ("rm sym; mkdir sym; echo n > sym/a", &["d sym 755", "f sym/a 644 2"]),
        (
            "rm -r dir; mkdir dir; echo n > dir/n; touch -d @1000 dir",
            &["d dir 755", "- dir/a", "- dir/b", "f dir/n 644 2", "- dir/sub"],
        ),
        // Made again as it was, in part.
        (
            &format!(
                "rm -r dir; mkdir -p dir/sub; chmod 750 dir/sub; echo s > dir/sub/s; {RESTORE}"
            ),
            &["d dir 755", "- dir/a", "- dir/b", "d dir/sub 750", "- dir/sub/deep"],
        ),
        ("rm -r empty; mkdir empty; touch -d @1000 empty", &[]),
        ("rm file; echo f > file; touch -d @1000 file", &[]),
        ("rm file; echo g > file; touch -d @1000 file", &["f file 644 2"]),
    ]);
}

#[test]
fn privileged_renames() {
    check(&[
        (
            "mv dir moved",
            &[
                "- dir",
                "d moved 755",
                "f moved/a 644 2",
                "f moved/b 644 2",
                "d moved/sub 750",
                "d moved/sub/deep 755",
                "f moved/sub/deep/d 644 2",
                "f moved/sub/s 644 2",
            ],
        ),
        ("mv file renamed", &["- file", "f renamed 644 2"]),
        ("mv dir/a dir/b", &["d dir 755", "- dir/a", "f dir/b 644 2"]),
        ("mv dir/a t; mv t dir/a; touch -d @1000 dir", &[]),
        ("mv dir t; mv t dir", &[]),
    ]);
}

#[test]
fn privileged_touched() {
    check(&[
        ("true", &[]),
        ("cat dir/a > /dev/null", &[]),
        ("chown 0:0 dir/a", &[]),
        ("chmod 644 dir/a", &[]),
        ("echo a > dir/a; touch -d @1000 dir/a", &[]),
        ("touch dir/a", &["d dir 755", "f dir/a 644 2"]),
        ("touch -d @1000.5 dir/a", &["d dir 755", "f dir/a 644 2"]),
        // As long, as old, and different.
        ("echo z > dir/a; touch -d @1000 dir/a", &["d dir 755", "f dir/a 644 2"]),
        ("touch -d @2000 dir/sub", &["d dir 755", "d dir/sub 750"]),
        ("chmod 1777 empty", &["d empty 1777"]),
        ("chown 5:6 dir/sub", &["d dir 755", "d dir/sub 750 5:6"]),
        ("touch -hd @2000 sym", &["l sym>dir"]),
        // The directories on the way keep what they have.
        (
            "echo n > dir/sub/deep/n",
            &["d dir 755", "d dir/sub 750", "d dir/sub/deep 755", "f dir/sub/deep/n 644 2"],
        ),
        // The root is in no layer.
        ("chmod 700 .; chown 9:9 .; touch -d @5 .", &[]),
    ]);
}

#[test]
fn privileged_hard_links() {
    check(&[
        // Writing to one name of a pair from below is about that name.
        ("echo more >> link", &["f link 644 7"]),
        ("chmod 600 file", &["f file 600 2"]),
        ("rm file", &["- file"]),
        ("rm link; ln file link", &[]),
        // A new link brings the file along, or it would be two.
        ("ln dir/a dir/c; touch -d @1000 dir", &["d dir 755", "f dir/a 644 2", "h dir/c=dir/a"]),
        ("ln dir/b 0", &["f 0 644 2", "d dir 755", "h dir/b=0"]),
        ("ln dir/a t; rm t", &[]),
        ("ln file third", &["f file 644 2", "h third=file"]),
        (
            "echo n > n; ln n m; ln n dir/n; touch -d @1000 dir",
            &["d dir 755", "f dir/n 644 2", "h m=dir/n", "h n=dir/n"],
        ),
        // Of two names one is gone again.
        ("echo n > n; ln n m; rm n", &["f m 644 2"]),
    ]);
}

#[test]
fn privileged_kinds_and_modes() {
    let name = "n".repeat(255);
    let long = format!("mkdir -p {name}/{name}; echo n > {name}/{name}/{name}");
    let long_lines = [
        format!("d {name} 755"),
        format!("d {name}/{name} 755"),
        format!("f {name}/{name}/{name} 644 2"),
    ];
    let long_lines: Vec<&str> = long_lines.iter().map(String::as_str).collect();
    check(&[
        (
            "mknod c c 1 3; mknod b b 7 0; mkfifo p; chmod 640 c b p",
            &["b b 640 7:0", "c c 640 1:3", "p p 640"],
        ),
        ("chown 1:2 file; chmod 6755 file", &["f file 6755 2 1:2"]),
        ("echo n > \"$(printf 'a\\nb')\"", &["f a\nb 644 2"]),
        ("touch .wh-not; mkdir ..x", &["d ..x 755", "f .wh-not 644 0"]),
        (&long, &long_lines),
    ]);
}

#[test]
fn privileged_sockets_are_left_out() {
    for bench in benches() {
        let base = base(&bench);
        let after = bench.step_with(Some(&base), |_, fd| {
            let at = format!("/proc/self/fd/{}", fd.as_raw_fd());
            shell(fd, "rm file");
            UnixListener::bind(format!("{at}/file")).unwrap();
            UnixListener::bind(format!("{at}/dir/s")).unwrap();
            shell(fd, "touch -d @1000 dir");
        });
        assert_eq!(bench.lines(&after), ["- file"]);
    }
}

#[test]
fn privileged_attributes() {
    const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for bench in benches() {
        let base = base(&bench);
        let first = bench.step_with(Some(&base), |root, _| {
            root.set_xattr("file", b"security.capability", CAPABILITY).unwrap();
            root.set_xattr("dir/a", b"user.note", b"1").unwrap();
            root.set_xattr("dir", b"trusted.note", b"1").unwrap();
            root.set_xattr("", b"trusted.note", b"1").unwrap();
        });
        // Other attributes are no change, and the next step does not see them.
        assert_eq!(bench.lines(&first), ["f file 644 2 cap"]);
        let second = bench.step_with(Some(&first), |root, fd| {
            assert!(root.list_xattr("dir/a").unwrap().is_empty());
            assert_eq!(
                root.get_xattr("file", b"security.capability").unwrap().as_deref(),
                Some(CAPABILITY)
            );
            // Touched and as before, with its capability.
            shell(fd, "touch file; touch -d @1000 file");
        });
        assert_eq!(bench.lines(&second), Vec::<String>::new());
        let third = bench.step(Some(&second), "chown 0:0 file");
        // The kernel takes it away.
        assert_eq!(bench.lines(&third), ["f file 644 2"]);
    }
}

#[test]
fn privileged_a_chain_of_changes() {
    for bench in benches() {
        let base = base(&bench);
        let one = bench.step(Some(&base), "rm dir/a; echo 1 > dir/one");
        let two = bench.step(Some(&one), "echo again > dir/a; rm -r dir/sub");
        let three = bench.step(Some(&two), "rm -r dir");
        assert_eq!(bench.lines(&three), ["- dir"]);
        let four = bench.step(Some(&three), "mkdir dir; echo 4 > dir/four");
        // Nothing of what was below shows through, and nothing of it has to be removed again.
        assert_eq!(bench.lines(&four), ["d dir 755", "f dir/four 644 2"]);
        let five = bench.step(Some(&four), "rm -r dir; mkdir dir; echo 5 > dir/five");
        assert_eq!(bench.lines(&five), ["d dir 755", "f dir/five 644 2", "- dir/four"]);
        assert_eq!(
            bench.snapshots.chain(&five.id).unwrap(),
            [base.id, one.id, two.id, three.id, four.id, five.id]
        );
    }
}

#[test]
fn privileged_two_hundred_layers() {
    for bench in benches() {
        let mut top: Option<Snapshot> = None;
        for n in 0..200 {
            let active = bench.snapshots.prepare(top.as_ref().map(|s| &s.id)).unwrap();
            bench.change(&active, |root, _| {
                root.create_file(format!("f{n}"), 0o644).unwrap();
                if n > 0 {
                    root.unlink(format!("f{}", n - 1)).unwrap();
                }
            });
            top = Some(bench.snapshots.commit(active, &Default::default()).unwrap());
        }
        let top = top.unwrap();
        bench.verify(&top.id);
        assert_eq!(bench.snapshots.chain(&top.id).unwrap().len(), 200);
        let all = bench.snapshots.tree(Some(&top.id)).unwrap();
        assert_eq!(all.children(&oci::layer::TreePath::root()).len(), 1);
    }
}
