//! The secrets of a build: where they are is known, what they are is read when somebody asks.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use worker::Secrets;

use crate::agents::Agents;
use crate::args::{SecretArg, SecretPlace};
use crate::environment::Environment;
use crate::masks::Masks;

/// The largest secret, in bytes (BuildKit: `session/secrets`, `MaxSecretSize`).
const MAX_SECRET: u64 = 500 * 1024;

/// The secrets of a build, by id, and the ssh agents that it lends.
#[derive(Default)]
pub struct SecretStore {
    by_id: BTreeMap<String, Value>,
    agents: Agents,
    notes: Vec<String>,
    masks: Arc<Masks>,
}

/// Where a value comes from.
enum Value {
    File(PathBuf),
    /// That of a variable.
    Text(String),
}

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("--secret id={id}: cannot use {path:?}: {source}")]
pub struct SecretError {
    /// Its id.
    pub id: String,
    /// Its file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl SecretStore {
    /// The secrets of a command line. Of one id, the last one counts.
    ///
    /// # Errors
    /// If a file is not there or too large.
    pub fn new(args: &[SecretArg], environment: &Environment) -> Result<Self, SecretError> {
        let mut store = Self::default();
        for SecretArg { id, place } in args {
            let value = match place {
                SecretPlace::File(path) => Value::File(path.into()),
                SecretPlace::Variable(name) => {
                    let value = environment.variable(name);
                    if value.is_none() {
                        store.notes.push(format!(
                            "--secret id={id}: the variable {name} is not set: the secret is empty"
                        ));
                    }
                    Value::Text(value.unwrap_or_default().to_owned())
                }
                SecretPlace::ByName => match environment.variable(id) {
                    Some(value) => Value::Text(value.to_owned()),
                    None => Value::File(id.into()),
                },
            };
            if let Value::File(path) = &value {
                check(path).map_err(|source| SecretError {
                    id: id.clone(),
                    path: path.clone(),
                    source,
                })?;
            }
            store.by_id.insert(id.clone(), value);
        }
        Ok(store)
    }

    /// The same with the ssh agents that steps may ask.
    #[must_use]
    pub fn with_agents(self, agents: Agents) -> Self {
        Self { agents, ..self }
    }

    /// The values that steps were given.
    pub fn masks(&self) -> Arc<Masks> {
        self.masks.clone()
    }

    /// What is to be said before the build starts.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl Secrets for SecretStore {
    fn get(&self, id: &str) -> io::Result<Option<Vec<u8>>> {
        let value = match self.by_id.get(id) {
            None => return Ok(None),
            Some(Value::Text(text)) => text.clone().into_bytes(),
            Some(Value::File(path)) => {
                let mut value = Vec::new();
                File::open(path)?.take(MAX_SECRET + 1).read_to_end(&mut value)?;
                value
            }
        };
        if value.len() as u64 > MAX_SECRET {
            return Err(too_large());
        }
        self.masks.add(&value);
        Ok(Some(value))
    }

    fn agent(&self, id: &str) -> Option<PathBuf> {
        self.agents.socket(id)
    }
}

/// Whether `path` can hold a secret. What is no regular file, such as a shell's `<(…)`, can be
/// read only once: then its size is not known yet.
fn check(path: &PathBuf) -> io::Result<()> {
    let found = std::fs::metadata(path)?;
    match found.is_file() && found.len() > MAX_SECRET {
        true => Err(too_large()),
        false if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        false => Ok(()),
    }
}

fn too_large() -> io::Error {
    io::Error::other(format!("it is larger than {} KiB", MAX_SECRET / 1024))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::secret::parse;

    #[test]
    fn values() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("f"), "from file").unwrap();
        std::fs::write(path("big"), vec![b'x'; 500 * 1024 + 1]).unwrap();
        let variables = [("V", "from variable"), ("named", "by name")];
        let environment = Environment::new(variables.iter().map(|(k, v)| (k.into(), v.into())));
        let store = |args: &[String]| {
            let args: Vec<_> = args.iter().map(|a| parse(a).unwrap()).collect();
            SecretStore::new(&args, &environment)
        };
        let args = [
            format!("id=file,src={}", path("f")),
            "id=env,env=V".to_owned(),
            "id=named".to_owned(),
            "id=unset,env=NOT_SET".to_owned(),
            "id=twice,env=V".to_owned(),
            format!("id=twice,src={}", path("f")),
        ];
        let secrets = store(&args).unwrap();
        for (id, value) in [
            ("file", Some("from file")),
            ("env", Some("from variable")),
            ("named", Some("by name")),
            ("unset", Some("")),
            ("twice", Some("from file")),
            ("other", None),
        ] {
            let got = secrets.get(id).unwrap();
            assert_eq!(got.as_deref(), value.map(str::as_bytes), "{id}");
        }
        assert_eq!(secrets.notes().len(), 1);
        // A file is read when it is asked for.
        std::fs::write(path("f"), "later").unwrap();
        assert_eq!(secrets.get("file").unwrap().unwrap(), b"later");
        std::fs::write(path("f"), vec![b'x'; 500 * 1024 + 1]).unwrap();
        assert!(secrets.get("file").is_err());
        for (arg, part) in [
            (format!("id=x,src={}", path("none")), "--secret id=x"),
            (format!("id=x,src={}", path("big")), "larger than 500 KiB"),
            (format!("id=x,src={}", dir.path().display()), "directory"),
            ("id=no-such-file-or-variable".to_owned(), "no-such-file-or-variable"),
        ] {
            let error = store(std::slice::from_ref(&arg)).err().unwrap();
            let text = format!("{error}");
            assert!(text.contains(part), "{arg}: {text}");
        }
    }
}
