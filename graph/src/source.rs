//! What a build starts from.

use std::fmt;

use oci::{Digest, Platform};
use serde::{Deserialize, Serialize};

use crate::git::GitSource;
use crate::ignore::IgnoreList;

/// Something from outside the build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "lowercase")]
pub enum SourceOp {
    /// The root file system of an image.
    Image(ImageSource),
    /// A directory of this machine, or what stands in for one.
    Local(LocalSource),
    /// A file that a URL names.
    Http(HttpSource),
    /// A tree of a git repository.
    Git(GitSource),
}

/// An image that was resolved before the graph was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSource {
    /// As it is shown: the reference with its digest.
    pub name: String,
    /// The digest of the manifest of one platform, which pins the content.
    pub manifest: Digest,
    /// The platform that was asked for.
    pub platform: Platform,
}

/// A file behind an HTTP(S) URL: a tree of that one file, owned by root, mode 0600, with the time
/// of `Last-Modified` (the epoch where there is none).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HttpSource {
    /// Where it is.
    pub url: String,
    /// Its name in the tree; none for what the server calls it, else the last part of the URL.
    pub filename: Option<String>,
    /// What its content must be. With it the server need not be asked for what is at hand.
    pub checksum: Option<Digest>,
}

/// As it is shown: without the user and the password that the URL may have.
impl fmt::Display for HttpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.url.split_once("://") else {
            return f.write_str(&self.url);
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        match rest[..end].rsplit_once('@') {
            Some((_, host)) => write!(f, "{scheme}://…@{host}{}", &rest[end..]),
            None => f.write_str(&self.url),
        }
    }
}

/// A directory that files are copied from. It is hashed and read in place, never copied whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalSource {
    /// The context's name: `context` for the main one, else that of `--build-context`.
    pub name: String,
    /// What is not part of it (`.dockerignore`).
    pub ignore: IgnoreList,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for (url, shown) in [
            ("http://u:p@h:1/a@b?c", "http://…@h:1/a@b?c"),
            ("http://u:p@h", "http://…@h"),
            ("https://h/a@b", "https://h/a@b"),
            ("h", "h"),
        ] {
            let source = HttpSource { url: url.to_owned(), filename: None, checksum: None };
            assert_eq!(source.to_string(), shown);
        }
    }
}
