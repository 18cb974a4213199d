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

/// The most that is read of a `meta` file, in bytes.
const MAX_META: usize = 4096;

/// The file `meta`, as JSON.
#[derive(Serialize, Deserialize)]
struct Meta {
    version: u32,
    parent: Option<String>,
    diff: String,
    size: u64,
    entries: u64,
}

/// Writes both files into `dir`, not synced.
///
/// # Errors
/// If they can't be written.
pub(crate) fn write(dir: &Path, snapshot: &Snapshot, manifest: &LayerManifest) -> Result<()> {
    let path = dir.join(MANIFEST);
    fs::write(&path, manifest.encode()).context("cannot write", &path)?;
    let meta = Meta {
        version: VERSION,
        parent: snapshot.parent.map(|id| id.to_string()),
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
    if meta.version != VERSION {
        return Err(corrupt(format!("its version is {}, not {VERSION}", meta.version)));
    }
    let parent = meta.parent.map(|id| id.parse()).transpose();
    let parent = parent.map_err(|e: crate::SnapshotIdError| corrupt(e.to_string()))?;
    let mut diff_digest = [0; 32];
    hex::decode_to_slice(&meta.diff, &mut diff_digest).map_err(|e| corrupt(e.to_string()))?;
    Ok(Snapshot { id, parent, diff_digest, size: meta.size, entries: meta.entries })
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
