//! Stored values by name: published ones first, then those of the database.

use std::sync::{Arc, OnceLock};

use crate::ceiling::Ceiling;
use crate::clock::{self, BootId};
use crate::database::Database;
use crate::durable::Durability;
use crate::error::CacheError;
use crate::journal::{Journal, Name};
use crate::sealed::{self, Promise};
use crate::sync::Syncer;
use crate::warnings::Warnings;

/// Every value of a state directory.
pub(crate) struct Store {
    pub(crate) journal: Journal,
    pub(crate) database: Database,
    pub(crate) syncer: Syncer,
    pub(crate) boot: Option<BootId>,
    pub(crate) warnings: Arc<Warnings>,
    /// How much all of it may take.
    pub(crate) ceiling: OnceLock<Ceiling>,
}

impl Store {
    /// The value of `name`. What is damaged, or was lost with the power, is not there.
    ///
    /// A folder writes to the database, bumps the generation, and removes the published file, in
    /// this order: who misses the file finds the new generation.
    pub(crate) fn get(&self, name: &Name) -> Option<Vec<u8>> {
        match self.journal.read(name) {
            Ok(Some(bytes)) => {
                if let Some(body) = self.accept(&bytes) {
                    return Some(body.to_vec());
                }
                if sealed::open(&bytes).is_none() && !sealed::is_unwritten(&bytes) {
                    let file = name.file_name();
                    self.warnings
                        .add(format!("the build record done/{file} is damaged and not used"));
                }
            }
            Ok(None) => {}
            Err(e) => self.warnings.add(format!("a build record is not used: {e}")),
        }
        let bytes = self.database.get(&name.database_key())?;
        if sealed::open(&bytes).is_none() {
            self.warnings.add("a build record is damaged and not used: its step runs again");
        }
        self.accept(&bytes).map(<[u8]>::to_vec)
    }

    /// The body of a sealed value, if it can be relied on.
    pub(crate) fn accept<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (promise, body) = sealed::open(bytes)?;
        match promise {
            Promise::Durable => Some(body),
            Promise::Provisional { boot, .. } if Some(boot) == self.boot => Some(body),
            Promise::Provisional { boot, at } => self.syncer.covers(boot, at).then_some(body),
        }
    }

    /// Publishes a value. When it returns, the value survives a kill of every process; a loss of
    /// power, at most [`crate::sync::GROUP`] later.
    pub(crate) fn put(&self, name: &Name, body: &[u8]) -> Result<(), CacheError> {
        let Some(boot) = self.boot else {
            // After a reboot nobody could tell that it was one: sync before it counts.
            self.syncer.sync_always()?;
            self.syncer.counted(2);
            let sealed = sealed::seal(Promise::Durable, body);
            return self.journal.write(name, &sealed, Durability::Now);
        };
        let promise = Promise::Provisional { boot, at: clock::boottime_nanos() };
        self.journal.write(name, &sealed::seal(promise, body), Durability::Grouped)?;
        self.syncer.wrote();
        Ok(())
    }
}
