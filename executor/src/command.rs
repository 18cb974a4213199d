//! Arguments and environment in the form that exec wants.

use std::ffi::CString;

use crate::error::ExecError;
use crate::spec::ProcessSpec;
use crate::user::User;

/// PATH of a process whose environment has none, as Docker and BuildKit set it.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What to execute.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) candidates: Vec<CString>,
    pub(crate) args: Vec<CString>,
    pub(crate) env: Vec<CString>,
}

/// Checks and converts; adds PATH and HOME where they are missing.
pub(crate) fn prepare(spec: &ProcessSpec, user: &User) -> Result<Command, ExecError> {
    let name = spec.args.first().ok_or(ExecError::NoCommand)?;
    let mut variables: Vec<(&str, &str)> = Vec::with_capacity(spec.env.len() + 2);
    for (key, value) in &spec.env {
        if key.is_empty() || key.contains('=') {
            return Err(ExecError::Unpassable { what: "variable", value: key.clone() });
        }
        match variables.iter_mut().find(|(known, _)| known == key) {
            Some(known) => known.1 = value,
            None => variables.push((key, value)),
        }
    }
    for (key, value) in [("PATH", DEFAULT_PATH), ("HOME", &user.home)] {
        if !variables.iter().any(|(known, _)| *known == key) {
            variables.push((key, value));
        }
    }
    let path = variables.iter().find(|(key, _)| *key == "PATH").map_or("", |(_, value)| value);
    let candidates = candidates(name, path).into_iter().map(|it| passable("argument", it));
    let args = spec.args.iter().map(|it| passable("argument", it.clone()));
    let env = variables.iter().map(|(key, value)| passable("variable", format!("{key}={value}")));
    Ok(Command {
        candidates: candidates.collect::<Result<_, _>>()?,
        args: args.collect::<Result<_, _>>()?,
        env: env.collect::<Result<_, _>>()?,
    })
}

/// A string without NUL bytes.
pub(crate) fn passable(what: &'static str, text: String) -> Result<CString, ExecError> {
    CString::new(text.as_bytes()).map_err(|_| ExecError::Unpassable { what, value: text })
}

/// Paths to try. An empty or relative element of PATH means the working directory; a program
/// found there by accident is no help to anybody, so only absolute ones count.
fn candidates(name: &str, path: &str) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    if name.is_empty() {
        return Vec::new();
    }
    path.split(':')
        .filter(|dir| dir.starts_with('/'))
        .map(|dir| format!("{}/{name}", dir.trim_end_matches('/')))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_lookup() {
        assert_eq!(candidates("./a", "/bin"), ["./a"]);
        assert_eq!(candidates("sh", "/usr/bin/:.::/bin"), ["/usr/bin/sh", "/bin/sh"]);
        assert_eq!(candidates("sh", "/"), ["/sh"]);
        assert!(candidates("", "/bin").is_empty());
    }
}
