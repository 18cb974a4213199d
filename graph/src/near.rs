//! What a mistyped word was most likely meant to be.

/// Longer words are not looked at, nor proposed.
const MAX_LENGTH: usize = 64;
/// Further options are not looked at.
const MAX_OPTIONS: usize = 256;

/// The option that `written` was most likely meant to be: the nearest one, at most three edits
/// and not more than half of it away; letter case does not count. Long words and long lists are
/// not searched to the end.
pub fn nearest<'a>(written: &str, options: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if written.len() > MAX_LENGTH {
        return None;
    }
    let lower = written.to_lowercase();
    let far = (lower.chars().count() / 2).min(3);
    options
        .into_iter()
        .take(MAX_OPTIONS)
        .filter(|o| o.len() <= MAX_LENGTH && *o != written)
        .map(|o| (strsim::damerau_levenshtein(&lower, &o.to_lowercase()), o))
        .filter(|(distance, _)| *distance <= far)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, option)| option)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_counts() {
        let files = ["package.json", "package-lock.json", "src"];
        assert_eq!(nearest("packag.json", files), Some("package.json"));
        assert_eq!(nearest("SRC", files), Some("src"));
        assert_eq!(nearest("sr", files), Some("src"));
        assert_eq!(nearest("x", files), None);
        assert_eq!(nearest("src", ["src"]), None);
        assert_eq!(nearest(&"a".repeat(65), [&*"a".repeat(64)]), None);
    }
}
