//! Answering challenges: which `Authorization` header a request gets.
//!
//! The first request to a registry is anonymous. Its challenge is remembered for the host; tokens
//! are remembered by host and scope until they expire. Credentials are looked up at most once per
//! registry, and only after a challenge. Concurrent requests to a registry wait for one another
//! here, so that one token (and one run of a credential helper) serves all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::http::{HeaderValue, Uri};

use crate::challenge::{self, Challenge};
use crate::endpoint::Endpoint;
use crate::error::ErrorKind;
use crate::scope::Scopes;
use crate::token::{Token, TokenServer, basic_header};
use crate::transport::Transport;
use crate::{Credential, Credentials, url};

/// A token is not used in its last moments: it would expire on the way.
const MARGIN: Duration = Duration::from_millis(500);

/// What is known of all registries.
pub(crate) struct Auth {
    credentials: Credentials,
    hosts: Mutex<HashMap<String, Arc<Mutex<Host>>>>,
}

/// What is known of one registry.
#[derive(Default)]
struct Host {
    scheme: Option<Scheme>,
    tokens: HashMap<Vec<String>, Token>,
    /// None until it was looked up.
    credential: Option<Option<Credential>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Scheme {
    Basic,
    Bearer(TokenServer),
}

impl Auth {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self { credentials, hosts: Mutex::default() }
    }

    fn host(&self, endpoint: &Endpoint) -> Arc<Mutex<Host>> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.entry(endpoint.host.clone()).or_default().clone()
    }

    /// Whether there are credentials for the registry, as far as they were looked up.
    pub(crate) fn has_credentials(&self, endpoint: &Endpoint) -> bool {
        let host = self.host(endpoint);
        let host = host.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(host.credential, Some(Some(_)))
    }

    /// The header for a request that needs `scopes`, as far as the registry is known.
    ///
    /// # Errors
    /// If a token is needed and cannot be had.
    pub(crate) fn authorization(
        &self,
        transport: &Transport,
        endpoint: &Endpoint,
        scopes: &Scopes,
    ) -> Result<Option<HeaderValue>, ErrorKind> {
        let host = self.host(endpoint);
        let mut host = host.lock().unwrap_or_else(PoisonError::into_inner);
        match host.scheme.clone() {
            None => Ok(None),
            Some(scheme) => self.header(&mut host, transport, endpoint, &scheme, scopes, scopes),
        }
    }

    /// The header that answers the challenges of a 401 to a request that had `used`. None if there
    /// is nothing new to say.
    ///
    /// # Errors
    /// If credentials or a token cannot be had.
    pub(crate) fn answer(
        &self,
        transport: &Transport,
        endpoint: &Endpoint,
        scopes: &Scopes,
        headers: &[String],
        used: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, ErrorKind> {
        let challenges: Vec<Challenge> = headers.iter().flat_map(|h| challenge::parse(h)).collect();
        let Some((scheme, asked)) = choose(&challenges)? else {
            return Ok(None);
        };
        let host = self.host(endpoint);
        let mut host = host.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have renewed the token while this request was under way.
        if let Some(token) = host.tokens.get(&scopes.to_list())
            && used == Some(&token.header)
        {
            host.tokens.remove(&scopes.to_list());
        }
        host.scheme = Some(scheme.clone());
        let wanted = scopes.clone().union(&asked);
        let header = self.header(&mut host, transport, endpoint, &scheme, scopes, &wanted)?;
        Ok(header.filter(|h| used != Some(h)))
    }

    fn header(
        &self,
        host: &mut Host,
        transport: &Transport,
        endpoint: &Endpoint,
        scheme: &Scheme,
        scopes: &Scopes,
        wanted: &Scopes,
    ) -> Result<Option<HeaderValue>, ErrorKind> {
        let key = scopes.to_list();
        if let Scheme::Bearer(_) = scheme
            && let Some(token) = host.tokens.get(&key)
            && Instant::now() + MARGIN < token.expires
        {
            return Ok(Some(token.header.clone()));
        }
        let credential = match &host.credential {
            Some(known) => known.clone(),
            None => {
                let found = self.credentials.get(&endpoint.key)?;
                host.credential = Some(found.clone());
                found
            }
        };
        match (scheme, credential) {
            (Scheme::Basic, Some(Credential::Basic { username, password })) => {
                basic_header(&username, &password).map(Some)
            }
            (Scheme::Basic, _) => Ok(None),
            (Scheme::Bearer(server), credential) => {
                let token = server.fetch(transport, wanted, credential.as_ref())?;
                let header = token.header.clone();
                host.tokens.insert(key, token);
                Ok(Some(header))
            }
        }
    }
}

/// The challenge that is answered (a token rather than a password), and the scopes it asks for.
fn choose(challenges: &[Challenge]) -> Result<Option<(Scheme, Scopes)>, ErrorKind> {
    let with = |scheme: &str| challenges.iter().find(move |c| c.scheme == scheme);
    if let Some(bearer) = with("bearer")
        && let Some(realm) = bearer.param("realm")
    {
        let realm: Uri = url::parse(realm)?;
        let service = bearer.param("service").map(str::to_owned);
        let asked = Scopes::parse(bearer.param("scope").unwrap_or_default());
        return Ok(Some((Scheme::Bearer(TokenServer { realm, service }), asked)));
    }
    Ok(with("basic").map(|_| (Scheme::Basic, Scopes::default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefers_tokens() {
        let choose = |h: &str| choose(&challenge::parse(h));
        let (scheme, asked) = choose(
            r#"Basic realm="x", Bearer realm="https://t/k",service="s",scope="repository:a:pull""#,
        )
        .unwrap()
        .unwrap();
        let Scheme::Bearer(server) = scheme else { panic!("not a token") };
        assert_eq!(server.realm, "https://t/k");
        assert_eq!(server.service.as_deref(), Some("s"));
        assert_eq!(asked, Scopes::pull("a"));
        assert_eq!(choose("Basic").unwrap().unwrap().0, Scheme::Basic);
        assert!(choose("Negotiate").unwrap().is_none());
        assert!(choose("Bearer service=x").unwrap().is_none());
        assert!(choose("Bearer realm=\"/token\"").is_err());
        assert!(choose("Bearer realm=\"file:///etc/passwd\"").is_err());
    }
}
