//! Folding: published values become rows of the database.

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
pub(crate) fn fold(store: &Store) -> Result<bool, CacheError> {
    loop {
        let names = store.journal.list(BATCH)?;
        if names.is_empty() {
            return Ok(true);
        }
        let full = names.len() == BATCH;
        let mut read: Vec<(Name, Vec<u8>)> = Vec::with_capacity(names.len());
        for name in names {
            if let Some(bytes) = store.journal.read(&name)? {
                read.push((name, bytes));
            }
        }
        if read.iter().any(|(_, bytes)| needs_sync(store, bytes)) {
            store.syncer.sync_for_fold()?;
        }
        if !store.database.apply(&changes(store, &read))? {
            return Ok(false);
        }
        store.syncer.counted(1);
        store.journal.remove(&read)?;
        if !full {
            return Ok(true);
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
        let body = store.accept(bytes)?;
        Some(Change::Put(name.database_key(), sealed::seal(Promise::Durable, body)))
    };
    read.iter().filter_map(put).collect()
}

/// Removes values of steps and contents from the database that `keep` does not want, given their
/// payload. Returns how many.
pub(crate) fn sweep(store: &Store, keep: &dyn Fn(&str) -> bool) -> Result<usize, CacheError> {
    let mut changes = Vec::new();
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
            changes.push(Change::Delete(key, value.to_vec()));
        }
    });
    let count = changes.len();
    if count > 0 && store.database.apply(&changes)? {
        store.syncer.counted(1);
        return Ok(count);
    }
    Ok(0)
}
