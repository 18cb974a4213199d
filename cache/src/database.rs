//! `records-v1/`: the RocksDB database that published values are folded into.
//!
//! Reading needs no lock: a read-only view shows the state at its opening. Writers bump the
//! number in the `generation` file after each batch; a reader whose view is of another
//! generation opens a new one. Writing is short and behind a file lock of ours, because RocksDB
//! lets a second writer fail instead of wait.
//!
//! Each batch becomes a table at once. RocksDB cannot tell the damaged end of a log, or of the
//! manifest, from one that a crash cut off, and says nothing of either. So nothing is kept in the
//! log, and the batch also stores the generation it makes: a view that is older than the file
//! `generation` says lacks the tables of the last batches.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rocksdb::{BlockBasedOptions, DB, DBCompressionType, ErrorKind, LogLevel, Options, WriteBatch};

use crate::error::{At, CacheError};
use crate::lock::{FileLock, Mode};
use crate::trash::Trash;
use crate::warnings::Warnings;

/// A read-only open may fail while a writer removes files under it: then it is tried again.
const OPEN_TRIES: usize = 5;

/// Waiting between those tries.
const OPEN_PAUSE: Duration = Duration::from_millis(1);

/// Each writing open leaves one table; from this many on they are merged.
const MAX_TABLES: u64 = 16;

/// The key of the row with the generation of the last batch, eight bytes like those in the file.
/// All other keys are longer.
const GENERATION: &[u8] = b"g";

/// Disk space that is reserved for a log or manifest at a time, in bytes.
const PREALLOCATED: u64 = 64 << 10;

/// What keys begin with.
const LETTERS: [u8; 3] = *b"cfr";

/// What is kept in memory of a damaged database, at most; in bytes.
const MAX_KEPT: usize = 256 << 20;

/// How far behind a damaged block reading begins again, in 1/65536 of the keys of one letter.
const STEP: u32 = 16;

/// What is wrong where RocksDB's list of tables is gone.
const HEADLESS: &str = "the file CURRENT is missing";

/// What is wrong where that list was cut off.
const BEHIND: &str = "the last tables are missing from the MANIFEST";

/// How long to wait for another writer before leaving the work to a later build.
const WRITER_WAIT: Duration = Duration::from_secs(2);

/// The database.
pub(crate) struct Database {
    path: PathBuf,
    lock: PathBuf,
    generation: File,
    trash: Arc<Trash>,
    warnings: Arc<Warnings>,
    view: Mutex<View>,
    damaged: AtomicBool,
    /// A view was older than it should be.
    behind: AtomicBool,
}

/// A read-only view and the generation it shows. No database: there is none yet, or none that
/// can be read.
#[derive(Default)]
struct View {
    generation: Option<u64>,
    database: Option<Arc<DB>>,
}

/// A key and its value.
type Row = (Box<[u8]>, Box<[u8]>);

/// One change of a batch.
pub(crate) enum Change {
    /// Stores a value.
    Put([u8; 33], Vec<u8>),
    /// Removes a value, if it still is the one given.
    Delete([u8; 33], Vec<u8>),
}

/// The only writer of the database, of all processes.
pub(crate) struct Writer<'a> {
    database: &'a Database,
    _lock: FileLock,
}

impl Writer<'_> {
    /// Applies `changes` as one synced batch.
    pub(crate) fn apply(&self, changes: &[Change]) -> Result<(), CacheError> {
        self.database.apply(changes)
    }
}

impl Database {
    pub(crate) fn new(
        root: &Path,
        trash: Arc<Trash>,
        warnings: Arc<Warnings>,
    ) -> Result<Self, CacheError> {
        let generation = root.join("generation");
        Ok(Self {
            path: root.join("records-v1"),
            lock: root.join("locks/records"),
            generation: File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&generation)
                .at("open", &generation)?,
            trash,
            warnings,
            view: Mutex::default(),
            damaged: AtomicBool::new(false),
            behind: AtomicBool::new(false),
        })
    }

    /// The value of `key`. Whatever goes wrong is a miss.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let database = self.view(None)?;
        match database.get(key) {
            Ok(value) => value,
            Err(first) => {
                // A writer may have merged the tables away: a new view has the new ones.
                let database = self.view(Some(database))?;
                let second = match database.get(key) {
                    Ok(value) => return value,
                    Err(e) => e,
                };
                let corrupt = [&first, &second].iter().any(|e| e.kind() == ErrorKind::Corruption);
                drop(database);
                if corrupt {
                    self.damaged.store(true, Ordering::SeqCst);
                    if self.mend_to_read() {
                        return self.view(None)?.get(key).ok().flatten();
                    }
                }
                let text = format!("cannot read the build records, steps run again: {second}");
                self.warnings.add(text);
                None
            }
        }
    }

    /// The view of the current generation, other than `stale`.
    fn view(&self, stale: Option<Arc<DB>>) -> Option<Arc<DB>> {
        // Before the view is opened: one that is newer than its number is only opened once more.
        let generation = self.generation().0;
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let is_stale = match (&stale, &view.database) {
            (Some(stale), Some(open)) => Arc::ptr_eq(stale, open),
            _ => false,
        };
        if view.generation != Some(generation) || is_stale {
            let mut opened = self.open_view();
            if let Err(why) = &opened {
                // Mending looks at the view as well.
                let text = format!("cannot open the build records, steps run again: {why}");
                drop(view);
                let mended = self.mend_to_read();
                view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
                opened = if mended { self.open_view() } else { Ok(None) };
                if !mended || opened.is_err() {
                    self.warnings.add(text);
                }
            }
            *view = View { generation: Some(generation), database: opened.ok().flatten() };
        }
        view.database.clone()
    }

    /// Mends what cannot be read as it is. Whether it was opened.
    fn mend_to_read(&self) -> bool {
        match self.writer() {
            Ok(Some(_writer)) => self.open_writer().is_ok(),
            _ => false,
        }
    }

    /// The view of what is on the disk; none where there is no database.
    fn open_view(&self) -> Result<Option<Arc<DB>>, String> {
        let written = self.generation();
        let opened = self.open_any_view()?;
        if opened.as_ref().is_some_and(|database| is_behind(database, written)) {
            self.behind.store(true, Ordering::SeqCst);
            return Err(BEHIND.to_owned());
        }
        Ok(opened)
    }

    fn open_to_read(&self) -> Result<DB, rocksdb::Error> {
        let mut options = options();
        options.set_max_open_files(-1);
        DB::open_for_read_only(&options, &self.path, false)
    }

    fn open_any_view(&self) -> Result<Option<Arc<DB>>, String> {
        for attempt in 0..OPEN_TRIES {
            if attempt > 0 {
                std::thread::sleep(OPEN_PAUSE);
            }
            let Some(before) = self.current() else {
                return if self.is_headless() { Err(HEADLESS.to_owned()) } else { Ok(None) };
            };
            let opened = self.open_to_read();
            // Every writing open starts with a new manifest. Its rows of the log before are in a
            // table that this view may not know, and the log was removed: it would lack them.
            if self.current().as_ref() == Some(&before)
                && let Ok(database) = opened
            {
                return Ok(Some(Arc::new(database)));
            }
        }
        // Once more with no writer beside it.
        let _no_writer = FileLock::acquire_within(&self.lock, Mode::Shared, WRITER_WAIT);
        // Whether it is damaged is for the writing open to say.
        self.open_to_read().map(|database| Some(Arc::new(database))).map_err(|e| e.to_string())
    }

    /// Whether there are tables or logs, and nothing says which of them count. A manifest alone is a
    /// beginning that was cut off: whoever makes a database writes `CURRENT` before the first log.
    fn is_headless(&self) -> bool {
        let table = |name: &str| name.ends_with(".sst") || name.ends_with(".log");
        self.current().is_none()
            && fs::read_dir(&self.path).is_ok_and(|mut all| {
                all.any(|e| e.is_ok_and(|e| table(&e.file_name().to_string_lossy())))
            })
    }

    /// The name of the current manifest; none where there is no database.
    fn current(&self) -> Option<Vec<u8>> {
        fs::read(self.path.join("CURRENT")).ok()
    }

    /// The right to write. None if another process has it for so long that it is better tried
    /// again later.
    pub(crate) fn writer(&self) -> Result<Option<Writer<'_>>, CacheError> {
        let lock = FileLock::acquire_within(&self.lock, Mode::Exclusive, WRITER_WAIT)?;
        Ok(lock.map(|lock| Writer { database: self, _lock: lock }))
    }

    fn apply(&self, changes: &[Change]) -> Result<(), CacheError> {
        let database = self.open_writer()?;
        let mut batch = WriteBatch::default();
        for change in changes {
            match change {
                Change::Put(key, value) => batch.put(key, value),
                Change::Delete(key, seen) => {
                    let read = |source| CacheError::Database { operation: "read", source };
                    if database.get(key).map_err(read)?.as_ref() == Some(seen) {
                        batch.delete(key);
                    }
                }
            }
        }
        self.write(&database, batch)
    }

    /// Writes a batch and the generation that it makes, as a table.
    fn write(&self, database: &DB, mut batch: WriteBatch) -> Result<(), CacheError> {
        let next = self.next_generation(database);
        batch.put(GENERATION, next.to_le_bytes());
        let mut options = rocksdb::WriteOptions::default();
        options.disable_wal(true);
        let write = |source| CacheError::Database { operation: "write", source };
        database.write_opt(batch, &options).map_err(write)?;
        // Synced, with the list of tables.
        database.flush().map_err(write)?;
        let tables = database.property_value("rocksdb.num-files-at-level0").ok().flatten();
        if tables.and_then(|n| n.parse().ok()).is_some_and(|n: u64| n >= MAX_TABLES) {
            database.compact_range::<&[u8], &[u8]>(None, None);
        }
        self.set_generation(next)
    }

    /// Opens for writing; a database that cannot be opened because it is damaged is moved aside.
    fn open_writer(&self) -> Result<DB, CacheError> {
        let open = || {
            let mut options = options();
            options.create_if_missing(true);
            options.set_max_open_files(64);
            // One in the background would be cut off by the close that follows.
            options.set_disable_auto_compactions(true);
            DB::open(&options, &self.path)
        };
        let found = self.damaged.load(Ordering::SeqCst);
        // Without a list of tables, or with half of one, opening would remove those not in it.
        let unlisted = match self.is_headless() {
            true => Some(HEADLESS),
            false => self.is_still_behind().then_some(BEHIND),
        };
        let opened = if unlisted.is_some() { None } else { Some(open()) };
        let why = match &opened {
            None => unlisted.map(str::to_owned),
            Some(Err(e)) if is_damage(e) => Some(e.to_string()),
            _ if found => Some("a table cannot be read".to_owned()),
            _ => None,
        };
        let failed = |source| CacheError::Database { operation: "open", source };
        let why = match (why, opened) {
            (None, Some(opened)) => return opened.map_err(failed),
            (why, _) => why.unwrap_or_default(),
        };
        let mended = self.mend(&open);
        let database = match mended {
            Some(database) => {
                self.warnings.add(format!(
                    "the build records were damaged ({why}) and mended: what could not be read is \
                     built again"
                ));
                Ok(database)
            }
            None => {
                self.warnings.add(format!("the build records were damaged and start anew: {why}"));
                self.set_aside()?;
                open()
            }
        };
        let database = database.map_err(failed)?;
        // Who finds an older view from now on has found other damage.
        self.write(&database, WriteBatch::default())?;
        self.damaged.store(false, Ordering::SeqCst);
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = View::default();
        Ok(database)
    }

    /// Whether the tables of the last batches are missing, now that nobody writes: a view beside a
    /// writer that begins anew is older as well.
    fn is_still_behind(&self) -> bool {
        self.behind.swap(false, Ordering::SeqCst)
            && self.open_to_read().is_ok_and(|database| is_behind(&database, self.generation()))
    }

    /// Makes a new list of tables from those that can be read; none where that is not enough. Every
    /// value has a checksum of its own, so nothing wrong comes back; what was replaced may, and is
    /// a miss where its data is gone.
    fn mend(&self, open: &dyn Fn() -> Result<DB, rocksdb::Error>) -> Option<DB> {
        let kept = self.open_to_read().map(|database| readable(&database)).unwrap_or_default();
        DB::repair(&options(), &self.path).ok()?;
        // What was of no use to it.
        let _ = self.trash.take(&self.path.join("lost"));
        let database = open().ok()?;
        let mut all = database.iterator(rocksdb::IteratorMode::Start);
        if all.any(|row| row.is_err()) {
            return None;
        }
        drop(all);
        // Of a table that has a damaged block it takes none.
        let mut lost = WriteBatch::default();
        for (key, value) in kept {
            if !database.get(&key).is_ok_and(|found| found.as_deref() == Some(&*value)) {
                lost.put(key, value);
            }
        }
        // On a disk that is full they are lost, the others are not.
        let _ = self.write(&database, lost);
        Some(database)
    }

    fn set_aside(&self) -> Result<(), CacheError> {
        self.trash.take(&self.path)
    }

    /// Reads every row, and mends what cannot be read. How many rows there are.
    pub(crate) fn check(&self) -> u64 {
        let count = || -> Result<u64, rocksdb::Error> {
            let Some(database) = self.view(None) else { return Ok(0) };
            let rows = database.iterator(rocksdb::IteratorMode::Start);
            rows.map(|row| row.map(|(key, _)| u64::from(*key != *GENERATION))).sum()
        };
        count().unwrap_or_else(|_| {
            self.damaged.store(true, Ordering::SeqCst);
            self.mend_to_read();
            count().unwrap_or_default()
        })
    }

    /// Calls `each` with every key and value of the current view.
    pub(crate) fn for_each(&self, mut each: impl FnMut(&[u8], &[u8])) {
        let Some(database) = self.view(None) else { return };
        for item in database.iterator(rocksdb::IteratorMode::Start) {
            match item {
                Ok((key, value)) => each(&key, &value),
                Err(e) => {
                    self.warnings.add(format!("cannot read all of the build records: {e}"));
                    return;
                }
            }
        }
    }

    /// The generation in the file, and whether it can be relied on. It has no checksum where an
    /// earlier version wrote last, which stored no row of it.
    fn generation(&self) -> (u64, bool) {
        let mut raw = [0; 16];
        let mut filled = 0;
        while let Ok(count @ 1..) = self.generation.read_at(&mut raw[filled..], filled as u64) {
            filled += count;
        }
        let number: [u8; 8] = *raw.first_chunk().unwrap_or(&[0; 8]);
        (u64::from_le_bytes(number), filled == raw.len() && raw[8..] == checksum(number))
    }

    /// The one after the last; of a damaged file the row knows better.
    fn next_generation(&self, database: &DB) -> u64 {
        let (number, relied_on) = self.generation();
        let row = if relied_on { 0 } else { row_of_generation(database).unwrap_or(0) };
        number.max(row).wrapping_add(1)
    }

    /// Under the writer's lock. Sixteen bytes in one page; half of them have a checksum that does not
    /// fit.
    fn set_generation(&self, number: u64) -> Result<(), CacheError> {
        let number = number.to_le_bytes();
        let bytes = [number, checksum(number)].concat();
        self.generation.write_all_at(&bytes, 0).at("write", &self.path.with_file_name("generation"))
    }

    /// How many bytes the database takes.
    pub(crate) fn size(&self) -> u64 {
        let Ok(entries) = fs::read_dir(&self.path) else { return 0 };
        entries.flatten().filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum()
    }
}

fn checksum(number: [u8; 8]) -> [u8; 8] {
    *blake3::hash(&number).as_bytes().first_chunk().unwrap_or(&[0; 8])
}

/// Whether a view lacks what was written before the generation was `written`, which was read before
/// it was opened.
fn is_behind(database: &DB, (written, relied_on): (u64, bool)) -> bool {
    relied_on && row_of_generation(database).is_ok_and(|shown| shown < written)
}

/// The generation that a view shows; 0 where no batch of this version was written. That it cannot be
/// read is found by who needs a row.
fn row_of_generation(database: &DB) -> Result<u64, rocksdb::Error> {
    let number = |row: Vec<u8>| row.try_into().map(u64::from_le_bytes).unwrap_or_default();
    Ok(database.get(GENERATION)?.map_or(0, number))
}

/// The rows that can be read of a database with damaged blocks. Keys are digests after a letter, so
/// what is behind such a block is found by going on in small steps.
fn readable(database: &DB) -> Vec<Row> {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    for letter in LETTERS {
        let first = u32::from_be_bytes([0, letter, 0, 0]);
        let (mut at, end) = (first, first + (1 << 16));
        while at < end && bytes < MAX_KEPT {
            let start = &at.to_be_bytes()[1..];
            let from = rocksdb::IteratorMode::From(start, rocksdb::Direction::Forward);
            let mut damaged = false;
            for row in database.iterator(from) {
                let Ok((key, value)) = row else {
                    damaged = true;
                    break;
                };
                if key.first() != Some(&letter) {
                    break;
                }
                if let Some([_, second, third]) = key.first_chunk() {
                    at = u32::from_be_bytes([0, letter, *second, *third]);
                }
                bytes += key.len() + value.len();
                rows.push((key, value));
            }
            at = if damaged { at + STEP } else { end };
        }
    }
    rows
}

/// What both kinds of open share: small, quiet, quick to open.
fn options() -> Options {
    let mut options = Options::default();
    options.set_log_level(LogLevel::Fatal);
    // Without a logger of its own each open, read-only ones too, would start a new LOG file.
    options.set_info_logger(rocksdb::InfoLogger::new_callback_logger(LogLevel::Fatal, |_, _| {}));
    options.set_keep_log_file_num(1);
    options.set_write_buffer_size(4 << 20);
    // Else every open for writing reserves megabytes, which an almost full disk does not have.
    options.set_max_total_wal_size(PREALLOCATED);
    options.set_manifest_preallocation_size(PREALLOCATED as usize);
    options.set_max_file_opening_threads(1);
    options.set_skip_stats_update_on_db_open(true);
    options.set_stats_dump_period_sec(0);
    options.set_compression_type(DBCompressionType::None);
    let mut tables = BlockBasedOptions::default();
    tables.set_bloom_filter(10.0, false);
    options.set_block_based_table_factory(&tables);
    options
}

/// Whether an error says that the files are damaged, not that the host is in trouble.
fn is_damage(error: &rocksdb::Error) -> bool {
    match error.kind() {
        ErrorKind::Corruption | ErrorKind::InvalidArgument | ErrorKind::NotSupported => true,
        // A part of the database is gone. (Our lock keeps other writers from removing files.)
        ErrorKind::IOError => error.as_ref().contains("No such file"),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
