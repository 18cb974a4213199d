//! The main context and the Dockerfile.

use std::path::{Path, PathBuf};

use graph::{GitSource, HttpSource};

use super::{ContextError, is_http};

/// What the file behind the URL of a context is called (BuildKit: `dockerui/context.go`,
/// `DetectHTTPContext`).
const FILE_NAME: &str = "context";

/// The main context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextSource {
    /// A directory.
    Directory(PathBuf),
    /// Standard input: an archive of the context, or a Dockerfile without any files.
    Stdin,
    /// A git repository, or a directory in it.
    Git(GitSource),
    /// A file behind a URL: an archive of the context, or a Dockerfile, which is then the only
    /// file.
    Http(HttpSource),
}

/// As it was given, without passwords.
impl std::fmt::Display for ContextSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Stdin => f.write_str("-"),
            Self::Git(source) => source.fmt(f),
            Self::Http(source) => source.fmt(f),
        }
    }
}

/// The Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerfileSource {
    /// `Dockerfile`, or else `dockerfile`, in the context.
    Default,
    /// A file: relative to the working directory with a context that is a directory, else in the
    /// context. An absolute one is of this machine, unless the context is standard input (buildx).
    File(PathBuf),
    /// Standard input.
    Stdin,
    /// A file behind a URL.
    Http(HttpSource),
}

impl ContextSource {
    /// What the context `text` is. A directory that is there comes first, whatever it is called.
    ///
    /// # Errors
    /// If it is nothing that a context can be.
    pub fn parse(text: &str) -> Result<Self, ContextError> {
        match text {
            "" => return Err(ContextError::Empty),
            "-" => return Ok(Self::Stdin),
            path if Path::new(path).is_dir() => return Ok(Self::Directory(path.into())),
            _ => {}
        }
        if let Some(git) = GitSource::parse_context(text)? {
            return Ok(Self::Git(git));
        }
        if is_http(text) {
            return Ok(Self::Http(http(text)));
        }
        match text.split_once("://") {
            Some((scheme, _)) => {
                Err(ContextError::Scheme { context: text.to_owned(), scheme: scheme.to_owned() })
            }
            None => Ok(Self::Directory(text.into())),
        }
    }
}

impl DockerfileSource {
    /// What `--file` names.
    pub fn parse(file: Option<&Path>) -> Self {
        match file {
            None => Self::Default,
            Some(path) if path == Path::new("-") => Self::Stdin,
            Some(path) => match path.to_str().filter(|text| is_http(text)) {
                Some(url) => Self::Http(http(url)),
                None => Self::File(path.to_owned()),
            },
        }
    }
}

/// The file behind a URL as a context has it.
pub(super) fn http(url: &str) -> HttpSource {
    HttpSource { url: url.to_owned(), filename: Some(FILE_NAME.to_owned()), checksum: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        assert_eq!(ContextSource::parse("/").unwrap(), ContextSource::Directory("/".into()));
        assert_eq!(ContextSource::parse("-").unwrap(), ContextSource::Stdin);
        let missing = ContextSource::parse("no/such/place").unwrap();
        assert_eq!(missing, ContextSource::Directory("no/such/place".into()));
        let Ok(ContextSource::Http(file)) = ContextSource::parse("https://h/a.tar.gz") else {
            panic!()
        };
        assert_eq!(
            (file.url.as_str(), file.filename.as_deref()),
            ("https://h/a.tar.gz", Some("context"))
        );
        for url in [
            "https://h/a/b.git",
            "git@h:a/b",
            "git://h/a",
            "ssh://git@h/a/b#v1:d",
            "github.com/a/b",
        ] {
            let source = ContextSource::parse(url).unwrap();
            assert!(matches!(source, ContextSource::Git(_)), "{url}: {source:?}");
        }
        assert_eq!(ContextSource::parse(""), Err(ContextError::Empty));
        for bad in ["ftp://h/x", "https://", "oci-layout://x"] {
            let error = ContextSource::parse(bad).unwrap_err();
            assert!(matches!(error, ContextError::Scheme { .. }), "{bad}: {error}");
        }
        let git = ContextSource::parse("https://h/a.git#x:../y").unwrap_err();
        assert!(matches!(git, ContextError::Git(_)), "{git}");
    }

    #[test]
    fn dockerfiles() {
        let parse = |text: &str| DockerfileSource::parse(Some(Path::new(text)));
        assert_eq!(DockerfileSource::parse(None), DockerfileSource::Default);
        assert_eq!(parse("-"), DockerfileSource::Stdin);
        assert_eq!(parse("./-"), DockerfileSource::File("./-".into()));
        assert!(matches!(parse("http://h/Dockerfile"), DockerfileSource::Http(_)));
    }
}
