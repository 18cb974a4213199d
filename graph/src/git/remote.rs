//! Where a repository is: `https://`, `http://`, `ssh://` and `git://` URLs, and ssh's short form
//! `user@host:path`.

use std::fmt;

/// What stands for a password where a URL is shown.
const MASK: &str = "xxxxx";

/// How a repository is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// `http://`.
    Http,
    /// `https://`.
    Https,
    /// `ssh://`, or `user@host:path`.
    Ssh,
    /// `git://`.
    Git,
}

impl Transport {
    fn scheme(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Ssh => "ssh",
            Self::Git => "git",
        }
    }

    fn of(scheme: &str) -> Option<Self> {
        [Self::Http, Self::Https, Self::Ssh, Self::Git]
            .into_iter()
            .find(|t| t.scheme().eq_ignore_ascii_case(scheme))
    }

    /// Whether it is HTTP, over TLS or not.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }
}

/// Where a repository is. [`Display`](fmt::Display) gives all of it, password included.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Remote {
    /// How it is reached.
    pub transport: Transport,
    /// As it stands in the URL.
    pub user: Option<String>,
    /// As it stands in the URL.
    pub password: Option<String>,
    /// With the port, if the URL has one.
    pub host: String,
    /// With its slash at the beginning, except in the short form.
    pub path: String,
    /// Whether it is the short form.
    pub short: bool,
}

impl Remote {
    /// The repository that `text` names; none if it is neither such a URL nor the short form.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let remote = match text.split_once("://") {
            Some((scheme, rest)) => match Transport::of(scheme) {
                Some(transport) => Self::of_url(transport, rest),
                None => return Ok(None),
            },
            None => match Self::of_short(text) {
                Some(remote) => remote,
                None => return Ok(None),
            },
        };
        remote.check()?;
        Ok(Some(remote))
    }

    fn of_url(transport: Transport, rest: &str) -> Self {
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(login), host),
            None => (None, authority),
        };
        let (user, password) = match login.map(|l| l.split_once(':').unwrap_or((l, ""))) {
            None => (None, None),
            Some((user, password)) => (
                (!user.is_empty()).then(|| user.to_owned()),
                (!password.is_empty()).then(|| password.to_owned()),
            ),
        };
        let (host, path) = (host.to_owned(), path.to_owned());
        Self { transport, user, password, host, path, short: false }
    }

    /// The short form. Unlike git and BuildKit we want a user: without one, a file whose name has
    /// a colon would be taken for it.
    fn of_short(text: &str) -> Option<Self> {
        let (login, path) = text.split_once(':')?;
        let (user, host) = login.split_once('@')?;
        let plain = |text: &str, more: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        (plain(user, "-_.") && plain(host, "-.")).then(|| Self {
            transport: Transport::Ssh,
            user: Some(user.to_owned()),
            password: None,
            host: host.to_owned(),
            path: path.to_owned(),
            short: true,
        })
    }

    fn check(&self) -> Result<(), String> {
        let odd = |c: char| c.is_control() || c.is_whitespace();
        if self.to_string().contains(odd) {
            return Err("it holds a space or a control character (write %20 for a space)".into());
        }
        if self.host.is_empty() || self.host.starts_with(':') {
            return Err("it names no host".into());
        }
        if self.path.trim_matches('/').is_empty() {
            return Err("it names no repository on the host".into());
        }
        // Programs that are started with it could take it for an option (CVE-2017-1000117).
        let login = [self.user.as_deref(), Some(&self.host)];
        let path = self.short.then_some(self.path.as_str());
        if login.into_iter().chain([path]).flatten().any(|part| part.starts_with('-')) {
            return Err("no part of it may begin with \"-\"".into());
        }
        Ok(())
    }

    /// Without passwords, and without users where they belong to a password (HTTP): what may be
    /// stored, shown, and given to a program.
    #[must_use]
    pub fn without_credentials(&self) -> Self {
        let user = self.user.clone().filter(|_| !self.transport.is_http());
        Self { user, password: None, ..self.clone() }
    }

    /// As it is shown: passwords are masked, and users of HTTP without one, for they may be
    /// tokens.
    pub fn masked(&self) -> String {
        let mut shown = self.clone();
        if shown.password.is_some() {
            shown.password = Some(MASK.to_owned());
        } else if shown.transport.is_http() && shown.user.is_some() {
            shown.user = Some(MASK.to_owned());
        }
        shown.to_string()
    }

    /// Whether `other` is on the same server, reached in the same way.
    pub fn same_server(&self, other: &Self) -> bool {
        self.transport == other.transport && self.host.eq_ignore_ascii_case(&other.host)
    }

    /// The repository that a submodule of this one names. A relative URL (`../other.git`) is
    /// relative to this repository as a directory (git: `remote.c`, `relative_url`).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn submodule(&self, url: &str) -> Result<Self, String> {
        if !url.starts_with("./") && !url.starts_with("../") {
            let absolute = Self::parse(url)?;
            return absolute.ok_or_else(|| "it is no http, https, ssh or git URL".to_owned());
        }
        let mut base = self.path.trim_end_matches('/');
        let mut rest = url;
        loop {
            if let Some(below) = rest.strip_prefix("../") {
                if base.is_empty() {
                    return Err("it leads above the root of the server".to_owned());
                }
                base = base.rsplit_once('/').map_or("", |(above, _)| above);
                rest = below;
            } else if let Some(below) = rest.strip_prefix("./") {
                rest = below;
            } else {
                break;
            }
        }
        let path = match base {
            "" if self.short && !self.path.starts_with('/') => rest.to_owned(),
            base => format!("{base}/{rest}"),
        };
        let path = path.trim_end_matches('/').to_owned();
        let remote = Self { path, ..self.clone() };
        remote.check()?;
        Ok(remote)
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.short {
            write!(f, "{}://", self.transport.scheme())?;
        }
        match (&self.user, &self.password) {
            (None, None) => {}
            (user, None) => write!(f, "{}@", user.as_deref().unwrap_or_default())?,
            (user, Some(password)) => {
                write!(f, "{}:{password}@", user.as_deref().unwrap_or_default())?;
            }
        }
        let colon = if self.short { ":" } else { "" };
        write!(f, "{}{colon}{}", self.host, self.path)
    }
}

/// Without the password.
impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Remote").field(&self.masked()).finish()
    }
}

/// `text` with the credentials masked that it may have as a URL.
pub(super) fn mask(text: &str) -> String {
    let (front, rest) = text.split_at(text.find(['#', '?']).unwrap_or(text.len()));
    match Remote::parse(front) {
        Ok(Some(remote)) => format!("{}{rest}", remote.masked()),
        // Whatever is wrong with it, what stands before the last @ may be a password.
        _ => match (front.split_once("://"), front.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{MASK}@{host}{rest}"),
            _ => text.to_owned(),
        },
    }
}
