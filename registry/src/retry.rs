//! When a failed request is made again.
//!
//! BuildKit: four attempts with pauses of 1, 2 and 4 seconds, for 5xx answers and connections that
//! broke. Here 429 is tried again too, because it says when.

use std::time::{Duration, Instant};

use crate::error::ErrorKind;

/// How long one sleep lasts between looks at the cancel flag.
const NAP: Duration = Duration::from_millis(50);

/// How often and when a failed request is made again.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Attempts in all; 0 counts as 1.
    pub attempts: u32,
    /// The first pause; each further one is twice as long.
    pub base: Duration,
    /// The longest `Retry-After` that is waited for. A server that asks for more is not asked
    /// again: the user should know now.
    pub max_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 4, base: Duration::from_secs(1), max_wait: Duration::from_secs(60) }
    }
}

impl RetryPolicy {
    /// How long to wait after `attempt` (from 1) failed with `error`, or none to give up.
    pub(crate) fn pause(&self, attempt: u32, error: &ErrorKind) -> Option<Duration> {
        if attempt >= self.attempts || !error.is_transient() {
            return None;
        }
        let backoff = self.base.saturating_mul(1 << (attempt - 1).min(16));
        match error.retry_after() {
            Some(asked) if asked > self.max_wait => None,
            Some(asked) => Some(backoff.max(asked)),
            None => Some(backoff),
        }
    }
}

/// Sleeps, unless `cancelled` says to stop.
///
/// # Errors
/// [`ErrorKind::Cancelled`].
pub(crate) fn sleep(time: Duration, cancelled: &dyn Fn() -> bool) -> Result<(), ErrorKind> {
    let end = Instant::now() + time;
    loop {
        if cancelled() {
            return Err(ErrorKind::Cancelled);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(NAP));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Answer;

    #[test]
    fn pauses_double_and_end() {
        let policy = RetryPolicy::default();
        let error = Answer { status: 503, ..Default::default() }.into_kind(false);
        let pauses: Vec<_> =
            (1..=4).map(|n| policy.pause(n, &error).map(|d| d.as_secs())).collect();
        assert_eq!(pauses, [Some(1), Some(2), Some(4), None]);
        assert_eq!(policy.pause(1, &ErrorKind::Cancelled), None);
    }

    #[test]
    fn retry_after_is_bounded() {
        let policy = RetryPolicy::default();
        let error = |s| {
            Answer { status: 429, errors: vec![], retry_after: Some(Duration::from_secs(s)) }
                .into_kind(false)
        };
        assert_eq!(policy.pause(1, &error(7)), Some(Duration::from_secs(7)));
        assert_eq!(policy.pause(3, &error(0)), Some(Duration::from_secs(4)));
        assert_eq!(policy.pause(1, &error(3600)), None);
    }

    #[test]
    fn sleep_hears_cancel() {
        let start = Instant::now();
        let result = sleep(Duration::from_secs(600), &|| start.elapsed().as_millis() > 60);
        assert!(matches!(result, Err(ErrorKind::Cancelled)));
    }
}
