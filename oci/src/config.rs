//! The image config: runtime defaults, root file system and history.
//!
//! Source: OCI image-spec, config.md. Docker's own fields (Healthcheck, OnBuild, Shell) are
//! written into OCI configs too, as BuildKit does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, Platform, Timestamp};

/// The config of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// MAINTAINER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// What it runs on.
    #[serde(flatten)]
    pub platform: Platform,
    /// What a container of it starts with.
    #[serde(default)]
    pub config: RuntimeConfig,
    /// Its layers, by the digest of their uncompressed tar.
    pub rootfs: RootFs,
    /// How its layers came about, oldest first.
    #[serde(default, deserialize_with = "null_default")]
    pub history: Vec<History>,
    /// The cache of the build that made it, if that was put into the image: records of Drydock's
    /// own.
    #[serde(rename = "drydock.cache.v1", default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<serde_json::Value>,
}

/// The layers of a root file system, lowest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The digest of each layer's uncompressed tar.
    #[serde(default, deserialize_with = "null_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// One step of an image's making.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When the step ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// The instruction.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// The builder's remark.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Whether the step made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// An empty JSON object, the value type of `ExposedPorts` and `Volumes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// The defaults for containers of the image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RuntimeConfig {
    /// USER.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// EXPOSE, as `port/protocol`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_default")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// ENV, as `NAME=value`, in order.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_default")]
    pub env: Vec<String>,
    /// ENTRYPOINT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// CMD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// HEALTHCHECK.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Whether `Cmd` is already escaped for Windows; carried through, never set.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    /// VOLUME.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_default")]
    pub volumes: BTreeMap<String, Empty>,
    /// WORKDIR.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// ONBUILD, the instructions without the keyword.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_default")]
    pub on_build: Vec<String>,
    /// LABEL.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_default")]
    pub labels: BTreeMap<String, String>,
    /// STOPSIGNAL.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// SHELL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// HEALTHCHECK. Durations are nanoseconds; 0 is "the runtime's default".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", text]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Time between two checks, in nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: u64,
    /// Longest time of one check, in nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: u64,
    /// Time to start in which failures do not count, in nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: u64,
    /// Time between two checks during the start period, in nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: u64,
    /// Failures in a row that make the container unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Reads JSON `null` as the default: Go writes nil slices and maps so.
fn null_default<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// Why an image config is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not the JSON that the specification describes.
    #[error("the image config is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// History and layers disagree.
    #[error("the image config lists {layers} layers but its history tells of {history}")]
    History {
        /// Number of diff ids.
        layers: usize,
        /// Number of history entries that made a layer.
        history: usize,
    },
}

impl ImageConfig {
    /// The config of an image with nothing in it.
    pub fn scratch(platform: Platform) -> Self {
        Self {
            created: None,
            author: None,
            platform,
            config: RuntimeConfig::default(),
            rootfs: RootFs::default(),
            history: Vec::new(),
            cache: None,
        }
    }

    /// Reads a config and checks it.
    ///
    /// # Errors
    /// If it is not JSON of the right shape. A history that is missing altogether is legal;
    /// one that disagrees with the number of layers is not.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_slice(json)?;
        let history = config.history.iter().filter(|h| !h.empty_layer).count();
        let layers = config.rootfs.diff_ids.len();
        if !config.history.is_empty() && history != layers {
            return Err(ConfigError::History { layers, history });
        }
        Ok(config)
    }

    /// The config as the bytes that its digest is taken over.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a config has only string keys and finite numbers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_gos_nulls() {
        let json =
            br#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":null,"Labels":null,
            "ExposedPorts":null,"Volumes":null,"OnBuild":null,"Entrypoint":null,"Healthcheck":null},
            "rootfs":{"type":"layers","diff_ids":null},"history":null}"#;
        let config = ImageConfig::parse(json).unwrap();
        assert_eq!(config.config, RuntimeConfig::default());
        assert!(config.rootfs.diff_ids.is_empty());
    }

    #[test]
    fn history_must_agree_with_layers() {
        let mut config = ImageConfig::scratch(Platform::host());
        config.history.push(History::default());
        assert!(matches!(ImageConfig::parse(&config.to_json()), Err(ConfigError::History { .. })));
        config.history[0].empty_layer = true;
        assert_eq!(ImageConfig::parse(&config.to_json()).unwrap(), config);
    }
}
