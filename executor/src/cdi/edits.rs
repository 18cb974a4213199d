//! What devices change about a process. Pure: nothing is looked at on the host.

use std::path::PathBuf;

use sys::mount::{Mount, MountFlags, MountSource};

use super::error::CdiError;
use super::registry::Registry;
use super::spec::{self, ContainerEdits};
use crate::spec::{DeviceNode, Devices, NodeKind, ProcessSpec};

/// What is to be added to a [`ProcessSpec`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits {
    /// Variables in order; they win over those of the step.
    pub env: Vec<(String, String)>,
    /// Nodes, mounts and groups.
    pub devices: Devices,
}

impl Edits {
    /// Adds them to a process.
    pub fn apply(&self, spec: &mut ProcessSpec) {
        spec.env.extend(self.env.iter().cloned());
        spec.devices = self.devices.clone();
    }
}

impl Registry {
    /// What these devices, by their full names, change: for each what its specification says for
    /// all of its devices, once, and what it says for this one.
    ///
    /// # Errors
    /// [`CdiError::Unsupported`]: a device that needs more than nodes, mounts, variables and
    /// groups.
    pub fn edits(&self, names: &[String]) -> Result<Edits, CdiError> {
        let mut edits = Edits::default();
        let mut seen = Vec::new();
        for name in names {
            let Some((file, device)) = self.device(name) else {
                return Err(CdiError::NotRegistered { name: name.clone(), known: self.known() });
            };
            let source = &self.files[file];
            let refuse = |reason| CdiError::Unsupported {
                device: name.clone(),
                file: source.path.clone(),
                reason,
            };
            if !seen.contains(&file) {
                seen.push(file);
                add(&mut edits, &source.spec.container_edits).map_err(refuse)?;
            }
            add(&mut edits, &device.container_edits).map_err(refuse)?;
        }
        Ok(edits)
    }
}

fn add(edits: &mut Edits, from: &ContainerEdits) -> Result<(), String> {
    if let Some(hook) = from.hooks.first() {
        return Err(format!(
            "wants the hook {} run ({}); hooks are programs of the host, which builds do not run: \
             where the device works without it, use a copy of the specification without hooks",
            hook.hook_name, hook.path
        ));
    }
    if !from.net_devices.is_empty() {
        return Err("moves a network device of the host (netDevices)".to_owned());
    }
    if from.intel_rdt.is_some() {
        return Err("wants an allocation of cache or memory bandwidth (intelRdt)".to_owned());
    }
    let pair = |it: &String| it.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
    edits.env.extend(from.env.iter().filter_map(pair));
    for node in &from.device_nodes {
        let node = device_node(node);
        // Of one path the later counts.
        edits.devices.nodes.retain(|it| it.path != node.path);
        edits.devices.nodes.push(node);
    }
    for mount in &from.mounts {
        let mount = bind(mount)?;
        edits.devices.mounts.retain(|it| it.target != mount.target);
        edits.devices.mounts.push(mount);
    }
    // Group 0 is passed over, as in CDI's library.
    for gid in from.additional_gids.iter().filter(|it| **it != 0) {
        if !edits.devices.groups.contains(gid) {
            edits.devices.groups.push(*gid);
        }
    }
    Ok(())
}

fn device_node(node: &spec::Node) -> DeviceNode {
    let host_path = if node.host_path.is_empty() { &node.path } else { &node.host_path };
    DeviceNode {
        // Written in one way, so that equal ones are seen.
        path: PathBuf::from(&node.path).components().collect(),
        host_path: host_path.into(),
        kind: match node.kind.as_str() {
            "b" => Some(NodeKind::Block),
            "c" | "u" => Some(NodeKind::Character),
            "p" => Some(NodeKind::Fifo),
            _ => None,
        },
        // Without a major number the host's is meant (CDI: `fillMissingInfo`).
        number: node.major.filter(|it| *it != 0).map(|it| (it, node.minor.unwrap_or(0))),
        mode: node.file_mode,
        uid: node.uid,
        gid: node.gid,
    }
}

/// A mount with the options of mount(8) that OCI runtimes know.
fn bind(mount: &spec::Mount) -> Result<Mount, String> {
    let refuse = |what: &str| Err(format!("wants {what} at {}", mount.container_path));
    if !["", "bind", "none"].contains(&mount.kind.as_str()) {
        return refuse(&format!("a mount of type {}", mount.kind));
    }
    let mut flags = MountFlags::default();
    let mut recursive = true;
    for option in &mount.options {
        match option.as_str() {
            "ro" => flags.read_only = true,
            "rw" => flags.read_only = false,
            "nosuid" => flags.nosuid = true,
            "suid" => flags.nosuid = false,
            "nodev" => flags.nodev = true,
            "dev" => flags.nodev = false,
            "noexec" => flags.noexec = true,
            "exec" => flags.noexec = false,
            "bind" => recursive = false,
            "rbind" => recursive = true,
            // What the host mounts there later is not seen: a step does not last.
            "private" | "rprivate" | "slave" | "rslave" => {}
            // About times of access, which no layer has.
            "relatime" | "noatime" | "nodiratime" | "strictatime" | "norelatime" | "atime" => {}
            other => return refuse(&format!("a mount with the option {other:?}")),
        }
    }
    Ok(Mount {
        target: PathBuf::from(&mount.container_path).components().collect(),
        source: MountSource::Bind { source: (&mount.host_path).into(), recursive },
        flags,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(text: &str) -> Registry {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("v.yaml"), text).unwrap();
        let registry = Registry::read(&[temp.path().to_owned()]);
        assert_eq!(registry.problems(), []);
        registry
    }

    const SPEC: &str = "cdiVersion: 0.7.0\nkind: v/d\n\
        containerEdits: {env: [ALL=1], additionalGids: [0, 7]}\ndevices:\n\
        - name: a\n  containerEdits:\n    env: [A=x=y]\n    additionalGids: [7, 8]\n    deviceNodes:\n\
        \x20   - {path: /dev/x, type: c, major: 1, minor: 7, fileMode: 0600}\n    mounts:\n\
        \x20   - {hostPath: /usr/lib, containerPath: /opt//deep/lib/, options: [ro, bind]}\n\
        - name: b\n  containerEdits:\n    deviceNodes:\n    - {path: //dev/x, hostPath: /dev/y}\n\
        - name: hooked\n  containerEdits:\n    hooks: [{hookName: startContainer, path: /bin/h}]\n\
        - name: shared\n  containerEdits:\n    mounts: [{hostPath: /a, containerPath: /b, options: [rshared]}]\n";

    #[test]
    fn of_several_devices() {
        let names = ["v/d=a", "v/d=b"].map(str::to_owned);
        let edits = registry(SPEC).edits(&names).unwrap();
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(edits.env, [pair("ALL", "1"), pair("A", "x=y")], "once for the file");
        assert_eq!(edits.devices.groups, [7, 8]);
        let [node] = &edits.devices.nodes[..] else { panic!("{edits:?}") };
        assert_eq!((node.host_path.to_str(), node.number), (Some("/dev/y"), None), "the later one");
        let [mount] = &edits.devices.mounts[..] else { panic!("{edits:?}") };
        assert_eq!(mount.target, PathBuf::from("/opt/deep/lib"));
        assert!(mount.flags.read_only);
        assert!(matches!(&mount.source, MountSource::Bind { recursive: false, .. }));
    }

    #[test]
    fn what_steps_are_not_given() {
        let refused =
            |name: &str| registry(SPEC).edits(&[name.to_owned()]).unwrap_err().to_string();
        let hook = refused("v/d=hooked");
        assert!(hook.contains("the hook startContainer run (/bin/h)"), "{hook}");
        assert!(hook.contains("v.yaml"), "{hook}");
        assert!(refused("v/d=shared").contains("\"rshared\""));
        assert!(refused("v/d=none").contains("not registered"));
    }
}
