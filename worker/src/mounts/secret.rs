//! `type=secret`: values that no layer, record or log may hold.

use executor::InjectedFile;
use graph::{ExecMount, MountKind};

use super::StepMounts;
use crate::error::WorkerError;
use crate::source::Secrets;

impl StepMounts<'_> {
    /// Adds a secret, as a file in memory, as a variable, or both. One that the build does not
    /// have is left out unless it is required.
    pub(super) fn secret(
        &mut self,
        mount: &ExecMount,
        secrets: &dyn Secrets,
    ) -> Result<(), WorkerError> {
        let MountKind::Secret { id, env, file, required, mode, uid, gid } = &mount.kind else {
            return Err(WorkerError::Internal("no secret mount".to_owned()));
        };
        let problem = |reason: String| WorkerError::Secret { id: id.clone(), reason };
        let value = match secrets.get(id).map_err(|e| problem(e.to_string()))? {
            Some(value) => value,
            None if *required => {
                return Err(problem("the build has none of this id (--secret id=…)".to_owned()));
            }
            None => return Ok(()),
        };
        if let Some(name) = env {
            let text = String::from_utf8(value.clone())
                .map_err(|_| problem("a variable must be UTF-8".to_owned()))?;
            if text.contains('\0') {
                return Err(problem("a variable cannot hold a NUL byte".to_owned()));
            }
            self.env.push((name.clone(), text));
        }
        if *file {
            let path = mount.target.clone();
            self.files.push(InjectedFile { path, mode: *mode, owner: (*uid, *gid), data: value });
        }
        Ok(())
    }
}
