//! An open state directory.

use oci::Timestamp;
use solver::{ActionKey, Claim, ContentId, KeyBuilder, Record, RecordStore, StoreError, Watch};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::blob::BlobStore;
use crate::build_log;
use crate::ceiling::Ceiling;
use crate::claim;
use crate::clock::BootId;
use crate::context::ContextHashes;
use crate::database::Database;
use crate::durable;
use crate::error::{At, CacheError};
use crate::filesystem::{self, Kind};
use crate::fold;
use crate::format::{self, Dialect};
use crate::history::History;
use crate::image::ImageStore;
use crate::inflight::{Watcher, want};
use crate::journal::{Journal, Name};
use crate::lease::{self, DeadLease, Holding, Lease};
use crate::lock::{FileLock, Mode};
use crate::mount::CacheMounts;
use crate::record;
use crate::repository::Repositories;
use crate::store::Store;
use crate::sync::Syncer;
use crate::trash::Trash;
use crate::used::LastUsed;
use crate::warnings::Warnings;
use crate::watermark::Watermark;

/// Every directory in a state directory.
const BUCKETS: [&str; 16] = [
    "locks",
    "blobs-v1",
    "blobs-v1/sha256",
    "snapshots-v1",
    "images-v1",
    "context-v1",
    "mounts-v1",
    "git-v1",
    "history-v1",
    build_log::BUCKET,
    "done",
    "inflight",
    "leases",
    "trash",
    "run",
    "used",
];

/// An open state directory. Any number of processes may have it open.
pub struct State {
    root: PathBuf,
    warnings: Vec<String>,
    store: Arc<Store>,
    trash: Arc<Trash>,
    blobs: BlobStore,
    images: ImageStore,
    contexts: ContextHashes,
    used: LastUsed,
    mounts: CacheMounts,
    repositories: Repositories,
    history: History,
    lease: Lease,
    dead: Mutex<Vec<DeadLease>>,
}

impl State {
    /// Opens `root`, making it and what is missing in it (mode 0700).
    ///
    /// # Errors
    /// If it cannot be made or read, or was made for another dialect or by another version.
    pub fn open(root: &Path, dialect: &Dialect) -> Result<Self, CacheError> {
        Self::open_in_boot(root, dialect, BootId::current())
    }

    pub(crate) fn open_in_boot(
        root: &Path,
        dialect: &Dialect,
        boot: Option<BootId>,
    ) -> Result<Self, CacheError> {
        make_buckets(root)?;
        let root = root.canonicalize().at("open", root)?;
        let locks = root.join("locks");
        let mended = format::check(&root, dialect, &locks.join("format"))?;
        let later = Arc::new(Warnings::default());
        let trash = Arc::new(Trash::new(root.join("trash")));
        let watermark = Watermark::new(root.join("watermark"), locks.join("watermark"));
        let syncer = Syncer::new(&root, boot, watermark, later.clone())?;
        let mut warnings = host_warnings(&root, &syncer, boot);
        warnings.extend(mended);
        let store = Arc::new(Store {
            journal: Journal::new(root.join("done"), locks.join("publish")),
            database: Database::new(&root, trash.clone(), later.clone())?,
            syncer,
            boot,
            warnings: later.clone(),
            ceiling: std::sync::OnceLock::new(),
        });
        let dead = lease::dead(&root.join("leases"))?;
        if !dead.is_empty() {
            // Its steps may have told much that nobody needs any more.
            claim::sweep(&locks)?;
        }
        Ok(Self {
            lease: Lease::create(&root.join("leases"), &locks.join("gc"))?,
            dead: Mutex::new(dead),
            blobs: BlobStore::new(&root, store.clone()),
            images: ImageStore::new(&root, store.clone()),
            contexts: ContextHashes::new(root.join("context-v1"), later),
            used: LastUsed::new(root.join("used")),
            mounts: CacheMounts::new(root.join("mounts-v1"), trash.clone()),
            repositories: Repositories::new(root.join("git-v1"), trash.clone()),
            history: History::new(root.join("history-v1"), locks.join("evicted")),
            warnings,
            trash,
            store,
            root,
        })
    }

    /// The directory, as an absolute path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the snapshotter keeps snapshots.
    pub fn snapshots_dir(&self) -> PathBuf {
        self.root.join("snapshots-v1")
    }

    /// For mount points and the like: nothing in it outlives its process.
    pub fn run_dir(&self) -> PathBuf {
        self.root.join("run")
    }

    /// For work in progress (partial downloads, logs of running steps).
    pub fn inflight_dir(&self) -> PathBuf {
        self.root.join("inflight")
    }

    /// Sets how much it may take; once.
    pub fn set_ceiling(&self, ceiling: Ceiling) {
        let _ = self.store.ceiling.set(ceiling);
    }

    /// How much it may take, if anybody said so.
    pub fn ceiling(&self) -> Option<&Ceiling> {
        self.store.ceiling.get()
    }

    /// What people should know about this state directory, found when it was opened.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Takes the warnings that came since: damaged files that were passed over, syncs that failed.
    pub fn take_warnings(&self) -> Vec<String> {
        let mut warnings = self.store.warnings.take();
        warnings.extend(self.ceiling().into_iter().flat_map(Ceiling::take_notes));
        warnings
    }

    /// How many blobs were found damaged, and are not used any more.
    pub fn damage_count(&self) -> u64 {
        self.store.warnings.damage_count()
    }

    /// This process's lease.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Takes the leases of killed processes that were found at the opening. What was in progress
    /// under them is for the caller to clean up; then [`DeadLease::clear`]. One that is dropped
    /// is found again next time.
    pub fn take_dead_leases(&self) -> Vec<DeadLease> {
        std::mem::take(&mut *self.dead.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What running processes hold of one kind, by their leases. Something that is in progress
    /// is leased before it is there: what was listed before this call and is not in its answer
    /// belongs to nobody any more.
    ///
    /// # Errors
    /// If the leases cannot be read.
    pub fn held(&self, kind: Holding) -> Result<BTreeSet<String>, CacheError> {
        let all = lease::live(&self.root.join("leases"))?;
        Ok(all.into_iter().filter(|(k, _)| *k == kind).map(|(_, id)| id).collect())
    }

    /// The blobs.
    pub fn blobs(&self) -> &BlobStore {
        &self.blobs
    }

    /// The images.
    pub fn images(&self) -> &ImageStore {
        &self.images
    }

    /// The hashes of files in build contexts.
    pub fn contexts(&self) -> &ContextHashes {
        &self.contexts
    }

    /// The cache mounts.
    pub fn mounts(&self) -> &CacheMounts {
        &self.mounts
    }

    /// The git repositories that were fetched from.
    pub fn repositories(&self) -> &Repositories {
        &self.repositories
    }

    /// What the last builds were made of.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// When snapshots were last of use.
    pub fn last_used(&self) -> &LastUsed {
        &self.used
    }

    /// Notes that something was written into the state directory (a snapshot): it belongs to the
    /// next group commit. What is written through this crate is noted by itself.
    pub fn wrote(&self) {
        self.store.syncer.wrote();
    }

    /// Group commit: syncs what was written since the last one. Nothing if nothing was.
    ///
    /// # Errors
    /// If the kernel reports that something could not be written.
    pub fn sync(&self) -> Result<(), CacheError> {
        self.store.syncer.sync()
    }

    /// How many syncs this process has made here (syncfs, fsync of single files, synced batches
    /// of the database).
    pub fn sync_count(&self) -> u64 {
        self.store.syncer.count()
    }

    /// Reads all records and facts. Those that are damaged are removed, with a warning. How many
    /// are good.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn check_records(&self) -> Result<u64, CacheError> {
        fold::check(&self.store)
    }

    /// The end of a build: everything published becomes durable and moves into the database. A
    /// build that published nothing (and found nothing left by another) pays nothing.
    ///
    /// # Errors
    /// If the sync fails. A database that cannot be written is a warning: what was published
    /// stays where it is.
    pub fn finish(&self) -> Result<(), CacheError> {
        let folded = fold::fold(&self.store).unwrap_or_else(|e| {
            self.store.warnings.add(format!("the build records stay unsorted: {e}"));
            false
        });
        if !folded {
            // Then the published files must be durable by themselves.
            self.store.syncer.sync_always()?;
        }
        self.store.syncer.sync()?;
        self.empty_unattended_trash();
        Ok(())
    }

    /// Moves `path`, something in the state directory, into the trash by one rename; it is
    /// deleted later ([`empty_trash`](Self::empty_trash), or at the end of any build).
    ///
    /// # Errors
    /// If it cannot be renamed. Nothing there is fine.
    pub fn discard(&self, path: &Path) -> Result<(), CacheError> {
        self.trash.take(path)
    }

    /// Deletes what is in the trash. What cannot be deleted stays, with a warning.
    pub fn empty_trash(&self) {
        if let Err(e) = self.trash.empty() {
            self.store.warnings.add(e.to_string());
        }
    }

    /// The same, unless a collection is under way, which deletes what it takes: a build should not
    /// end later for that.
    pub(crate) fn empty_unattended_trash(&self) {
        if let Err(e) = self.trash.empty_unattended() {
            self.store.warnings.add(e.to_string());
        }
    }

    /// A fact that [`put_fact`](Self::put_fact) stored: by domain (a kind of fact, such as
    /// `diff-id`) and key.
    pub fn get_fact(&self, domain: &str, key: &[u8]) -> Option<Vec<u8>> {
        self.store.get(&fact_name(domain, key))
    }

    /// Stores a fact, with the same promises as a record has.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn put_fact(&self, domain: &str, key: &[u8], value: &[u8]) -> Result<(), CacheError> {
        let name = fact_name(domain, key);
        if self.store.get(&name).as_deref() == Some(value) {
            return Ok(());
        }
        self.store.put(&name, value)
    }

    /// The payload that [`adopt`](solver::RecordStore::adopt) agreed on for `content`, if it ever did. Whether it
    /// is still usable is for the caller to find out.
    pub fn adopted(&self, content: &ContentId) -> Option<String> {
        self.store.get(&Name::Content(*content)).and_then(|b| String::from_utf8(b).ok())
    }

    /// The size of the database of records and facts, in bytes.
    pub fn records_size(&self) -> u64 {
        self.store.database.size()
    }

    pub(crate) fn trash(&self) -> &Trash {
        &self.trash
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Does `settle` while no other process does the same: settling how snapshots are stored here.
    ///
    /// # Errors
    /// [`CacheError::Io`] about the lock.
    pub fn settling_snapshots<T>(&self, settle: impl FnOnce() -> T) -> Result<T, CacheError> {
        let _alone = FileLock::acquire(&self.lock_path("snapshots"), Mode::Exclusive)?;
        Ok(settle())
    }

    pub(crate) fn lock_path(&self, name: &str) -> PathBuf {
        self.root.join("locks").join(name)
    }

    /// Removes what killed processes left: locks that nobody has, temporary files, trash.
    pub(crate) fn sweep(&self) -> Result<(), CacheError> {
        self.store.journal.sweep();
        self.images.sweep();
        self.blobs.sweep();
        self.contexts.sweep();
        durable::sweep_abandoned(&self.root);
        claim::sweep(&self.root.join("locks"))?;
        let inflight = self.inflight_dir();
        for entry in fs::read_dir(&inflight).at("list", &inflight)?.flatten() {
            if entry.file_name().to_str().is_some_and(want::is_want) {
                want::sweep(&entry.path());
            }
        }
        self.empty_trash();
        Ok(())
    }

    /// The lock of the contents whose identities begin like this one.
    fn content_lock(&self, content: &ContentId) -> PathBuf {
        self.lock_path(&format!("content-{:02x}", content.as_bytes()[0]))
    }
}

impl RecordStore for State {
    fn get(&self, key: &ActionKey, not_before: Timestamp) -> Result<Option<Record>, StoreError> {
        let record = self.store.get(&Name::Record(*key)).and_then(|b| record::decode(&b));
        Ok(record.filter(|r| r.key == *key && is_fresh(r.started, not_before)))
    }

    fn claim(&self, key: &ActionKey) -> Result<Option<Box<dyn Claim>>, StoreError> {
        let claimed = claim::claim(&self.root.join("locks"), &self.inflight_dir(), key);
        let claimed = claimed.map_err(|e| StoreError::new("claim a step", e))?;
        Ok(claimed.map(|c| Box::new(c) as Box<dyn Claim>))
    }

    fn watch(&self) -> Result<Box<dyn Watch>, StoreError> {
        let watcher = Watcher::new(self.root.join("locks"), self.inflight_dir());
        let watcher = watcher.map_err(|e| StoreError::new("wait for steps of other builds", e))?;
        Ok(Box::new(watcher))
    }

    fn publish(&self, claim: &dyn Claim, record: &Record) -> Result<(), StoreError> {
        let operation = "record a step";
        if claim.key() != record.key {
            return Err(StoreError::new(operation, "another key is claimed"));
        }
        let bytes = record::encode(record);
        if bytes.len() as u64 >= crate::journal::MAX_VALUE {
            return Err(StoreError::new(operation, "the record is too large"));
        }
        self.store.put(&Name::Record(record.key), &bytes).map_err(|e| StoreError::new(operation, e))
    }

    fn adopt(
        &self,
        content: &ContentId,
        payload: &str,
        usable: &dyn Fn(&str) -> bool,
    ) -> Result<String, StoreError> {
        let failed = |e| StoreError::new("agree on a result", e);
        let name = Name::Content(*content);
        let _held =
            FileLock::acquire(&self.content_lock(content), Mode::Exclusive).map_err(failed)?;
        let known = self.store.get(&name).and_then(|b| String::from_utf8(b).ok());
        if let Some(known) = known.filter(|k| k == payload || usable(k)) {
            return Ok(known);
        }
        self.store.put(&name, payload.as_bytes()).map_err(failed)?;
        Ok(payload.to_owned())
    }
}

/// Whether a step that started then is acceptable. Where freshness is asked for, one from the
/// future is not: the clock was wrong at the time.
fn is_fresh(started: Timestamp, not_before: Timestamp) -> bool {
    not_before == Timestamp::EPOCH || (not_before..=Timestamp::now()).contains(&started)
}

fn fact_name(domain: &str, key: &[u8]) -> Name {
    let hash = KeyBuilder::new("fact/v1").part(domain.as_bytes()).part(key).content_id();
    Name::Fact(*hash.as_bytes())
}

fn make_buckets(root: &Path) -> Result<(), CacheError> {
    let make = |path: &Path| match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other.at("create", path),
    };
    if !root.is_dir() {
        let above = root.parent().filter(|p| !p.as_os_str().is_empty());
        if let Some(above) = above {
            DirBuilder::new().mode(0o700).recursive(true).create(above).at("create", above)?;
        }
        make(root)?;
    }
    BUCKETS.iter().try_for_each(|bucket| make(&root.join(bucket)))
}

fn host_warnings(root: &Path, syncer: &Syncer, boot: Option<BootId>) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Kind::Foreign(name) = filesystem::kind_of(syncer.root()) {
        warnings.push(format!(
            "{} is on a {name} file system: locks and synced writes may not work there, and with \
             them the promises of the build cache; keep it on a local disk",
            root.display()
        ));
    }
    if boot.is_none() {
        warnings.push(
            "/proc/sys/kernel/random/boot_id cannot be read: every step is synced, which is slow"
                .to_owned(),
        );
    }
    warnings
}

#[cfg(test)]
mod tests;
