//! One specification file: its form, and the rules that it must keep (CDI SPEC.md, and the
//! validation of its library, `pkg/cdi`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::{name, yaml};

/// The versions of the specification, without their last number.
const VERSIONS: [(u32, u32); 10] =
    [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (0, 6), (0, 7), (0, 8), (1, 0), (1, 1)];
/// Devices of one file.
const MAX_DEVICES: usize = 4096;
/// Edits of one kind, of one device.
const MAX_EDITS: usize = 4096;
/// The hooks that there are.
const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Spec {
    pub(super) cdi_version: String,
    pub(super) kind: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) devices: Vec<Device>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) container_edits: ContainerEdits,
}

/// A device of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Device {
    pub(super) name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) container_edits: ContainerEdits,
}

/// What a container needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ContainerEdits {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) env: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) device_nodes: Vec<Node>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) net_devices: Vec<serde_json::Value>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) hooks: Vec<Hook>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) mounts: Vec<Mount>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) intel_rdt: Option<serde_json::Value>,
    #[serde(default, deserialize_with = "numbers")]
    pub(super) additional_gids: Vec<u32>,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Node {
    pub(super) path: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) host_path: String,
    #[serde(default, rename = "type", deserialize_with = "or_default")]
    pub(super) kind: String,
    #[serde(default, deserialize_with = "number")]
    pub(super) major: Option<u32>,
    #[serde(default, deserialize_with = "number")]
    pub(super) minor: Option<u32>,
    #[serde(default, deserialize_with = "number")]
    pub(super) file_mode: Option<u32>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) permissions: String,
    #[serde(default, deserialize_with = "number")]
    pub(super) uid: Option<u32>,
    #[serde(default, deserialize_with = "number")]
    pub(super) gid: Option<u32>,
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Mount {
    pub(super) host_path: String,
    pub(super) container_path: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) options: Vec<String>,
    #[serde(default, rename = "type", deserialize_with = "or_default")]
    pub(super) kind: String,
}

/// A program of the host that is to be run when the container starts or ends.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Hook {
    pub(super) hook_name: String,
    pub(super) path: String,
    #[serde(default, rename = "args")]
    _args: serde_json::Value,
    #[serde(default, rename = "env")]
    _env: serde_json::Value,
    #[serde(default, rename = "timeout")]
    _timeout: serde_json::Value,
}

/// `null` is what a value is that is not there, as in Go.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// A number, or the text of one as it comes from YAML.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Number(i64),
    Text(String),
}

impl Number {
    fn get(self) -> Result<u32, String> {
        match self {
            Self::Number(number) => {
                u32::try_from(number).map_err(|_| format!("{number} is out of range"))
            }
            Self::Text(text) => integer(&text)
                .ok_or_else(|| format!("{text:?} is not a number from 0 to {}", u32::MAX)),
        }
    }
}

/// As YAML 1.1 and 1.2 write integers: a leading zero means octal, as everybody writes modes.
fn integer(text: &str) -> Option<u32> {
    let digits = |text: &str, radix| {
        let fine = !text.is_empty() && text.bytes().all(|it| it.is_ascii_alphanumeric());
        u32::from_str_radix(text, radix).ok().filter(|_| fine)
    };
    if let Some(text) = text.strip_prefix("0x") {
        digits(text, 16)
    } else if let Some(text) = text.strip_prefix("0o") {
        digits(text, 8)
    } else if let Some(text) = text.strip_prefix('0').filter(|it| !it.is_empty()) {
        digits(text, 8)
    } else {
        digits(text, 10)
    }
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    Option::<Number>::deserialize(from)?.map(Number::get).transpose().map_err(D::Error::custom)
}

fn numbers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u32>, D::Error> {
    let list = Option::<Vec<Number>>::deserialize(from)?.unwrap_or_default();
    list.into_iter().map(Number::get).collect::<Result<_, _>>().map_err(D::Error::custom)
}

impl Spec {
    /// Reads and checks a file of one of the two forms.
    pub(super) fn parse(text: &str, is_yaml: bool) -> Result<Self, String> {
        let spec: Self = if is_yaml {
            serde_json::from_value(yaml::parse(text)?).map_err(|error| error.to_string())?
        } else {
            serde_json::from_str(text).map_err(|error| error.to_string())?
        };
        spec.check()?;
        Ok(spec)
    }

    fn check(&self) -> Result<(), String> {
        let version = version(&self.cdi_version)?;
        name::check_kind(&self.kind)?;
        if self.devices.is_empty() {
            return Err("it has no devices".to_owned());
        }
        if self.devices.len() > MAX_DEVICES {
            return Err(format!("it has more than {MAX_DEVICES} devices"));
        }
        let mut seen = BTreeSet::new();
        for device in &self.devices {
            name::check_device(&device.name)?;
            if !seen.insert(&device.name) {
                return Err(format!("the device {:?} is there twice", device.name));
            }
            if device.container_edits == ContainerEdits::default() {
                return Err(format!("the device {:?} has no edits", device.name));
            }
            let edits = device.container_edits.check();
            edits.map_err(|reason| format!("the device {:?}: {reason}", device.name))?;
        }
        self.container_edits.check()?;
        let (needed, what) = self.needs();
        if version < needed {
            let (major, minor) = needed;
            return Err(format!(
                "{what} needs version {major}.{minor}.0 of CDI, and it says {}",
                self.cdi_version
            ));
        }
        Ok(())
    }

    /// The version that brought the newest thing that it uses (SPEC.md, "Released versions").
    fn needs(&self) -> ((u32, u32), &'static str) {
        let edits =
            || self.devices.iter().map(|it| &it.container_edits).chain([&self.container_edits]);
        let mut needed = ((0, 0), "it");
        let mut raise = |condition: bool, version, what| {
            if condition && needed.0 < version {
                needed = (version, what);
            }
        };
        raise(edits().any(|it| !it.net_devices.is_empty()), (1, 1), "netDevices");
        raise(edits().any(|it| it.intel_rdt.is_some()), (0, 7), "intelRdt");
        raise(edits().any(|it| !it.additional_gids.is_empty()), (0, 7), "additionalGids");
        let annotated = !self.annotations.is_empty()
            || self.devices.iter().any(|it| !it.annotations.is_empty());
        raise(annotated, (0, 6), "annotations");
        let class = self.kind.split_once('/').map_or("", |it| it.1);
        raise(class.contains('.'), (0, 6), "a dot in the class");
        let host_path =
            |it: &ContainerEdits| it.device_nodes.iter().any(|n| !n.host_path.is_empty());
        raise(edits().any(host_path), (0, 5), "hostPath of a device node");
        let digit = |it: &Device| it.name.starts_with(|c: char| c.is_ascii_digit());
        raise(self.devices.iter().any(digit), (0, 5), "a device name that begins with a digit");
        let typed = |it: &ContainerEdits| it.mounts.iter().any(|mount| !mount.kind.is_empty());
        raise(edits().any(typed), (0, 4), "type of a mount");
        needed
    }
}

impl ContainerEdits {
    fn check(&self) -> Result<(), String> {
        let counts = [
            self.env.len(),
            self.device_nodes.len(),
            self.mounts.len(),
            self.hooks.len(),
            self.additional_gids.len(),
        ];
        if counts.iter().any(|count| *count > MAX_EDITS) {
            return Err(format!("there are more than {MAX_EDITS} edits of one kind"));
        }
        for variable in &self.env {
            if !matches!(variable.find('='), Some(1..)) || variable.contains('\0') {
                return Err(format!("{variable:?} is not a variable with a value"));
            }
        }
        self.device_nodes.iter().try_for_each(Node::check)?;
        for mount in &self.mounts {
            path("hostPath of a mount", &mount.host_path)?;
            path("containerPath of a mount", &mount.container_path)?;
        }
        for hook in &self.hooks {
            if !HOOKS.contains(&hook.hook_name.as_str()) {
                return Err(format!("there is no hook {:?}", hook.hook_name));
            }
            path("path of a hook", &hook.path)?;
        }
        Ok(())
    }
}

impl Node {
    fn check(&self) -> Result<(), String> {
        path("path of a device node", &self.path)?;
        if !self.host_path.is_empty() {
            path("hostPath of a device node", &self.host_path)?;
        }
        if !["", "b", "c", "u", "p"].contains(&self.kind.as_str()) {
            return Err(format!("{}: there is no type {:?} of device", self.path, self.kind));
        }
        if self.permissions != "none" && !self.permissions.chars().all(|c| "rwm".contains(c)) {
            return Err(format!("{}: {:?} are no permissions", self.path, self.permissions));
        }
        if self.file_mode.is_some_and(|mode| mode > 0o7777) {
            return Err(format!("{}: the fileMode has more than permission bits", self.path));
        }
        Ok(())
    }
}

/// Absolute, and as it is written: nothing needs `..` there.
fn path(what: &str, text: &str) -> Result<(), String> {
    let path = Path::new(text);
    if !path.is_absolute() || text.contains('\0') {
        return Err(format!("the {what} {text:?} is not an absolute path"));
    }
    if path.components().any(|it| it == Component::ParentDir) {
        return Err(format!("the {what} {text:?} has .. in it"));
    }
    if path.components().count() < 2 {
        return Err(format!("the {what} is the root itself"));
    }
    Ok(())
}

fn version(text: &str) -> Result<(u32, u32), String> {
    let unknown = || format!("there is no version {text:?} of CDI that is known here");
    let parts: Vec<&str> = text.strip_prefix('v').unwrap_or(text).split('.').collect();
    let digits = |part: &&str| !part.is_empty() && part.bytes().all(|it| it.is_ascii_digit());
    let (&[major, minor, _], true) = (&parts[..], parts.iter().all(digits)) else {
        return Err(unknown());
    };
    let known = |it: &(u32, u32)| (major, minor) == (&*it.0.to_string(), &*it.1.to_string());
    VERSIONS.into_iter().find(known).ok_or_else(unknown)
}

#[cfg(test)]
mod tests;
