//! Small generators.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Arc;

use oci::Timestamp;
use oci::layer::*;
use proptest::prelude::*;

pub(crate) fn path(raw: &str) -> TreePath {
    TreePath::new(raw.as_bytes()).unwrap()
}

pub(crate) fn hash(content: &[u8]) -> ContentHash {
    ContentHash(*blake3::hash(content).as_bytes())
}

pub(crate) fn entry(raw: &str, node: Node, mode: u32) -> Entry {
    let meta =
        Metadata { mode, mtime: Timestamp::from_seconds(1_700_000_000), ..Metadata::default() };
    Entry { path: path(raw), node, meta }
}

pub(crate) fn dir(raw: &str) -> Entry {
    entry(raw, Node::Directory { opaque: false }, 0o755)
}

pub(crate) fn opaque(raw: &str) -> Entry {
    entry(raw, Node::Directory { opaque: true }, 0o755)
}

pub(crate) fn file(raw: &str, content: &[u8]) -> Entry {
    entry(raw, Node::File { size: content.len() as u64, content: hash(content) }, 0o644)
}

pub(crate) fn symlink(raw: &str, target: &str) -> Entry {
    entry(raw, Node::Symlink { target: target.as_bytes().into() }, 0o777)
}

pub(crate) fn link(raw: &str, target: &str) -> Entry {
    entry(raw, Node::HardLink { target: path(target) }, 0o644)
}

pub(crate) fn gone(raw: &str) -> Entry {
    Entry { path: path(raw), node: Node::Whiteout, meta: Metadata::default() }
}

pub(crate) fn layer(entries: Vec<Entry>) -> LayerManifest {
    LayerManifest::new(entries)
}

pub(crate) fn tree(layers: Vec<Vec<Entry>>) -> Tree {
    layers.into_iter().map(|entries| Arc::new(layer(entries))).collect()
}

/// The contents of files by their hash, to write layers from.
#[derive(Default)]
pub(crate) struct Contents(HashMap<[u8; 32], Vec<u8>>);

impl Contents {
    pub(crate) fn file(&mut self, raw: &str, content: &[u8]) -> Entry {
        self.0.insert(hash(content).0, content.to_vec());
        file(raw, content)
    }

    pub(crate) fn write(&self, manifest: &LayerManifest, options: WriteOptions) -> Vec<u8> {
        let mut open = |entry: &Entry| -> io::Result<Box<dyn Read>> {
            let Node::File { content, .. } = entry.node else { panic!("{entry:?}") };
            Ok(Box::new(io::Cursor::new(self.0[&content.0].clone())))
        };
        write_layer(manifest, &mut open, &options, Vec::new()).unwrap()
    }
}

/// Reads a whole tar into a manifest on top of nothing.
pub(crate) fn read_layer(tar: &[u8]) -> LayerManifest {
    let mut builder = ManifestBuilder::new();
    for (entry, content) in read_entries(tar).unwrap() {
        builder.push(to_layer_entry(&entry, Some(hash(&content))).unwrap());
    }
    builder.finish(&Tree::default())
}

/// Reads a whole tar.
pub(crate) fn read_entries(tar: &[u8]) -> Result<Vec<(TarEntry, Vec<u8>)>, ReadError> {
    let mut reader = LayerReader::new(tar);
    let mut out = Vec::new();
    while let Some(entry) = reader.next()? {
        let mut content = Vec::new();
        reader
            .content()
            .read_to_end(&mut content)
            .map_err(|source| ReadError::Io { position: 0, source })?;
        out.push((entry, content));
    }
    Ok(out)
}

fn names() -> impl Strategy<Value = String> {
    // Few names, so that paths meet; with bytes on both sides of the separator's.
    prop::collection::vec(
        prop::sample::select(vec!["a", "b", "a-x", "a.d", "z\u{fc}", "a b"]),
        1..4,
    )
    .prop_map(|parts| parts.join("/"))
}

fn nodes() -> impl Strategy<Value = Node> {
    prop_oneof![
        3 => any::<bool>().prop_map(|opaque| Node::Directory { opaque }),
        3 => (any::<u64>(), any::<[u8; 32]>())
            .prop_map(|(size, content)| Node::File { size, content: ContentHash(content) }),
        1 => prop::collection::vec(1u8.., 1..300).prop_map(|t| Node::Symlink { target: t.into() }),
        2 => names().prop_map(|target| Node::HardLink { target: path(&target) }),
        1 => any::<(u32, u32)>().prop_map(|(major, minor)| Node::CharDevice { major, minor }),
        1 => any::<(u32, u32)>().prop_map(|(major, minor)| Node::BlockDevice { major, minor }),
        1 => Just(Node::Fifo),
        3 => Just(Node::Whiteout),
    ]
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let time = (any::<i64>(), 0u32..1_000_000_000)
        .prop_map(|(seconds, nanos)| Timestamp { seconds, nanos });
    let capability =
        prop::option::of(prop::collection::vec(any::<u8>(), 0..30).prop_map(Into::into));
    (0u32..0o10000, any::<u32>(), any::<u32>(), time, capability).prop_map(
        |(mode, uid, gid, mtime, capability)| Metadata { mode, uid, gid, mtime, capability },
    )
}

/// Any manifest, sensible or not.
pub(crate) fn manifests() -> impl Strategy<Value = LayerManifest> {
    let entries = (names(), nodes(), metadata()).prop_map(|(raw, node, meta)| Entry {
        path: path(&raw),
        node,
        meta,
    });
    prop::collection::vec(entries, 0..30).prop_map(LayerManifest::new)
}
