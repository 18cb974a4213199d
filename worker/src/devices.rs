//! Devices of RUN steps: which a step gets is settled before the first step runs.

use std::collections::HashMap;
use std::path::PathBuf;

use executor::cdi::{CdiError, DIRECTORIES, Edits, Granted, Grants, Registry, Wanted};
use graph::{ExecOp, VertexIndex};

/// Where devices are described, and which may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceAccess {
    /// Directories of specifications; those of later ones win.
    pub directories: Vec<PathBuf>,
    /// Who may use what.
    pub grants: Grants,
}

/// The directories that the specification names, and no leave.
impl Default for DeviceAccess {
    fn default() -> Self {
        Self { directories: DIRECTORIES.map(PathBuf::from).into(), grants: Grants::default() }
    }
}

/// What one step gets.
#[derive(Debug, Default)]
pub(crate) struct StepDevices {
    /// The devices.
    pub(crate) granted: Granted,
    /// What they change.
    pub(crate) edits: Edits,
}

/// What the steps of a build get.
#[derive(Debug)]
pub(crate) struct BuildDevices<'a> {
    access: &'a DeviceAccess,
    /// Read when the first step asks.
    registry: Option<Registry>,
    steps: HashMap<VertexIndex, StepDevices>,
}

impl<'a> BuildDevices<'a> {
    pub(crate) fn new(access: &'a DeviceAccess) -> Self {
        Self { access, registry: None, steps: HashMap::new() }
    }

    /// Settles what a step gets.
    pub(crate) fn settle(&mut self, vertex: VertexIndex, op: &ExecOp) -> Result<(), CdiError> {
        if op.devices.is_empty() {
            return Ok(());
        }
        let registry =
            self.registry.get_or_insert_with(|| Registry::read(&self.access.directories));
        let wanted = op.devices.iter();
        let wanted: Vec<Wanted> =
            wanted.map(|it| Wanted { name: it.name.clone(), required: it.required }).collect();
        let granted = registry.grant(&wanted, &self.access.grants)?;
        let edits = registry.edits(&granted.names)?;
        self.steps.insert(vertex, StepDevices { granted, edits });
        Ok(())
    }

    /// Specifications that cannot be used, for a build that asks for devices.
    pub(crate) fn problems(&self) -> impl Iterator<Item = String> {
        let all = self.registry.iter().flat_map(Registry::problems);
        all.map(|it| format!("{} cannot be used: {}", it.file.display(), it.reason))
    }

    /// What a step gets, if it asks for any.
    pub(crate) fn of(&self, vertex: VertexIndex) -> Option<&StepDevices> {
        self.steps.get(&vertex)
    }
}
