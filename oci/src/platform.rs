//! Platforms: operating system, architecture, variant.
//!
//! Normalisation as containerd's `platforms` package does it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an image runs on. Always normalised when parsed from text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, `arm`, …
    pub architecture: String,
    /// `linux`, `windows`, …
    pub os: String,
    /// Windows' build number.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features that the operating system must have.
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// `v7`, `v8`, … ; none where the architecture's default is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a string is not a platform.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a platform (expected OS[/ARCH[/VARIANT]], such as linux/amd64)")]
pub struct PlatformError(String);

impl Platform {
    /// A normalised platform.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let (architecture, variant) = normalise_arch(
            &architecture.to_ascii_lowercase(),
            &variant.unwrap_or_default().to_ascii_lowercase(),
        );
        Self { architecture, os, os_version: None, os_features: Vec::new(), variant }
    }

    /// The platform that this program was compiled for, always with `linux`.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self::new("linux", architecture, None)
    }

    /// Whether an image of `self` runs on `host`: the same system and architecture, and a
    /// variant that is not newer than the host's.
    pub fn runs_on(&self, host: &Self) -> bool {
        self.os == host.os && self.architecture == host.architecture && rank(self) <= rank(host)
    }

    /// How well an image of `self` suits `wanted`: higher is better, `None` does not run there.
    pub fn suitability(&self, wanted: &Self) -> Option<u8> {
        self.runs_on(wanted).then(|| rank(self))
    }
}

/// The generation of a variant, with the architecture's default for a missing one.
fn rank(p: &Platform) -> u8 {
    let digits = p
        .variant
        .as_deref()
        .and_then(|v| v.strip_prefix('v'))
        .and_then(|v| v.split('.').next().and_then(|major| major.parse().ok()));
    digits.unwrap_or(match p.architecture.as_str() {
        "arm" => 7,
        "arm64" => 8,
        _ => 1,
    })
}

fn normalise_arch(architecture: &str, variant: &str) -> (String, Option<String>) {
    let (architecture, variant) = match (architecture, variant) {
        ("i386" | "i686", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", v) => ("amd64", v),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64", v) => ("arm64", v),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        other => other,
    };
    (architecture.to_owned(), Some(variant.to_owned()).filter(|v| !v.is_empty()))
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let bad = || PlatformError(s.to_owned());
        let parts: Vec<&str> = s.split('/').collect();
        let plain = |p: &&str| {
            !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        };
        if !parts.iter().all(plain) {
            return Err(bad());
        }
        match parts[..] {
            ["local"] => Ok(Self::host()),
            // One word is an operating system or an architecture.
            [os @ ("linux" | "windows" | "darwin" | "freebsd")] => {
                Ok(Self { os: os.to_owned(), ..Self::host() })
            }
            [arch] => {
                let p = Self::new("linux", arch, None);
                let known = [
                    "amd64", "arm64", "arm", "386", "riscv64", "ppc64le", "s390x", "mips64le",
                    "loong64",
                ];
                if known.contains(&p.architecture.as_str()) { Ok(p) } else { Err(bad()) }
            }
            [os, arch] => Ok(Self::new(os, arch, None)),
            [os, arch, variant] => Ok(Self::new(os, arch, Some(variant))),
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises() {
        for (text, want) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("arm64", "linux/arm64"),
            ("Linux/ARM/v6", "linux/arm/v6"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), want, "{text}");
        }
        for bad in ["", "linux/", "nonsense", "a/b/c/d", "linux amd64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn picks_the_best_variant() {
        let v3: Platform = "linux/amd64/v3".parse().unwrap();
        let v1: Platform = "linux/amd64".parse().unwrap();
        assert!(v1.runs_on(&v3) && !v3.runs_on(&v1));
        assert!(v3.suitability(&v3) > v1.suitability(&v3));
    }
}
