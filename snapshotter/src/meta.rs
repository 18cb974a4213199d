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

/// How many hex digits of a BLAKE3 the second line of a `meta` has.
const SUM: usize = 32;

/// The first line of the file `meta`, as JSON. The second line is the checksum of the first: an id
/// with a flipped bit is another id, and a snapshot that is nowhere would be taken for one that was
/// removed.
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
    let line =
        serde_json::to_vec(&meta).map_err(io::Error::other).context("cannot write", &path)?;
    fs::write(&path, with_sum(line)).context("cannot write", &path)?;
    Ok(())
}

/// A line with its checksum below.
fn with_sum(mut line: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&line);
    line.extend_from_slice(format!("\n{sum}\n").as_bytes());
    line
}

fn checksum(line: &[u8]) -> String {
    blake3::hash(line).to_hex()[..SUM].to_owned()
}

/// The first line of the file with the bytes `text`; none if it is not what was written. Earlier
/// versions wrote that line only, without an end.
fn line_of(text: &[u8]) -> Option<&[u8]> {
    let Some(at) = text.iter().position(|byte| *byte == b'\n') else {
        return text.ends_with(b"}").then_some(text);
    };
    let (line, sum) = (&text[..at], &text[at + 1..]);
    (sum.strip_suffix(b"\n")? == checksum(line).as_bytes()).then_some(line)
}

/// The first line of a `meta`, whether it is damaged or not.
pub(crate) fn first_line(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == b'\n').next().unwrap_or_default()
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
    let line = line_of(&text).ok_or_else(|| corrupt("its checksum does not fit".into()))?;
    let meta: Meta = serde_json::from_slice(line).map_err(|e| corrupt(e.to_string()))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(dir: &Path, layer: Option<SnapshotId>) -> Snapshot {
        let (id, parent) = (SnapshotId::random(), Some(SnapshotId::random()));
        let snapshot = Snapshot { id, parent, layer, diff_digest: [7; 32], size: 70, entries: 3 };
        write(dir, &snapshot).unwrap();
        snapshot
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        for layer in [None, Some(SnapshotId::random())] {
            let dir = tempfile::tempdir().unwrap();
            let snapshot = sample(dir.path(), layer);
            let id = snapshot.id;
            let path = dir.path().join(META);
            let good = fs::read(&path).unwrap();
            assert_eq!(read(dir.path(), id).unwrap(), snapshot);
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                fs::write(&path, bad).unwrap();
                let found = read(dir.path(), id);
                assert!(matches!(found, Err(Error::Corrupt { .. })), "bit {bit}: {found:?}");
            }
            for length in 0..good.len() {
                fs::write(&path, &good[..length]).unwrap();
                // The first line alone is what earlier versions wrote, and right.
                assert!(
                    read(dir.path(), id).is_ok_and(|read| read == snapshot)
                        == (length == first_line(&good).len()),
                    "{length}"
                );
            }
        }
    }

    #[test]
    fn what_earlier_versions_wrote_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let snapshot = sample(dir.path(), None);
        let path = dir.path().join(META);
        let text = fs::read(&path).unwrap();
        fs::write(&path, first_line(&text)).unwrap();
        assert_eq!(read(dir.path(), snapshot.id).unwrap(), snapshot);
    }
}
