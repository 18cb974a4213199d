//! `--cache-from`: caches of other machines that a build may use.

use std::path::PathBuf;

use oci::{Digest, Reference};

use super::cache_fields::{Fields, INSECURE};

/// One `--cache-from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheFrom {
    /// A cache in a registry, or an image with a cache in it.
    Registry {
        /// Its name.
        reference: Reference,
        /// Whether the registry needs no trusted, encrypted connection.
        insecure: bool,
    },
    /// A cache in a directory.
    Local {
        /// The directory.
        src: PathBuf,
        /// Which of its caches.
        wanted: WantedCache,
    },
}

/// Which cache of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantedCache {
    /// By its tag.
    Tag(String),
    /// By the digest of its manifest.
    Digest(Digest),
}

/// The tag of a cache that nobody gave one.
pub(super) const LATEST: &str = "latest";

/// Parses `--cache-from`: a name is a cache in a registry, anything else
/// `type=TYPE[,KEY=VALUE…]`.
///
/// # Errors
/// If a type, key or value is unknown or missing.
pub fn parse(text: &str) -> Result<CacheFrom, String> {
    let fields = match Fields::parse(text, &["registry", "local"])? {
        Ok(name) => {
            let reference = Fields::reference(&name)?;
            return Ok(CacheFrom::Registry { reference, insecure: false });
        }
        Err(fields) => fields,
    };
    match fields.kind() {
        "registry" => {
            fields.check(&["ref", INSECURE])?;
            let reference = Fields::reference(fields.required("ref")?)?;
            let insecure = fields.flag(INSECURE)?.unwrap_or(false);
            Ok(CacheFrom::Registry { reference, insecure })
        }
        _ => {
            fields.check(&["src", "digest", "tag"])?;
            let wanted = match (fields.get("digest"), fields.get("tag")) {
                (Some(_), Some(_)) => return Err("digest= and tag= exclude each other".to_owned()),
                (Some(digest), None) => {
                    WantedCache::Digest(digest.parse().map_err(|e| format!("digest=: {e}"))?)
                }
                (None, tag) => WantedCache::Tag(tag.unwrap_or(LATEST).to_owned()),
            };
            Ok(CacheFrom::Local { src: fields.required("src")?.into(), wanted })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_short_forms() {
        let registry = |text: &str| match parse(text) {
            Ok(CacheFrom::Registry { reference, insecure }) => {
                assert_eq!(insecure, text.contains("insecure=true"), "{text}");
                reference.familiar()
            }
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(registry("type=registry,ref=h:5/c:1"), "h:5/c:1");
        assert_eq!(registry("h:5/c"), "h:5/c:latest");
        assert_eq!(registry("type=registry,ref=h:5/c:1,registry.insecure=true"), "h:5/c:1");
        let local = |text: &str| parse(text).unwrap();
        let tag = |tag: &str| WantedCache::Tag(tag.to_owned());
        let src = PathBuf::from("d");
        let wanted = tag("latest");
        assert_eq!(local("type=local,src=d"), CacheFrom::Local { src: src.clone(), wanted });
        let wanted = tag("x");
        assert_eq!(local("src=d,tag=x,type=local"), CacheFrom::Local { src: src.clone(), wanted });
        let digest = Digest::of(b"");
        let wanted = WantedCache::Digest(digest);
        let text = format!("type=local,src=d,digest={digest}");
        assert_eq!(local(&text), CacheFrom::Local { src, wanted });
    }

    #[test]
    fn refusals_tell_what_was_meant() {
        for (text, part) in [
            ("", "expected"),
            ("type=gha", "not supported: type=gha (there are registry, local)"),
            ("type=s3,bucket=b", "not supported: type=s3"),
            ("type=azblob", "not supported: type=azblob"),
            ("type=registri,ref=a", "did you mean \"registry\"?"),
            ("type=registry", "needs ref="),
            ("type=registry,ref=a,insecure=true", "(there are ref, registry.insecure)"),
            ("type=registry,ref=a,registry.insecure=si", "not true or false"),
            ("type=local,src=d,registry.insecure=1", "no key"),
            ("type=registry,ref=A", "invalid reference"),
            ("type=registry,rev=a", "did you mean \"ref\"?"),
            ("type=local", "needs src="),
            ("type=local,src=d,dest=e", "no key \"dest\""),
            ("type=local,src=d,digest=x", "digest="),
            ("type=local,src=d,src=e", "twice"),
            ("ref=a", "type= is missing"),
            ("Upper", "invalid reference"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
