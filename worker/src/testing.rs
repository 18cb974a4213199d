//! What tests of this crate share: an engine in a directory of its own, layouts, a silent sink.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use oci::layout::{INDEX, OCI_LAYOUT, OCI_LAYOUT_JSON, REF_NAME, blob_path};
use oci::{
    Descriptor, Digest, History, ImageConfig, ImageIndex, ImageManifest, Platform, media_type,
};
use solver::{CancelToken, Event, EventSink, ProgressId, StepContext};

use crate::{Engine, EngineConfig};

/// Whether this process is root; says why a test is skipped otherwise.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: it needs root");
    }
    root
}

/// An engine on the state directory `root`.
pub(crate) fn engine(root: &Path) -> Arc<Engine> {
    let config = EngineConfig {
        root: root.to_owned(),
        registry: registry::ClientConfig::default(),
        git: crate::GitEnvironment::new(std::env::vars_os()),
        uid: rustix::process::geteuid().as_raw(),
        snapshots: crate::SnapshotChoice::default(),
        pasta: None,
        cancel: solver::CancelToken::new(),
    };
    Arc::new(Engine::open(config).unwrap())
}

/// Takes events and does nothing with them.
#[derive(Default)]
pub(crate) struct Silent {
    ids: AtomicU64,
    pub(crate) cancel: CancelToken,
}

impl EventSink for Silent {
    fn event(&self, _: Event) {}

    fn next_id(&self) -> ProgressId {
        ProgressId(self.ids.fetch_add(1, Ordering::Relaxed))
    }
}

impl Silent {
    /// The context of a step.
    pub(crate) fn context(&self) -> StepContext<'_> {
        StepContext { id: self.next_id(), events: self, cancel: &self.cancel, slot: None }
    }
}

/// The tar of one regular file per line of `files`: name and content.
pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_mode(0o644);
        header.set_mtime(1_000);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

/// One layer of a layout: what its blob is, and what the documents say of it.
pub(crate) struct Layer {
    pub(crate) blob: Vec<u8>,
    pub(crate) diff_id: Digest,
    pub(crate) descriptor: Descriptor,
}

impl Layer {
    /// A plain tar, of which everything that is said is true.
    pub(crate) fn plain(tar: Vec<u8>) -> Self {
        let descriptor = Descriptor::of(media_type::OCI_LAYER, &tar);
        Self { diff_id: Digest::of(&tar), descriptor, blob: tar }
    }
}

/// Writes an OCI layout with one image, tagged `latest`.
pub(crate) fn layout(dir: &Path, layers: &[Layer]) {
    std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    let put = |descriptor: &Descriptor, bytes: &[u8]| {
        std::fs::write(dir.join(blob_path(&descriptor.digest)), bytes).unwrap();
    };
    let mut config = ImageConfig::scratch(Platform::host());
    config.rootfs.diff_ids = layers.iter().map(|l| l.diff_id).collect();
    config.history = vec![History::default(); layers.len()];
    let config = config.to_json();
    let config_descriptor = Descriptor::of(media_type::OCI_CONFIG, &config);
    put(&config_descriptor, &config);
    for layer in layers {
        put(&layer.descriptor, &layer.blob);
    }
    let descriptors = layers.iter().map(|l| l.descriptor.clone()).collect();
    let manifest = ImageManifest::new(config_descriptor, descriptors).to_json();
    let mut descriptor = Descriptor::of(media_type::OCI_MANIFEST, &manifest);
    put(&descriptor, &manifest);
    descriptor.annotations.insert(REF_NAME.into(), "latest".into());
    std::fs::write(dir.join(INDEX), ImageIndex::new(vec![descriptor]).to_json()).unwrap();
    std::fs::write(dir.join(OCI_LAYOUT), OCI_LAYOUT_JSON).unwrap();
}
