//! The small languages of values: booleans, durations, sizes, modes, ports, signals.

use std::time::Duration;

use oci::Platform;

/// The longest age, in seconds: more is a mistake.
const MAX_AGE: u64 = 100 * 366 * 86_400;

/// Reads a boolean as Go's `strconv.ParseBool` does.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Reads a duration as Go's `time.ParseDuration` does (`1h30m`, `1.5s`, `0`), in nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: f64 = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 6e10,
                "h" => 3.6e12,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    // Beyond 2^53 ns (104 days) a float is inexact, and nothing here is that long.
    #[allow(clippy::cast_possible_truncation)]
    let nanos = (total < 9e18).then_some(total.round() as i64)?;
    Some(if negative { -nanos } else { nanos })
}

/// A duration as Go prints it: `1m30s`, `5s`, `1.5ms`, `0s`.
pub(crate) fn show_duration(nanos: u64) -> String {
    let fraction = |value: u64, unit: u64| {
        let rest = value % unit;
        if rest == 0 {
            return (value / unit).to_string();
        }
        let width = unit.ilog10() as usize;
        let digits = format!("{rest:0width$}");
        format!("{}.{}", value / unit, digits.trim_end_matches('0'))
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(nanos, 1_000_000)),
        _ => {
            let minutes = nanos / 60_000_000_000;
            let seconds = fraction(nanos % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, m) => format!("{m}m{seconds}s"),
                (h, m) => format!("{h}h{m}m{seconds}s"),
            }
        }
    }
}

/// Reads an age, in whole units: `90s`, `15m`, `24h`, `7d`, `2w`, `1d12h`; `0` is none. At most a
/// hundred years.
pub fn parse_age(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut seconds = None;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = match rest.as_bytes()[digits] {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        let sum = number.checked_mul(unit)?.checked_add(seconds.unwrap_or(0))?;
        seconds = Some(sum).filter(|sum| *sum <= MAX_AGE);
        seconds?;
        rest = &rest[digits + 1..];
    }
    seconds.map(Duration::from_secs)
}

/// Reads a size of memory as Docker does: `64m`, `1.5GiB`, `100`, in bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim_start().to_ascii_lowercase();
    let power = match &unit[..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return None,
    };
    let bytes = number * 1024f64.powi(power);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (bytes < 9e18).then_some(bytes as u64)
}

/// Checks a symbolic mode of chmod(1): `[ugoa]*([-+=]([rwxXst]*|[ugo]))+` between commas.
pub(crate) fn is_symbolic_mode(text: &str) -> bool {
    !text.is_empty()
        && text.split(',').all(|clause| {
            let actions = clause.trim_start_matches(['u', 'g', 'o', 'a']);
            actions.starts_with(['-', '+', '='])
                && actions.split(['-', '+', '=']).skip(1).all(|what| {
                    matches!(what, "u" | "g" | "o") || what.chars().all(|c| "rwxXst".contains(c))
                })
        })
}

/// Reads one EXPOSE word, `[[ip:]host:]port[-port][/protocol]`, as a list of `port/protocol`.
pub(crate) fn parse_ports(text: &str) -> Result<Vec<String>, String> {
    let mut parts = text.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let (host, ip) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (ports, protocol) = container.split_once('/').unwrap_or((container, ""));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "" | "tcp" => "tcp",
        "udp" => "udp",
        "sctp" => "sctp",
        other => return Err(format!("unknown protocol {other:?} (expected tcp, udp or sctp)")),
    };
    if ports.is_empty() {
        return Err(format!("no port in {text:?}"));
    }
    let bare = ip.strip_prefix('[').and_then(|i| i.strip_suffix(']')).unwrap_or(ip);
    if !ip.is_empty() && bare.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address {ip:?}"));
    }
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
        (first <= last).then_some((first, last))
    };
    let (first, last) = range(ports).ok_or_else(|| format!("invalid port {ports:?}"))?;
    if !host.is_empty() {
        let (low, high) = range(host).ok_or_else(|| format!("invalid port {host:?}"))?;
        if high - low != last - first && first != last {
            return Err(format!("the ranges {host:?} and {ports:?} differ in length"));
        }
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// Whether a text names a signal of Linux: a number, or a name with or without `SIG`.
pub(crate) fn is_signal(text: &str) -> bool {
    const NAMES: &[&str] = &[
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT",
        "KILL", "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM",
        "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
    ];
    if let Ok(number) = text.parse::<u32>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |rest: &str, sign: char| {
        rest.is_empty()
            || rest.strip_prefix(sign).is_some_and(|n| n.parse::<u8>().is_ok_and(|n| n <= 15))
    };
    NAMES.contains(&name)
        || name.strip_prefix("RTMIN").is_some_and(|rest| real_time(rest, '+'))
        || name.strip_prefix("RTMAX").is_some_and(|rest| real_time(rest, '-'))
}

/// The six values that describe a platform, in the order of `PLATFORM`, `OS`, `OSVERSION`,
/// `ARCH`, `VARIANT`.
pub(crate) fn platform_values(platform: &Platform) -> [(&'static str, String); 5] {
    [
        ("PLATFORM", platform.to_string()),
        ("OS", platform.os.clone()),
        ("OSVERSION", platform.os_version.clone().unwrap_or_default()),
        ("ARCH", platform.architecture.clone()),
        ("VARIANT", platform.variant.clone().unwrap_or_default()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("1h30m"), Some(5_400_000_000_000));
        assert_eq!(parse_duration("1.5ms"), Some(1_500_000));
        assert_eq!(parse_duration("0"), Some(0));
        for bad in ["", "5", "x", "1h5", "-"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
        for (nanos, want) in [
            (0, "0s"),
            (5_000_000_000, "5s"),
            (90_000_000_000, "1m30s"),
            (1_500_000, "1.5ms"),
            (3_600_000_000_000, "1h0m0s"),
            (1_050_000_000, "1.05s"),
        ] {
            assert_eq!(show_duration(nanos), want);
        }
    }

    #[test]
    fn ages() {
        for (text, want) in [
            ("0", 0),
            ("0s", 0),
            ("90s", 90),
            ("15m", 900),
            ("24h", 86_400),
            ("7d", 604_800),
            ("1w2d", 777_600),
        ] {
            assert_eq!(parse_age(text), Some(Duration::from_secs(want)), "{text}");
        }
        for bad in [
            "",
            "h",
            "24",
            "-1h",
            "+1h",
            "1.5h",
            "1h5",
            "1x",
            "1 h",
            "1µ",
            "99999999999999999999s",
            "101w9999w",
        ] {
            assert_eq!(parse_age(bad), None, "{bad}");
        }
    }

    #[test]
    fn ports() {
        assert_eq!(parse_ports("80").unwrap(), ["80/tcp"]);
        assert_eq!(parse_ports("8000-8002/UDP").unwrap(), ["8000/udp", "8001/udp", "8002/udp"]);
        assert_eq!(parse_ports("127.0.0.1:80:8080").unwrap(), ["8080/tcp"]);
        assert_eq!(parse_ports("[::1]:80:8080").unwrap(), ["8080/tcp"]);
        for bad in ["", "/tcp", "80/icmp", "x", "9-8", "99999", "1-3:5-6", "a:1:2"] {
            assert!(parse_ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn modes_signals_sizes() {
        for good in ["+x", "u=rwX,go=rX", "g=u", "a+rwxst", "u-w+x", "="] {
            assert!(is_symbolic_mode(good), "{good}");
        }
        for bad in ["", "x", "u", "u=q", "+x,", "g=ux"] {
            assert!(!is_symbolic_mode(bad), "{bad}");
        }
        for good in ["SIGTERM", "term", "9", "RTMIN+3", "SIGRTMAX"] {
            assert!(is_signal(good), "{good}");
        }
        for bad in ["", "0", "65", "SIGNONSENSE", "RTMIN-1"] {
            assert!(!is_signal(bad), "{bad}");
        }
        assert_eq!(parse_size("64m"), Some(64 << 20));
        assert_eq!(parse_size("1.5GiB"), Some(3 << 29));
        assert_eq!(parse_size("2kb"), Some(2048));
        assert!(
            ["x", "", ".", "1bb", "1i", "1kbb", "-1", "1..5"]
                .iter()
                .all(|t| parse_size(t).is_none())
        );
    }
}
