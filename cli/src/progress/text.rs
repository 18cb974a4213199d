//! Numbers and lines as people read them.

use oci::Timestamp;

/// A number of bytes with a decimal unit: `97B`, `1.98MB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1000 {
        return format!("{count}B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    // 999.995 would be shown as 1000.00.
    while value >= 999.995 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.2}{}", UNITS[unit])
}

/// `1.2MB / 3.4MB`, `1.2MB`, or nothing where there are no bytes.
pub fn amount(current: u64, total: u64) -> String {
    match (current, total) {
        (0, 0) => String::new(),
        (current, 0) => bytes(current),
        (current, total) => format!("{} / {}", bytes(current), bytes(total)),
    }
}

/// Seconds from `start` to `end`, 0 where the clock went back.
pub fn seconds(start: Timestamp, end: Timestamp) -> f64 {
    let whole = (end.seconds - start.seconds) as f64;
    (whole + (f64::from(end.nanos) - f64::from(start.nanos)) / 1e9).max(0.0)
}

/// The time of a line of output: three digits after the point below ten seconds, then fewer.
pub fn log_time(seconds: f64) -> String {
    let precision = match seconds {
        s if s < 10.0 => 3,
        s if s < 100.0 => 2,
        _ => 1,
    };
    format!("{seconds:.precision$}")
}

/// That a step goes on for another build, and how to end that: `asked` if the build was asked to stop.
pub fn finishing(name: &str, asked: bool) -> String {
    let how = if asked { "Ctrl-C again to stop" } else { "Ctrl-C to stop" };
    format!("finishing {} for another build ({how})", clean(name, false))
}

/// A line without what would move a terminal's cursor or change its state; escape sequences for
/// colours stay if `colours` says so.
pub fn clean(line: &str, colours: bool) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    let mut coloured = false;
    while let Some(c) = chars.next() {
        match c {
            '\t' => out.push(c),
            '\u{1b}' => {
                let sequence = escape(&mut chars);
                if colours && sequence.starts_with('[') && sequence.ends_with('m') {
                    out.push(c);
                    out.push_str(&sequence);
                    coloured = true;
                }
            }
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    if coloured && !out.ends_with("\u{1b}[0m") {
        out.push_str("\u{1b}[0m");
    }
    out
}

/// Takes what follows an escape character: a control sequence to its final byte (ECMA-48), a
/// string to its terminator, or one character.
fn escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let mut sequence = String::new();
    match chars.next() {
        Some('[') => {
            sequence.push('[');
            while let Some(c) = chars.next_if(|c| matches!(c, ' '..='~')) {
                sequence.push(c);
                if matches!(c, '@'..='~') {
                    break;
                }
            }
        }
        Some(']' | 'P' | '_' | '^' | 'X') => {
            while let Some(c) = chars.next() {
                if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        _ => {}
    }
    sequence
}

/// Columns that a character takes on a terminal: none for what combines, two for the wide
/// scripts and pictures (after Unicode's East Asian Width), else one.
fn columns(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200f}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1f64f}'
        | '\u{1f680}'..='\u{1f6ff}'
        | '\u{1f900}'..='\u{1f9ff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// Columns that a text takes; it has no escape sequences and no tabs.
pub fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// At most `room` columns of `text`, with tabs as spaces; what is cut off ends in `…`.
pub fn fit(text: &str, room: usize) -> String {
    let text = text.replace('\t', "    ");
    if width(&text) <= room {
        return text;
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        if used + columns(c) + 1 > room {
            break;
        }
        used += columns(c);
        out.push(c);
    }
    if room > 0 {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        for (count, text) in [
            (0, "0B"),
            (97, "97B"),
            (999, "999B"),
            (3600, "3.60kB"),
            (1_980_000, "1.98MB"),
            (999_999, "1.00MB"),
            (u64::MAX, "18.45EB"),
        ] {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(amount(0, 0), "");
        assert_eq!(amount(1200, 0), "1.20kB");
        assert_eq!(amount(0, 5), "0B / 5B");
        for (s, text) in [(0.0884, "0.088"), (12.3456, "12.35"), (100.0, "100.0")] {
            assert_eq!(log_time(s), text);
        }
        let at = |seconds, nanos| Timestamp { seconds, nanos };
        assert!((seconds(at(1, 900_000_000), at(3, 100_000_000)) - 1.2).abs() < 1e-9);
        assert_eq!(seconds(at(3, 0), at(1, 0)), 0.0);
    }

    #[test]
    fn terminals_are_safe_from_output() {
        let line = "a\u{1b}[31mred\u{1b}[2J\u{1b}]0;title\u{7}b\u{8}\tc\u{1b}";
        assert_eq!(clean(line, false), "aredb\tc");
        assert_eq!(clean(line, true), "a\u{1b}[31mredb\tc\u{1b}[0m");
        assert_eq!(clean("\u{1b}[31", true), "");
        assert_eq!(clean("\u{1b}]0;x\u{1b}\\y", false), "y");
    }

    #[test]
    fn fits_into_columns() {
        assert_eq!(fit("abcdef", 6), "abcdef");
        assert_eq!(fit("abcdef", 4), "abc…");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(width(&fit("日本語", 4)), 3);
        assert_eq!(fit("abc", 0), "");
        assert_eq!(fit("a\tb", 9), "a    b");
    }
}
