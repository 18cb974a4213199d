//! Steps that several processes want: what their maker tells, and how others follow it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use oci::Timestamp;

use crate::{ActionKey, StoreError, Stream};

/// What is told of a step while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News<'a> {
    /// It started.
    Started(Timestamp),
    /// Output of its process.
    Output {
        /// Standard output or standard error.
        stream: Stream,
        /// When it came.
        at: Timestamp,
        /// The bytes.
        data: Cow<'a, [u8]>,
    },
    /// It failed, in a way that may be that of others who want it.
    Failed {
        /// When.
        at: Timestamp,
        /// Why, as [`Work::tell_failure`](crate::Work::tell_failure) says it.
        text: Cow<'a, str>,
    },
}

/// Where the holder of a key tells of its step. It is no claim: it may outlive that.
pub trait Outlet: Send + Sync {
    /// Tells those who follow the step, and those who will while it runs. What cannot be told,
    /// they miss.
    fn tell(&self, news: &News<'_>);

    /// Whether another process wants the result.
    fn is_wanted(&self) -> bool;
}

/// Ends a sleep, from any thread.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Everything that one process waits for, on one thread.
pub trait Watch: Send {
    /// Follows `key`, wanting its result, as long as the answer lives. Claims nothing.
    ///
    /// # Errors
    /// If the store cannot be watched.
    fn follow(&mut self, key: &ActionKey) -> Result<Box<dyn Follow>, StoreError>;

    /// Sleeps until something that is followed may have news, somebody calls the waker, or
    /// `limit` is over; or less.
    fn sleep(&mut self, limit: Duration);

    /// Ends the sleep, or the next one.
    fn waker(&self) -> Waker;
}

/// One run of a step that another process makes.
pub trait Follow: Send {
    /// What comes next, from the start of the step; never waits.
    ///
    /// # Errors
    /// If the store cannot be watched.
    fn next(&mut self) -> Result<Followed, StoreError>;

    /// The result is not wanted: its maker need not go on for it.
    fn decline(&mut self);
}

/// What comes next of a step that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// Something was told.
    News(News<'static>),
    /// Nothing yet.
    Nothing,
    /// Nobody holds the key any more. Everything that was told has been taken; the record, if the
    /// step ended well, is there.
    Over,
}
