//! The remote sources of ADD: files behind URLs, git repositories.

use graph::{GitSource, HttpSource, SourceOp};

use super::stage::{Step, fail};
use crate::Diagnostic;
use crate::ast::{Transfer, Word};

/// The name of a file whose URL has none (BuildKit's).
const UNNAMED: &str = "__unnamed__";

/// One source of a COPY or an ADD.
pub(super) enum Source {
    /// A path or a wildcard.
    Path(String),
    /// A file behind a URL.
    Http(HttpSource),
    /// A git repository.
    Git(GitSource),
}

impl Source {
    /// What the operation on it is; none for a path.
    pub(super) fn op(&self) -> Option<SourceOp> {
        match self {
            Self::Path(_) => None,
            Self::Http(http) => Some(SourceOp::Http(http.clone())),
            Self::Git(git) => Some(SourceOp::Git(git.clone())),
        }
    }

    /// What is copied of it.
    pub(super) fn paths(&self) -> Vec<String> {
        vec![match self {
            Self::Path(path) => path.clone(),
            // The one file that is there; its name may look like a pattern.
            Self::Http(_) => "*".to_owned(),
            Self::Git(_) => ".".to_owned(),
        }]
    }
}

/// Reads the sources of an ADD, their variables expanded.
pub(super) fn sources(
    transfer: &Transfer,
    texts: &[String],
    checksum: Option<&str>,
) -> Step<Vec<Source>> {
    let mut sources = Vec::with_capacity(texts.len());
    for (text, word) in texts.iter().zip(&transfer.sources) {
        sources.push(source(transfer, text, word, checksum)?);
    }
    if let Some(flag) = &transfer.checksum {
        if sources.iter().any(|s| matches!(s, Source::Path(_))) || !transfer.inline.is_empty() {
            return fail(flag.span, "--checksum requires HTTP(S) or git sources");
        }
        if sources.len() > 1 {
            return fail(flag.span, "--checksum can't be specified for multiple sources");
        }
    }
    Ok(sources)
}

fn source(transfer: &Transfer, text: &str, word: &Word, checksum: Option<&str>) -> Step<Source> {
    match GitSource::parse(text) {
        Err(error) => return fail(word.span, error.to_string()),
        Ok(Some(git)) => return git_source(transfer, text, git, word, checksum).map(Source::Git),
        Ok(None) => {}
    }
    if !is_url(text) {
        return Ok(Source::Path(text.to_owned()));
    }
    let flag = transfer.checksum.as_ref().map_or(word.span, |flag| flag.span);
    let digest = checksum.map(|text| {
        text.parse::<oci::Digest>().map_err(|e| {
            let error = Diagnostic::error(flag, format!("invalid checksum {text:?}: {e}"));
            Box::new(error.help("write sha256: and 64 hexadecimal digits"))
        })
    });
    let checksum = digest.transpose()?;
    let filename = Some(file_name(text).unwrap_or_else(|| UNNAMED.to_owned()));
    Ok(Source::Http(HttpSource { url: text.to_owned(), filename, checksum }))
}

/// What the flags say of a repository must be what its URL says.
fn git_source(
    transfer: &Transfer,
    text: &str,
    mut git: GitSource,
    word: &Word,
    checksum: Option<&str>,
) -> Step<GitSource> {
    if let Some(flag) = transfer.keep_git_dir {
        if text.contains("keep-git-dir") && git.keep_git_dir != flag.on {
            return fail(
                flag.span,
                format!("--keep-git-dir and {:?} contradict each other", word.value),
            );
        }
        git.keep_git_dir = flag.on;
    }
    if let (Some(flag), Some(given)) = (&transfer.checksum, checksum) {
        let commit = given.len() >= MIN_COMMIT && given.bytes().all(|b| b.is_ascii_hexdigit());
        if !commit {
            let message = format!("invalid checksum {given:?}: not a commit of a git repository");
            let error = Diagnostic::error(flag.span, message);
            return Err(Box::new(error.help("write the commit, or at least its first 7 digits")));
        }
        if git.checksum.as_ref().is_some_and(|own| own != given) {
            return fail(
                flag.span,
                format!("--checksum and {:?} contradict each other", word.value),
            );
        }
        git.checksum = Some(given.to_ascii_lowercase());
    }
    Ok(git)
}

/// The fewest digits of a commit that can name it.
const MIN_COMMIT: usize = 7;

/// Whether ADD takes it for a URL.
pub(super) fn is_url(text: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme))
}

/// The last part of a URL's path, its escapes resolved; none if the path ends with nothing.
fn file_name(url: &str) -> Option<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (_, path) = rest.split_once('/')?;
    let decoded = percent_decode(path);
    // Escaped slashes are slashes to BuildKit, too: Go's `path.Base` of the decoded path.
    let name = decoded.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let usable = !matches!(name, "" | "." | "..") && !name.contains('\0');
    usable.then(|| name.to_owned())
}

/// Resolves `%2F` and the like; what is no UTF-8 then, or no escape, stays as it is.
fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = (*byte == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        let code = escaped.filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(code) => {
                out.push(code);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files() {
        for (url, want) in [
            ("http://h/a/b.tar?x=/y#z", Some("b.tar")),
            ("http://h/a/", Some("a")),
            ("http://h/a%20b", Some("a b")),
            ("http://h/x%2Fy", Some("y")),
            ("http://h/%zz", Some("%zz")),
            ("http://h", None),
            ("http://h/", None),
            ("http://h/a/..", None),
            ("https://h?x=/y", None),
        ] {
            assert_eq!(file_name(url).as_deref(), want, "{url}");
        }
    }
}
