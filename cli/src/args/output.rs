//! `--output`: what is made of the finished image.

use std::path::PathBuf;

use oci::Reference;

use super::cache_fields::INSECURE;
use super::csv;
use super::suggest::did_you_mean;

/// One `--output`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSpec {
    /// What is written, and where.
    pub kind: OutputKind,
    /// `name=`: names besides those of `--tag`.
    pub names: Vec<Reference>,
    /// Whether the image is pushed to the registries of its names.
    pub push: bool,
    /// Whether those registries need no trusted, encrypted connection.
    pub insecure: bool,
    /// How layers are compressed.
    pub layers: LayerOptions,
    /// Whether file times later than SOURCE_DATE_EPOCH are set to it.
    pub rewrite_timestamp: bool,
}

/// Kinds of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// An OCI layout as a tar.
    Oci(Stream),
    /// An OCI layout in a directory (`tar=false`).
    OciLayout(PathBuf),
    /// A Docker archive.
    Docker(Stream),
    /// A Docker archive that goes into the docker or podman that is there.
    Load,
    /// The root file system as a tar.
    Tar(Stream),
    /// The root file system in a directory.
    Local(PathBuf),
    /// An image in the local store, pushed where `push` is set.
    Image,
    /// Nothing but the cache.
    CacheOnly,
}

/// Where a stream of bytes goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// A file.
    File(PathBuf),
}

/// `compression=`, `compression-level=`, `force-compression=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerOptions {
    /// The compression; none for the default.
    pub compression: Option<LayerCompression>,
    /// Its level.
    pub level: Option<i32>,
    /// Whether layers that have another compression are converted.
    pub force: bool,
}

/// Compressions of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerCompression {
    /// `uncompressed`.
    Uncompressed,
    /// `gzip`.
    Gzip,
    /// `zstd`.
    Zstd,
}

const TYPES: &[&str] = &["oci", "docker", "tar", "local", "image", "registry", "cacheonly"];
/// Keys that say how an image is made.
const IMAGE_KEYS: &[&str] =
    &["name", "compression", "compression-level", "force-compression", "rewrite-timestamp"];
/// Keys that BuildKit knows and Drydock does not yet.
const LATER_KEYS: &[&str] = &[
    "attestation-inline",
    "attestation-prefix",
    "dangling-name-prefix",
    "mode",
    "name-canonical",
    "oci-artifact",
    "oci-mediatypes",
    "platform-split",
    "prefer-nondist-layers",
    "push-by-digest",
    "store",
    "unpack",
];

impl OutputSpec {
    fn new(kind: OutputKind) -> Self {
        Self {
            kind,
            names: Vec::new(),
            push: false,
            insecure: false,
            layers: LayerOptions::default(),
            rewrite_timestamp: false,
        }
    }

    /// What `--load` stands for.
    pub fn load() -> Self {
        Self::new(OutputKind::Load)
    }

    /// What `--push` stands for.
    pub fn push() -> Self {
        Self { push: true, ..Self::new(OutputKind::Image) }
    }

    /// Whether an image comes out, which has a digest; a bare file system has none.
    pub fn is_image(&self) -> bool {
        !matches!(self.kind, OutputKind::Tar(_) | OutputKind::Local(_) | OutputKind::CacheOnly)
    }

    /// Whether it goes to standard output.
    pub fn to_stdout(&self) -> bool {
        use OutputKind::{Docker, Oci, Tar};
        matches!(&self.kind, Oci(s) | Docker(s) | Tar(s) if *s == Stream::Stdout)
    }
}

/// Parses `--output`: `-` is a tar on standard output, a word without `=` a directory, anything
/// else `type=TYPE[,KEY=VALUE…]`.
///
/// # Errors
/// If a type, key or value is unknown or missing.
pub fn parse(text: &str) -> Result<OutputSpec, String> {
    let fields = csv::fields(text).map_err(|e| e.to_string())?;
    if let [only] = &fields[..]
        && only == text
        && !text.contains('=')
    {
        return match text {
            "" => Err("expected a directory, \"-\" or type=TYPE,…".to_owned()),
            "-" => Ok(OutputSpec::new(OutputKind::Tar(Stream::Stdout))),
            dir => Ok(OutputSpec::new(OutputKind::Local(dir.into()))),
        };
    }
    let mut pairs = Vec::with_capacity(fields.len());
    for field in &fields {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("{field:?} is not KEY=VALUE{}", did_you_mean(field, TYPES)))?;
        let key = key.trim().to_lowercase();
        if pairs.iter().any(|(k, _)| *k == key) {
            return Err(format!("key {key:?} is given twice"));
        }
        pairs.push((key, value));
    }
    let kind = pairs.iter().find(|(k, _)| k == "type").map(|(_, v)| *v);
    let kind = kind.ok_or_else(|| format!("type= is missing (one of {})", TYPES.join(", ")))?;
    build(kind, &pairs)
}

fn build(kind: &str, pairs: &[(String, &str)]) -> Result<OutputSpec, String> {
    check_keys(kind, pairs)?;
    let get = |key: &str| pairs.iter().find(|(k, _)| k == key).map(|(_, v)| *v);
    let flag = |key: &str, default| get(key).map_or(Ok(default), |v| boolean(key, v));
    let stream = || match get("dest") {
        None | Some("-" | "") => Stream::Stdout,
        Some(path) => Stream::File(path.into()),
    };
    let directory = || match get("dest") {
        None | Some("") => Err(format!("type={kind} needs dest=DIRECTORY")),
        Some("-") => Err(format!("a directory (type={kind}) cannot go to standard output")),
        Some(path) => Ok(PathBuf::from(path)),
    };
    let mut spec = OutputSpec::new(match kind {
        "oci" if !flag("tar", true)? => OutputKind::OciLayout(directory()?),
        "oci" => OutputKind::Oci(stream()),
        "docker" if get("dest").is_none() => OutputKind::Load,
        "docker" => OutputKind::Docker(stream()),
        "tar" => OutputKind::Tar(stream()),
        "local" => OutputKind::Local(directory()?),
        "cacheonly" => OutputKind::CacheOnly,
        _ => OutputKind::Image,
    });
    spec.push = flag("push", kind == "registry")?;
    spec.insecure = flag(INSECURE, false)?;
    spec.rewrite_timestamp = flag("rewrite-timestamp", false)?;
    spec.layers = layer_options(get("compression"), get("compression-level"))?;
    spec.layers.force = flag("force-compression", false)?;
    for name in get("name").unwrap_or_default().split(',').filter(|n| !n.is_empty()) {
        spec.names.push(name.parse().map_err(|e: oci::reference::ReferenceError| e.to_string())?);
    }
    Ok(spec)
}

fn check_keys(kind: &str, pairs: &[(String, &str)]) -> Result<(), String> {
    let mut known = vec!["type"];
    match kind {
        "oci" => known.extend(["dest", "tar"].iter().chain(IMAGE_KEYS)),
        "docker" => known.extend(["dest"].iter().chain(IMAGE_KEYS)),
        "image" | "registry" => known.extend(["push", INSECURE].iter().chain(IMAGE_KEYS)),
        "tar" | "local" => known.extend(["dest", "rewrite-timestamp"]),
        "cacheonly" => {}
        other => {
            let near = did_you_mean(other, TYPES);
            return Err(format!("unknown type {other:?} (one of {}){near}", TYPES.join(", ")));
        }
    }
    for (key, _) in pairs {
        if known.contains(&key.as_str()) {
            continue;
        }
        if LATER_KEYS.contains(&key.as_str()) || key.starts_with("annotation") {
            return Err(format!("not supported yet: {key}="));
        }
        return Err(format!("type={kind} has no key {key:?}{}", did_you_mean(key, &known)));
    }
    Ok(())
}

pub(super) fn layer_options(
    compression: Option<&str>,
    level: Option<&str>,
) -> Result<LayerOptions, String> {
    const NAMES: &[&str] = &["uncompressed", "gzip", "zstd"];
    let compression = match compression {
        None => None,
        Some("uncompressed") => Some(LayerCompression::Uncompressed),
        Some("gzip") => Some(LayerCompression::Gzip),
        Some("zstd") => Some(LayerCompression::Zstd),
        Some("estargz") => return Err("not supported yet: compression=estargz".to_owned()),
        Some(other) => {
            let near = did_you_mean(other, NAMES);
            return Err(format!(
                "unknown compression {other:?} (one of {}){near}",
                NAMES.join(", ")
            ));
        }
    };
    let Some(text) = level else {
        return Ok(LayerOptions { compression, ..LayerOptions::default() });
    };
    let range = match compression.unwrap_or(LayerCompression::Gzip) {
        LayerCompression::Uncompressed => {
            return Err("compression-level= needs a compression".to_owned());
        }
        LayerCompression::Gzip => 0..=9,
        LayerCompression::Zstd => 0..=22,
    };
    let level = text.parse().ok().filter(|l| range.contains(l)).ok_or_else(|| {
        format!("compression-level={text} is not a number from 0 to {}", range.end())
    })?;
    Ok(LayerOptions { compression, level: Some(level), force: false })
}

fn boolean(key: &str, value: &str) -> Result<bool, String> {
    super::switch::boolean(value).ok_or_else(|| format!("{key}={value} is not true or false"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> OutputKind {
        parse(text).unwrap_or_else(|e| panic!("{text}: {e}")).kind
    }

    fn file(path: &str) -> Stream {
        Stream::File(path.into())
    }

    #[test]
    fn kinds_and_short_forms() {
        assert_eq!(kind("out"), OutputKind::Local("out".into()));
        assert_eq!(kind("out.tar"), OutputKind::Local("out.tar".into()));
        assert_eq!(kind("-"), OutputKind::Tar(Stream::Stdout));
        assert_eq!(kind("type=oci,dest=a.tar"), OutputKind::Oci(file("a.tar")));
        assert_eq!(kind("type=oci"), OutputKind::Oci(Stream::Stdout));
        assert_eq!(kind("type=oci,tar=false,dest=d"), OutputKind::OciLayout("d".into()));
        assert_eq!(kind("type=docker"), OutputKind::Load);
        assert_eq!(kind("type=docker,dest=-"), OutputKind::Docker(Stream::Stdout));
        assert_eq!(kind("type=oci,\"dest=a,b\""), OutputKind::Oci(file("a,b")));
        assert_eq!(kind("dest=x,type=tar"), OutputKind::Tar(file("x")));
        assert_eq!(kind("type=local,dest=d"), OutputKind::Local("d".into()));
    }

    #[test]
    fn attributes() {
        let spec = parse(
            "type=registry,\"name=a:1,b\",compression=zstd,compression-level=22,force-compression=1,rewrite-timestamp=true",
        )
        .unwrap();
        assert!(spec.push && spec.rewrite_timestamp && spec.layers.force);
        assert_eq!(spec.layers.compression, Some(LayerCompression::Zstd));
        assert_eq!(spec.layers.level, Some(22));
        assert_eq!(
            spec.names.iter().map(Reference::familiar).collect::<Vec<_>>(),
            ["a:1", "b:latest"]
        );
        assert!(parse("type=registry,name=a,registry.insecure=true").unwrap().insecure);
        assert!(!parse("type=image").unwrap().insecure);
        assert!(!parse("type=image").unwrap().push && parse("type=image,push=true").unwrap().push);
    }

    #[test]
    fn refusals_tell_what_was_meant() {
        for (text, part) in [
            ("", "expected"),
            ("type=ocl,dest=x", "did you mean \"oci\"?"),
            ("oci,dest=x", "did you mean \"oci\"?"),
            ("dest=x", "type= is missing"),
            ("type=oci,dst=x", "did you mean \"dest\"?"),
            ("type=local", "needs dest="),
            ("type=local,dest=-", "standard output"),
            ("type=oci,tar=false", "needs dest="),
            ("type=tar,dest=x,name=a", "no key \"name\""),
            ("type=oci,compression=gizp", "did you mean \"gzip\"?"),
            ("type=oci,compression=gzip,compression-level=10", "0 to 9"),
            ("type=oci,compression-level=x", "0 to 9"),
            ("type=image,push=maybe", "not true or false"),
            ("type=image,name=A", "invalid reference"),
            ("type=oci,dest=a,dest=b", "twice"),
            ("type=local,dest=x,mode=delete", "not supported yet: mode="),
            ("type=oci,registry.insecure=true", "no key \"registry.insecure\""),
            ("type=image,annotation.a=b", "not supported yet"),
            ("type=\"oci\"", "quote"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
