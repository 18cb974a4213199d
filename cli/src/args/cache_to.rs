//! `--cache-to`: where the cache of a build goes.

use std::path::PathBuf;

use oci::Reference;

use super::cache_fields::{Fields, INSECURE};
use super::cache_from::LATEST;
use super::output::{LayerOptions, layer_options};

/// One `--cache-to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheTo {
    /// Where it goes.
    pub place: CachePlace,
    /// Whether the layers of every step go, or those of the result alone.
    pub every_step: bool,
    /// How layers are compressed.
    pub layers: LayerOptions,
    /// Whether the build fails where the cache cannot be written.
    pub must: bool,
}

/// Where a cache goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachePlace {
    /// Into a registry.
    Registry {
        /// Its name there.
        reference: Reference,
        /// Whether the registry needs no trusted, encrypted connection.
        insecure: bool,
    },
    /// Into a directory.
    Local {
        /// The directory.
        dest: PathBuf,
        /// Its name there.
        tag: String,
        /// Whether all else that is there goes.
        reset: bool,
    },
    /// Into the config of the image.
    Inline,
}

/// Keys of every cache that has layers of its own.
const COMMON: [&str; 7] = [
    "mode",
    "ignore-error",
    "compression",
    "compression-level",
    "force-compression",
    "image-manifest",
    "oci-mediatypes",
];

/// Parses `--cache-to`: a name is a cache in a registry, anything else
/// `type=TYPE[,KEY=VALUE…]`.
///
/// # Errors
/// If a type, key or value is unknown or missing.
pub fn parse(text: &str) -> Result<CacheTo, String> {
    let fields = match Fields::parse(text, &["registry", "local", "inline"])? {
        Ok(name) => {
            let place = CachePlace::Registry { reference: target(&name)?, insecure: false };
            let layers = LayerOptions::default();
            return Ok(CacheTo { place, every_step: false, layers, must: false });
        }
        Err(fields) => fields,
    };
    let common = |own: &[&'static str]| [own, &COMMON[..]].concat();
    let place = match fields.kind() {
        "registry" => {
            fields.check(&common(&["ref", INSECURE]))?;
            let reference = target(fields.required("ref")?)?;
            CachePlace::Registry { reference, insecure: fields.flag(INSECURE)?.unwrap_or(false) }
        }
        "local" => {
            fields.check(&common(&["dest", "tag", "reset"]))?;
            CachePlace::Local {
                dest: fields.required("dest")?.into(),
                tag: fields.get("tag").unwrap_or(LATEST).to_owned(),
                reset: fields.flag("reset")?.unwrap_or(false),
            }
        }
        _ => {
            fields.check(&["mode", "ignore-error"])?;
            if fields.get("mode") == Some("max") {
                return Err("type=inline has mode=min only: an image has no layers but its own \
                            (type=registry can have more)"
                    .to_owned());
            }
            CachePlace::Inline
        }
    };
    // What those ask for is what there is (BuildKit can write an index as well).
    for key in ["image-manifest", "oci-mediatypes"] {
        if fields.flag(key)? == Some(false) {
            return Err(format!("{key}=false: a cache is an OCI manifest, as of an image"));
        }
    }
    let every_step = match fields.get("mode") {
        None | Some("min") => false,
        Some("max") => true,
        Some(other) => return Err(format!("mode={other} is neither min nor max")),
    };
    let mut layers = layer_options(fields.get("compression"), fields.get("compression-level"))?;
    layers.force = fields.flag("force-compression")?.unwrap_or(false);
    let must = fields.flag("ignore-error")? == Some(false);
    Ok(CacheTo { place, every_step, layers, must })
}

/// A name that something can be pushed to.
fn target(text: &str) -> Result<Reference, String> {
    let reference = Fields::reference(text)?;
    match reference.digest() {
        Some(_) => Err("a cache cannot be pushed by digest".to_owned()),
        None => Ok(reference),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::LayerCompression;

    #[test]
    fn places_and_defaults() {
        let to = parse("h:5/c").unwrap();
        assert!(matches!(&to.place, CachePlace::Registry { reference, insecure: false }
            if reference.familiar() == "h:5/c:latest"));
        assert!(!to.every_step && !to.must && to.layers == LayerOptions::default());
        let to = parse("type=registry,ref=h:5/c:1,mode=max,ignore-error=false").unwrap();
        assert!(to.every_step && to.must);
        assert!(!parse("type=registry,ref=h:5/c:1,ignore-error=true").unwrap().must);
        let to = parse("type=local,dest=d,tag=t,reset=true,compression=zstd,compression-level=9");
        let to = to.unwrap();
        let (dest, tag) = ("d".into(), "t".to_owned());
        assert_eq!(to.place, CachePlace::Local { dest, tag, reset: true });
        let compression = Some(LayerCompression::Zstd);
        assert_eq!(to.layers, LayerOptions { compression, level: Some(9), force: false });
        assert_eq!(parse("type=inline,mode=min").unwrap().place, CachePlace::Inline);
    }

    #[test]
    fn refusals_tell_what_was_meant() {
        for (text, part) in [
            ("type=gha", "not supported: type=gha (there are registry, local, inline)"),
            ("type=inline,mode=max", "mode=min only"),
            ("type=inline,compression=zstd", "no key \"compression\""),
            ("type=registry,ref=a,mode=mid", "neither min nor max"),
            ("type=registry,ref=a,dest=b", "no key \"dest\""),
            ("type=registry", "needs ref="),
            ("type=local,tag=a", "needs dest="),
            ("type=local,dest=a,resett=1", "did you mean \"reset\"?"),
            ("type=local,dest=a,reset=maybe", "not true or false"),
            ("type=local,dest=a,compression=gizp", "did you mean \"gzip\"?"),
            ("type=local,dest=a,ignore-error=", ""),
            ("type=registry,ref=a,registry.insecure=true", ""),
            ("type=registry,ref=a,registry.insecure=never", "not true or false"),
            ("type=registry,ref=a,image-manifest=true,oci-mediatypes=true", ""),
            ("type=registry,ref=a,image-manifest=false", "OCI manifest"),
            ("type=local,dest=a,image-manifest=true,oci-mediatypes=true", ""),
            ("type=local,dest=a,oci-mediatypes=false", "OCI manifest"),
        ] {
            match parse(text) {
                Err(error) => assert!(error.contains(part), "{text}: {error}"),
                Ok(_) => assert!(part.is_empty(), "{text}"),
            }
        }
        let digest = oci::Digest::of(b"");
        assert!(parse(&format!("type=registry,ref=h/a@{digest}")).is_err());
    }
}
