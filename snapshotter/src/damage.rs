//! Snapshots that are not what they were: how that is found, and what is done about it.
//!
//! The bytes of a snapshot are looked at when somebody reads them anyway (the tar of a layer, an
//! export of files), and by [`Snapshotter::verify`]. A damaged one is *condemned*: its `meta`
//! loses its name, so that it and all that is on it do not exist any more, for every process. Its
//! files stay until it is collected, because a step may be running on them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oci::layer::{ContentHash, Entry, Node};
use rayon::prelude::*;
use sys::root::{Context, Root};
use sys::walk::{FileKind, Stat};

use crate::{Error, Result, SnapshotId, Snapshotter, meta};

/// What a `meta` is called that counts no more.
pub(crate) const CONDEMNED: &str = "damaged";

/// What was found since it was last asked, and how much ever.
#[derive(Debug, Default)]
pub(crate) struct Findings(Mutex<Found>);

#[derive(Debug, Default)]
struct Found {
    news: Vec<String>,
    count: u64,
    /// Snapshots that were looked at before everything that was read was forgotten.
    looked_at: HashSet<SnapshotId>,
}

impl Findings {
    fn lock(&self) -> MutexGuard<'_, Found> {
        // Each change is complete by itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshotter {
    /// How many damaged snapshots were found by this process.
    pub fn damage_count(&self) -> u64 {
        self.findings.lock().count
    }

    /// Takes what there is to say about snapshots that were found damaged, a line each.
    pub fn take_damage(&self) -> Vec<String> {
        std::mem::take(&mut self.findings.lock().news)
    }

    /// Notes that `id` is damaged: from now on it does not exist, nor what is on it.
    pub(crate) fn condemn(&self, id: SnapshotId, what: &str) {
        let dir = self.path(id);
        // Another process may have been first, or have removed it.
        let condemned = std::fs::rename(dir.join(meta::META), dir.join(CONDEMNED));
        let known = self.forget_all();
        let mut found = self.findings.lock();
        found.looked_at.extend(known);
        found.count += 1;
        if condemned.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            return;
        }
        let mut text = format!("snapshot {id} is damaged ({what}): it is made again");
        if let Err(e) = condemned {
            text.push_str(&format!("; it cannot be put away, remove {}: {e}", dir.display()));
        }
        found.news.push(text);
    }

    /// Tells if `id`, which is not there, was not removed: who removes or condemns one renames, so
    /// its directory never lacks both names.
    pub(crate) fn tell_lost_meta(&self, id: SnapshotId) {
        let dir = self.path(id);
        let note = dir.join(CONDEMNED);
        let there = || dir.symlink_metadata().is_ok();
        // Once more at the end: it may have been removed while this looked.
        if !there() || note.symlink_metadata().is_ok() || !there() {
            return;
        }
        // So that it is told once.
        let _ = File::create_new(&note);
        let text = format!("snapshot {id} is damaged (meta: it is missing): it is made again");
        let mut found = self.findings.lock();
        found.count += 1;
        found.news.push(text);
    }

    /// Condemns every snapshot in `dir`: nobody knows any more how they are stored. How many
    /// there were.
    ///
    /// # Errors
    /// If one cannot be put away.
    pub fn condemn_all(dir: &Path) -> Result<u64> {
        let mut count = 0;
        for entry in std::fs::read_dir(dir).context("cannot read directory", dir)?.flatten() {
            let path = entry.path();
            if entry.file_name().to_string_lossy().parse::<SnapshotId>().is_err() {
                continue;
            }
            match std::fs::rename(path.join(meta::META), path.join(CONDEMNED)) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => {
                    other.context("cannot put away", &path)?;
                    count += 1;
                }
            }
        }
        Ok(count)
    }

    /// Condemns the snapshot that an error says is damaged, and passes the error on.
    pub(crate) fn or_condemn<T>(&self, id: SnapshotId, result: Result<T>) -> Result<T> {
        if let Err(Error::Corrupt { path, reason }) = &result {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            self.condemn(id, &format!("{name}: {reason}"));
        }
        result
    }

    /// Opens the content of `entry`, a regular file of the layer of `id`. Its bytes are compared
    /// with what they were while they are read: the last ones are not given where they differ,
    /// and the snapshot is condemned.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the snapshot; [`Error::Corrupt`] where the file is missing.
    pub fn open_verified(self: &Arc<Self>, id: &SnapshotId, entry: &Entry) -> Result<VerifiedFile> {
        let owner = self.layer_of(id)?;
        let file = self.open_file(id, &entry.path)?;
        let (left, hash) = match &entry.node {
            Node::File { size, content } => (*size, Some(*content)),
            _ => (0, None),
        };
        let what = entry.path.to_string();
        let hasher = blake3::Hasher::new();
        Ok(VerifiedFile { snapshotter: self.clone(), owner, file, what, left, hash, hasher })
    }

    /// Reads all of the layer of a snapshot and compares it with its manifest: names, kinds,
    /// modes, owners, contents, links. What differs is condemned. Whether it is as it was.
    ///
    /// # Errors
    /// [`Error::NotFound`]; what cannot be read for another reason than damage.
    pub fn verify(&self, id: &SnapshotId) -> Result<bool> {
        let manifest = match self.fresh_manifest(id) {
            Err(Error::Corrupt { .. }) => return Ok(false),
            other => other?,
        };
        let snapshot = self.get(id)?;
        if snapshot.diff_digest != manifest.diff_digest() {
            self.condemn(*id, "meta and manifest do not fit together");
            return Ok(false);
        }
        let Ok(root) = Root::at(&self.fs(*id)?) else {
            self.condemn(*id, "its files are gone");
            return Ok(false);
        };
        let whole = !self.kind().is_overlay();
        let differs = |entry: &Entry| -> Result<Option<String>> {
            Ok(difference(&root, entry, whole)?.map(|why| format!("{}: {why}", entry.path)))
        };
        let found = manifest.entries().par_iter().map(differs).filter_map(Result::transpose);
        match found.try_reduce_with(|first, _| Ok(first)) {
            None => Ok(true),
            Some(why) => {
                self.condemn(*id, &why?);
                Ok(false)
            }
        }
    }

    /// Verifies every snapshot that this process has looked at; how many were damaged.
    ///
    /// # Errors
    /// What cannot be read for another reason than damage.
    pub fn verify_known(&self) -> Result<u64> {
        let mut damaged = 0;
        let mut all = std::mem::take(&mut self.findings.lock().looked_at);
        all.extend(self.known_ids());
        for id in all {
            match self.verify(&id) {
                Ok(good) => damaged += u64::from(!good),
                Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(damaged)
    }
}

/// How what is on disk differs from an entry of the manifest; nothing if it does not. `whole` is
/// a directory in which what was removed is absent.
fn difference(root: &Root, entry: &Entry, whole: bool) -> Result<Option<String>> {
    let at = entry.path.as_path();
    let Some(stat) = root.try_stat(at)? else {
        let absent = whole && entry.is_whiteout();
        return Ok((!absent).then(|| "it is missing".to_owned()));
    };
    let fits = match &entry.node {
        Node::Directory { .. } => stat.is_dir(),
        Node::File { .. } => stat.kind == FileKind::File,
        Node::HardLink { target } => {
            root.try_stat(target.as_path())?.is_some_and(|other| other.inode == stat.inode)
        }
        Node::Symlink { target } => {
            use std::os::unix::ffi::OsStrExt;
            stat.kind == FileKind::Symlink
                && root.readlink(at)?.as_os_str().as_bytes() == &target[..]
        }
        Node::CharDevice { major, minor } => is_device(&stat, FileKind::CharDevice, *major, *minor),
        Node::BlockDevice { major, minor } => {
            is_device(&stat, FileKind::BlockDevice, *major, *minor)
        }
        Node::Fifo => stat.kind == FileKind::Fifo,
        Node::Whiteout => is_device(&stat, FileKind::CharDevice, 0, 0),
    };
    if !fits {
        return Ok(Some("it is something else".to_owned()));
    }
    if entry.is_whiteout() {
        return Ok(None);
    }
    let mode = (entry.meta.mode ^ stat.mode) & 0o7777 != 0 && stat.kind != FileKind::Symlink;
    if mode || (entry.meta.uid, entry.meta.gid) != (stat.uid, stat.gid) {
        return Ok(Some("its mode or owner is another one".to_owned()));
    }
    let Node::File { size, content } = &entry.node else { return Ok(None) };
    let mut hasher = blake3::Hasher::new();
    let same = stat.size == *size
        && match sys::copy::read_all(root.open_file(at)?, &mut |chunk| {
            hasher.update(chunk);
        }) {
            Ok(read) => read == *size && ContentHash(*hasher.finalize().as_bytes()) == *content,
            // What the disk cannot give back is damaged as well (EIO).
            Err(_) => false,
        };
    Ok((!same).then(|| "its content is another one".to_owned()))
}

fn is_device(stat: &Stat, kind: FileKind, major: u32, minor: u32) -> bool {
    stat.kind == kind && stat.special == (major, minor)
}

/// A file of a snapshot that is verified while it is read.
#[derive(Debug)]
pub struct VerifiedFile {
    snapshotter: Arc<Snapshotter>,
    owner: SnapshotId,
    file: File,
    what: String,
    /// Bytes that are still to come.
    left: u64,
    /// None when it was compared, or where there is nothing to compare with.
    hash: Option<ContentHash>,
    hasher: blake3::Hasher,
}

impl VerifiedFile {
    fn damaged(&mut self, why: &str) -> io::Error {
        self.hash = None;
        let text = format!("{}: {why}", self.what);
        self.snapshotter.condemn(self.owner, &text);
        io::Error::new(io::ErrorKind::InvalidData, text)
    }
}

impl Read for VerifiedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        let Some(wanted) = self.hash else { return Ok(count) };
        self.hasher.update(&buffer[..count]);
        match self.left.checked_sub(count as u64) {
            None => return Err(self.damaged("it is longer than it was")),
            Some(left) => self.left = left,
        }
        let over = count == 0 && !buffer.is_empty();
        if over && self.left > 0 {
            return Err(self.damaged("it is shorter than it was"));
        }
        if self.left == 0 && (over || count > 0) {
            if ContentHash(*self.hasher.finalize().as_bytes()) != wanted {
                return Err(self.damaged("its content is another one"));
            }
            // Bytes that follow are still one too many.
            if over {
                self.hash = None;
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{Hints, Kind};

    fn made(dir: &std::path::Path) -> (Arc<Snapshotter>, SnapshotId, SnapshotId) {
        let snapshotter = Arc::new(Snapshotter::open(dir, Kind::Copy).unwrap());
        let active = snapshotter.prepare(None).unwrap();
        fs::write(active.dir.join("fs/a"), "content").unwrap();
        fs::write(active.dir.join("fs/empty"), "").unwrap();
        fs::create_dir(active.dir.join("fs/d")).unwrap();
        let below = snapshotter.commit(active, &Hints::default()).unwrap();
        let active = snapshotter.prepare(Some(&below.id)).unwrap();
        fs::remove_file(active.dir.join("fs/empty")).unwrap();
        fs::write(active.dir.join("fs/b"), "more").unwrap();
        let above = snapshotter.commit(active, &Hints::default()).unwrap();
        (snapshotter, below.id, above.id)
    }

    #[test]
    fn what_is_damaged_is_gone_with_all_that_is_on_it() {
        type Damage = fn(&std::path::Path);
        let damages: [Damage; 6] = [
            |dir| fs::write(dir.join("fs/a"), "contenT").unwrap(),
            |dir| fs::write(dir.join("fs/a"), "").unwrap(),
            |dir| fs::remove_file(dir.join("fs/a")).unwrap(),
            |dir| fs::remove_dir(dir.join("fs/d")).unwrap(),
            |dir| fs::write(dir.join("manifest"), "nonsense").unwrap(),
            |dir| fs::remove_dir_all(dir.join("fs")).unwrap(),
        ];
        for damage in damages {
            let dir = tempfile::tempdir().unwrap();
            let (snapshotter, below, above) = made(dir.path());
            assert!(snapshotter.verify(&below).unwrap() && snapshotter.verify(&above).unwrap());
            damage(&dir.path().join(below.to_string()));
            assert_eq!(snapshotter.verify_known().unwrap(), 1);
            assert_eq!(snapshotter.damage_count(), 1);
            assert_eq!(snapshotter.take_damage().len(), 1);
            let fresh = Snapshotter::open(dir.path(), Kind::Copy).unwrap();
            for snapshotter in [&*snapshotter, &fresh] {
                assert!(snapshotter.chain(&above).unwrap_err().is_not_found());
            }
        }
    }

    #[test]
    fn a_missing_meta_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let (_, below, above) = made(dir.path());
        fs::remove_file(dir.path().join(below.to_string()).join(meta::META)).unwrap();
        for told in [1, 0] {
            let fresh = Snapshotter::open(dir.path(), Kind::Copy).unwrap();
            assert!(fresh.chain(&above).unwrap_err().is_not_found());
            assert!(fresh.get(&SnapshotId::random()).unwrap_err().is_not_found());
            assert_eq!(fresh.take_damage().len(), told);
        }
    }

    #[test]
    fn damage_shows_when_a_file_is_read() {
        for bad in ["contenT", "conten", "content!", ""] {
            let dir = tempfile::tempdir().unwrap();
            let (snapshotter, below, _) = made(dir.path());
            let manifest = snapshotter.manifest(&below).unwrap();
            for entry in manifest.entries().iter().filter(|e| e.file_size().is_some()) {
                let mut file = snapshotter.open_verified(&below, entry).unwrap();
                io::copy(&mut file, &mut io::sink()).unwrap();
            }
            fs::write(dir.path().join(below.to_string()).join("fs/a"), bad).unwrap();
            let mut file = snapshotter.open_verified(&below, &manifest.entries()[0]).unwrap();
            let error = io::copy(&mut file, &mut io::sink()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bad:?}");
            assert_eq!(snapshotter.damage_count(), 1, "{bad:?}");
            assert!(snapshotter.get(&below).unwrap_err().is_not_found());
        }
    }
}
