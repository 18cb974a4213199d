//! The directory of snapshots.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oci::layer::{ContentHash, LayerManifest, TreePath};
use sys::fuse::FuseOverlay;
use sys::mount::{Mount, MountFlags, MountSource, Overlay, Upper};
use sys::root::{Context, Root};
use sys::walk;

use crate::damage::Findings;
use crate::foundation::Foundations;
use crate::lineage::Lineages;
use crate::{Error, Result, SnapshotId, Unpacked, meta, replica};

/// What a directory ends with that is being written.
pub const ACTIVE_SUFFIX: &str = ".active";

/// What a directory ends with that is being deleted.
pub const TRASH_SUFFIX: &str = ".trash";

/// What the directories of [`Snapshotter::probe`] begin with.
pub(crate) const PROBE_PREFIX: &str = "probe-";
/// What was begun so long ago is garbage; a probe takes milliseconds.
const PROBE_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The directory that [`Snapshotter::view`] shows where there is no snapshot.
const EMPTY: &str = "empty";

/// The longest chain that is followed. Two overlays, one in the other, have at most 999 layers (see
/// [`sys::mount`]); what is much longer is a circle.
pub(crate) const MAX_CHAIN: usize = 4096;

/// How snapshots are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Each snapshot is its layer; they are stacked by overlayfs.
    Overlay,
    /// The same, with the marks of overlayfs in `user.*` attributes: inside a user namespace
    /// nobody may write `trusted.*`.
    UserOverlay,
    /// As [`Self::UserOverlay`], and in the same dialect, but stacked by the program
    /// fuse-overlayfs. What it writes in its own dialect is rewritten at the commit.
    FuseOverlay,
    /// Each snapshot is a copy of its parent with the changes made: where overlayfs does not
    /// work.
    Copy,
}

impl Kind {
    /// Whether overlayfs stacks the snapshots.
    #[must_use]
    pub fn is_overlay(self) -> bool {
        !matches!(self, Self::Copy)
    }

    pub(crate) fn user_xattr(self) -> bool {
        matches!(self, Self::UserOverlay | Self::FuseOverlay)
    }
}

/// A snapshot: immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub id: SnapshotId,
    /// What it is a change of; none for the lowest layer.
    pub parent: Option<SnapshotId>,
    /// The snapshot whose layer it has, see [`Snapshotter::rebase`]; none if the layer is its
    /// own. Both are needed, that one and the parent.
    pub layer: Option<SnapshotId>,
    /// [`LayerManifest::diff_digest`] of its layer.
    pub diff_digest: [u8; 32],
    /// The sizes of all files of its layer, in bytes.
    pub size: u64,
    /// The number of entries of its layer.
    pub entries: u64,
}

/// A root file system that is being written. It stays on disk until it is committed or
/// discarded; one that was forgotten is garbage, see [`Snapshotter::sweep_garbage`].
#[derive(Debug)]
pub struct Active {
    pub(crate) id: SnapshotId,
    pub(crate) parent: Option<SnapshotId>,
    pub(crate) dir: PathBuf,
    /// Of a copy: when it was complete, by the clock of the file system. What was changed
    /// before has the content it was copied with.
    pub(crate) complete: Option<(i64, u32)>,
}

impl Active {
    /// The id that the snapshot will have.
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// The snapshot below.
    pub fn parent(&self) -> Option<SnapshotId> {
        self.parent
    }

    /// The name of its directory, `<id>.active`.
    pub fn dir_name(&self) -> String {
        active_name(self.id)
    }
}

/// What is known about an active snapshot before it is looked at.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// Files whose content the caller wrote and hashed itself: size in bytes and hash. They are
    /// not read again; one whose size differs is.
    pub contents: HashMap<TreePath, (u64, ContentHash)>,
    /// What the caller copied there: it is in the layer also where it is equal to what is below.
    /// Times of a source are in no identity, so they must not decide about what a layer has.
    pub written: HashSet<TreePath>,
}

/// The snapshots in one directory. Any number of processes may use it at the same time; which
/// snapshots are in use, and so may not be removed, is their business.
#[derive(Debug)]
pub struct Snapshotter {
    dir: PathBuf,
    kind: Kind,
    /// The program that stacks snapshots of [`Kind::FuseOverlay`].
    program: Option<PathBuf>,
    /// Snapshots never change, so what was read stays true.
    known: Mutex<HashMap<SnapshotId, Known>>,
    pub(crate) lineages: Lineages,
    pub(crate) foundations: Foundations,
    pub(crate) findings: Findings,
}

#[derive(Clone, Debug)]
struct Known {
    snapshot: Snapshot,
    manifest: Option<Arc<LayerManifest>>,
}

/// The name of the directory of an unfinished snapshot.
pub(crate) fn active_name(id: SnapshotId) -> String {
    format!("{id}{ACTIVE_SUFFIX}")
}

impl Snapshotter {
    /// The snapshots in `dir`, which is created. One directory holds snapshots of one kind: the
    /// caller remembers which, see [`Self::probe`].
    ///
    /// # Errors
    /// If it can't be created.
    pub fn open(dir: &Path, kind: Kind) -> Result<Self> {
        std::fs::create_dir_all(dir.join(EMPTY)).context("cannot create directory", dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            kind,
            program: None,
            known: Mutex::default(),
            lineages: Lineages::default(),
            foundations: Foundations::default(),
            findings: Findings::default(),
        })
    }

    /// Names the program fuse-overlayfs, which [`Kind::FuseOverlay`] needs for every mount.
    #[must_use]
    pub fn with_program(self, program: Option<PathBuf>) -> Self {
        Self { program, ..self }
    }

    /// How snapshots are stored here.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn known(&self) -> MutexGuard<'_, HashMap<SnapshotId, Known>> {
        // Each change is one insertion: there is no half-done state that a panic could leave.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was read, and tells of which snapshots.
    pub(crate) fn forget_all(&self) -> Vec<SnapshotId> {
        let all = self.known().drain().map(|(id, _)| id).collect();
        self.forget_chains();
        all
    }

    /// Forgets one that is not there any more.
    fn forget(&self, id: &SnapshotId) {
        self.known().remove(id);
        self.forget_chains();
    }

    fn forget_chains(&self) {
        self.lineages.forget();
        self.foundations.forget();
    }

    /// A snapshot that was looked at.
    pub(crate) fn known_snapshot(&self, id: &SnapshotId) -> Option<Snapshot> {
        self.known().get(id).map(|known| known.snapshot.clone())
    }

    /// The snapshots that were looked at.
    pub(crate) fn known_ids(&self) -> Vec<SnapshotId> {
        self.known().keys().copied().collect()
    }

    pub(crate) fn path(&self, id: SnapshotId) -> PathBuf {
        self.dir.join(id.to_string())
    }

    /// Where the files of a snapshot are: of its layer, or of a copy all of them.
    pub(crate) fn fs(&self, id: SnapshotId) -> Result<PathBuf> {
        let owner = match self.kind {
            Kind::Overlay | Kind::UserOverlay | Kind::FuseOverlay => self.layer_of(&id)?,
            Kind::Copy => id,
        };
        Ok(self.path(owner).join("fs"))
    }

    /// The snapshot that has the layer of `id` in its directory: itself, unless it is a rebased
    /// one. Equal for all snapshots with one layer.
    ///
    /// # Errors
    /// [`Error::NotFound`] for `id`; [`Error::Corrupt`].
    pub fn layer_of(&self, id: &SnapshotId) -> Result<SnapshotId> {
        let known = self.known().get(id).map(|known| known.snapshot.layer);
        let layer = match known {
            Some(layer) => layer,
            None => self.get(id)?.layer,
        };
        Ok(layer.unwrap_or(*id))
    }

    /// A writable root file system on top of `parent`.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the parent does not exist.
    pub fn prepare(&self, parent: Option<&SnapshotId>) -> Result<Active> {
        self.prepare_as(SnapshotId::random(), parent)
    }

    /// As [`Self::prepare`], with an id of the caller's choice (a random one), so that it can be
    /// noted before there is anything on disk.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the parent does not exist.
    pub fn prepare_as(&self, id: SnapshotId, parent: Option<&SnapshotId>) -> Result<Active> {
        if let Some(parent) = parent {
            self.get(parent)?;
        }
        let dir = self.create_active(id)?;
        let mut active = Active { id, parent: parent.copied(), dir, complete: None };
        if self.kind == Kind::Copy {
            let copied = self.fill(&active);
            active.complete = Some(self.or_discard(&active.dir, copied)?);
        }
        if let (Kind::FuseOverlay, Some(parent)) = (self.kind, parent) {
            let seeded = self.seed(parent, &active.dir.join("fs"));
            self.or_discard(&active.dir, seeded)?;
        }
        Ok(active)
    }

    /// Makes the directories of an unfinished snapshot.
    pub(crate) fn create_active(&self, id: SnapshotId) -> Result<PathBuf> {
        let dir = self.dir.join(active_name(id));
        std::fs::create_dir(&dir).context("cannot create directory", &dir)?;
        let fs = dir.join("fs");
        let made = std::fs::create_dir(&fs).context("cannot create directory", &fs);
        // Whatever the umask is.
        let made = made.and_then(|()| Root::at(&fs)?.chmod("", 0o755));
        self.or_discard(&dir, made.map_err(Error::from))?;
        Ok(dir)
    }

    /// Passes a result on; on an error the unfinished directory goes.
    pub(crate) fn or_discard<T>(&self, dir: &Path, result: Result<T>) -> Result<T> {
        if result.is_err() {
            // The first error is the one to report; what stays is garbage with a telling name.
            let _ = self.trash(dir);
        }
        result
    }

    /// Copies the parent into an active snapshot; returns when that was complete.
    fn fill(&self, active: &Active) -> Result<(i64, u32)> {
        if let Some(parent) = active.parent {
            let source = open_dir(&self.fs(parent)?)?;
            replica::copy_tree(&source, &open_dir(&active.dir.join("fs"))?)?;
        }
        let marker = active.dir.join("complete");
        let file = File::create(&marker).context("cannot create", &marker)?;
        let stat = walk::Stat::of_fd(&file).context("cannot look at", &marker)?;
        Ok(stat.ctime)
    }

    /// How to mount an active snapshot, writable, at `/`. To be mounted once at a time: each
    /// call clears the work directory of the overlay. What is written is not synced through the
    /// mount; see the crate's documentation.
    ///
    /// # Errors
    /// If the work directory can't be made, or a parent does not exist.
    pub fn rootfs(&self, active: &Active) -> Result<Mount> {
        let fs = active.dir.join("fs");
        let lowers = match self.kind {
            Kind::Overlay | Kind::UserOverlay | Kind::FuseOverlay => {
                self.lowers(active.parent.as_ref())?
            }
            Kind::Copy => Vec::new(),
        };
        if lowers.is_empty() {
            return Ok(bind(fs, MountFlags::default()));
        }
        let source = self.source(self.writable(active, lowers)?)?;
        Ok(Mount { target: "/".into(), source, flags: MountFlags::default() })
    }

    /// The overlay of an active snapshot on `lowers`, with a new work directory.
    pub(crate) fn writable(&self, active: &Active, lowers: Vec<PathBuf>) -> Result<Overlay> {
        let dir = Root::at(&active.dir)?;
        dir.remove_all("work")?;
        dir.mkdir("work", 0o700)?;
        let upper = Some(Upper { dir: active.dir.join("fs"), work: active.dir.join("work") });
        let user_xattr = self.kind.user_xattr();
        Ok(Overlay { lowers, upper, user_xattr, volatile: true, redirects: false })
    }

    /// How to mount a snapshot, read-only, at `/`; without one an empty directory.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn view(&self, id: Option<&SnapshotId>) -> Result<Mount> {
        let flags = MountFlags::default().read_only();
        let Some(id) = id else { return Ok(bind(self.dir.join(EMPTY), flags)) };
        let snapshot = self.get(id)?;
        if self.kind == Kind::Copy || snapshot.parent.is_none() {
            return Ok(bind(self.present_fs(id)?, flags));
        }
        let lowers = self.lowers(Some(id))?;
        let user_xattr = self.kind.user_xattr();
        let overlay =
            Overlay { lowers, upper: None, user_xattr, volatile: false, redirects: false };
        Ok(Mount { target: "/".into(), source: self.source(overlay)?, flags })
    }

    fn source(&self, overlay: Overlay) -> Result<MountSource> {
        if self.kind != Kind::FuseOverlay {
            return Ok(MountSource::Overlay(overlay));
        }
        let program = self.program.clone().ok_or(Error::NoProgram)?;
        Ok(MountSource::FuseOverlay(FuseOverlay { program, base: self.dir.clone(), overlay }))
    }

    /// Waits until all is on disk that was written through the mount of `dir`.
    pub(crate) fn at_rest(&self, dir: &Path) -> Result<()> {
        if self.kind == Kind::FuseOverlay {
            let fs = dir.join("fs");
            sys::fuse::at_rest(&fs).map(drop).context("cannot finish the overlay of", &fs)?;
        }
        Ok(())
    }

    /// Writes the describing files into the complete directory `dir` and gives it its name.
    pub(crate) fn seal(
        &self,
        id: SnapshotId,
        parent: Option<SnapshotId>,
        dir: &Path,
        manifest: LayerManifest,
    ) -> Result<Snapshot> {
        let snapshot = Snapshot {
            id,
            parent,
            layer: None,
            diff_digest: manifest.diff_digest(),
            size: manifest.total_size(),
            entries: manifest.len() as u64,
        };
        meta::write_manifest(dir, &manifest)?;
        let active = Root::at(dir)?;
        active.remove_all("work")?;
        active.remove_all("complete")?;
        self.name(snapshot, dir, Arc::new(manifest))
    }

    /// Gives the directory `dir` of a snapshot, complete but for its `meta`, its name.
    pub(crate) fn name(
        &self,
        snapshot: Snapshot,
        dir: &Path,
        manifest: Arc<LayerManifest>,
    ) -> Result<Snapshot> {
        meta::write(dir, &snapshot)?;
        let path = self.path(snapshot.id);
        rustix::fs::rename(dir, &path).context("cannot rename to", &path)?;
        let known = Known { snapshot: snapshot.clone(), manifest: Some(manifest) };
        self.known().insert(snapshot.id, known);
        Ok(snapshot)
    }

    /// What a snapshot is.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Corrupt`].
    pub fn get(&self, id: &SnapshotId) -> Result<Snapshot> {
        let path = self.path(*id);
        match self.known_snapshot(id) {
            // Another process may have removed it.
            Some(snapshot) if path.join(meta::META).exists() => Ok(snapshot),
            Some(_) => {
                self.forget(id);
                Err(Error::NotFound(*id))
            }
            None => {
                let read = meta::read(&path, *id);
                if read.as_ref().is_err_and(Error::is_not_found) {
                    self.tell_lost_meta(*id);
                }
                let snapshot = self.or_condemn(*id, read)?;
                let known = Known { snapshot: snapshot.clone(), manifest: None };
                self.known().entry(*id).or_insert(known);
                Ok(snapshot)
            }
        }
    }

    /// The entries of its layer.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Corrupt`].
    pub fn manifest(&self, id: &SnapshotId) -> Result<Arc<LayerManifest>> {
        if let Some(manifest) = self.known().get(id).and_then(|known| known.manifest.clone()) {
            return Ok(manifest);
        }
        let snapshot = self.get(id)?;
        let owner = snapshot.layer.unwrap_or(*id);
        let shared = self.known().get(&owner).and_then(|known| known.manifest.clone());
        let manifest = match shared {
            Some(manifest) => manifest,
            None => return self.fresh_manifest(id),
        };
        self.known().insert(*id, Known { snapshot, manifest: Some(manifest.clone()) });
        Ok(manifest)
    }

    /// The entries of its layer, as they are on the disk now.
    pub(crate) fn fresh_manifest(&self, id: &SnapshotId) -> Result<Arc<LayerManifest>> {
        let snapshot = self.get(id)?;
        let owner = snapshot.layer.unwrap_or(*id);
        let read = match meta::read_manifest(&self.path(owner), owner) {
            // The snapshot is there.
            Err(Error::NotFound(_)) if self.get(&owner).is_ok() => Err(Error::Corrupt {
                path: self.path(owner).join(meta::MANIFEST),
                reason: "it is missing".into(),
            }),
            other => other,
        };
        let manifest = Arc::new(self.or_condemn(owner, read)?);
        self.known().insert(*id, Known { snapshot, manifest: Some(manifest.clone()) });
        Ok(manifest)
    }

    /// Opens a regular file that the snapshot's own layer has, a hard link included.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the snapshot; [`Error::Corrupt`] for a file that is missing, or is
    /// not one any more.
    pub fn open_file(&self, id: &SnapshotId, path: &TreePath) -> Result<File> {
        let fs = self.present_fs(id)?;
        let opened = Root::at(&fs)?.open_file(path.as_path());
        let lost = |error: &sys::root::PathError| {
            use io::ErrorKind::{InvalidInput, IsADirectory, NotADirectory, NotFound};
            matches!(error.kind(), NotFound | NotADirectory | IsADirectory | InvalidInput)
        };
        match opened {
            Err(error) if lost(&error) => {
                let (path, reason) = (fs.join(path.as_path()), error.to_string());
                self.or_condemn(self.layer_of(id)?, Err(Error::Corrupt { path, reason }))
            }
            other => Ok(other?),
        }
    }

    /// Where the files of a snapshot are, if they are.
    pub(crate) fn present_fs(&self, id: &SnapshotId) -> Result<PathBuf> {
        let fs = self.fs(*id)?;
        if fs.is_dir() {
            return Ok(fs);
        }
        let owner = self.layer_of(id)?;
        self.get(&owner)?;
        let gone = Error::Corrupt { path: fs, reason: "it is missing".into() };
        self.or_condemn(owner, Err(gone))
    }

    /// Removes a snapshot. That none is built on it or has its layer, and nobody uses it, is for
    /// the caller to know.
    ///
    /// # Errors
    /// [`Error::NotFound`]; what can't be deleted stays as garbage.
    pub fn remove(&self, id: &SnapshotId) -> Result<()> {
        self.forget(id);
        match self.trash(&self.path(*id)) {
            Err(Error::Path(error)) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::NotFound(*id))
            }
            other => other,
        }
    }

    /// Gives up an active snapshot.
    ///
    /// # Errors
    /// What can't be deleted stays as garbage.
    pub fn discard(&self, active: Active) -> Result<()> {
        self.at_rest(&active.dir)?;
        self.trash(&active.dir)
    }

    /// Gives up an unpacked layer.
    ///
    /// # Errors
    /// What can't be deleted stays as garbage.
    pub fn discard_unpacked(&self, unpacked: Unpacked) -> Result<()> {
        self.trash(&unpacked.dir)
    }

    /// Renames a directory so that nobody takes it for a snapshot any more, then deletes it.
    fn trash(&self, dir: &Path) -> Result<()> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stem = name.strip_suffix(ACTIVE_SUFFIX).unwrap_or(&name);
        let stem = stem.strip_suffix(TRASH_SUFFIX).unwrap_or(stem);
        let trash = format!("{stem}{TRASH_SUFFIX}");
        let target = self.dir.join(&trash);
        if dir != target {
            rustix::fs::rename(dir, &target).context("cannot remove", dir)?;
        }
        Ok(Root::at(&self.dir)?.remove_all(&trash)?)
    }

    fn names(&self) -> Result<Vec<String>> {
        let dir = open_dir(&self.dir)?;
        let names = walk::read_names(&dir).context("cannot read directory", &self.dir)?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    /// All snapshots, in no meaningful order.
    ///
    /// # Errors
    /// If the directory can't be read.
    pub fn list(&self) -> Result<Vec<SnapshotId>> {
        Ok(self.names()?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Deletes what crashed processes left: unfinished snapshots, unless `is_live` says of the
    /// name of the directory (`<id>.active`) that somebody works on it; deletions that were not
    /// completed; probes of a day ago, since nothing tells whether somebody works on a younger one.
    /// Returns how many.
    ///
    /// # Errors
    /// The first thing that can't be deleted.
    pub fn sweep_garbage(&self, is_live: &dyn Fn(&str) -> bool) -> Result<u64> {
        let mut swept = 0;
        for name in self.names()? {
            let dead = name.ends_with(TRASH_SUFFIX)
                || name.starts_with(PROBE_PREFIX) && self.is_old(&name)
                || name.ends_with(ACTIVE_SUFFIX) && !is_live(&name);
            if !dead {
                continue;
            }
            match self.trash(&self.dir.join(&name)) {
                // Finished or deleted by another process just now.
                Err(Error::Path(error)) if error.kind() == io::ErrorKind::NotFound => {}
                other => {
                    other?;
                    swept += 1;
                }
            }
        }
        Ok(swept)
    }

    /// Whether a directory was made [`PROBE_AGE`] ago or earlier.
    fn is_old(&self, name: &str) -> bool {
        let modified = std::fs::symlink_metadata(self.dir.join(name)).and_then(|it| it.modified());
        modified.is_ok_and(|it| it.elapsed().is_ok_and(|age| age >= PROBE_AGE))
    }

    /// How much a snapshot takes on disk, in bytes; without what it shares with others through
    /// reflinks, as far as the file system does not tell.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn disk_usage(&self, id: &SnapshotId) -> Result<u64> {
        self.get(id)?;
        let path = self.path(*id);
        let mut seen = HashSet::new();
        let mut total = 0;
        walk::walk(open_dir(&path)?, &mut |_, stat| {
            if stat.links <= 1 || stat.is_dir() || seen.insert((stat.device, stat.inode)) {
                total += stat.blocks * 512;
            }
            Ok(true)
        })
        .context("cannot look at", &path)?;
        Ok(total)
    }

    /// Unpacks the uncompressed tar `reader`, read to its end, into a directory of its own.
    /// Nothing else is looked at, so layers of one image can be unpacked at the same time.
    ///
    /// Verifying the stream is up to the caller, who wraps `reader`; an error of it ends this.
    ///
    /// # Errors
    /// If the stream fails or is no layer, or holds what must not be in one; nothing is left.
    pub fn unpack(&self, reader: &mut dyn Read) -> Result<Unpacked> {
        self.unpack_as(SnapshotId::random(), reader)
    }

    /// As [`Self::unpack`], with an id of the caller's choice (a random one), so that it can be
    /// noted before there is anything on disk.
    ///
    /// # Errors
    /// As [`Self::unpack`].
    pub fn unpack_as(&self, id: SnapshotId, reader: &mut dyn Read) -> Result<Unpacked> {
        let dir = self.create_active(id)?;
        let staging = Root::at(&dir.join("fs")).map_err(Error::from);
        let staging = staging.and_then(|root| crate::unpack::unpack(&root, self.kind, reader));
        let staging = self.or_discard(&dir, staging)?;
        Ok(Unpacked { id, dir, staging })
    }
}

pub(crate) fn open_dir(path: &Path) -> Result<std::os::fd::OwnedFd> {
    Ok(walk::open_dir(rustix::fs::CWD, path).context("cannot open", path)?)
}

fn bind(source: PathBuf, flags: MountFlags) -> Mount {
    Mount { target: "/".into(), source: MountSource::Bind { source, recursive: false }, flags }
}
