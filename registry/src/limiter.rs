//! At most so many blob transfers per registry at the same time.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::error::ErrorKind;

/// How long a waiting transfer sleeps between looks at the cancel flag.
const NAP: Duration = Duration::from_millis(100);

/// Counts transfers by host.
pub(crate) struct Limiter {
    limit: usize,
    busy: Mutex<HashMap<String, usize>>,
    freed: Condvar,
}

/// A place, given back when dropped.
pub(crate) struct Permit<'a> {
    limiter: &'a Limiter,
    host: String,
}

impl Limiter {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), busy: Mutex::default(), freed: Condvar::new() }
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`].
    pub(crate) fn acquire(
        &self,
        host: &str,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Permit<'_>, ErrorKind> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if cancelled() {
                return Err(ErrorKind::Cancelled);
            }
            let count = busy.entry(host.to_owned()).or_default();
            if *count < self.limit {
                *count += 1;
                return Ok(Permit { limiter: self, host: host.to_owned() });
            }
            busy = self.freed.wait_timeout(busy, NAP).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut busy = self.limiter.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = busy.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                busy.remove(&self.host);
            }
        }
        self.limiter.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_per_host() {
        let limiter = Limiter::new(2);
        let never = || false;
        let a = limiter.acquire("a", &never).unwrap();
        let _b = limiter.acquire("a", &never).unwrap();
        let _c = limiter.acquire("b", &never).unwrap();
        let tries = std::cell::Cell::new(0);
        let full = limiter.acquire("a", &|| {
            tries.set(tries.get() + 1);
            tries.get() > 1
        });
        assert!(matches!(full, Err(ErrorKind::Cancelled)));
        drop(a);
        limiter.acquire("a", &never).unwrap();
    }
}
