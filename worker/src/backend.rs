//! Which kind of snapshot a state directory has: found out once, or said by the user.

use std::path::{Path, PathBuf};

use cache::{Durability, State};
use snapshotter::{Kind, Probe, Snapshotter};

use crate::engine::KIND_FILE;
use crate::error::WorkerError;

const OVERLAY: &str = "overlay";
const USER_OVERLAY: &str = "user-overlay";
const FUSE_OVERLAY: &str = "fuse-overlayfs";
pub(crate) const COPY: &str = "copy";

/// What it gets wrong (seen with 1.10) and cannot be mended: a step could have meant it. What can be
/// is, by [`Snapshotter::prepare`].
const LOSSY: &str = "fuse-overlayfs stores snapshots here: times of directories in which files were \
    changed, and groups of what is made in set-group-id directories, may be others than in images \
    that are built otherwise; --snapshotter overlay or copy gives exact images";

/// What is asked for. It is in no cache key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// What the state directory has; in a new one overlayfs, or plain copies where it fails.
    #[default]
    Auto,
    /// overlayfs of the kernel.
    Overlay,
    /// The program fuse-overlayfs.
    FuseOverlayfs,
    /// Plain copies.
    Copy,
}

/// How snapshots are to be stored.
#[derive(Clone, Debug, Default)]
pub struct SnapshotChoice {
    /// What is asked for.
    pub backend: Backend,
    /// The program fuse-overlayfs, absolute, if it is there.
    pub program: Option<PathBuf>,
}

/// What is written down of a kind.
pub(crate) fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Overlay => OVERLAY,
        Kind::UserOverlay => USER_OVERLAY,
        Kind::FuseOverlay => FUSE_OVERLAY,
        Kind::Copy => COPY,
    }
}

fn kind_of(word: &str) -> Option<Kind> {
    let kinds = [Kind::Overlay, Kind::UserOverlay, Kind::FuseOverlay, Kind::Copy];
    kinds.into_iter().find(|kind| self::word(*kind) == word)
}

/// How snapshots are stored in `state`. Layers and whole copies cannot be mixed; the two kinds of
/// overlay that a user has can, since both leave the same on disk.
///
/// # Errors
/// What was asked for does not work, or is not how the snapshots that are there are stored.
pub(crate) fn decide(
    state: &State,
    choice: &SnapshotChoice,
    notes: &mut Vec<String>,
) -> Result<Kind, WorkerError> {
    let kind = find(state, choice, notes)?;
    if kind == Kind::FuseOverlay {
        notes.push(LOSSY.to_owned());
    }
    Ok(kind)
}

fn find(
    state: &State,
    choice: &SnapshotChoice,
    notes: &mut Vec<String>,
) -> Result<Kind, WorkerError> {
    let path = state.snapshots_dir().join(KIND_FILE);
    match (stored_in(&path), choice.backend) {
        (Some(stored), Backend::Auto) => Ok(stored),
        // Whoever is second must see what the first settled, and may have stored since.
        _ => state.settling_snapshots(|| settle(state, &path, choice, notes))?,
    }
}

fn stored_in(path: &Path) -> Option<Kind> {
    kind_of(std::fs::read_to_string(path).unwrap_or_default().trim())
}

fn settle(
    state: &State,
    path: &Path,
    choice: &SnapshotChoice,
    notes: &mut Vec<String>,
) -> Result<Kind, WorkerError> {
    let stored = stored_in(path);
    if stored.is_none() && rustix::process::geteuid().is_root() {
        // Written before the first snapshot: it was damaged. Taken for what they are not, snapshots
        // would make wrong images.
        let lost = Snapshotter::condemn_all(&state.snapshots_dir())?;
        if lost > 0 {
            notes.push(format!(
                "{} is damaged, which says how the {lost} snapshots beside it are stored: they are \
                 made again",
                path.display()
            ));
        }
    }
    let wanted = match (choice.backend, stored) {
        (Backend::Auto, Some(stored)) => return Ok(stored),
        _ if !rustix::process::geteuid().is_root() => {
            // Nobody who may mount: snapshots are made by others, who find out for themselves.
            return Ok(stored.unwrap_or(Kind::Copy));
        }
        (Backend::Auto, None) => None,
        (Backend::Overlay, _) if sys::userns::inside() => Some(Kind::UserOverlay),
        (Backend::Overlay, _) => Some(Kind::Overlay),
        (Backend::FuseOverlayfs, _) => Some(Kind::FuseOverlay),
        (Backend::Copy, _) => Some(Kind::Copy),
    };
    let kind = match (wanted, stored) {
        (Some(wanted), Some(stored)) if wanted == stored => return Ok(stored),
        (Some(wanted), Some(stored)) if wanted.is_overlay() != stored.is_overlay() => {
            return Err(mixed(state.root(), wanted, stored));
        }
        (Some(wanted), _) => asked(&state.snapshots_dir(), wanted, choice)?,
        (None, _) => first(state, notes),
    };
    cache::write_file(path, word(kind).as_bytes(), Durability::Now)?;
    Ok(kind)
}

fn mixed(root: &Path, wanted: Kind, stored: Kind) -> WorkerError {
    WorkerError::Unsupported(format!(
        "the snapshots in {} are stored as {}, and cannot be used as {}: leave --snapshotter out, \
         or give another state directory with --root",
        root.display(),
        word(stored),
        word(wanted)
    ))
}

/// The kind that was asked for, if it works.
fn asked(dir: &Path, wanted: Kind, choice: &SnapshotChoice) -> Result<Kind, WorkerError> {
    if wanted == Kind::FuseOverlay && !sys::userns::inside() {
        return Err(WorkerError::Unsupported(
            "--snapshotter fuse-overlayfs is for builds of ordinary users: root has overlay and \
             copy"
                .to_owned(),
        ));
    }
    match Snapshotter::probe_kind(dir, wanted, choice.program.as_deref()) {
        Probe { reason: Some(reason), .. } => Err(WorkerError::Unsupported(format!(
            "--snapshotter {} does not work in {}: {reason}",
            if wanted == Kind::FuseOverlay { FUSE_OVERLAY } else { OVERLAY },
            dir.display()
        ))),
        Probe { kind, .. } => Ok(kind),
    }
}

/// Overlayfs, or else plain copies; why is told. Never fuse-overlayfs: its images can differ, see
/// [`LOSSY`].
fn first(state: &State, notes: &mut Vec<String>) -> Kind {
    let dir = state.snapshots_dir();
    let probe = Snapshotter::probe(&dir);
    let Some(reason) = probe.reason else { return probe.kind };
    let root = state.root().display();
    notes.push(format!(
        "overlayfs does not work in {root}: {reason}; snapshots are plain copies there, which is \
         slower"
    ));
    Kind::Copy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for kind in [Kind::Overlay, Kind::UserOverlay, Kind::FuseOverlay, Kind::Copy] {
            assert_eq!(kind_of(word(kind)), Some(kind));
        }
        assert_eq!(kind_of("btrfs"), None);
    }
}
