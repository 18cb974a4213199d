//! Faults at chosen system calls: the builder is killed at the N-th call by which it changes
//! something, or that call fails. A tracer (`faults/tracer.c`) does it, so what is tested is the
//! program as it is, with every write of the libraries it uses.

use std::fs;
use std::path::{Path, PathBuf};

use crate::drydock::{Drydock, Run};
use crate::{program, skip};

/// What the tracer ends with where tracing is not possible.
const IMPOSSIBLE: i32 = 113;

/// What happens at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: the calls are only written down.
    None,
    /// The builder is killed in place of the call with this number, counted from 1.
    Kill(usize),
    /// The call with this number fails with this error number and does not happen.
    Fails(usize, i32),
    /// That one and all that follow fail.
    AllFail(usize, i32),
}

/// The tracer.
pub struct Faults {
    tracer: PathBuf,
}

impl Faults {
    /// None, with the reason told, where there is no compiler or nothing may be traced.
    pub fn new(case: &str) -> Option<Self> {
        if skip::program(program::COMPILER).is_none() {
            skip::say(case, "gcc is not installed");
            return None;
        }
        let tracer = program::compile("faults", include_str!("faults/tracer.c"));
        let faults = Self { tracer };
        let drydock = Drydock::new();
        let output = faults.meet(&drydock, drydock.command("--version"), Fault::None).output();
        if output.status.code() == Some(IMPOSSIBLE) {
            skip::say(case, output.stderr.trim());
            return None;
        }
        Some(faults)
    }

    /// `run`, which uses the state directory of `drydock`, with a fault.
    pub fn meet(&self, drydock: &Drydock, run: Run, fault: Fault) -> Run {
        let (action, number) = match fault {
            Fault::None => ("count".to_owned(), 0),
            Fault::Kill(number) => ("kill".to_owned(), number),
            Fault::Fails(number, error) => (error.to_string(), number),
            Fault::AllFail(number, error) => (format!("{error}+"), number),
        };
        let mut state = drydock.state().as_os_str().to_owned();
        state.push("/");
        run.wrapped([
            self.tracer.as_os_str(),
            &state,
            action.as_ref(),
            number.to_string().as_ref(),
            log(drydock).as_os_str(),
        ])
    }

    /// The calls that the last run counted or that its fault met, in order.
    ///
    /// # Panics
    /// If it did not run.
    pub fn met(&self, drydock: &Drydock) -> Vec<String> {
        let text = fs::read(log(drydock)).expect("the tracer has run");
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }
}

fn log(drydock: &Drydock) -> PathBuf {
    Path::new(&drydock.place("faults")).to_owned()
}
