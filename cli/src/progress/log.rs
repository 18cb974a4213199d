//! The output of a step: cut into lines, limited, and its end remembered.

use std::collections::VecDeque;

use oci::Timestamp;

use super::text;

/// The longest line that is kept together, in bytes.
const MAX_LINE: usize = 64 << 10;
/// What is remembered of a step's output, in bytes.
pub const TAIL: usize = 256 << 10;
/// Output of one step that is shown, in bytes (BuildKit's default).
const DEFAULT_SIZE: u64 = 2 << 20;
/// Output per second of one step that is shown, in bytes (BuildKit's default).
const DEFAULT_SPEED: u64 = 200 << 10;

/// Cuts bytes into lines. `\r\n` ends a line; after a lone `\r` a line starts again, as on a
/// terminal, so that of a progress bar its last state remains.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
    returned: bool,
}

impl Lines {
    /// Adds bytes; calls `line` for every line that ends in them.
    pub fn push(&mut self, data: &[u8], mut line: impl FnMut(String)) {
        for &byte in data {
            match byte {
                b'\n' => {
                    self.returned = false;
                    line(take(&mut self.partial));
                }
                b'\r' => self.returned = true,
                byte => {
                    if std::mem::take(&mut self.returned) {
                        self.partial.clear();
                    }
                    self.partial.push(byte);
                    if self.partial.len() >= MAX_LINE {
                        line(take(&mut self.partial));
                    }
                }
            }
        }
    }

    /// The line that has not ended, if there is one, as it is now.
    pub fn partial(&self) -> Option<String> {
        (!self.partial.is_empty()).then(|| String::from_utf8_lossy(&self.partial).into_owned())
    }

    /// The line that has not ended, if there is one; the next bytes start a new one.
    pub fn flush(&mut self) -> Option<String> {
        self.returned = false;
        (!self.partial.is_empty()).then(|| take(&mut self.partial))
    }
}

fn take(bytes: &mut Vec<u8>) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    bytes.clear();
    text
}

/// A line of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Seconds since the step started, as shown.
    pub time: String,
    /// The text.
    pub text: String,
}

/// The last lines of a step's output, at most [`TAIL`] bytes.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    lines: Lines,
    kept: VecDeque<Line>,
    size: usize,
}

impl Tail {
    /// Adds output.
    pub fn push(&mut self, data: &[u8], started: Timestamp, at: Timestamp) {
        let time = text::log_time(text::seconds(started, at));
        let mut lines = std::mem::take(&mut self.lines);
        lines.push(data, |text| self.keep(Line { time: time.clone(), text }));
        self.lines = lines;
    }

    /// Ends the last line.
    pub fn finish(&mut self, started: Timestamp, at: Timestamp) {
        if let Some(text) = self.lines.flush() {
            self.keep(Line { time: text::log_time(text::seconds(started, at)), text });
        }
    }

    /// The last `count` lines.
    pub fn last(&self, count: usize) -> impl Iterator<Item = &Line> {
        self.kept.iter().skip(self.kept.len().saturating_sub(count))
    }

    /// The text of the last `count` lines, the one that has not ended included: a question, a
    /// progress bar.
    pub fn current(&self, count: usize) -> Vec<String> {
        let partial = self.lines.partial().filter(|_| count > 0);
        let whole = count - usize::from(partial.is_some());
        self.last(whole).map(|l| l.text.clone()).chain(partial).collect()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn keep(&mut self, line: Line) {
        self.size += line.text.len() + 1;
        self.kept.push_back(line);
        while self.size > TAIL && self.kept.len() > 1 {
            self.size -= self.kept.pop_front().map_or(0, |l| l.text.len() + 1);
        }
    }
}

/// How much of a step's output is shown; -1 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes in all.
    pub size: Option<u64>,
    /// Bytes per second that it runs.
    pub speed: Option<u64>,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { size: Some(DEFAULT_SIZE), speed: Some(DEFAULT_SPEED) }
    }
}

impl LogLimits {
    /// From the values of `BUILDKIT_STEP_LOG_MAX_SIZE` and `…_SPEED`, with -1 for no limit.
    pub fn new(size: Option<i64>, speed: Option<i64>) -> Self {
        let or = |given: Option<i64>, default| match given {
            None => Some(default),
            Some(n) => u64::try_from(n).ok(),
        };
        Self { size: or(size, DEFAULT_SIZE), speed: or(speed, DEFAULT_SPEED) }
    }
}

/// Counts the output of one step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    seen: u64,
    clipping: bool,
}

impl Meter {
    /// How many of the next `len` bytes are shown, and what to say if output is cut off there.
    pub fn admit(
        &mut self,
        limits: LogLimits,
        len: usize,
        elapsed: f64,
    ) -> (usize, Option<String>) {
        let before = self.seen;
        self.seen = self.seen.saturating_add(len as u64);
        let by_speed = limits.speed.map(|s| s.saturating_mul(elapsed.ceil().max(1.0) as u64));
        let allowed = by_speed.unwrap_or(u64::MAX).min(limits.size.unwrap_or(u64::MAX));
        let shown = allowed.saturating_sub(before).min(len as u64) as usize;
        if shown == len {
            self.clipping = false;
            return (len, None);
        }
        if std::mem::replace(&mut self.clipping, true) {
            return (shown, None);
        }
        let reason = match (limits.size, limits.speed) {
            (Some(size), _) if allowed == size => binary(size),
            (_, Some(speed)) => format!("{}/s", binary(speed)),
            _ => String::new(),
        };
        (shown, Some(format!("[output clipped, log limit {reason} reached]")))
    }
}

/// A limit in the unit that it was given in: `2MiB`, `200KiB`.
fn binary(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 20 && b.is_multiple_of(1 << 20) => format!("{}MiB", b >> 20),
        b if b >= 1 << 10 && b.is_multiple_of(1 << 10) => format!("{}KiB", b >> 10),
        b => format!("{b}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut all = Vec::new();
        let mut lines = Lines::default();
        for chunk in chunks {
            lines.push(chunk, |l| all.push(l));
        }
        all.extend(lines.flush());
        all
    }

    #[test]
    fn lines_across_chunks() {
        assert_eq!(lines(&[b"a\nb", b"c\n", b"d"]), ["a", "bc", "d"]);
        assert_eq!(lines(&[b"a\r", b"\nb\r\n"]), ["a", "b"]);
        assert_eq!(lines(&[b"10%\r20%\r", b"100%\nx"]), ["100%", "x"]);
        assert_eq!(lines(&[b"10%\r20%\r"]), ["20%"]);
        assert_eq!(lines(&[b"\xff\xc3", b"\xa9\n"]), ["\u{fffd}é"]);
        assert_eq!(lines(&[b"\n\n"]), ["", ""]);
        let long = vec![b'x'; MAX_LINE + 5];
        assert_eq!(lines(&[&long]).iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE, 5]);
    }

    #[test]
    fn the_tail_is_bounded() {
        let mut tail = Tail::default();
        let t = Timestamp::EPOCH;
        for n in 0..10_000 {
            tail.push(format!("{n:0100}\n").as_bytes(), t, t);
        }
        tail.push(b"10%\r20%\r", t, t);
        assert!(tail.current(0).is_empty());
        assert_eq!(tail.current(1), ["20%"]);
        assert_eq!(tail.current(2).len(), 2);
        tail.push(b"end", t, Timestamp { seconds: 12, nanos: 500_000_000 });
        tail.finish(t, Timestamp { seconds: 12, nanos: 500_000_000 });
        assert!(tail.size <= TAIL && tail.size > TAIL - 200);
        let last: Vec<&Line> = tail.last(2).collect();
        assert!(last[0].text.ends_with("9999"));
        assert_eq!((last[1].time.as_str(), last[1].text.as_str()), ("12.50", "end"));
    }

    #[test]
    fn limits() {
        let mut meter = Meter::default();
        let limits = LogLimits { size: Some(10 << 10), speed: None };
        assert_eq!(meter.admit(limits, 10_000, 0.0), (10_000, None));
        let (shown, said) = meter.admit(limits, 1000, 5.0);
        assert_eq!(shown, 240);
        assert_eq!(said.as_deref(), Some("[output clipped, log limit 10KiB reached]"));
        assert_eq!(meter.admit(limits, 1000, 5.0), (0, None));

        let limits = LogLimits::default();
        let mut meter = Meter::default();
        let (shown, said) = meter.admit(limits, 300 << 10, 0.1);
        assert_eq!(shown, 200 << 10);
        assert_eq!(said.as_deref(), Some("[output clipped, log limit 200KiB/s reached]"));
        assert_eq!(meter.admit(limits, 10, 1.5), (10, None));

        let limits = LogLimits::new(Some(-1), Some(-1));
        assert_eq!(Meter::default().admit(limits, usize::MAX >> 1, 0.0).1, None);
    }
}
