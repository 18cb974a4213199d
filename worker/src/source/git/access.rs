//! Where a repository is, and what lets us in.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use graph::{GitSource, Remote, Transport};

use super::error::GitError;
use crate::source::Secrets;

/// The secret with an `Authorization` header; with a dot and the host behind it, for that host.
const HEADER: &str = "GIT_AUTH_HEADER";
/// The secret with a token.
const TOKEN: &str = "GIT_AUTH_TOKEN";
/// The user that a token is the password of (BuildKit: `source/git`).
const TOKEN_USER: &str = "x-access-token";

/// A repository and the way into it.
pub(super) struct Access<'a> {
    /// As it was given, credentials included.
    given: Remote,
    /// The value of the `Authorization` header.
    header: Option<String>,
    secrets: &'a dyn Secrets,
}

impl<'a> Access<'a> {
    /// That of a source.
    pub(super) fn new(source: &GitSource, secrets: &'a dyn Secrets) -> Result<Self, GitError> {
        let fail = |reason: String| GitError::Url { url: source.public_remote(), reason };
        let given = Remote::parse(&source.remote).map_err(fail)?;
        let Some(given) = given else {
            return Err(fail("it is no http, https, ssh or git URL".to_owned()));
        };
        let header = header(&given, true, secrets)?;
        Ok(Self { given, header, secrets })
    }

    /// That of a submodule. What lets us into this repository is used for another one only if it
    /// is on the same server: a repository may name any server as that of a submodule.
    pub(super) fn submodule(&self, path: &str, url: &str) -> Result<Self, GitError> {
        let given = self.given.submodule(url).map_err(|reason| GitError::Submodule {
            remote: self.url(),
            path: path.to_owned(),
            url: url.to_owned(),
            reason,
        })?;
        let near = given.same_server(&self.given);
        let mut header = header(&given, near, self.secrets)?;
        if near && header.is_none() {
            header.clone_from(&self.header);
        }
        Ok(Self { given, header, secrets: self.secrets })
    }

    /// The repository without credentials.
    pub(super) fn url(&self) -> String {
        self.given.without_credentials().to_string()
    }

    /// Configuration that lets git in.
    pub(super) fn config(&self) -> Vec<(String, String)> {
        let header = self.header.iter().filter(|_| self.given.transport.is_http());
        let key = format!("http.{}.extraHeader", self.url());
        header.map(|value| (key.clone(), format!("Authorization: {value}"))).collect()
    }
}

/// The header for a repository. `general` secrets have no host in their names.
fn header(
    remote: &Remote,
    general: bool,
    secrets: &dyn Secrets,
) -> Result<Option<String>, GitError> {
    if !remote.transport.is_http() {
        return Ok(None);
    }
    let host = &remote.host;
    // A secret for a host goes over TLS, unless the build itself says http://.
    let own = general || remote.transport == Transport::Https;
    let mut names = Vec::new();
    if own {
        names.extend([format!("{HEADER}.{host}"), format!("{TOKEN}.{host}")]);
    }
    if general {
        names.extend([HEADER.to_owned(), TOKEN.to_owned()]);
    }
    for id in names {
        let fail = |reason: String| GitError::Secret { id: id.clone(), reason };
        let Some(value) = secrets.get(&id).map_err(|e| fail(e.to_string()))? else { continue };
        let value = String::from_utf8(value).map_err(|_| fail("it is not text".to_owned()))?;
        let value = value.trim();
        if value.contains(char::is_control) {
            return Err(fail("it has more than one line".to_owned()));
        }
        return Ok(Some(if id.starts_with(TOKEN) {
            basic(TOKEN_USER, value)
        } else {
            value.to_owned()
        }));
    }
    let (user, password) = (remote.user.as_deref(), remote.password.as_deref());
    if user.is_none() && password.is_none() {
        return Ok(None);
    }
    let decode = |text: Option<&str>| percent_decode(text.unwrap_or_default());
    Ok(Some(basic(&decode(user), &decode(password))))
}

fn basic(user: &str, password: &str) -> String {
    format!("basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

/// Resolves the escapes of a URL; what is none stays.
fn percent_decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = hex.filter(|_| byte == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        rest = if code.is_some() { &after[2..] } else { after };
        out.push(code.unwrap_or(byte));
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io;

    use super::*;

    struct Known(HashMap<&'static str, &'static str>);

    impl Secrets for Known {
        fn get(&self, id: &str) -> io::Result<Option<Vec<u8>>> {
            Ok(self.0.get(id).map(|v| v.as_bytes().to_vec()))
        }
    }

    fn open<'a>(url: &str, secrets: &'a dyn Secrets) -> Access<'a> {
        Access::new(&GitSource::parse(url).unwrap().unwrap(), secrets).unwrap()
    }

    fn config(access: &Access<'_>) -> Option<(String, String)> {
        access.config().pop()
    }

    #[test]
    fn what_lets_us_in() {
        let secrets = Known(HashMap::from([
            ("GIT_AUTH_TOKEN", "general\n"),
            ("GIT_AUTH_TOKEN.h:8", "of-h"),
            ("GIT_AUTH_HEADER.i", "Bearer x"),
        ]));
        let basic = |text: &str| format!("Authorization: basic {}", BASE64_STANDARD.encode(text));
        for (url, want) in [
            ("https://h:8/r.git", Some(basic("x-access-token:of-h"))),
            ("http://h/r.git", Some(basic("x-access-token:general"))),
            ("https://i/r.git", Some("Authorization: Bearer x".to_owned())),
            ("https://u:p@h/r.git", Some(basic("x-access-token:general"))),
            ("ssh://git@h/r", None),
            ("git@h:r", None),
        ] {
            let access = open(url, &secrets);
            assert_eq!(config(&access).map(|c| c.1), want, "{url}");
        }
        let none = Known(HashMap::new());
        let access = open("https://me:p%40ss@h/r.git", &none);
        let (key, value) = config(&access).unwrap();
        assert_eq!((key.as_str(), value), ("http.https://h/r.git.extraHeader", basic("me:p@ss")));
        assert_eq!(access.url(), "https://h/r.git");
    }

    #[test]
    fn submodules_elsewhere_get_nothing() {
        let secrets = Known(HashMap::from([("GIT_AUTH_TOKEN", "t"), ("GIT_AUTH_TOKEN.j", "j")]));
        let access = open("https://h/o/r.git", &secrets);
        let has = |url: &str| config(&access.submodule("s", url).unwrap()).is_some();
        assert!(has("../s.git") && has("https://h/x.git") && has("https://j/x.git"));
        assert!(!has("https://other/x.git") && !has("http://h/x.git") && !has("http://j/x.git"));
        let none = Known(HashMap::new());
        let access = open("https://u:p@h/o/r.git", &none);
        let has = |url: &str| config(&access.submodule("s", url).unwrap()).is_some();
        assert!(has("../s.git") && has("https://h/x.git") && !has("https://j/x.git"));
        let error = access.submodule("s", "file:///etc").err().unwrap().to_string();
        assert!(!error.contains("u:p") && error.contains("no http"), "{error}");
    }
}
