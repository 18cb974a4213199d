//! Credentials from docker's `config.json` and its credential helpers.
//!
//! Nothing is read before a registry asks who is there. Source: the docker CLI's documentation of
//! `auths`, `credsStore` and `credHelpers`, and docker-credential-helpers' protocol: the server's
//! name on stdin of `docker-credential-NAME get`, JSON on stdout.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use crate::endpoint::HUB_KEY;
use crate::error::{ErrorKind, clean};

/// The largest `config.json`, in bytes.
const MAX_CONFIG: u64 = 4 << 20;
/// The most that is read of what a credential helper prints, in bytes.
const MAX_HELPER_OUTPUT: u64 = 1 << 20;
/// The user name by which a helper says that its secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// What identifies a user to a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// User name and password.
    Basic {
        /// The user's name.
        username: String,
        /// The password, or an access token in its place.
        password: String,
    },
    /// An OAuth refresh token, exchanged for access tokens at the token server.
    Identity {
        /// The user's name, if it is known.
        username: String,
        /// The refresh token.
        token: String,
    },
    /// A bearer token, sent to the registry as it is.
    Registry(String),
}

/// Shows the kind only.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic(…)",
            Self::Identity { .. } => "Identity(…)",
            Self::Registry(_) => "Registry(…)",
        })
    }
}

/// Where credentials come from.
#[derive(Clone, Default)]
pub struct Credentials {
    source: Source,
    helpers: Option<PathBuf>,
}

#[derive(Clone, Default)]
enum Source {
    #[default]
    None,
    Config(PathBuf),
    Fixed(HashMap<String, Credential>),
}

impl Credentials {
    /// None for anyone.
    pub fn none() -> Self {
        Self::default()
    }

    /// From `config.json` in `dir` (what `DOCKER_CONFIG` names), which is read only when a
    /// registry asks. A file that is not there holds none.
    pub fn from_docker_config(dir: &Path) -> Self {
        Self { source: Source::Config(dir.join("config.json")), helpers: None }
    }

    /// `credential` for the registry `host[:port]` (`docker.io` for Docker Hub), and none for others.
    pub fn fixed(host: &str, credential: Credential) -> Self {
        let key = if is_hub(host) { HUB_KEY } else { host };
        Self { source: Source::Fixed(HashMap::from([(key.to_owned(), credential)])), helpers: None }
    }

    /// Runs credential helpers from `dir` where they are there, before those of the search path.
    #[must_use]
    pub fn with_helper_dir(self, dir: &Path) -> Self {
        Self { helpers: Some(dir.to_owned()), ..self }
    }

    /// The credential for the registry with the key `key`, if there is one.
    ///
    /// # Errors
    /// [`ErrorKind::Credentials`] if `config.json` or the helper that it names cannot be used.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Credential>, ErrorKind> {
        let path = match &self.source {
            Source::None => return Ok(None),
            Source::Fixed(map) => return Ok(map.get(key).cloned()),
            Source::Config(path) => path,
        };
        let Some(config) = Config::read(path)? else {
            return Ok(None);
        };
        if let Some(helper) = config.helper(key)
            && let Some(found) = self.ask_helper(helper, key)?
        {
            return Ok(Some(found));
        }
        config.entry(key).map_or(Ok(None), |auth| {
            auth.credential().map_err(|why| {
                ErrorKind::Credentials(format!("{}: entry for {key}: {why}", path.display()))
            })
        })
    }

    fn ask_helper(&self, helper: &str, key: &str) -> Result<Option<Credential>, ErrorKind> {
        let name = format!("docker-credential-{helper}");
        let fail = |why: String| ErrorKind::Credentials(format!("{name}: {why}"));
        if !helper.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
            return Err(ErrorKind::Credentials(format!("{helper:?} is no helper's name")));
        }
        let program = match &self.helpers {
            Some(dir) if dir.join(&name).exists() => dir.join(&name),
            _ => PathBuf::from(&name),
        };
        let (ok, output) = run_helper(&program, key).map_err(|e| fail(e.to_string()))?;
        if !ok {
            let said = clean(&String::from_utf8_lossy(&output));
            // The protocol has no code for "none stored", only this sentence.
            if said.contains("credentials not found") {
                return Ok(None);
            }
            return Err(fail(if said.is_empty() { "failed".to_owned() } else { said }));
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            username: String,
            secret: String,
        }
        let answer: Answer = serde_json::from_slice(&output)
            .map_err(|_| fail("its answer is not the JSON of a credential helper".to_owned()))?;
        Ok(match (&*answer.username, &*answer.secret) {
            (_, "") => None,
            (TOKEN_USER, _) => {
                Some(Credential::Identity { username: String::new(), token: answer.secret })
            }
            _ => Some(Credential::Basic { username: answer.username, password: answer.secret }),
        })
    }
}

fn is_hub(host: &str) -> bool {
    matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io" | HUB_KEY)
}

/// Whether it succeeded, and what it printed.
fn run_helper(program: &Path, key: &str) -> io::Result<(bool, Vec<u8>)> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let result = talk(&mut child, key);
    if result.is_err() {
        let _ = child.kill();
    }
    let status = child.wait()?;
    Ok((status.success(), result?))
}

fn talk(child: &mut Child, key: &str) -> io::Result<Vec<u8>> {
    if let Some(mut stdin) = child.stdin.take()
        && let Err(error) = stdin.write_all(key.as_bytes())
        // A helper that answers without reading is no failure.
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(error);
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_HELPER_OUTPUT + 1).read_to_end(&mut output)?;
    }
    if output.len() as u64 > MAX_HELPER_OUTPUT {
        return Err(io::Error::other("printed more than a credential"));
    }
    Ok(output)
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: Option<HashMap<String, Auth>>,
    creds_store: Option<String>,
    cred_helpers: Option<HashMap<String, String>>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl Config {
    fn read(path: &Path) -> Result<Option<Self>, ErrorKind> {
        let fail = |why: String| ErrorKind::Credentials(format!("{}: {why}", path.display()));
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(fail(e.to_string())),
        };
        let mut text = Vec::new();
        file.take(MAX_CONFIG + 1).read_to_end(&mut text).map_err(|e| fail(e.to_string()))?;
        if text.len() as u64 > MAX_CONFIG {
            return Err(fail(format!("more than {MAX_CONFIG} bytes")));
        }
        if text.trim_ascii().is_empty() {
            return Ok(None);
        }
        // The parser's own message quotes values, which may be secrets.
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|e| fail(format!("not valid at line {} column {}", e.line(), e.column())))
    }

    fn helper(&self, key: &str) -> Option<&str> {
        let own = self.cred_helpers.as_ref().and_then(|map| {
            map.get(key)
                .or_else(|| map.get(hostname(key)))
                .or_else(|| is_hub(key).then(|| map.get("docker.io")).flatten())
        });
        own.or(self.creds_store.as_ref()).map(String::as_str).filter(|h| !h.is_empty())
    }

    fn entry(&self, key: &str) -> Option<&Auth> {
        let auths = self.auths.as_ref()?;
        auths.get(key).or_else(|| {
            let same =
                |k: &String| hostname(k) == hostname(key) || (is_hub(key) && is_hub(hostname(k)));
            // The smallest, so that the choice does not change from run to run.
            auths.iter().filter(|(k, _)| same(k)).min_by_key(|(k, _)| *k).map(|(_, a)| a)
        })
    }
}

impl Auth {
    /// The strongest credential of the entry. An empty entry marks a login that is stored
    /// elsewhere, and is none.
    fn credential(&self) -> Result<Option<Credential>, String> {
        let given = |s: &Option<String>| s.clone().filter(|s| !s.is_empty());
        if let Some(token) = given(&self.registrytoken) {
            return Ok(Some(Credential::Registry(token)));
        }
        let pair = match given(&self.auth) {
            Some(auth) => Some(decode(&auth)?),
            None => given(&self.username).map(|u| (u, self.password.clone().unwrap_or_default())),
        };
        if let Some(token) = given(&self.identitytoken) {
            let username = pair.map(|(u, _)| u).unwrap_or_default();
            return Ok(Some(Credential::Identity { username, token }));
        }
        Ok(match pair {
            Some((username, token)) if username == TOKEN_USER => {
                Some(Credential::Identity { username: String::new(), token })
            }
            Some((username, password)) => Some(Credential::Basic { username, password }),
            None => None,
        })
    }
}

fn decode(auth: &str) -> Result<(String, String), String> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let decoded = GeneralPurpose::new(&base64::alphabet::STANDARD, config)
        .decode(auth.trim())
        .map_err(|_| "\"auth\" is not base64")?;
    let text = String::from_utf8(decoded).map_err(|_| "\"auth\" is not UTF-8")?;
    let (user, password) = text.split_once(':').ok_or("\"auth\" has no colon")?;
    Ok((user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// The host of a key: without a scheme and without a path.
fn hostname(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    rest.split('/').next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn get(config: &str, key: &str) -> Result<Option<Credential>, ErrorKind> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), config).unwrap();
        Credentials::from_docker_config(dir.path()).get(key)
    }

    fn basic(username: &str, password: &str) -> Option<Credential> {
        Some(Credential::Basic { username: username.into(), password: password.into() })
    }

    #[test]
    fn entries() {
        // "dTpwOnE=" is u:p:q.
        let config = r#"{"auths":{
            "https://index.docker.io/v1/":{"auth":"dTpwOnE="},
            "https://old.io/v2/":{"auth":"dTpwOnE"},
            "plain.io":{"username":"a","password":"b"},
            "id.io":{"auth":"dTo=","identitytoken":"tok"},
            "reg.io":{"registrytoken":"raw"},
            "empty.io":{},
            "bad.io":{"auth":"!!"},
            "r.io:5000":{"auth":"dTpw"}
        }, "unknown": [1]}"#;
        assert_eq!(get(config, HUB_KEY).unwrap(), basic("u", "p:q"));
        assert_eq!(get(config, "old.io").unwrap(), basic("u", "p:q"));
        assert_eq!(get(config, "plain.io").unwrap(), basic("a", "b"));
        assert_eq!(
            get(config, "id.io").unwrap(),
            Some(Credential::Identity { username: "u".into(), token: "tok".into() })
        );
        assert_eq!(get(config, "reg.io").unwrap(), Some(Credential::Registry("raw".into())));
        assert_eq!(get(config, "empty.io").unwrap(), None);
        assert_eq!(get(config, "r.io:5000").unwrap(), basic("u", "p"));
        assert_eq!(get(config, "r.io").unwrap(), None);
        assert!(get(config, "bad.io").is_err());
        for hub in ["docker.io", "index.docker.io", "registry-1.docker.io"] {
            let config = format!(r#"{{"auths":{{"{hub}":{{"auth":"dTpw"}}}}}}"#);
            assert_eq!(get(&config, HUB_KEY).unwrap(), basic("u", "p"), "{hub}");
        }
    }

    #[test]
    fn bad_files_do_not_show_secrets() {
        let error = get(r#"{"auths":{"a":{"auth":7, "password":"hunter2"}}}"#, "a").unwrap_err();
        assert!(error.to_string().contains("line 1"), "{error}");
        let error = get(r#"{"auths":"hunter2"}"#, "a").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert_eq!(get("", "a").unwrap(), None);
        let missing = Credentials::from_docker_config(Path::new("/nonexistent"));
        assert_eq!(missing.get("a").unwrap(), None);
        assert!(!format!("{:?}", basic("u", "hunter2")).contains("hunter2"));
    }

    #[test]
    fn helpers() {
        let dir = tempfile::tempdir().unwrap();
        let script = r#"#!/bin/sh
read key || true
case "$key" in
    a.io) printf '{"ServerURL":"a.io","Username":"u","Secret":"s"}' ;;
    https://index.docker.io/v1/) printf '{"Username":"<token>","Secret":"refresh"}' ;;
    broken.io) echo oops ;;
    fails.io) echo "keychain is locked"; exit 1 ;;
    *) echo "credentials not found in native keychain"; exit 1 ;;
esac
"#;
        let path = dir.path().join("docker-credential-test");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(
            dir.path().join("config.json"),
            r#"{"credsStore":"test","credHelpers":{"other.io":"missing-helper","evil.io":"../x"},
                "auths":{"a.io":{},"file.io":{"auth":"dTpw"}}}"#,
        )
        .unwrap();
        let credentials = Credentials::from_docker_config(dir.path()).with_helper_dir(dir.path());
        assert_eq!(credentials.get("a.io").unwrap(), basic("u", "s"));
        assert_eq!(
            credentials.get(HUB_KEY).unwrap(),
            Some(Credential::Identity { username: String::new(), token: "refresh".into() })
        );
        assert_eq!(credentials.get("none.io").unwrap(), None);
        assert_eq!(credentials.get("file.io").unwrap(), basic("u", "p"));
        for (key, said) in [
            ("broken.io", "JSON"),
            ("fails.io", "keychain is locked"),
            ("other.io", "docker-credential-missing-helper"),
            ("evil.io", "no helper's name"),
        ] {
            let error = credentials.get(key).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
