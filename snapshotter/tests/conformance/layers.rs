//! Layers from outside: unpacked alone, attached in order.

use std::io::{Cursor, Read};

use oci::Timestamp;
use oci::layer::{
    ContentHash, LayerItem, LayerManifest, LayerReader, ManifestBuilder, Node, Tree, TreePath,
    WriteOptions, to_layer_entry, write_layer,
};
use snapshotter::{Error, Snapshot};
use tar::{Builder, EntryType, Header};

use crate::harness::{Bench, benches};

/// A tar of entries like `etc/ 755`, `file 644=content`, `link>target`, `hard==target`,
/// `.wh.gone`. Names go in as they are.
fn tar(entries: &[&str]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for entry in entries {
        let mut header = Header::new_gnu();
        header.set_mtime(2000);
        header.set_mode(0o644);
        header.set_size(0);
        let mut content = "";
        let name = if let Some((name, target)) = entry.split_once("==") {
            header.set_entry_type(EntryType::Link);
            raw(&mut header.as_old_mut().linkname, target);
            name
        } else if let Some((name, target)) = entry.split_once('>') {
            header.set_entry_type(EntryType::Symlink);
            raw(&mut header.as_old_mut().linkname, target);
            name
        } else {
            let (head, text) = entry.split_once('=').unwrap_or((entry, ""));
            let (name, mode) = head.split_once(' ').unwrap_or((head, "644"));
            header.set_mode(u32::from_str_radix(mode, 8).unwrap());
            content = text;
            let dir = name.ends_with('/');
            header.set_entry_type(if dir { EntryType::Directory } else { EntryType::Regular });
            name
        };
        raw(&mut header.as_old_mut().name, name);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn raw(field: &mut [u8], text: &str) {
    field[..text.len()].copy_from_slice(text.as_bytes());
}

impl Bench {
    fn pull(&self, parent: Option<&Snapshot>, tar: &[u8]) -> Result<Snapshot, Error> {
        let unpacked = self.snapshots.unpack(&mut Cursor::new(tar))?;
        let snapshot = self.snapshots.attach(parent.map(|p| &p.id), unpacked)?;
        self.verify(&snapshot.id);
        Ok(snapshot)
    }

    fn all(&self, top: &Snapshot) -> Vec<String> {
        let tree = self.snapshots.tree(Some(&top.id)).unwrap();
        crate::harness::lines(&LayerManifest::new(tree.walk(&TreePath::root()).cloned().collect()))
    }
}

/// The manifest that the tar alone means, on top of `lower`.
fn meaning(tar: &[u8], lower: &Tree) -> LayerManifest {
    let mut reader = LayerReader::new(tar);
    let mut builder = ManifestBuilder::new();
    while let Some(entry) = reader.next().unwrap() {
        let mut hasher = blake3::Hasher::new();
        std::io::copy(&mut reader.content(), &mut hasher).unwrap();
        let content = ContentHash(*hasher.finalize().as_bytes());
        let mut item = to_layer_entry(&entry, Some(content)).unwrap();
        if let LayerItem::Entry(entry) = &mut item
            && matches!(entry.node, Node::Symlink { .. })
        {
            entry.meta.mode = 0o777;
        }
        builder.push(item);
    }
    builder.finish(lower)
}

const BASE: &[&str] = &[
    "usr/ 755",
    "usr/bin/ 751",
    "usr/bin/sh 755=shell",
    "bin>usr/bin",
    "etc/ 700",
    "etc/passwd=root",
    "etc/group=g",
    "opt/ 755",
    "opt/a=a",
    "opt/b/ 755",
    "opt/b/c=c",
];

#[test]
fn privileged_layers_stack() {
    for bench in benches() {
        let base = tar(BASE);
        let one = bench.pull(None, &base).unwrap();
        let cases: &[&[&str]] = &[
            &["etc/ 755", "etc/.wh.group", "etc/new=n"],
            // Parents that the archive has no entry for.
            &["etc/passwd=other", "opt/b/d=d", "new/dir/file=f"],
            // The mark of an opaque directory before, between and behind what is in it.
            &["opt/ 755", "opt/.wh..wh..opq", "opt/x=x"],
            &["opt/ 755", "opt/x=x", "opt/.wh..wh..opq"],
            &["opt/.wh..wh..opq", "opt/x=x"],
            &[".wh.opt", "opt/ 755", "opt/y=y"],
            &[".wh.opt", "opt/z=z"],
            &[".wh..wh..opq", "only=this"],
            &[".wh..wh.plnk/1.1", "a=a"],
            // The later entry wins.
            &["t/ 755", "t/in=1", "t=file", "u=1", "u/ 700", "u/in=2", "v=1", "v=22"],
            &["opt=file"],
            &["etc/passwd/ 755", "etc/passwd/in=1"],
            // The first name in order has the content, whatever comes first.
            &["z=data", "y==z", "a==z"],
            // Links to files below.
            &["l==etc/passwd", "m==etc/passwd", "n==m"],
            &["./a=1", "/b=2", "c//d/=", "../../e=3"],
        ];
        for case in cases {
            let tar = tar(case);
            let two = bench.pull(Some(&one), &tar).unwrap();
            let lower = bench.snapshots.tree(Some(&one.id)).unwrap();
            let want = meaning(&tar, &lower);
            let have = bench.snapshots.manifest(&two.id).unwrap();
            assert_eq!(*have, want, "{case:?}");
            assert_eq!(two.diff_digest, want.diff_digest());
        }
        assert_eq!(*bench.snapshots.manifest(&one.id).unwrap(), meaning(&base, &Tree::default()));
    }
}

#[test]
fn privileged_what_a_layer_leaves_to_those_below() {
    for bench in benches() {
        let one = bench.pull(None, &tar(BASE)).unwrap();
        // `verify` has compared: etc is 0700 still, with its own time, and not in the layer.
        let two = bench.pull(Some(&one), &tar(&["etc/new=n"])).unwrap();
        assert_eq!(bench.lines(&two), ["f etc/new 644 1"]);
        // What is put behind a link goes where the link leads.
        let three = bench.pull(Some(&two), &tar(&["bin/tool 755=t", "bin/.wh.sh"])).unwrap();
        assert_eq!(bench.lines(&three), ["- usr/bin/sh", "f usr/bin/tool 755 1"]);
        assert!(bench.all(&three).contains(&"l bin>usr/bin".to_owned()));
        // An entry for the directory replaces the link.
        let four = bench.pull(Some(&three), &tar(&["bin/ 755", "bin/x=x"])).unwrap();
        assert_eq!(bench.lines(&four), ["d bin 755", "f bin/x 644 1"]);
        // A hard link whose target is behind a link.
        let five = bench.pull(Some(&one), &tar(&["l==bin/sh"])).unwrap();
        assert_eq!(bench.lines(&five), ["f l 755 5"]);
    }
}

#[test]
fn privileged_nothing_is_removed_from_nothing() {
    for bench in benches() {
        let tar = tar(&[".wh.gone", "d/ 755", "d/.wh..wh..opq", "d/.wh.x", "d/f=f"]);
        let one = bench.pull(None, &tar).unwrap();
        assert_eq!(bench.lines(&one), ["d d 755", "f d/f 644 1"]);
    }
}

#[test]
fn privileged_links_inside_a_layer() {
    for bench in benches() {
        let tar = tar(&[
            "real/ 755",
            "link>real",
            "link/file=f",
            "abs>/real/deep",
            "abs/x=x",
            "out>../../..",
            "out/y=y",
            "hard==link/file",
            "dangling>nowhere",
            "dangling/z=z",
        ]);
        let one = bench.pull(None, &tar).unwrap();
        let want = [
            "l abs>/real/deep",
            "l dangling>nowhere",
            "f hard 644 1",
            "l link>real",
            "d nowhere 755",
            "f nowhere/z 644 1",
            "l out>../../..",
            "d real 755",
            "d real/deep 755",
            "f real/deep/x 644 1",
            "h real/file=hard",
            "f y 644 1",
        ];
        assert_eq!(bench.lines(&one), want);
    }
}

#[test]
fn privileged_hostile_layers_stay_inside() {
    for bench in benches() {
        let secret = bench.dir.path().join("secret");
        std::fs::write(&secret, b"secret").unwrap();
        let name = secret.to_str().unwrap();
        let abs = format!("abs>{}", bench.dir.path().display());
        let cases: &[&[&str]] = &[
            &[&abs, "abs/secret=changed"],
            &["up>../../../..", "up/secret=changed"],
            &["../../../secret=changed"],
            &["a>b", "b>a", "a/x=1"],
            &[&format!("l=={name}")],
            &["l==../../../secret"],
            &["d/ 755", "l==d"],
            &["l==m", "m==l"],
            &["l==l"],
            &["a==missing"],
            &[".wh.x/y=1"],
            &[".wh."],
            &["l==", "x=1"],
        ];
        for case in cases {
            let before = bench.snapshots.list().unwrap().len();
            let result = bench.pull(None, &tar(case));
            assert_eq!(std::fs::read(&secret).unwrap(), b"secret", "{case:?}");
            // Either it is refused and gone, or its names were kept inside.
            let after = std::fs::read_dir(bench.snapshots.dir()).unwrap().count();
            assert_eq!(after, 1 + before + usize::from(result.is_ok()), "{case:?}");
        }
        let mut device = Header::new_gnu();
        device.set_entry_type(EntryType::Char);
        device.set_size(0);
        device.set_mode(0o644);
        device.set_device_major(0).unwrap();
        device.set_device_minor(0).unwrap();
        raw(&mut device.as_old_mut().name, "gone");
        device.set_cksum();
        let mut builder = Builder::new(Vec::new());
        builder.append(&device, &b""[..]).unwrap();
        assert!(bench.pull(None, &builder.into_inner().unwrap()).is_err());
        let mut builder = Builder::new(Vec::new());
        let attribute = ("SCHILY.xattr.trusted.overlay.opaque", &b"y"[..]);
        builder.append_pax_extensions([attribute]).unwrap();
        device.set_entry_type(EntryType::Directory);
        device.set_cksum();
        builder.append(&device, &b""[..]).unwrap();
        assert!(bench.pull(None, &builder.into_inner().unwrap()).is_err());
    }
}

#[test]
fn privileged_broken_streams_leave_nothing() {
    struct Failing<'a>(&'a [u8]);
    impl Read for Failing<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            if self.0.is_empty() {
                return Err(std::io::Error::other("the digest differs"));
            }
            self.0.read(out)
        }
    }
    for bench in benches() {
        let whole = tar(BASE);
        for end in [1, 511, 600, 1500, whole.len() / 2 + 3] {
            assert!(bench.snapshots.unpack(&mut &whole[..end]).is_err(), "{end}");
        }
        // The error at the very end, where digests are verified, counts.
        let error = bench.snapshots.unpack(&mut Failing(&whole)).unwrap_err();
        assert!(error.to_string().contains("digest"), "{error}");
        assert_eq!(std::fs::read_dir(bench.snapshots.dir()).unwrap().count(), 1);
        // And what is behind the end of the archive is read.
        let padded = [&whole[..], &[0; 10240]].concat();
        let mut reader = Cursor::new(&padded);
        let unpacked = bench.snapshots.unpack(&mut reader).unwrap();
        assert_eq!(reader.position(), padded.len() as u64);
        bench.snapshots.discard_unpacked(unpacked).unwrap();
        assert_eq!(std::fs::read_dir(bench.snapshots.dir()).unwrap().count(), 1);
    }
}

/// Layers made here, exported, and imported into both kinds: the same layers.
#[test]
fn privileged_export_and_import() {
    let scripts = [
        "mkdir -p d/e; echo f > d/e/f; ln d/e/f hard; ln -s d link; mkfifo p; mknod c c 1 3
         chown 1:2 d/e/f; chmod 4711 hard; touch -d '1969-12-31 23:00:00.25' p
         truncate -s 3M sparse; printf x >> sparse",
        "rm -r d; mkdir d; echo n > d/n; rm p; ln c c2; touch hard",
        "true",
        "mv d e; chmod 700 e; mkdir d",
    ];
    for from in benches() {
        for to in benches() {
            let (mut made, mut pulled): (Option<Snapshot>, Option<Snapshot>) = (None, None);
            for script in scripts {
                let next = from.step(made.as_ref(), script);
                let manifest = from.snapshots.manifest(&next.id).unwrap();
                let mut open = |entry: &oci::layer::Entry| {
                    let file = from.snapshots.open_file(&next.id, &entry.path);
                    let file = file.map_err(std::io::Error::other)?;
                    Ok(Box::new(file) as Box<dyn Read>)
                };
                let mut tar = Vec::new();
                write_layer(&manifest, &mut open, &WriteOptions::default(), &mut tar).unwrap();
                let copy = to.pull(pulled.as_ref(), &tar).unwrap();
                assert_eq!(*to.snapshots.manifest(&copy.id).unwrap(), *manifest);
                assert_eq!((copy.diff_digest, copy.size), (next.diff_digest, next.size));
                (made, pulled) = (Some(next), Some(copy));
            }
        }
    }
}

#[test]
fn privileged_layers_unpack_in_parallel() {
    for bench in benches() {
        let layers: Vec<Vec<u8>> = (0..8)
            .map(|n| {
                let names: Vec<String> =
                    (0..50).map(|m| format!("shared/dir/{n}-{m} 600={n}")).collect();
                tar(&names.iter().map(String::as_str).collect::<Vec<_>>())
            })
            .collect();
        let unpacked: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = layers
                .iter()
                .map(|tar| scope.spawn(|| bench.snapshots.unpack(&mut &tar[..]).unwrap()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut top: Option<Snapshot> = None;
        for unpacked in unpacked {
            assert_eq!(unpacked.dir_name(), format!("{}.active", unpacked.id()));
            let parent = top.as_ref().map(|s| &s.id);
            top = Some(bench.snapshots.attach(parent, unpacked).unwrap());
        }
        let top = top.unwrap();
        bench.verify(&top.id);
        assert_eq!(bench.all(&top).len(), 2 + 8 * 50);
        let shared = bench.snapshots.tree(Some(&top.id)).unwrap();
        let shared = shared.get(&TreePath::new(b"shared").unwrap()).unwrap().meta.clone();
        assert_eq!((shared.mode, shared.mtime), (0o755, Timestamp::EPOCH));
        if bench.snapshots.kind().is_overlay() {
            assert_eq!(bench.lines(&top).len(), 50);
        }
    }
}
