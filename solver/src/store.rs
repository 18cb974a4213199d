//! Where records are kept.

use std::sync::Arc;

use oci::Timestamp;

use crate::share::{Outlet, Watch};
use crate::{ActionKey, ContentId, Record};

/// A store of records, shared with other processes.
///
/// A worked story. A solver wants step K. [`get`](Self::get) finds nothing, so it takes a job
/// slot and calls [`claim`](Self::claim). Somebody else runs K: `None`. It gives the slot back and,
/// holding nothing, follows K through its [`watch`](Self::watch): it sees when K started and all
/// that it tells, from the first byte. When nobody holds K any more it asks `get` again, and finds the
/// record that the other one published. Had the other one been killed, `get` would still find
/// nothing; the solver takes a slot again, claims K, asks `get` once more (another waiter may
/// have been faster), runs the step, telling of it through the claim's [`Outlet`], calls
/// [`publish`](Self::publish), and drops the claim. From the moment that `publish` returned, the
/// record survives SIGKILL of every process.
pub trait RecordStore: Sync {
    /// The record of `key`, if there is one whose step started at or after `not_before`.
    ///
    /// # Errors
    /// Only where the store itself cannot be used; a damaged record is a miss.
    fn get(&self, key: &ActionKey, not_before: Timestamp) -> Result<Option<Record>, StoreError>;

    /// Claims `key` for this process; `None` if another process holds it.
    ///
    /// # Errors
    /// If the store cannot make the claim.
    fn claim(&self, key: &ActionKey) -> Result<Option<Box<dyn Claim>>, StoreError>;

    /// For waiting.
    ///
    /// # Errors
    /// If the store cannot be watched.
    fn watch(&self) -> Result<Box<dyn Watch>, StoreError>;

    /// Stores `record`, replacing one of the same key. The caller holds the claim.
    ///
    /// # Errors
    /// If the record cannot be written (a full disk): the step's result is lost with it.
    fn publish(&self, claim: &dyn Claim, record: &Record) -> Result<(), StoreError>;

    /// Agrees on one making of `content`: the payload that was first given for it and is still
    /// `usable`, else `payload`, which is then the first. Steps with different keys may make the same content;
    /// their results then share one snapshot chain.
    ///
    /// # Errors
    /// If the agreement cannot be written.
    fn adopt(
        &self,
        content: &ContentId,
        payload: &str,
        usable: &dyn Fn(&str) -> bool,
    ) -> Result<String, StoreError>;
}

/// The exclusive right to run one key; dropping it gives it back.
pub trait Claim: Send {
    /// The key that is claimed.
    fn key(&self) -> ActionKey;

    /// Where to tell of the step.
    fn outlet(&self) -> Arc<dyn Outlet>;
}

/// Why the record store cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} in the build cache: {source}")]
pub struct StoreError {
    /// What was being done, as a verb with its object.
    pub operation: String,
    /// Why it failed.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl StoreError {
    /// A failed operation and its cause.
    pub fn new(
        operation: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { operation: operation.into(), source: source.into() }
    }
}
