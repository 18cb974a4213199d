//! Names of devices: `vendor.com/class=name` (CDI SPEC.md, "Kind" and "CDI Devices").

/// The longest vendor: a DNS name.
const MAX_VENDOR: usize = 253;
/// The longest class, and the longest name of a device.
const MAX_PART: usize = 63;

/// Checks a kind, `vendor.com/class`.
pub(super) fn check_kind(kind: &str) -> Result<(), String> {
    let (vendor, class) =
        kind.split_once('/').ok_or_else(|| format!("{kind:?} is not of the form vendor/class"))?;
    part("vendor", vendor, MAX_VENDOR, false, &['_', '-', '.'])?;
    part("class", class, MAX_PART, false, &['_', '-', '.'])
}

/// Checks the name of a device within its kind.
pub(super) fn check_device(name: &str) -> Result<(), String> {
    part("device name", name, MAX_PART, true, &['_', '-', '.', ':'])
}

fn part(what: &str, text: &str, max: usize, digit: bool, inner: &[char]) -> Result<(), String> {
    let wrong = |reason: &str| Err(format!("the {what} {text:?} {reason}"));
    if text.is_empty() {
        return Err(format!("the {what} is missing"));
    }
    if text.len() > max {
        return Err(format!("the {what} is longer than {max} characters"));
    }
    let first = |c: char| c.is_ascii_alphabetic() || (digit && c.is_ascii_digit());
    if !text.starts_with(first) {
        return wrong(if digit {
            "does not begin with a letter or a digit"
        } else {
            "does not begin with a letter"
        });
    }
    if !text.ends_with(|c: char| c.is_ascii_alphanumeric()) {
        return wrong("does not end with a letter or a digit");
    }
    match text.chars().find(|c| !c.is_ascii_alphanumeric() && !inner.contains(c)) {
        Some(c) => wrong(&format!("has the character {c:?}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_names() {
        for kind in ["vendor.com/class", "a/b", "foo.bar.baz/foo-bar123.B_az", "v_1/c-2"] {
            assert_eq!(check_kind(kind), Ok(()), "{kind}");
        }
        let long = format!("{}/b", "a".repeat(254));
        for kind in [
            "", "a", "/", "a/", "/b", "a/b/c", "1a/b", "a/1b", "a./b", "a/b-", "a b/c", "../b",
            &long,
        ] {
            assert!(check_kind(kind).is_err(), "{kind}");
        }
        for name in ["0", "gpu0", "a:b", "GPU-12.3_x", "all"] {
            assert_eq!(check_device(name), Ok(()), "{name}");
        }
        for name in ["", "*", "-a", "a-", "a/b", "a=b", "..", "ä", &"a".repeat(64)] {
            assert!(check_device(name).is_err(), "{name}");
        }
    }
}
