//! Telling a run to stop, from any thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::event::{EventfdFlags, eventfd};

/// A request to stop that any number of clones share. It stays once it is made.
#[derive(Debug, Clone, Default)]
pub struct CancelToken {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    cancelled: AtomicBool,
    /// Made by the first who waits.
    event: OnceLock<OwnedFd>,
}

impl CancelToken {
    /// A token that nobody has used.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks to stop. Returns at once; safe to call again.
    pub fn cancel(&self) {
        // Before the look at `event`: whoever makes the event later sees the flag.
        self.shared.cancelled.store(true, Ordering::SeqCst);
        if let Some(event) = self.shared.event.get() {
            // Fails only when the counter is full, and then it is readable.
            let _ = rustix::io::write(event, &1_u64.to_ne_bytes());
        }
    }

    /// Whether somebody asked.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::SeqCst)
    }

    /// A descriptor that is readable once [`CancelToken::cancel`] was called *after* this call;
    /// look at [`CancelToken::is_cancelled`] before waiting on it.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        if self.shared.event.get().is_none() {
            let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            // Another thread may have been faster; then this one is closed.
            let _ = self.shared.event.set(event);
        }
        let event = self.shared.event.get().ok_or(io::ErrorKind::NotFound)?;
        Ok(event.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sys::launch::wait_readable;

    #[test]
    fn wakes_a_waiter() {
        let token = CancelToken::new();
        let other = token.clone();
        let fd = token.fd().unwrap();
        let none = Some(std::time::Duration::ZERO);
        assert_eq!(wait_readable([Some(fd)], none).unwrap(), [false]);
        std::thread::spawn(move || other.cancel());
        assert_eq!(wait_readable([Some(fd)], None).unwrap(), [true]);
        assert!(token.is_cancelled());
    }

    #[test]
    fn works_without_a_waiter() {
        let token = CancelToken::new();
        assert!(!token.is_cancelled());
        token.cancel();
        assert!(token.clone().is_cancelled());
    }
}
