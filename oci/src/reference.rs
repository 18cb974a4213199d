//! Image references: `[domain/]path[:tag][@digest]`, normalised as Docker does.
//!
//! Source: distribution/reference's grammar; `busybox` means
//! `docker.io/library/busybox:latest`.

use std::fmt;
use std::str::FromStr;

use crate::Digest;

/// The registry that a name without a domain means.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The longest repository name (domain and path together), in bytes.
pub const MAX_NAME: usize = 255;
/// The longest tag, in bytes.
pub const MAX_TAG: usize = 128;

/// A normalised image name with its tag, its digest, or both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a string is not an image reference.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid reference {text:?}: {reason}")]
pub struct ReferenceError {
    /// What was given.
    pub text: String,
    /// The rule it breaks.
    pub reason: String,
}

impl Reference {
    /// The registry's host and port, `docker.io` for Docker Hub.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository below the registry, such as `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The repository with its registry, without tag and digest.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The tag; none only where a digest was given alone.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest that pins it.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The same name pinned to `digest` (the tag stays).
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The same name without a digest; `latest` where there was no tag.
    pub fn without_digest(&self) -> Self {
        let tag = self.tag.clone().or_else(|| Some("latest".to_owned()));
        Self { digest: None, tag, ..self.clone() }
    }

    /// The same repository under another tag. The tag is not checked.
    pub fn with_tag(&self, tag: &str) -> Self {
        Self { digest: None, tag: Some(tag.to_owned()), ..self.clone() }
    }

    /// As people write it: without `docker.io/library/`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        match full.strip_prefix("docker.io/") {
            Some(rest) => rest.strip_prefix("library/").unwrap_or(rest).to_owned(),
            None => full,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail =
            |reason: &str| ReferenceError { text: text.to_owned(), reason: reason.to_owned() };
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                (name, Some(digest.parse::<Digest>().map_err(|e| fail(&e.to_string()))?))
            }
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            // A colon before the last slash belongs to a port.
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        if name.is_empty() {
            return Err(fail("the repository name is empty"));
        }
        if let Some(tag) = tag {
            check_tag(tag).map_err(|r| fail(&r))?;
        }
        if name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(fail("a repository name must not be 64 hexadecimal digits"));
        }
        let (domain, path) = split_domain(name);
        check_domain(&domain).map_err(|r| fail(&r))?;
        check_path(&path).map_err(|r| fail(&r))?;
        if domain.len() + 1 + path.len() > MAX_NAME {
            return Err(fail("the repository name is longer than 255 characters"));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some("latest".to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self { domain, path, tag, digest })
    }
}

fn split_domain(name: &str) -> (String, String) {
    let (domain, path) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
    if domain == DEFAULT_DOMAIN && !path.contains('/') {
        return (domain.to_owned(), format!("library/{path}"));
    }
    (domain.to_owned(), path.to_owned())
}

fn check_tag(tag: &str) -> Result<(), String> {
    let head = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let tail = |b: u8| head(b) || b == b'.' || b == b'-';
    if tag.is_empty() {
        return Err("the tag is empty".to_owned());
    }
    if tag.len() > MAX_TAG {
        return Err(format!("the tag is longer than {MAX_TAG} characters"));
    }
    if !head(tag.as_bytes()[0]) || !tag.bytes().all(tail) {
        return Err(format!(
            "the tag {tag:?} has a character that is not allowed (letters, digits, \"_\", and not first \".\" and \"-\")"
        ));
    }
    Ok(())
}

fn check_domain(domain: &str) -> Result<(), String> {
    let bad = || Err(format!("{domain:?} is not a registry's host[:port]"));
    let (host, port) = if let Some(rest) = domain.strip_prefix('[') {
        match rest.split_once(']') {
            Some((address, after)) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
                match after.strip_prefix(':') {
                    Some(port) => (None, Some(port)),
                    None if after.is_empty() => (None, None),
                    None => return bad(),
                }
            }
            _ => return bad(),
        }
    } else {
        match domain.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(domain), None),
        }
    };
    if port.is_some_and(|p| p.is_empty() || p.len() > 5 || !p.bytes().all(|b| b.is_ascii_digit())) {
        return bad();
    }
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if host.is_some_and(|h| !h.split('.').all(label)) {
        return bad();
    }
    Ok(())
}

fn check_path(path: &str) -> Result<(), String> {
    for component in path.split('/') {
        if component.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err("the repository name must be lowercase".to_owned());
        }
        if !component_is_valid(component) {
            return Err(format!(
                "{component:?} is not a repository name (lowercase letters and digits, joined by \".\", \"_\", \"__\" or \"-\")"
            ));
        }
    }
    Ok(())
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn component_is_valid(component: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !word(*first) || !word(*last) {
        return false;
    }
    let mut separators = component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    separators.all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

crate::text::serde_as_text!(Reference);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises() {
        for (text, full, familiar) in [
            ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("a/b:1.0", "docker.io/a/b:1.0", "a/b:1.0"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            (
                "127.0.0.1:5000/library/busybox",
                "127.0.0.1:5000/library/busybox:latest",
                "127.0.0.1:5000/library/busybox:latest",
            ),
            ("index.docker.io/busybox:x", "docker.io/library/busybox:x", "busybox:x"),
            ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
            (
                "ghcr.io/a/b__c/d--e.f",
                "ghcr.io/a/b__c/d--e.f:latest",
                "ghcr.io/a/b__c/d--e.f:latest",
            ),
        ] {
            let r: Reference = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(r.to_string(), full);
            assert_eq!(r.familiar(), familiar);
            assert_eq!(full.parse::<Reference>().unwrap(), r);
        }
    }

    #[test]
    fn digest_keeps_the_tag() {
        let digest = Digest::of(b"x");
        let r: Reference = format!("busybox:1@{digest}").parse().unwrap();
        assert_eq!((r.tag(), r.digest()), (Some("1"), Some(digest)));
        let r: Reference = format!("busybox@{digest}").parse().unwrap();
        assert_eq!((r.tag(), r.digest()), (None, Some(digest)));
    }

    #[test]
    fn refuses() {
        for bad in [
            "",
            ":tag",
            "App",
            "a/B",
            "a//b",
            "a:",
            "a:b:c",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a:-x",
            "a@sha256:12",
            "host:port/a",
            "a b",
            "http://a/b",
            "a/",
            "/a",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?} was accepted");
        }
        assert!(format!("a:{}", "t".repeat(129)).parse::<Reference>().is_err());
        assert!("p/".repeat(200).trim_end_matches('/').parse::<Reference>().is_err());
    }
}
