//! "Did you mean".

/// The longest word that is compared, in bytes.
const MAX_WORD: usize = 64;

/// The option that `written` was most likely meant to be.
pub fn nearest<'a>(written: &str, options: &[&'a str]) -> Option<&'a str> {
    if written.len() > MAX_WORD {
        return None;
    }
    let far = (written.chars().count() / 2).clamp(1, 3);
    options
        .iter()
        .map(|o| (strsim::damerau_levenshtein(&written.to_lowercase(), o), *o))
        .filter(|(distance, _)| *distance <= far)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, option)| option)
}

/// `; did you mean "…"?`, or nothing.
pub fn did_you_mean(written: &str, options: &[&str]) -> String {
    nearest(written, options).map(|o| format!("; did you mean {o:?}?")).unwrap_or_default()
}
