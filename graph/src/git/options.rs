//! What stands behind the URL of a repository: `#ref:directory`, or `?ref=…&subdir=…`.

use super::{GitSource, Mtime};

/// The keys of the query (BuildKit: `util/gitutil`, `parseOpts`).
const KEYS: [&str; 10] = [
    "ref",
    "tag",
    "branch",
    "subdir",
    "checksum",
    "commit",
    "keep-git-dir",
    "submodules",
    "mtime",
    "fetch-by-commit",
];

/// The fewest digits of a commit that can name it.
const MIN_COMMIT: usize = 7;
/// The digits of a commit in a repository of SHA-256.
const MAX_COMMIT: usize = 64;

/// Resolves `%2F` and the like.
pub(super) fn percent_decode(text: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let hex = after.get(..2).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let code = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        let Some(code) = code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) else {
            return Err(format!("{text:?} has a % without two hexadecimal digits"));
        };
        out.push(code);
        rest = &after[2..];
    }
    String::from_utf8(out).map_err(|_| format!("{text:?} is not UTF-8"))
}

/// Escapes what would mean something else in a query or a fragment.
pub(super) fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || !c.is_ascii() || "-._~/!@".contains(c) {
            out.push(c);
        } else {
            out.push_str(&format!("%{:02X}", u32::from(c)));
        }
    }
    out
}

/// `ref:directory`.
pub(super) fn read_fragment(source: &mut GitSource, fragment: &str) -> Result<(), String> {
    let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
    if !reference.is_empty() {
        source.reference = Some(checked_ref(reference)?);
    }
    source.subdir = clean(directory)?;
    Ok(())
}

/// `key=value&key=value`.
pub(super) fn read_query(source: &mut GitSource, query: &str) -> Result<(), String> {
    let mut seen: Vec<String> = Vec::new();
    let mut named: Option<&str> = None;
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode = |text: &str| percent_decode(&text.replace('+', " "));
        let (key, value) = (decode(key)?, decode(value)?);
        let Some(&key) = KEYS.iter().find(|k| **k == key) else { return Err(unknown(&key)) };
        // Two names of one thing.
        let thing = if key == "commit" { "checksum" } else { key };
        if seen.iter().any(|s| s == thing) {
            return Err(format!("{key} stands there twice"));
        }
        seen.push(thing.to_owned());
        let may_be_empty = matches!(key, "keep-git-dir" | "submodules" | "fetch-by-commit");
        if value.is_empty() && !may_be_empty {
            return Err(format!("{key} has no value"));
        }
        match key {
            "ref" | "tag" | "branch" => {
                let prefix = match key {
                    "tag" => "refs/tags/",
                    "branch" => "refs/heads/",
                    _ => "",
                };
                let new = format!("{prefix}{}", checked_ref(&value)?);
                // A fragment may repeat what ref says.
                let agrees = key == "ref" && named.is_none();
                let other = source.reference.as_ref();
                if let Some(old) = other.filter(|old| !agrees || **old != new) {
                    let by = named.unwrap_or("the fragment");
                    return Err(format!("{key} ({value:?}) conflicts with {by} ({old:?})"));
                }
                source.reference = Some(new);
                named = Some(key);
            }
            "subdir" => {
                let new = clean(&value)?;
                if source.subdir.is_some() && source.subdir != new {
                    return Err(format!("subdir ({value:?}) conflicts with the fragment"));
                }
                source.subdir = new;
            }
            "checksum" | "commit" => source.checksum = Some(commit(key, &value)?),
            "keep-git-dir" => source.keep_git_dir = switch(key, &value)?,
            "submodules" => source.submodules = switch(key, &value)?,
            "fetch-by-commit" => source.fetch_by_commit = switch(key, &value)?,
            _ => source.mtime = mtime(&value)?,
        }
    }
    // BuildKit: `util/gitutil`, `parseOpts`.
    if source.reference.is_none() {
        source.reference.clone_from(&source.checksum);
    }
    Ok(())
}

fn unknown(key: &str) -> String {
    let near = KEYS.iter().map(|k| (strsim::damerau_levenshtein(k, &key.to_lowercase()), k));
    match near.min().filter(|(distance, _)| *distance <= 2) {
        Some((_, near)) => format!("unknown key {key:?}: did you mean {near:?}?"),
        None => format!("unknown key {key:?}: it is one of {}", KEYS.join(", ")),
    }
}

/// A boolean as Go's `strconv.ParseBool` reads it; a key without a value is true.
fn switch(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "" | "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("{key} is {value:?}, which is neither true nor false")),
    }
}

fn mtime(value: &str) -> Result<Mtime, String> {
    match value {
        "checkout" => Ok(Mtime::Checkout),
        "commit" => Ok(Mtime::Commit),
        _ => Err(format!("mtime is {value:?}, which is neither checkout nor commit")),
    }
}

fn commit(key: &str, value: &str) -> Result<String, String> {
    let length = (MIN_COMMIT..=MAX_COMMIT).contains(&value.len());
    if length && value.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(value.to_ascii_lowercase());
    }
    Err(format!("{key} is {value:?}, which is no commit: write at least its first 7 digits"))
}

/// A path inside the repository, without `.`, `..` and slashes around it; none for its root.
fn clean(path: &str) -> Result<Option<String>, String> {
    if path.contains(char::is_control) {
        return Err(format!("the directory {path:?} holds a control character"));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_none() => {
                return Err(format!("the directory {path:?} is outside of the repository"));
            }
            ".." => {}
            part => parts.push(part),
        }
    }
    Ok((!parts.is_empty()).then(|| parts.join("/")))
}

/// A name as refs have it (git-check-ref-format(1)).
fn checked_ref(name: &str) -> Result<String, String> {
    let bad = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    let part = |part: &str| {
        part.is_empty() || part.starts_with('.') || part.to_ascii_lowercase().ends_with(".lock")
    };
    let wrong = name.contains(bad)
        || name.contains("..")
        || name.contains("@{")
        || name.starts_with('-')
        || name.ends_with('.')
        || name == "@"
        || name.split('/').any(part);
    if wrong {
        return Err(format!("{name:?} cannot be the name of a branch, a tag or a commit"));
    }
    Ok(name.to_owned())
}
