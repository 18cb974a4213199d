//! Points in time as layers and configs store them.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds and nanoseconds since the Unix epoch; negative seconds are before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Whole seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// Nanoseconds within the second, 0 to 999,999,999.
    pub nanos: u32,
}

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self { seconds: 0, nanos: 0 };

    /// A whole second.
    pub fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanos: 0 }
    }

    /// The clock of this machine.
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// As `SystemTime`, where it can hold it.
    pub fn to_system_time(self) -> Option<SystemTime> {
        let whole = Duration::from_secs(self.seconds.unsigned_abs());
        let base = if self.seconds >= 0 {
            UNIX_EPOCH.checked_add(whole)
        } else {
            UNIX_EPOCH.checked_sub(whole)
        };
        base?.checked_add(Duration::from_nanos(self.nanos.into()))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self { seconds: after.as_secs() as i64, nanos: after.subsec_nanos() },
            Err(before) => {
                let before = before.duration();
                match before.subsec_nanos() {
                    0 => Self { seconds: -(before.as_secs() as i64), nanos: 0 },
                    n => Self { seconds: -(before.as_secs() as i64) - 1, nanos: 1_000_000_000 - n },
                }
            }
        }
    }
}

/// RFC 3339 in UTC with as many fractional digits as needed, as OCI configs want it.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // humantime refuses times outside 1970..9999: those are written as the nearest bound.
        let clamped = Self {
            seconds: self.seconds.clamp(0, 253_402_300_799),
            nanos: if self.seconds < 0 { 0 } else { self.nanos },
        };
        let time = clamped.to_system_time().unwrap_or(UNIX_EPOCH);
        humantime::format_rfc3339(time).fmt(f)
    }
}

/// Why a string is not an RFC 3339 time.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an RFC 3339 time")]
pub struct TimestampError(String);

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        // Go writes its zero time as year 1: nothing that an image should show.
        if s.starts_with("0001-01-01T") {
            return Ok(Self::EPOCH);
        }
        let (body, offset) = split_offset(s).ok_or_else(|| TimestampError(s.to_owned()))?;
        let utc = humantime::parse_rfc3339(&format!("{body}Z"))
            .map_err(|_| TimestampError(s.to_owned()))?;
        let mut time = Self::from(utc);
        time.seconds -= offset;
        Ok(time)
    }
}

/// Splits `2026-01-01T00:00:00+02:00` into its body and the offset in seconds.
fn split_offset(s: &str) -> Option<(&str, i64)> {
    if let Some(body) = s.strip_suffix(['Z', 'z']) {
        return Some((body, 0));
    }
    let at = s.rfind(['+', '-']).filter(|at| *at > 10)?;
    let (hours, minutes) = s.get(at + 1..)?.split_once(':')?;
    // Two digits each (RFC 3339, section 5.6): more would overflow somewhere.
    let two = |text: &str| text.parse::<i64>().ok().filter(|_| text.len() == 2);
    let seconds = two(hours)? * 3600 + two(minutes)? * 60;
    Some((&s[..at], if s.as_bytes()[at] == b'-' { -seconds } else { seconds }))
}

crate::text::serde_as_text!(Timestamp);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms() {
        let t: Timestamp = "2026-08-01T12:30:00.25+02:00".parse().unwrap();
        assert_eq!(t.to_string(), "2026-08-01T10:30:00.250000000Z");
        assert_eq!(Timestamp::from_seconds(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!("0001-01-01T00:00:00Z".parse::<Timestamp>().unwrap(), Timestamp::EPOCH);
        assert!("yesterday".parse::<Timestamp>().is_err());
        assert!("".parse::<Timestamp>().is_err());
    }

    #[test]
    fn before_the_epoch() {
        let t = Timestamp::from(UNIX_EPOCH - Duration::from_millis(1500));
        assert_eq!(t, Timestamp { seconds: -2, nanos: 500_000_000 });
        assert_eq!(t.to_system_time(), Some(UNIX_EPOCH - Duration::from_millis(1500)));
    }
}
