//! The two files that describe a snapshot: `meta` and `manifest`.

use std::fs;
use std::io;
use std::path::Path;

use oci::layer::LayerManifest;
use serde::{Deserialize, Serialize};
use sys::root::Context;

use crate::{Error, Result, Snapshot, SnapshotId};

/// The name of the file with [`Meta`].
pub(crate) const META: &str = "meta";

/// The name of the file with the encoded [`LayerManifest`].
pub(crate) const MANIFEST: &str = "manifest";

/// The version of the format of both.
const VERSION: u32 = 1;

/// The version of a `meta` that names another snapshot's layer: whoever only knows the first
/// version must not take its directory for a whole layer.
const LINKED_VERSION: u32 = 2;

/// The most that is read of a `meta` file, in bytes.
const MAX_META: usize = 4096;

/// The file `meta`, as JSON.
#[derive(Serialize, Deserialize)]
// A name of a field that was damaged must not read as a field that is not there.
#[serde(deny_unknown_fields)]
struct Meta {
    version: u32,
    parent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layer: Option<String>,
    diff: String,
    size: u64,
    entries: u64,
}

/// Writes `manifest` into `dir`, not synced.
///
/// # Errors
/// If it can't be written.
pub(crate) fn write_manifest(dir: &Path, manifest: &LayerManifest) -> Result<()> {
    let path = dir.join(MANIFEST);
    Ok(fs::write(&path, manifest.encode()).context("cannot write", &path)?)
}

/// Writes `meta` into `dir`, not synced.
///
/// # Errors
/// If it can't be written.
pub(crate) fn write(dir: &Path, snapshot: &Snapshot) -> Result<()> {
    let meta = Meta {
        version: if snapshot.layer.is_some() { LINKED_VERSION } else { VERSION },
        parent: snapshot.parent.map(|id| id.to_string()),
        layer: snapshot.layer.map(|id| id.to_string()),
        diff: hex::encode(snapshot.diff_digest),
        size: snapshot.size,
        entries: snapshot.entries,
    };
    let path = dir.join(META);
    let text =
        serde_json::to_vec(&meta).map_err(io::Error::other).context("cannot write", &path)?;
    fs::write(&path, text).context("cannot write", &path)?;
    Ok(())
}

/// Reads `meta` of the snapshot `id` in `dir`.
///
/// # Errors
/// [`Error::NotFound`] if there is none; [`Error::Corrupt`].
pub(crate) fn read(dir: &Path, id: SnapshotId) -> Result<Snapshot> {
    let path = dir.join(META);
    let corrupt = |reason: String| Error::Corrupt { path: path.clone(), reason };
    let text = read_file(&path, id)?;
    if text.len() > MAX_META {
        return Err(corrupt(format!("it is longer than {MAX_META} bytes")));
    }
    let meta: Meta = serde_json::from_slice(&text).map_err(|e| corrupt(e.to_string()))?;
    let version = if meta.layer.is_some() { LINKED_VERSION } else { VERSION };
    if meta.version != version {
        return Err(corrupt(format!("its version is {}, not {version}", meta.version)));
    }
    let parse = |text: Option<String>| text.map(|id| id.parse::<SnapshotId>()).transpose();
    let parent = parse(meta.parent).map_err(|e| corrupt(e.to_string()))?;
    let layer = parse(meta.layer).map_err(|e| corrupt(e.to_string()))?;
    let mut diff_digest = [0; 32];
    hex::decode_to_slice(&meta.diff, &mut diff_digest).map_err(|e| corrupt(e.to_string()))?;
    Ok(Snapshot { id, parent, layer, diff_digest, size: meta.size, entries: meta.entries })
}

/// Reads `manifest` of the snapshot `id` in `dir`.
///
/// # Errors
/// [`Error::NotFound`] if there is none; [`Error::Corrupt`].
pub(crate) fn read_manifest(dir: &Path, id: SnapshotId) -> Result<LayerManifest> {
    let path = dir.join(MANIFEST);
    let bytes = read_file(&path, id)?;
    LayerManifest::decode(&bytes).map_err(|e| Error::Corrupt { path, reason: e.to_string() })
}

fn read_file(path: &Path, id: SnapshotId) -> Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NotFound(id)),
        other => Ok(other.context("cannot read", path)?),
    }
}
