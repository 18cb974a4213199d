//! What a failure inside the child means to the caller.

use rustix::io::Errno;
use sys::program::Step;
use sys::report::Operation;

use crate::command::Command;
use crate::error::ExecError;
use crate::rlimit;
use crate::spec::ProcessSpec;

/// All that is needed to tell.
pub(crate) struct Explain<'a> {
    pub(crate) steps: Vec<Step>,
    pub(crate) spec: &'a ProcessSpec,
    pub(crate) command: &'a Command,
}

impl Explain<'_> {
    /// The error for an operation of the child that failed.
    pub(crate) fn failure(&self, operation: Operation, errno: Errno) -> ExecError {
        let sandbox = |operation, object: &str| ExecError::Sandbox {
            operation,
            object: object.to_owned(),
            errno,
        };
        match operation {
            Operation::Exec(_) if matches!(errno, Errno::NOENT | Errno::NOTDIR) => {
                ExecError::NotFound { name: self.name() }
            }
            Operation::Exec(number) => ExecError::NotExecutable { path: self.path(number), errno },
            Operation::Interpreter(number) => ExecError::NoInterpreter { path: self.path(number) },
            Operation::Directory => ExecError::Directory { path: self.spec.cwd.clone(), errno },
            Operation::Step(number) => match self.steps.get(number as usize) {
                Some(step) => {
                    let (operation, object) = step.describe();
                    ExecError::Sandbox { operation, object, errno }
                }
                None => sandbox("perform", "a step"),
            },
            Operation::Session => sandbox("begin", "a session"),
            Operation::Descriptors => sandbox("arrange", "file descriptors"),
            Operation::Hardening => sandbox("harden", "the init process"),
            Operation::Signals => sandbox("reset", "signals"),
            Operation::BoundingSet => sandbox("drop", "capabilities from the bounding set"),
            Operation::Seccomp => sandbox("load", "the system call filter"),
            Operation::Capabilities => sandbox("drop", "capabilities"),
            Operation::Clone => sandbox("clone", "the process"),
            Operation::Limit(number) => sandbox("set", &self.limit(number)),
            Operation::Groups => sandbox("set", "supplementary groups"),
            Operation::Group => sandbox("set", "the group"),
            Operation::User => sandbox("set", "the user"),
            Operation::Wait => sandbox("wait for", "the process"),
        }
    }

    fn name(&self) -> String {
        self.spec.args.first().cloned().unwrap_or_default()
    }

    fn path(&self, number: u32) -> String {
        let found = self.command.candidates.get(number as usize);
        found.map_or_else(|| self.name(), |it| it.to_string_lossy().into_owned())
    }

    fn limit(&self, number: u32) -> String {
        let limit = self.spec.limits.rlimits.get(number as usize);
        limit.map_or_else(String::new, |it| format!("the resource limit {}", rlimit::show(*it)))
    }
}
