//! `--build-context`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use frontend::NamedContext;
use graph::GitSource;

use super::ContextError;
use super::is_http;
use super::source::http;
use crate::args;

/// The kinds of a value, for whoever writes another.
const KINDS: &str = "a directory, a git repository, http://, https://, docker-image://, \
                     oci-layout://, target:";

/// The named contexts of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedContexts {
    /// What each is.
    pub kinds: BTreeMap<String, NamedContext>,
    /// Where those are that are directories.
    pub directories: BTreeMap<String, PathBuf>,
    /// Where those are that are OCI layouts.
    pub layouts: BTreeMap<String, LayoutSource>,
}

/// An OCI layout, or an archive of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutSource {
    /// The directory or the archive.
    pub path: PathBuf,
    /// The image in it: a tag or a digest; none for the only one.
    pub image: Option<String>,
}

impl NamedContexts {
    /// Those of a command line: of one name, the last one counts, whatever its kind.
    ///
    /// # Errors
    /// If one makes no sense.
    pub fn new(contexts: &[args::NamedContext]) -> Result<Self, ContextError> {
        let mut named = Self::default();
        for context in contexts {
            named.add(&context.name, &context.value).map_err(|reason| ContextError::Named {
                name: context.name.clone(),
                value: masked(&context.value),
                reason,
            })?;
        }
        Ok(named)
    }

    fn add(&mut self, name: &str, value: &str) -> Result<(), String> {
        self.directories.remove(name);
        self.layouts.remove(name);
        let kind = if let Some(image) = value.strip_prefix("docker-image://") {
            NamedContext::Image(image.parse().map_err(|e: oci::ReferenceError| e.to_string())?)
        } else if let Some(layout) = value.strip_prefix("oci-layout://") {
            self.layouts.insert(name.to_owned(), LayoutSource::parse(layout).ok_or("no path")?);
            NamedContext::Layout
        } else if let Some(stage) = value.strip_prefix("target:") {
            if stage.is_empty() {
                return Err("no stage".to_owned());
            }
            NamedContext::Stage(stage.to_owned())
        } else if Path::new(value).is_dir() {
            self.directories.insert(name.to_owned(), value.into());
            NamedContext::Local
        } else if let Some(git) = GitSource::parse_context(value).map_err(|e| e.reason)? {
            NamedContext::Git(git)
        } else if is_http(value) {
            NamedContext::Http(http(value))
        } else if let Some((scheme, _)) = value.split_once("://") {
            return Err(format!("unknown kind {scheme:?} ({KINDS})"));
        } else {
            self.directories.insert(name.to_owned(), value.into());
            NamedContext::Local
        };
        self.kinds.insert(name.to_owned(), kind);
        Ok(())
    }
}

/// A value as it may be shown: the password of a URL is not.
fn masked(value: &str) -> String {
    let Some((scheme, rest)) = value.split_once("://") else { return value.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match host.rsplit_once('@').and_then(|(login, host)| Some((login.split_once(':')?.0, host))) {
        Some((user, host)) => format!("{scheme}://{user}:xxxxx@{host}{path}"),
        None => value.to_owned(),
    }
}

impl LayoutSource {
    /// `PATH[:TAG][@DIGEST]`; a colon belongs to a tag only after the last slash.
    fn parse(text: &str) -> Option<Self> {
        let (rest, digest) = match text.split_once("@sha256:") {
            Some((rest, hex)) => (rest, Some(format!("sha256:{hex}"))),
            None => (text, None),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') && !tag.is_empty() => {
                (path, Some(tag.to_owned()))
            }
            _ => (rest, None),
        };
        (!path.is_empty()).then(|| Self { path: path.into(), image: digest.or(tag) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::pair::named_context;

    fn named(contexts: &[&str]) -> Result<NamedContexts, ContextError> {
        let contexts: Vec<_> = contexts.iter().map(|c| named_context(c).unwrap()).collect();
        NamedContexts::new(&contexts)
    }

    #[test]
    fn kinds() {
        let digest = format!("d:1@sha256:{}", "0".repeat(64));
        let got = named(&[
            "a=dir",
            "b=docker-image://busybox",
            "c=oci-layout:///x/y:1.0",
            "a=oci-layout://d",
            "e=dir",
            "f=target:Build",
            "g=https://h/a.tar",
            "h=https://h/a.git#v1",
            "i=dir",
            "i=target:x",
        ])
        .unwrap();
        assert_eq!(got.kinds.len(), 8);
        assert_eq!(got.directories.keys().collect::<Vec<_>>(), ["e"]);
        let layout =
            |p: &str, i: Option<&str>| LayoutSource { path: p.into(), image: i.map(str::to_owned) };
        assert_eq!(got.layouts["c"], layout("/x/y", Some("1.0")));
        assert_eq!(got.layouts["a"], layout("d", None));
        assert_eq!(got.kinds["f"], NamedContext::Stage("Build".into()));
        assert!(matches!(got.kinds["g"], NamedContext::Http(_)));
        assert!(matches!(got.kinds["h"], NamedContext::Git(_)));
        assert_eq!(LayoutSource::parse(&digest).unwrap().image.unwrap(), digest[4..]);
        assert_eq!(LayoutSource::parse("/a:b/c").unwrap(), layout("/a:b/c", None));
    }

    #[test]
    fn mistakes() {
        for (bad, part) in [
            ("x=docker-image://B", "docker-image"),
            ("x=ftp://h", "unknown kind \"ftp\" (a directory"),
            ("x=oci-layout://", "no path"),
            ("x=target:", "no stage"),
            ("x=https://", "unknown kind"),
        ] {
            let error = named(&[bad]).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("--build-context x="), "{bad}: {error}");
        }
        let error = named(&["x=ftp://u:secret@h/p@q"]).unwrap_err().to_string();
        assert!(error.contains("x=ftp://u:xxxxx@h/p@q"), "{error}");
    }
}
