//! Folding: published values become rows of the database.

use solver::ActionKey;

use crate::database::Change;
use crate::error::CacheError;
use crate::journal::Name;
use crate::sealed::{self, Promise};
use crate::store::Store;

/// Values that are folded at a time (they are held in memory).
const BATCH: usize = 4096;

/// Folds everything published, by any process, into the database. True if nothing is left.
///
/// The bytes are read first, then synced for, then written as durable: whatever a value tells of
/// was written before the value, so it is on the disk when the database says so.
///
/// Only the writer reads what it folds: a value that was read before another process folded a
/// newer one of the same name would replace that one.
pub(crate) fn fold(store: &Store) -> Result<bool, CacheError> {
    if store.journal.list(1)?.is_empty() {
        return Ok(true);
    }
    let Some(writer) = store.database.writer()? else { return Ok(false) };
    loop {
        let names = store.journal.list(BATCH)?;
        let full = names.len() == BATCH;
        let mut unread = false;
        let mut read: Vec<(Name, Vec<u8>)> = Vec::with_capacity(names.len());
        for name in names {
            match store.journal.read(&name) {
                Ok(bytes) => read.extend(bytes.map(|bytes| (name, bytes))),
                // It must not keep the others from being folded.
                Err(e) => {
                    unread = true;
                    store.warnings.add(format!("a build record is not used: {e}"));
                }
            }
        }
        if read.is_empty() {
            return Ok(!unread);
        }
        if read.iter().any(|(_, bytes)| needs_sync(store, bytes)) {
            store.syncer.sync_for_fold()?;
        }
        writer.apply(&changes(store, &read))?;
        store.syncer.counted(1);
        if !store.journal.remove(&read)? {
            return Ok(false);
        }
        if !full {
            return Ok(!unread);
        }
    }
}

fn needs_sync(store: &Store, bytes: &[u8]) -> bool {
    match sealed::open(bytes) {
        Some((Promise::Provisional { boot, .. }, _)) => Some(boot) == store.boot,
        _ => false,
    }
}

/// What is damaged or was lost with the power is left out, and so dropped.
fn changes(store: &Store, read: &[(Name, Vec<u8>)]) -> Vec<Change> {
    let put = |(name, bytes): &(Name, Vec<u8>)| {
        if sealed::open(bytes).is_none() && !sealed::is_unwritten(bytes) {
            let file = name.file_name();
            store.warnings.add(format!("the build record done/{file} is damaged and was removed"));
        }
        let body = store.accept(bytes)?;
        Some(Change::Put(name.database_key(), sealed::seal(Promise::Durable, body)))
    };
    read.iter().filter_map(put).collect()
}

/// Reads every row of the database and every published value. Those that are damaged go. How many
/// are good.
pub(crate) fn check(store: &Store) -> Result<u64, CacheError> {
    let _ = fold(store)?;
    let rows = store.database.check();
    let mut changes = Vec::new();
    store.database.for_each(|key, value| {
        if let (Ok(key), None) = (<[u8; 33]>::try_from(key), sealed::open(value)) {
            changes.push(Change::Delete(key, value.to_vec()));
        }
    });
    let damaged = changes.len() as u64;
    if damaged > 0
        && let Some(writer) = store.database.writer()?
    {
        writer.apply(&changes)?;
        store.syncer.counted(1);
        store.warnings.add_damage(format!("{damaged} build records are damaged and were removed"));
    }
    Ok(rows.saturating_sub(damaged))
}

/// Removes values of steps and contents from the database that `keep` does not want, given their
/// payload. Returns how many, and the steps' keys among them.
pub(crate) fn sweep(
    store: &Store,
    keep: &dyn Fn(&str) -> bool,
) -> Result<(usize, Vec<ActionKey>), CacheError> {
    let mut changes = Vec::new();
    let mut steps = Vec::new();
    store.database.for_each(|key, value| {
        let Ok(key) = <[u8; 33]>::try_from(key) else { return };
        let wanted = match (key[0], sealed::open(value)) {
            (b'r', Some((_, body))) => {
                crate::record::decode(body).is_some_and(|r| keep(&r.payload))
            }
            (b'c', Some((_, body))) => std::str::from_utf8(body).is_ok_and(keep),
            (_, sealed) => sealed.is_some(),
        };
        if !wanted {
            if let (b'r', Some(step)) = (key[0], key[1..].first_chunk()) {
                steps.push(ActionKey::from_bytes(*step));
            }
            changes.push(Change::Delete(key, value.to_vec()));
        }
    });
    let count = changes.len();
    if count > 0
        && let Some(writer) = store.database.writer()?
    {
        writer.apply(&changes)?;
        store.syncer.counted(1);
        return Ok((count, steps));
    }
    Ok((0, Vec::new()))
}
