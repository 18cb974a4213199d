//! What an image holds, read from an archive or layout by code that shares nothing with what
//! wrote it. Every digest and size that is written down is checked on the way.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};
use std::path::Path;

use oci::Digest;
use serde_json::Value;

use crate::tree::{self, Entry, Tree};

/// An image.
#[derive(Clone, Debug)]
pub struct ImageView {
    /// `index.json`; null for an archive that has none.
    pub index: Value,
    /// The manifest.
    pub manifest: Value,
    /// Its digest.
    pub manifest_digest: Digest,
    /// The config.
    pub config: Value,
    /// Its digest, which is the image's id.
    pub config_digest: Digest,
    /// The layers, lowest first.
    pub layers: Vec<LayerView>,
    /// The merged root file system.
    pub root: Tree,
}

/// A layer.
#[derive(Clone, Debug)]
pub struct LayerView {
    /// Its descriptor.
    pub descriptor: Value,
    /// Of the uncompressed tar.
    pub diff_id: Digest,
    /// In their order in the tar, with raw names.
    pub entries: Vec<Entry>,
}

impl LayerView {
    /// The names of all entries, without a slash at the end.
    pub fn names(&self) -> Vec<&str> {
        self.entries.iter().map(|e| e.name.trim_end_matches('/')).collect()
    }
}

/// Blobs and documents by their path.
type Files = BTreeMap<String, Vec<u8>>;

impl ImageView {
    /// The image in an OCI archive.
    ///
    /// # Panics
    /// If it is not one, or holds anything that does not fit together.
    pub fn archive(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self::archive_bytes(&bytes)
    }

    /// The image in an OCI archive in memory.
    ///
    /// # Panics
    /// As [`Self::archive`].
    pub fn archive_bytes(bytes: &[u8]) -> Self {
        Self::of_layout(&untar(bytes))
    }

    /// The image in an OCI layout.
    ///
    /// # Panics
    /// As [`Self::archive`].
    pub fn layout(dir: &Path) -> Self {
        let mut files = Files::new();
        for name in ["oci-layout", "index.json"] {
            files.insert(name.to_owned(), fs::read(dir.join(name)).unwrap());
        }
        for blob in fs::read_dir(dir.join("blobs/sha256")).unwrap() {
            let blob = blob.unwrap();
            let name = format!("blobs/sha256/{}", blob.file_name().to_str().unwrap());
            files.insert(name, fs::read(blob.path()).unwrap());
        }
        Self::of_layout(&files)
    }

    /// The image in a Docker archive, by its `manifest.json`.
    ///
    /// # Panics
    /// As [`Self::archive`].
    pub fn docker(path: &Path) -> (Self, Vec<String>) {
        let files = untar(&fs::read(path).unwrap());
        let manifest = json(&files["manifest.json"]);
        let [image] = &manifest.as_array().unwrap()[..] else { panic!("one image: {manifest}") };
        let config = &files[image["Config"].as_str().unwrap()];
        let layers = image["Layers"].as_array().unwrap().iter();
        let layers = layers.map(|l| (Value::Null, files[l.as_str().unwrap()].clone())).collect();
        let tags = image["RepoTags"].as_array().into_iter().flatten();
        let tags = tags.map(|t| t.as_str().unwrap().to_owned()).collect();
        (Self::assemble(Value::Null, manifest, Digest::of(b""), config, layers), tags)
    }

    fn of_layout(files: &Files) -> Self {
        assert_eq!(json(&files["oci-layout"])["imageLayoutVersion"], "1.0.0");
        for (name, bytes) in files {
            if let Some(hex) = name.strip_prefix("blobs/sha256/") {
                assert_eq!(Digest::of(bytes).hex(), hex, "a blob is not what its name says");
            }
        }
        let index = json(&files["index.json"]);
        let manifests = index["manifests"].as_array().unwrap();
        let first = &manifests[0];
        assert!(manifests.iter().all(|m| m["digest"] == first["digest"]), "one image: {index}");
        let bytes = blob(files, first);
        let manifest = json(bytes);
        let config = blob(files, &manifest["config"]).clone();
        let layers = manifest["layers"].as_array().expect("an image has a list of layers");
        let layers = layers.iter().map(|l| (l.clone(), blob(files, l).clone())).collect();
        let referred = 2 + distinct(manifest["layers"].as_array().unwrap());
        let blobs = files.keys().filter(|n| n.starts_with("blobs/")).count();
        assert_eq!(blobs, referred, "the layout has blobs that belong to no image");
        Self::assemble(index.clone(), manifest.clone(), Digest::of(bytes), &config, layers)
    }

    fn assemble(
        index: Value,
        manifest: Value,
        manifest_digest: Digest,
        config: &[u8],
        layers: Vec<(Value, Vec<u8>)>,
    ) -> Self {
        let document = json(config);
        let diff_ids = document["rootfs"]["diff_ids"].as_array().expect("rootfs.diff_ids").clone();
        assert_eq!(diff_ids.len(), layers.len(), "layers and diff ids do not pair up");
        let history = document["history"].as_array().cloned().unwrap_or_default();
        let made = history.iter().filter(|h| h["empty_layer"] != true).count();
        assert_eq!(made, layers.len(), "history and layers do not pair up");
        let mut root = Tree::default();
        let mut views = Vec::new();
        for ((descriptor, bytes), claimed) in layers.into_iter().zip(&diff_ids) {
            let tar = decompress(&bytes);
            let diff_id = Digest::of(&tar);
            assert_eq!(claimed, &diff_id.to_string(), "a layer is not what the config says");
            let entries = tree::entries(&tar);
            root.apply(&entries);
            views.push(LayerView { descriptor, diff_id, entries });
        }
        Self {
            index,
            manifest,
            manifest_digest,
            config_digest: Digest::of(config),
            config: document,
            layers: views,
            root,
        }
    }

    /// A value of the runtime config, such as `Env`; null if it is not there.
    pub fn runtime(&self, key: &str) -> &Value {
        &self.config["config"][key]
    }

    /// A list of texts of the runtime config; empty if it is not there.
    pub fn list(&self, key: &str) -> Vec<String> {
        let texts = self.runtime(key).as_array().into_iter().flatten();
        texts.map(|t| t.as_str().unwrap().to_owned()).collect()
    }

    /// The value of an environment variable.
    pub fn env(&self, name: &str) -> Option<String> {
        let prefix = format!("{name}=");
        self.list("Env").iter().find_map(|e| Some(e.strip_prefix(&prefix)?.to_owned()))
    }

    /// The history's `created_by` texts.
    pub fn history(&self) -> Vec<String> {
        let entries = self.config["history"].as_array().unwrap().iter();
        entries.map(|h| h["created_by"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The content of a file, as text.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn text(&self, path: &str) -> String {
        String::from_utf8(self.root.content(path).to_vec()).unwrap()
    }
}

fn distinct(layers: &[Value]) -> usize {
    layers.iter().map(|l| l["digest"].as_str()).collect::<std::collections::BTreeSet<_>>().len()
}

fn blob<'a>(files: &'a Files, descriptor: &Value) -> &'a Vec<u8> {
    let digest = descriptor["digest"].as_str().expect("a descriptor has a digest");
    let name = digest.replacen("sha256:", "blobs/sha256/", 1);
    let bytes = files.get(&name).unwrap_or_else(|| panic!("{name} is missing"));
    assert_eq!(descriptor["size"], bytes.len(), "{name} has another size");
    bytes
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

fn untar(bytes: &[u8]) -> Files {
    let mut archive = tar::Archive::new(Cursor::new(bytes));
    let mut files = Files::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type().is_file() {
            let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let before = files.insert(name.trim_start_matches("./").to_owned(), content);
            assert!(before.is_none(), "{name} is in the archive twice");
        }
    }
    files
}

/// Takes gzip and zstd off, told by their first bytes.
fn decompress(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match bytes {
        [0x1f, 0x8b, ..] => {
            flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut out).unwrap();
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => out = zstd::decode_all(bytes).unwrap(),
        _ => out = bytes.to_vec(),
    }
    out
}
