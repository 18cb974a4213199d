//! Times in HTTP headers.
//!
//! Source: RFC 9110 section 5.6.7: one form is sent today, two older ones must be understood.

use oci::Timestamp;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A year of two digits that seems to lie further ahead than this is in the century before.
const MAX_YEARS_AHEAD: i64 = 50;
/// The mean length of a year in seconds.
const YEAR: i64 = 31_556_952;

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT` or
/// `Sun Nov  6 08:49:37 1994`; none if it is no time.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let parts: Vec<&str> = text.split_ascii_whitespace().collect();
    match parts[..] {
        [_, day, month, year, time, "GMT" | "UTC"] => join(year, month, day, time),
        [_, date, time, "GMT" | "UTC"] => {
            let mut date = date.split('-');
            let (day, month, year) = (date.next()?, date.next()?, date.next()?);
            join(&full_year(year)?.to_string(), month, day, time)
        }
        [_, month, day, time, year] => join(year, month, day, time),
        _ => None,
    }
}

fn full_year(text: &str) -> Option<i64> {
    let short: i64 = text.parse().ok()?;
    if text.len() != 2 {
        return Some(short);
    }
    let now = 1970 + Timestamp::now().seconds / YEAR;
    let year = now - now % 100 + short;
    Some(if year > now + MAX_YEARS_AHEAD { year - 100 } else { year })
}

fn join(year: &str, month: &str, day: &str, time: &str) -> Option<Timestamp> {
    let month = 1 + MONTHS.iter().position(|m| m.eq_ignore_ascii_case(month))?;
    let (year, day): (u16, u8) = (year.parse().ok()?, day.parse().ok()?);
    format!("{year:04}-{month:02}-{day:02}T{time}Z").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_three_forms() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse(text), Some(Timestamp::from_seconds(784_111_777)), "{text}");
        }
        for bad in ["", "yesterday", "Sun, 32 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49 CET"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[A-Za-z0-9 ,:-]{0,40}") {
            let _ = parse(&text);
        }
    }
}
