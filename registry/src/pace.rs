//! When a body that trickles counts as dead.

use std::time::Duration;

/// The fewest bytes a second that may come, over the time without a byte after which a connection
/// is dead. Less is no line that a layer could come by: a server that sends a byte now and then
/// would hold a build up for ever. (curl: `--speed-limit`, git: `http.lowSpeedLimit`.)
const LEAST: u64 = 256;

/// Counts what comes while somebody waits for it.
#[derive(Debug)]
pub(crate) struct Pace {
    window: Duration,
    waited: Duration,
    came: u64,
}

impl Pace {
    /// For a connection that is dead after `window` without a byte.
    pub(crate) fn new(window: Duration) -> Self {
        Self { window, waited: Duration::ZERO, came: 0 }
    }

    /// Notes that `bytes` came after waiting for `waited`. False if it is too slow. Time in which
    /// nobody waited does not count.
    pub(crate) fn keeps(&mut self, bytes: usize, waited: Duration) -> bool {
        self.waited += waited;
        self.came += bytes as u64;
        if self.came >= LEAST.saturating_mul(self.window.as_secs().max(1)) {
            (self.waited, self.came) = (Duration::ZERO, 0);
        }
        self.waited < self.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trickles_end_and_slow_lines_do_not() {
        let minute = Duration::from_secs(60);
        let bytes_until_dead = |bytes: usize, waited: Duration| {
            let mut pace = Pace::new(minute);
            (1..100_000).find(|_| !pace.keeps(bytes, waited))
        };
        assert_eq!(bytes_until_dead(1, Duration::from_secs(59)), Some(2));
        assert_eq!(bytes_until_dead(200, Duration::from_secs(1)), Some(60));
        assert_eq!(bytes_until_dead(300, Duration::from_secs(1)), None, "300 bytes a second");
        assert_eq!(
            bytes_until_dead(1, Duration::from_millis(1)),
            None,
            "short reads of a fast line"
        );
        assert_eq!(bytes_until_dead(16 << 10, Duration::from_secs(59)), None);
    }
}
