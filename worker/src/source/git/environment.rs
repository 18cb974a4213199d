//! What git, and the ssh and curl behind it, need of the caller's environment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;

/// The variables that are passed on. Nothing else is: a variable of git's own could make it run
/// things.
const NAMES: [&str; 19] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "GIT_PROXY_COMMAND",
];

/// Where programs are if the caller has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// How ssh is called if the caller does not say so: it never asks, and leaves no process behind.
const SSH: &str = "ssh -o BatchMode=yes -o ControlPath=none";

/// Variables for git: where programs are, the ssh agent, proxies, certificates.
#[derive(Clone, Default)]
pub struct GitEnvironment {
    variables: BTreeMap<String, OsString>,
}

impl GitEnvironment {
    /// Takes what git needs out of `variables`, the environment of the caller.
    pub fn new<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let all: BTreeMap<OsString, OsString> = variables
            .into_iter()
            .map(|(k, v)| (k.as_ref().to_owned(), v.as_ref().to_owned()))
            .filter(|(_, v)| !v.is_empty())
            .collect();
        let get = |name: &str| all.get(OsStr::new(name)).cloned();
        let mut taken: BTreeMap<String, OsString> =
            NAMES.iter().filter_map(|name| Some(((*name).to_owned(), get(name)?))).collect();
        // curl reads the first only in lower case, and the certificates under git's names.
        for (from, to) in [
            ("HTTP_PROXY", "http_proxy"),
            ("SSL_CERT_FILE", "GIT_SSL_CAINFO"),
            ("SSL_CERT_DIR", "GIT_SSL_CAPATH"),
        ] {
            if let (Some(value), false) = (get(from), taken.contains_key(to)) {
                taken.insert(to.to_owned(), value);
            }
        }
        Self { variables: taken }
    }

    /// The directories in which `git` is looked for.
    pub(super) fn path(&self) -> String {
        let path = self.variables.get("PATH").map(|p| p.to_string_lossy().into_owned());
        path.unwrap_or_else(|| DEFAULT_PATH.to_owned())
    }

    /// As they are given to git.
    pub(super) fn variables(&self) -> BTreeMap<String, OsString> {
        let mut variables = self.variables.clone();
        let mut default = |name: &str, value: &str| {
            variables.entry(name.to_owned()).or_insert_with(|| value.into());
        };
        default("PATH", DEFAULT_PATH);
        default("HOME", "/nonexistent");
        if !self.variables.contains_key("GIT_SSH") {
            default("GIT_SSH_COMMAND", SSH);
        }
        variables
    }
}

/// The names only: proxies may have passwords.
impl fmt::Debug for GitEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_git_needs() {
        let environment = GitEnvironment::new([
            ("PATH", "/bin"),
            ("GIT_DIR", "/elsewhere"),
            ("GIT_CONFIG_PARAMETERS", "'core.pager'='evil'"),
            ("HTTP_PROXY", "http://u:secret@p"),
            ("SSL_CERT_FILE", "/ca"),
            ("GIT_SSL_CAPATH", "/mine"),
            ("SSL_CERT_DIR", "/yours"),
        ]);
        let variables = environment.variables();
        let get = |name: &str| variables.get(name).and_then(|v| v.to_str());
        assert_eq!(get("http_proxy"), Some("http://u:secret@p"));
        assert_eq!((get("GIT_SSL_CAINFO"), get("GIT_SSL_CAPATH")), (Some("/ca"), Some("/mine")));
        assert_eq!((get("GIT_DIR"), get("GIT_CONFIG_PARAMETERS")), (None, None));
        assert_eq!(get("GIT_SSH_COMMAND"), Some(SSH));
        assert!(!format!("{environment:?}").contains("secret"));
        assert_eq!(GitEnvironment::default().path(), DEFAULT_PATH);
        let own = GitEnvironment::new([("GIT_SSH", "/my/ssh")]);
        assert!(!own.variables().contains_key("GIT_SSH_COMMAND"));
    }
}
