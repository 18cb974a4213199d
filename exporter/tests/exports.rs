//! Exports of images in memory: equal images are equal bytes, layouts keep what they had, and a
//! directory is made just as the image says.

use std::collections::HashMap;
use std::fs;
use std::io::{Cursor, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use cache::{Dialect, State};
use exporter::{Bundle, Image, LayerError, LayerFormat, Layers, Report, bundle};
use oci::layer::{
    ContentHash, Entry, LayerManifest, Metadata, Node, Tree, TreePath, WriteOptions, write_layer,
};
use oci::layout::REF_NAME;
use oci::{
    Descriptor, Digest, History, ImageConfig, ImageIndex, Platform, Reference, Timestamp,
    media_type,
};

struct Quiet;

impl Report for Quiet {
    fn progress(&self, _: &str, _: u64, _: u64) {}
    fn done(&self, _: &str) {}
    fn cancelled(&self) -> bool {
        false
    }
}

/// Layers whose files are in memory.
struct Memory {
    manifests: Vec<Arc<LayerManifest>>,
    blobs: Vec<Descriptor>,
    diff_ids: Vec<Digest>,
    files: HashMap<ContentHash, Vec<u8>>,
}

impl Layers for Memory {
    fn diff_ids(&self) -> &[Digest] {
        &self.diff_ids
    }

    fn blob(&self, index: usize, _: &LayerFormat) -> Result<Descriptor, LayerError> {
        Ok(self.blobs[index].clone())
    }

    fn origin(&self, _: usize) -> Option<Reference> {
        None
    }

    fn tree(&self) -> Result<Tree, LayerError> {
        Ok(Tree::new(self.manifests.clone()))
    }

    fn open(&self, index: usize, entry: &Entry) -> Result<Box<dyn Read>, LayerError> {
        let found = self.manifests[index].get(&entry.path).ok_or("no such file")?;
        let Node::File { content, .. } = &found.node else { return Err("no file".into()) };
        Ok(Box::new(Cursor::new(self.files[content].clone())))
    }
}

/// `a/` is a directory, `a -> b` a link, `a = b` a further name, `-a` a deletion, `a|` a pipe,
/// `a/!` an opaque directory, else name and content around a colon.
fn entry(line: &str) -> (Entry, Option<(ContentHash, Vec<u8>)>) {
    let at = |name: &str| TreePath::clean(name.as_bytes()).unwrap();
    let mut data = None;
    let (path, node, mode) = if let Some((name, target)) = line.split_once(" -> ") {
        (at(name), Node::Symlink { target: target.as_bytes().into() }, 0o777)
    } else if let Some((name, target)) = line.split_once(" = ") {
        (at(name), Node::HardLink { target: at(target) }, 0o640)
    } else if let Some(name) = line.strip_prefix('-') {
        (at(name), Node::Whiteout, 0)
    } else if let Some(name) = line.strip_suffix('|') {
        (at(name), Node::Fifo, 0o622)
    } else if let Some(name) = line.strip_suffix('!') {
        (at(name), Node::Directory { opaque: true }, 0o755)
    } else if line.ends_with('/') {
        (at(line), Node::Directory { opaque: false }, 0o750)
    } else {
        let (name, text) = line.split_once(':').unwrap();
        let content = ContentHash(*blake3_of(text));
        data = Some((content, text.as_bytes().to_vec()));
        (at(name), Node::File { size: text.len() as u64, content }, 0o640)
    };
    let meta = Metadata { mode, mtime: Timestamp::from_seconds(1_000), ..Metadata::default() };
    (Entry { path, node, meta }, data)
}

/// Any digest that differs for different texts serves here.
fn blake3_of(text: &str) -> Box<[u8; 32]> {
    Box::new(*Digest::of(text.as_bytes()).as_bytes())
}

/// A state directory for blobs, and images in it.
struct Place {
    dir: tempfile::TempDir,
    state: State,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let dialect = Dialect { whiteouts: "trusted".into(), owner_uid: 0 };
        let state = State::open(&dir.path().join("state"), &dialect).unwrap();
        Self { dir, state }
    }

    fn image(&self, layers: &[&[&str]]) -> Image {
        let mut files = HashMap::new();
        let mut manifests = Vec::new();
        let (mut blobs, mut diff_ids) = (Vec::new(), Vec::new());
        for lines in layers {
            let mut entries = Vec::new();
            for line in *lines {
                let (entry, data) = entry(line);
                entries.push(entry);
                files.extend(data);
            }
            let manifest = Arc::new(LayerManifest::new(entries));
            let mut open = |e: &Entry| -> std::io::Result<Box<dyn Read>> {
                let Node::File { content, .. } = &e.node else { unreachable!() };
                Ok(Box::new(Cursor::new(files[content].clone())))
            };
            let tar = write_layer(&manifest, &mut open, &WriteOptions::default(), Vec::new());
            let tar = tar.unwrap();
            diff_ids.push(Digest::of(&tar));
            blobs.push(self.state.blobs().put(media_type::OCI_LAYER, &tar).unwrap());
            manifests.push(manifest);
        }
        let mut config = ImageConfig::scratch(Platform::host());
        config.created = Some(Timestamp::from_seconds(1_000));
        config.rootfs.diff_ids = diff_ids.clone();
        config.history = vec![History::default(); layers.len()];
        let layers = Arc::new(Memory { manifests, blobs, diff_ids, files });
        Image { config, layers, epoch: None }
    }

    fn bundle(&self, image: &Image) -> Bundle {
        bundle(image, &LayerFormat::default(), &Quiet).unwrap()
    }
}

fn names(list: &[&str]) -> Vec<Reference> {
    list.iter().map(|n| n.parse().unwrap()).collect()
}

#[test]
fn equal_images_are_equal_archives() {
    let place = Place::new();
    let layers: &[&[&str]] = &[&["a:1", "d/", "d/x:2"], &["b:3"]];
    let archive = |docker: bool| {
        let image = place.image(layers);
        let made = place.bundle(&image);
        let mut out = Vec::new();
        let write = if docker { exporter::docker_archive } else { exporter::oci_archive };
        let names = names(&["example.org/x:1", "example.org/x:2"]);
        write(&image, &made, &names, place.state.blobs(), &mut out, &Quiet).unwrap();
        out
    };
    for docker in [false, true] {
        let (one, two) = (archive(docker), archive(docker));
        assert_eq!(one, two);
        let mut members = tar::Archive::new(&one[..]);
        let paths: Vec<String> = members
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(paths.iter().any(|p| p == "manifest.json"), docker);
        assert!(paths.contains(&"index.json".to_owned()), "{paths:?}");
        let blobs: Vec<_> = paths.iter().filter(|p| p.starts_with("blobs/sha256/")).collect();
        assert!(blobs.is_sorted(), "{blobs:?}");
    }
}

fn index(dir: &Path) -> ImageIndex {
    serde_json::from_slice(&fs::read(dir.join("index.json")).unwrap()).unwrap()
}

#[test]
fn a_layout_keeps_its_other_images() {
    let place = Place::new();
    let dest = place.dir.path().join("layout");
    let put = |files: &[&str], list: &[&str]| {
        let image = place.image(&[files]);
        let made = place.bundle(&image);
        let blobs = place.state.blobs();
        exporter::oci_layout(&image, &made, &names(list), blobs, &dest, &Quiet).unwrap().digest
    };
    let count = || index(&dest).manifests.len();
    let one = put(&["a:1"], &["example.org/x:1"]);
    put(&["a:2"], &["example.org/x:2"]);
    assert_eq!(count(), 2);
    let three = put(&["a:3"], &["example.org/x:1"]);
    assert_eq!(count(), 2);
    assert!(index(&dest).manifests.iter().all(|d| d.digest != one));
    assert!(index(&dest).manifests.iter().any(|d| d.digest == three));
    // Images without a name are told apart by their digests.
    put(&["a:4"], &[]);
    put(&["a:5"], &[]);
    put(&["a:5"], &[]);
    assert_eq!(count(), 4);
    // Another tool's entry has a tag alone: that tag is one name.
    let mut foreign = index(&dest);
    foreign.manifests.truncate(1);
    foreign.manifests[0].annotations.clear();
    foreign.manifests[0].annotations.insert(REF_NAME.into(), "9".into());
    fs::write(dest.join("index.json"), foreign.to_json()).unwrap();
    put(&["a:6"], &["example.org/x:8"]);
    assert_eq!(count(), 2);
    put(&["a:7"], &["example.org/x:9"]);
    assert_eq!(count(), 2);
    // What cannot be read is not thrown away.
    fs::write(dest.join("index.json"), "nonsense").unwrap();
    let image = place.image(&[&["a:8"]]);
    let made = place.bundle(&image);
    let failed =
        exporter::oci_layout(&image, &made, &[], place.state.blobs(), &dest, &Quiet).is_err();
    assert!(failed && fs::read(dest.join("index.json")).unwrap() == b"nonsense");
}

const LAYERS: &[&[&str]] = &[
    &["d/", "d/gone:0", "d/a:1", "d/b = d/a", "o/", "o/old:0", "l -> d", "p|"],
    &["d/", "-d/gone", "d/a:2", "o/!", "o/new:3", "z:4", "y = z"],
];

#[test]
fn the_root_file_system_as_a_tar() {
    let place = Place::new();
    let mut out = Vec::new();
    exporter::rootfs_tar(&place.image(LAYERS), &mut out, &Quiet).unwrap();
    let mut archive = tar::Archive::new(&out[..]);
    let mut lines = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        let link = entry.link_name().unwrap().map(|l| format!(" -> {}", l.display()));
        let link = link.unwrap_or_default();
        lines.push(format!("{}{link}:{text}", entry.path().unwrap().display()));
    }
    assert_eq!(
        lines,
        ["d/:", "d/a:2", "d/b:1", "l -> d:", "o/:", "o/new:3", "p:", "y:4", "z -> y:"]
    );
}

#[test]
fn the_root_file_system_as_a_directory() {
    let place = Place::new();
    let dest = place.dir.path().join("out");
    let outside = place.dir.path().join("outside");
    for dir in [&dest, &outside] {
        fs::create_dir(dir).unwrap();
    }
    // What stands in the way is replaced, and a link is not followed.
    symlink(&outside, dest.join("d")).unwrap();
    fs::create_dir_all(dest.join("z/full")).unwrap();
    fs::write(dest.join("kept"), "kept").unwrap();
    let image = Image { epoch: Some(Timestamp::from_seconds(500)), ..place.image(LAYERS) };
    for _ in 0..2 {
        assert!(exporter::local(&image, &dest, &Quiet).unwrap().is_empty());
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    let read = |name: &str| fs::read_to_string(dest.join(name)).unwrap();
    assert_eq!(
        [read("d/a"), read("d/b"), read("o/new"), read("y"), read("z"), read("kept")],
        ["2", "1", "3", "4", "4", "kept"]
    );
    assert!(!dest.join("d/gone").exists() && !dest.join("o/old").exists());
    let stat = |name: &str| fs::symlink_metadata(dest.join(name)).unwrap();
    assert_eq!(stat("y").ino(), stat("z").ino());
    for (name, mode) in [("d", 0o750), ("d/a", 0o640), ("p", 0o622)] {
        assert_eq!(stat(name).permissions().mode() & 0o7777, mode, "{name}");
    }
    for name in ["d", "d/a", "l", "p", "o"] {
        assert_eq!(stat(name).mtime(), 500, "{name}");
    }
}

/// Two images that have a name as everything that the other one has not, and a large file.
fn opposites(place: &Place) -> [Image; 2] {
    let large = |letter: &str| format!("large:{}", letter.repeat(1 << 20));
    let (a, b) = (large("a"), large("b"));
    let one: &[&str] = &["d/", "d/in/", "d/in/f:1", "f:1", "l -> d", &a, "other = f", "p|", "x/"];
    let two: &[&str] =
        &["d:2", "f/", "f/in:2", "l/", "l/f:2", &b, "p/", "p/q:2", "x -> ../outside"];
    [place.image(&[one]), place.image(&[two])]
}

/// Whether everything of one of the [`opposites`] is in `dest`.
fn has(dest: &Path, second: bool) -> bool {
    let text = |name: &str| fs::read_to_string(dest.join(name)).unwrap_or_default();
    let link = |name: &str| fs::read_link(dest.join(name)).ok();
    let is_dir = |name: &str| fs::symlink_metadata(dest.join(name)).is_ok_and(|m| m.is_dir());
    if second {
        let files = ["d", "f/in", "l/f", "p/q"].iter().all(|name| text(name) == "2");
        return files && text("large").starts_with('b') && link("x") == Some("../outside".into());
    }
    let files = ["d/in/f", "f", "other"].iter().all(|name| text(name) == "1");
    files && text("large").starts_with('a') && link("l") == Some("d".into()) && is_dir("x")
}

#[test]
fn of_exports_into_one_directory_the_last_one_wins() {
    let place = Place::new();
    let (dest, outside) = (place.dir.path().join("out"), place.dir.path().join("outside"));
    fs::create_dir(&outside).unwrap();
    let images = opposites(&place);
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let exports: Vec<_> = (0..8)
            .map(|n| {
                let (dest, images) = (&dest, &images);
                scope.spawn(move || {
                    for round in 0..4 {
                        exporter::local(&images[(n + round) % 2], dest, &Quiet).unwrap();
                    }
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::SeqCst) {
                let read = fs::read(dest.join("large")).unwrap_or_default();
                let whole = read.len() == 1 << 20 && read.iter().all(|byte| *byte == read[0]);
                assert!(read.is_empty() || whole, "{} bytes", read.len());
            }
        });
        exports.into_iter().for_each(|export| export.join().unwrap());
        over.store(true, std::sync::atomic::Ordering::SeqCst);
        reader.join().unwrap();
    });
    assert_ne!(has(&dest, false), has(&dest, true));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    let names = |dir: &Path| -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap().flatten();
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
    };
    assert!(names(&dest).iter().all(|name| !name.starts_with('.')), "{:?}", names(&dest));
}

#[test]
fn layouts_of_several_builds_have_all_of_their_images() {
    let place = Place::new();
    let dest = place.dir.path().join("layout");
    let image = place.image(LAYERS);
    let made = place.bundle(&image);
    std::thread::scope(|scope| {
        let builds: Vec<_> = (0..8)
            .map(|n| {
                let (place, image, made, dest) = (&place, &image, &made, &dest);
                scope.spawn(move || {
                    let name = names(&[&format!("app:{n}")]);
                    exporter::oci_layout(image, made, &name, place.state.blobs(), dest, &Quiet)
                        .unwrap();
                })
            })
            .collect();
        builds.into_iter().for_each(|build| build.join().unwrap());
    });
    assert_eq!(index(&dest).manifests.len(), 8);
}

#[test]
fn a_cancelled_export_does_not_wait_for_its_turn() {
    struct Cancelled;
    impl Report for Cancelled {
        fn progress(&self, part: &str, _: u64, _: u64) {
            panic!("{part}");
        }
        fn done(&self, _: &str) {}
        fn cancelled(&self) -> bool {
            true
        }
    }
    let place = Place::new();
    let lock = fs::File::open(place.dir.path()).unwrap();
    lock.lock().unwrap();
    let result = exporter::local(&place.image(LAYERS), place.dir.path(), &Cancelled);
    assert!(matches!(result, Err(exporter::ExportError::Cancelled)));
}
