//! Unpacking the tar of a layer into a directory of its own, without looking at the layers
//! below: so layers of one image are unpacked in parallel.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use oci::layer::{
    CAPABILITY_XATTR, ContentHash, Entry, LayerItem, LayerReader, Metadata, Node, TarEntry,
    TreePath, to_layer_entry,
};
use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid};
use sys::root::{Context, Root};

use crate::staging::{Staging, Step};
use crate::{Kind, Result, SnapshotId, apply};

/// How much of the stream is read at once, in bytes.
const BUFFER: usize = 1 << 18;

/// How much of a file is written at once, in bytes.
const CHUNK: usize = 1 << 17;

/// The mode of symbolic links: Linux has no other.
const LINK_MODE: u32 = 0o777;

/// A pulled layer, unpacked but without a place in a chain yet. Made by
/// [`crate::Snapshotter::unpack`], taken by [`crate::Snapshotter::attach`].
#[derive(Debug)]
pub struct Unpacked {
    pub(crate) id: SnapshotId,
    pub(crate) dir: PathBuf,
    pub(crate) staging: Staging,
}

impl Unpacked {
    /// The id that the snapshot will have.
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// The name of its directory until it is attached, `<id>.active`.
    pub fn dir_name(&self) -> String {
        crate::active_name(self.id)
    }
}

struct Unpacker<'a> {
    root: &'a Root,
    kind: Kind,
    staging: Staging,
    chunk: Vec<u8>,
}

/// Unpacks the uncompressed tar `reader`, to its very end, into the empty directory `root`.
///
/// # Errors
/// If the stream fails or is no layer, an entry must not be in one, or can't be made.
pub(crate) fn unpack(root: &Root, kind: Kind, reader: &mut dyn Read) -> Result<Staging> {
    let mut unpacker = Unpacker { root, kind, staging: Staging::default(), chunk: vec![0; CHUNK] };
    let mut tar = LayerReader::new(BufReader::with_capacity(BUFFER, reader));
    while let Some(entry) = tar.next()? {
        unpacker.entry(&entry, &mut tar)?;
    }
    // Whoever verifies the stream's digest needs all of it; padding may follow the last entry.
    io::copy(&mut tar.into_inner(), &mut io::sink()).context("cannot read", "layer")?;
    let staging = unpacker.staging;
    for (path, meta) in staging.explicit_directories() {
        apply::directory_metadata(root, path, meta)?;
    }
    Ok(staging)
}

impl Unpacker<'_> {
    fn entry<R: Read>(&mut self, raw: &TarEntry, tar: &mut LayerReader<R>) -> Result<()> {
        // The hash is known when the content was read.
        let unknown = ContentHash([0; 32]);
        let Entry { path, node, mut meta } = match to_layer_entry(raw, Some(unknown))? {
            LayerItem::Entry(entry) => entry,
            LayerItem::Opaque(path) => {
                let steps = self.staging.opaque(&path)?;
                return self.perform(&steps);
            }
            LayerItem::Skip(_) => return Ok(()),
        };
        let steps = match &node {
            Node::Directory { .. } => self.staging.directory(&path, meta)?,
            Node::HardLink { target } => self.staging.hard_link(&path, target)?,
            Node::Whiteout => self.staging.whiteout(&path)?,
            _ => {
                if matches!(node, Node::Symlink { .. }) {
                    meta.mode = LINK_MODE;
                }
                return self.file(&path, node, meta, raw.sparse.is_some(), tar);
            }
        };
        self.perform(&steps)
    }

    /// Everything that has an inode of its own and is not a directory.
    fn file<R: Read>(
        &mut self,
        path: &TreePath,
        node: Node,
        meta: Metadata,
        sparse: bool,
        tar: &mut LayerReader<R>,
    ) -> Result<()> {
        let mut steps = Vec::new();
        let placed = self.staging.other(path, node, meta, &mut steps)?;
        self.perform(&steps)?;
        let Some((place, inode)) = placed else { return Ok(()) };
        let Unpacker { staging, root, chunk, .. } = self;
        let inode = &mut staging.inodes[inode];
        match &mut inode.node {
            Node::File { size, content } => {
                (*size, *content) = write_file(root, &place, &inode.meta, sparse, chunk, tar)?;
                Ok(())
            }
            node => apply::special(root, &place, node, &inode.meta),
        }
    }

    fn perform(&self, steps: &[Step]) -> Result<()> {
        steps.iter().try_for_each(|step| apply::step(self.root, self.kind, step))
    }
}

/// Writes the content of a regular file and sets its metadata.
fn write_file<R: Read>(
    root: &Root,
    path: &TreePath,
    meta: &Metadata,
    sparse: bool,
    chunk: &mut [u8],
    tar: &mut LayerReader<R>,
) -> Result<(u64, ContentHash)> {
    let at = path.as_path();
    let mut file = root.create_file(at, 0o600)?;
    let mut content = tar.content();
    let mut hasher = blake3::Hasher::new();
    let mut size = 0;
    loop {
        let got = read_full(&mut content, chunk).context("cannot read the content of", at)?;
        if got == 0 {
            break;
        }
        hasher.update(&chunk[..got]);
        size += got as u64;
        if sparse && chunk[..got].iter().all(|b| *b == 0) {
            file.seek(SeekFrom::Current(got as i64)).context("cannot write", at)?;
        } else {
            file.write_all(&chunk[..got]).context("cannot write", at)?;
        }
    }
    if sparse {
        file.set_len(size).context("cannot write", at)?;
    }
    file_metadata(&file, meta).context("cannot set the metadata of", at)?;
    Ok((size, ContentHash(*hasher.finalize().as_bytes())))
}

/// Fills `chunk` as far as there is content.
fn read_full(content: &mut impl Read, chunk: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < chunk.len() {
        match content.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// In this order: changing the owner clears setuid and capabilities, writing sets the time.
fn file_metadata(file: &File, meta: &Metadata) -> io::Result<()> {
    let fd = file.as_fd();
    rustix::fs::fchown(fd, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))
        .map_err(|errno| sys::userns::owner_error(meta.uid, meta.gid, errno))?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(meta.mode))?;
    if let Some(value) = &meta.capability {
        sys::xattr::set(fd, CAPABILITY_XATTR, value)?;
    }
    let mtime = Timespec { tv_sec: meta.mtime.seconds, tv_nsec: meta.mtime.nanos.into() };
    let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let times = Timestamps { last_access: omit, last_modification: mtime };
    Ok(rustix::fs::futimens(fd, &times)?)
}
