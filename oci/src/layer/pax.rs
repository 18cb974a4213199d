//! Extended header records (POSIX.1-2017 pax, "pax Extended Header"): `LENGTH KEY=VALUE\n`.
//!
//! The length counts the whole record, itself included, so a value may hold any byte: newlines,
//! equal signs and NUL (file capabilities have all of them).

use crate::Timestamp;

/// Nanoseconds have nine decimal digits.
const NANO_DIGITS: usize = 9;

/// Appends one record.
pub(super) fn append_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // Space, equal sign and newline; then the digits of a length that counts them.
    let rest = key.len() + value.len() + 3;
    let mut length = rest + decimal_digits(rest);
    if decimal_digits(length) != decimal_digits(rest) {
        length = rest + decimal_digits(length);
    }
    out.extend(length.to_string().as_bytes());
    out.push(b' ');
    out.extend(key);
    out.push(b'=');
    out.extend(value);
    out.push(b'\n');
}

fn decimal_digits(n: usize) -> usize {
    n.checked_ilog10().unwrap_or(0) as usize + 1
}

/// Splits an extended header into its records; none at the first that is malformed.
pub(super) fn records(mut data: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut out = Vec::new();
    while !data.is_empty() {
        let space = data.iter().take(20).position(|b| *b == b' ')?;
        let length = usize::try_from(decimal(&data[..space])?).ok()?;
        let record = data.get(..length)?;
        let body = record.get(space + 1..)?.strip_suffix(b"\n")?;
        let equal = body.iter().position(|b| *b == b'=').filter(|at| *at > 0)?;
        out.push((&body[..equal], &body[equal + 1..]));
        data = &data[length..];
    }
    Some(out)
}

/// An unsigned decimal number: digits only.
pub(super) fn decimal(raw: &[u8]) -> Option<u64> {
    if raw.is_empty() || !raw.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(raw).ok()?.parse().ok()
}

/// A time as PAX writes it: decimal seconds, a fraction where there is one, no trailing zeros.
pub(super) fn format_time(time: Timestamp) -> String {
    // Before the epoch the fraction counts away from zero: -1.5 is 2 seconds less a half.
    let (sign, seconds, nanos) = match (time.seconds, time.nanos) {
        (s, n) if s >= 0 => ("", s.unsigned_abs(), n),
        (s, 0) => ("-", s.unsigned_abs(), 0),
        (s, n) => ("-", s.unsigned_abs() - 1, 1_000_000_000 - n),
    };
    let text = format!("{sign}{seconds}.{nanos:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Reads what [`format_time`] writes, and any number of further digits.
pub(super) fn parse_time(raw: &[u8]) -> Option<Timestamp> {
    let (negative, raw) = match raw.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, raw),
    };
    let (whole, fraction) = match raw.iter().position(|b| *b == b'.') {
        Some(at) => (&raw[..at], &raw[at + 1..]),
        None => (raw, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    let mut nanos = 0u32;
    for at in 0..NANO_DIGITS {
        nanos = nanos * 10 + fraction.get(at).map_or(0, |b| u32::from(b - b'0'));
    }
    Some(match (negative, nanos) {
        (false, _) => Timestamp { seconds, nanos },
        (true, 0) => Timestamp { seconds: -seconds, nanos },
        (true, _) => Timestamp { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_around_a_new_digit() {
        for size in 0..1200 {
            let value = vec![b'\n'; size];
            let mut raw = Vec::new();
            append_record(&mut raw, b"k", &value);
            append_record(&mut raw, b"path", b"a=b");
            let got = records(&raw).unwrap();
            assert_eq!(got, [(&b"k"[..], &value[..]), (b"path", b"a=b")], "{size}");
        }
    }

    #[test]
    fn malformed_records() {
        for raw in [
            &b"x"[..],
            b"5 a=",
            b"0 a=b\n",
            b"3 a=b\n",
            b"99 a=b\n",
            b"6 aab\n",
            b"5 =b\n",
            b" a=b\n",
            b"+6 a=\n",
        ] {
            assert_eq!(records(raw), None, "{}", String::from_utf8_lossy(raw));
        }
    }

    #[test]
    fn times() {
        for (seconds, nanos, text) in [
            (0, 0, "0"),
            (100, 0, "100"),
            (1, 500_000_000, "1.5"),
            (1, 1, "1.000000001"),
            (-1, 0, "-1"),
            (-2, 500_000_000, "-1.5"),
            (-1, 999_999_999, "-0.000000001"),
        ] {
            let time = Timestamp { seconds, nanos };
            assert_eq!(format_time(time), text);
            assert_eq!(parse_time(text.as_bytes()), Some(time));
        }
        assert_eq!(parse_time(b"1.0000000019").unwrap().nanos, 1);
        for bad in ["", "-", ".5", "1.x", "+1", "1e3", "99999999999999999999"] {
            assert_eq!(parse_time(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn records_never_panic(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = records(&raw);
            let _ = parse_time(&raw);
        }

        #[test]
        fn times_round_trip(seconds in any::<i32>(), nanos in 0u32..1_000_000_000) {
            let time = Timestamp { seconds: seconds.into(), nanos };
            prop_assert_eq!(parse_time(format_time(time).as_bytes()), Some(time));
        }
    }
}
