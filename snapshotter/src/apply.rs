//! Doing on disk what was planned.

use oci::layer::{Metadata, Node, TreePath};
use sys::root::{Root, Special};

use crate::staging::Step;
use crate::{Error, Kind, Result};

/// Does one step in a layer's directory. The marks of overlayfs are made only where an overlay
/// will read them; copying up is the caller's.
///
/// # Errors
/// That of the call that failed.
pub(crate) fn step(root: &Root, kind: Kind, step: &Step) -> Result<()> {
    let marks = kind.marks();
    match step {
        Step::Remove(path) => root.remove_all(path.as_path())?,
        Step::Mkdir(path) => root.mkdir(path.as_path(), 0o755)?,
        Step::Opaque(path) => {
            if let Some(marks) = marks {
                root.set_xattr(path.as_path(), marks.opaque.as_bytes(), b"y")?;
            }
        }
        Step::Transparent(path) => {
            if let Some(marks) = marks {
                root.remove_xattr(path.as_path(), marks.opaque.as_bytes())?;
            }
        }
        Step::Whiteout(path) if kind.is_overlay() => {
            root.mknod(path.as_path(), Special::Char(0, 0), 0)?;
        }
        Step::Whiteout(_) => {}
        Step::Link { existing, path } => root.hard_link(existing.as_path(), path.as_path())?,
        Step::Move { from, to } => root.rename(from.as_path(), to.as_path())?,
        Step::CopyUp { .. } => {}
    }
    Ok(())
}

/// Makes a symbolic link, device or pipe with its metadata.
///
/// # Errors
/// That of the call that failed.
pub(crate) fn special(root: &Root, path: &TreePath, node: &Node, meta: &Metadata) -> Result<()> {
    let at = path.as_path();
    let special = match node {
        Node::Symlink { target } => {
            root.symlink(target, at)?;
            root.chown(at, meta.uid, meta.gid)?;
            return Ok(root.set_mtime(at, time(meta))?);
        }
        Node::CharDevice { major, minor } => Special::Char(*major, *minor),
        Node::BlockDevice { major, minor } => Special::Block(*major, *minor),
        Node::Fifo => Special::Fifo,
        // Made elsewhere.
        Node::Directory { .. } | Node::File { .. } | Node::HardLink { .. } | Node::Whiteout => {
            return Ok(());
        }
    };
    root.mknod(at, special, 0o600).map_err(|error| match node {
        // Only the first user namespace has devices (mknod(2)).
        Node::CharDevice { .. } | Node::BlockDevice { .. }
            if error.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Error::Device { path: path.clone() }
        }
        _ => error.into(),
    })?;
    root.chown(at, meta.uid, meta.gid)?;
    root.chmod(at, meta.mode)?;
    Ok(root.set_mtime(at, time(meta))?)
}

/// Sets owner, mode and time of a directory; nothing may be made in it afterwards.
///
/// # Errors
/// That of the call that failed.
pub(crate) fn directory_metadata(root: &Root, path: &TreePath, meta: &Metadata) -> Result<()> {
    let at = path.as_path();
    root.chown(at, meta.uid, meta.gid)?;
    root.chmod(at, meta.mode)?;
    Ok(root.set_mtime(at, time(meta))?)
}

fn time(meta: &Metadata) -> (i64, u32) {
    (meta.mtime.seconds, meta.mtime.nanos)
}
