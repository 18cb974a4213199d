//! Everything that takes space in a state directory, as items. What is left beside those that can
//! be named is one item too, so that their sizes add up to what du(1) counts.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use oci::{Digest, Timestamp};
use solver::Record;

use super::collect::failed;
use super::{Collector, Item, ItemId, Kind};
use crate::error::CacheError;
use crate::image::StoredImage;
use crate::journal::Name;
use crate::lock::{self, Mode};
use crate::state::State;
use crate::{build_log, record, space};

/// What is never collected, whole, and what it is.
const KEPT: [(&str, &str); 3] = [
    ("records-v1", "records of steps"),
    ("history-v1", "what builds were made of, to explain the next ones"),
    ("images-v1", "names of images"),
];

/// What collection changes besides.
const CHANGED: [&str; 5] = ["done", "trash", "used", "locks", "leases"];

/// What keys of records of steps begin with in the database.
const RECORD: u8 = b'r';

/// What stands for everything that is not an item of its own.
const REST: &str = ".";

const CONTEXTS: &str = "context-v1";
const INFLIGHT: &str = "inflight";
const SNAPSHOTS: &str = "snapshots-v1";

/// What the names of partial downloads begin with, which are locked while they grow.
const PART: &str = "blob-";

impl State {
    /// Everything that takes space. It is walked without any lock: what comes or goes meanwhile
    /// may be missing.
    pub(crate) fn items(&self, collector: &mut dyn Collector) -> Result<Vec<Item>, CacheError> {
        let listed = collector.snapshots();
        let mut items = listed.map_err(|source| failed("list the snapshots".to_owned(), source))?;
        items.extend(self.blob_items()?);
        items.extend(self.shared_items()?);
        items.extend(self.log_items()?);
        // Complete ones have no suffix; those that cannot be read are counted with the rest.
        let unfinished =
            self.files_in(SNAPSHOTS).into_iter().filter(|(name, _)| name.contains('.'));
        items.extend(unfinished.map(|(name, _)| {
            let text = "a snapshot that is being made";
            self.place(&format!("{SNAPSHOTS}/{name}"), Kind::State, text)
        }));
        items.extend(self.files_in(CONTEXTS).into_iter().map(|(name, meta)| {
            let text = "local source for context: hashes of its files";
            let used = meta.accessed().ok().max(meta.modified().ok());
            let item = self.place(&format!("{CONTEXTS}/{name}"), Kind::Local, text);
            Item { last_used: used.map_or(item.last_used, Timestamp::from), ..item }
        }));
        items.extend(self.files_in(INFLIGHT).into_iter().map(|(name, _)| {
            let (kind, text) = match name.strip_prefix(PART) {
                Some(hex) => (Kind::Internal, format!("part of a download, sha256:{hex}")),
                None => (Kind::State, "work in progress".to_owned()),
            };
            self.place(&format!("{INFLIGHT}/{name}"), kind, &text)
        }));
        items.extend(self.kept_items(&items));
        Ok(items)
    }

    /// Calls `each` with every record of a step, in no order; of a step that ran again, with the
    /// old one too.
    pub fn for_each_record(&self, each: &mut dyn FnMut(&Record)) {
        let store = self.store();
        let mut tell = |body: Option<&[u8]>| {
            if let Some(record) = body.and_then(record::decode) {
                each(&record);
            }
        };
        for name in store.journal.list(usize::MAX).unwrap_or_default() {
            if matches!(name, Name::Record(_)) {
                tell(store.get(&name).as_deref());
            }
        }
        store.database.for_each(|key, value| {
            if key.first() == Some(&RECORD) {
                tell(store.accept(value));
            }
        });
    }

    /// What a collection makes smaller or larger beside the items that it removes, in bytes.
    pub(super) fn kept_bytes(&self) -> u64 {
        let kept = KEPT.iter().map(|(place, _)| *place).chain(CHANGED);
        let kept = kept.map(|place| self.root().join(place));
        let files = self.files_in("").into_iter().filter(|(_, meta)| meta.is_file());
        let files = files.map(|(name, _)| self.root().join(name));
        kept.chain(files).map(|path| space::disk_usage(&path)).sum()
    }

    /// Whether anything of an item is there.
    pub(super) fn is_there(&self, id: &ItemId) -> bool {
        self.paths_of(id).iter().any(|path| fs::symlink_metadata(path).is_ok())
    }

    fn kept_items(&self, items: &[Item]) -> Vec<Item> {
        let mut named: HashSet<PathBuf> =
            items.iter().flat_map(|item| self.paths_of(&item.id)).collect();
        let mut kept = Vec::new();
        for (name, text) in KEPT {
            named.insert(self.root().join(name));
            kept.push(self.place(name, Kind::State, text));
        }
        let text = "locks, leases, times of use and the directories themselves";
        let size = space::disk_usage_beside(self.root(), &named);
        kept.push(Item { size, ..self.place_of(REST, Kind::State, text) });
        kept
    }

    /// The files and directories of an item.
    fn paths_of(&self, id: &ItemId) -> Vec<PathBuf> {
        match id {
            ItemId::Snapshot(id) => vec![self.snapshots_dir().join(id)],
            ItemId::Blob(digest) => vec![self.blob_path(digest)],
            ItemId::Repository(id) => self.repositories().paths(id),
            ItemId::Mount(id) => self.mounts().paths(id),
            ItemId::Place(place) => vec![self.root().join(place)],
        }
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root().join("blobs-v1/sha256").join(digest.hex())
    }

    fn blob_items(&self) -> Result<Vec<Item>, CacheError> {
        let names = self.blob_names()?;
        let item = |blob: crate::blob::StoredBlob| {
            let stored = Timestamp::from(blob.stored);
            let description = names.get(&blob.digest).cloned();
            Item {
                size: space::disk_usage(&self.blob_path(&blob.digest)),
                id: ItemId::Blob(blob.digest),
                parent: None,
                uses: None,
                created: stored,
                last_used: stored,
                kind: Kind::Blob,
                description: description
                    .unwrap_or_else(|| "compressed layer or document of no image".to_owned()),
            }
        };
        Ok(self.blobs().list()?.into_iter().map(item).collect())
    }

    /// What images need blobs for.
    fn blob_names(&self) -> Result<BTreeMap<Digest, String>, CacheError> {
        let mut names = BTreeMap::new();
        let images = self.images().list()?.into_iter().chain(self.images().remembered()?);
        for image in images {
            let of = image_name(&image);
            let mut name = |what: &str, digest: Digest| {
                names.entry(digest).or_insert_with(|| format!("{what} of {of}"));
            };
            name("config", image.config.digest);
            image.manifest.iter().for_each(|m| name("manifest", m.digest));
            let layers = image.layers.iter().filter_map(|layer| layer.blob.as_ref());
            layers.for_each(|layer| name("compressed layer", layer.digest));
        }
        Ok(names)
    }

    /// What builds share and change in place: git repositories and cache mounts.
    fn shared_items(&self) -> Result<Vec<Item>, CacheError> {
        let mut items = Vec::new();
        for repository in self.repositories().list()? {
            let id = ItemId::Repository(repository.id);
            items.push(Item {
                size: self.paths_of(&id).iter().map(|path| space::disk_usage(path)).sum(),
                id,
                parent: None,
                uses: None,
                created: Timestamp::from(repository.created),
                last_used: Timestamp::from(repository.last_used),
                kind: Kind::Git,
                description: format!("git repository {}", repository.name),
            });
        }
        for mount in self.mounts().list()? {
            items.push(Item {
                id: ItemId::Mount(mount.id),
                parent: None,
                uses: None,
                size: mount.size,
                created: mount.created.into(),
                last_used: mount.last_used.into(),
                kind: Kind::CacheMount,
                description: mount
                    .purpose
                    .unwrap_or_else(|| format!("cached mount with id {:?}", mount.name)),
            });
        }
        Ok(items)
    }

    fn log_items(&self) -> Result<Vec<Item>, CacheError> {
        let logs = self.build_logs();
        let item = |id: String| {
            let item = self.place(&format!("{}/{id}", build_log::BUCKET), Kind::Internal, "");
            match logs.read(&id) {
                Ok(build) => Item {
                    created: build.started,
                    last_used: build.last(),
                    description: format!("log of build {}", build.title),
                    ..item
                },
                Err(_) => Item { description: "damaged log of a build".to_owned(), ..item },
            }
        };
        Ok(logs.ids()?.into_iter().map(item).collect())
    }

    fn place(&self, place: &str, kind: Kind, description: &str) -> Item {
        let size = space::disk_usage(&self.root().join(place));
        Item { size, ..self.place_of(place, kind, description) }
    }

    fn place_of(&self, place: &str, kind: Kind, description: &str) -> Item {
        let meta = fs::symlink_metadata(self.root().join(place)).ok();
        let changed = meta.as_ref().and_then(|meta| meta.modified().ok()).map(Timestamp::from);
        let created = meta.as_ref().and_then(|meta| meta.created().ok()).map(Timestamp::from);
        Item {
            id: ItemId::Place(place.to_owned()),
            parent: None,
            uses: None,
            size: 0,
            created: created.or(changed).unwrap_or_default(),
            last_used: changed.unwrap_or_default(),
            kind,
            description: description.to_owned(),
        }
    }

    fn files_in(&self, bucket: &str) -> Vec<(String, fs::Metadata)> {
        let entries = fs::read_dir(self.root().join(bucket)).into_iter().flatten().flatten();
        let named = entries.filter_map(|entry| {
            Some((entry.file_name().into_string().ok()?, entry.metadata().ok()?))
        });
        let mut files: Vec<_> = named.collect();
        files.sort_by(|a, b| a.0.cmp(&b.0));
        files
    }

    /// Places that somebody works on: unfinished snapshots, logs that are written, downloads.
    /// `unfinished` are the snapshots that running processes make.
    pub(super) fn places_in_use(
        &self,
        unfinished: &BTreeSet<String>,
    ) -> Result<BTreeSet<ItemId>, CacheError> {
        let mut used = BTreeSet::new();
        let mut add = |bucket: &str, name: &str| {
            used.insert(ItemId::Place(format!("{bucket}/{name}")));
        };
        for (name, _) in self.files_in(SNAPSHOTS) {
            // `<id>.active`: what follows the id is the snapshotter's.
            let id = name.split('.').next().unwrap_or(&name);
            if unfinished.contains(id) {
                add(SNAPSHOTS, &name);
            }
        }
        for (name, _) in self.files_in(INFLIGHT) {
            if hold(&self.root().join(INFLIGHT).join(&name)).is_none() {
                add(INFLIGHT, &name);
            }
        }
        let logs = self.build_logs();
        for id in logs.ids()?.into_iter().filter(|id| logs.is_running(id)) {
            add(build_log::BUCKET, &id);
        }
        Ok(used)
    }

    /// Takes one place out of use; false if somebody works on it.
    pub(super) fn remove_place(&self, place: &str) -> Result<bool, CacheError> {
        let path = self.root().join(place);
        match place.split_once('/') {
            Some((build_log::BUCKET, id)) => self.build_logs().remove(id, self.trash()),
            Some((INFLIGHT, name)) if name.starts_with(PART) => {
                // Held until it is gone: who goes on with it looks whether it has the name.
                let Some(_held) = hold(&path) else { return Ok(false) };
                self.trash().take(&path).map(|()| true)
            }
            Some((CONTEXTS, _)) => self.trash().take(&path).map(|()| true),
            _ => Ok(false),
        }
    }
}

/// A file, locked; none if it is gone or somebody else has it locked.
fn hold(path: &Path) -> Option<fs::File> {
    let file = fs::File::open(path).ok()?;
    matches!(lock::try_lock(&file, Mode::Exclusive), Ok(true)).then_some(file)
}

/// What people know an image by.
pub(super) fn image_name(image: &StoredImage) -> String {
    let short = || format!("image {}", image.id().short());
    image.reference.clone().unwrap_or_else(short)
}
