//! Named build contexts: which one a name means.

use oci::{Platform, Reference};

use super::{LowerOptions, NamedContext};

/// The named context that replaces `name`, with its key.
///
/// An image is known by its shortest name, `latest` left out, and a key may end with
/// `::os/arch` (BuildKit: `dockerui.NamedContext`).
pub(super) fn find<'a>(
    options: &'a LowerOptions,
    name: &str,
    platform: &Platform,
) -> Option<(&'a str, &'a NamedContext)> {
    let reserved = ["scratch", "context"].iter().any(|r| r.eq_ignore_ascii_case(name));
    if options.contexts.is_empty() || reserved {
        return None;
    }
    let wanted = shortest(name);
    let suffix = format!("::{platform}");
    let for_platform = |key: &str| key.strip_suffix(&suffix).is_some_and(|k| shortest(k) == wanted);
    let exact = options.contexts.iter().find(|(key, _)| for_platform(key));
    exact
        .or_else(|| options.contexts.iter().find(|(key, _)| shortest(key) == wanted))
        .map(|(key, context)| (key.as_str(), context))
}

fn shortest(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    match lower.parse::<Reference>() {
        Ok(reference) => {
            let familiar = reference.familiar();
            familiar.strip_suffix(":latest").map_or(familiar.clone(), str::to_owned)
        }
        Err(_) => lower,
    }
}
