//! Steps that run just now, as other processes see them.
//!
//! The file of an action key's lock is what its holder tells of the step: when it started, its
//! output, how it failed ([`news`]). So a lock, and a file that was opened while it was held, stand
//! for one run: who follows it misses nothing, however fast it ends ([`follow`]). Who wants a
//! result holds a shared lock beside it ([`want`]), so that its maker goes on when it is asked to
//! stop. All that a process waits for, it waits for on one thread ([`watch`]).

mod follow;
pub(crate) mod news;
pub(crate) mod want;
mod watch;

pub(crate) use watch::Watcher;
