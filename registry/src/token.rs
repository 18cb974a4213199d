//! Getting a bearer token from a token server.
//!
//! Source: distribution's docs/spec/auth/token.md (GET with basic authentication) and oauth.md
//! (POST with a refresh token).

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::http::{HeaderValue, Method, Uri, header};

use crate::Credential;
use crate::error::{Answer, ErrorKind};
use crate::scope::Scopes;
use crate::transport::{Payload, Reply, Request, Transport};
use crate::url;

/// The largest answer of a token server, in bytes.
const MAX_ANSWER: u64 = 1 << 20;
/// How long a token lives that does not say, by token.md.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// The longest life that is believed.
const MAX_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Who we are, for oauth.md's `client_id`.
const CLIENT_ID: &str = "drydock";

/// A token and its end.
#[derive(Clone)]
pub(crate) struct Token {
    /// `Bearer …`, ready to send.
    pub(crate) header: HeaderValue,
    pub(crate) expires: Instant,
}

/// What a challenge says about tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenServer {
    pub(crate) realm: Uri,
    pub(crate) service: Option<String>,
}

impl TokenServer {
    /// Asks for a token that allows `scopes`.
    ///
    /// # Errors
    /// If the server refuses or cannot be reached, or if a secret would cross the network in the
    /// clear.
    pub(crate) fn fetch(
        &self,
        transport: &Transport,
        scopes: &Scopes,
        credential: Option<&Credential>,
    ) -> Result<Token, ErrorKind> {
        if credential.is_some() && transport.is_exposed(&self.realm) {
            return Err(ErrorKind::Protocol(format!(
                "refusing to send credentials to the token server {} over plain http",
                url::origin(&self.realm)
            )));
        }
        let reply = match credential {
            None => self.get(transport, scopes, None)?,
            Some(Credential::Basic { username, password }) => {
                self.get(transport, scopes, Some((username, password)))?
            }
            Some(Credential::Identity { username, token }) => {
                let reply = self.post(transport, scopes, token)?;
                // Servers without oauth.md; some of them answer 401 to every POST.
                if matches!(reply.status, 401 | 404 | 405 | 501) {
                    self.get(transport, scopes, Some((username, token)))?
                } else {
                    reply
                }
            }
            Some(Credential::Registry(token)) => {
                return Token::new(token, DEFAULT_LIFE);
            }
        };
        if reply.status != 200 {
            return Err(refused(reply.answer(), credential.is_some()));
        }
        read(reply)
    }

    fn get(
        &self,
        transport: &Transport,
        scopes: &Scopes,
        basic: Option<(&str, &str)>,
    ) -> Result<Reply, ErrorKind> {
        let scopes = scopes.to_list();
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        if let Some((user, _)) = basic.filter(|(user, _)| !user.is_empty()) {
            pairs.push(("account", user));
        }
        pairs.extend(self.service.as_deref().map(|s| ("service", s)));
        pairs.extend(scopes.iter().map(|s| ("scope", s.as_str())));
        let mut request = Request::get(url::with_query(&self.realm, &pairs)?);
        if let Some((user, password)) = basic {
            request.authorization = Some(basic_header(user, password)?);
        }
        transport.send(&request)
    }

    fn post(
        &self,
        transport: &Transport,
        scopes: &Scopes,
        refresh: &str,
    ) -> Result<Reply, ErrorKind> {
        let scope = scopes.to_list().join(" ");
        let form = url::form(&[
            ("grant_type", "refresh_token"),
            ("service", self.service.as_deref().unwrap_or_default()),
            ("client_id", CLIENT_ID),
            ("scope", &scope),
            ("refresh_token", refresh),
        ]);
        let payload = Payload::Bytes(form.as_bytes());
        let request = Request::new(Method::POST, self.realm.clone(), payload)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        transport.send(&request)
    }
}

impl Token {
    fn new(token: &str, life: Duration) -> Result<Self, ErrorKind> {
        let mut header = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| ErrorKind::Protocol("the token cannot stand in a header".to_owned()))?;
        header.set_sensitive(true);
        Ok(Self { header, expires: Instant::now() + life.min(MAX_LIFE) })
    }
}

/// `Basic …`.
///
/// # Errors
/// Never in practice: base64 is always a valid header.
pub(crate) fn basic_header(user: &str, password: &str) -> Result<HeaderValue, ErrorKind> {
    let mut header =
        HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
            .map_err(|_| ErrorKind::Credentials("they cannot stand in a header".to_owned()))?;
    header.set_sensitive(true);
    Ok(header)
}

/// A refusal by the token server says nothing about the image, so 404 is not "not found" here.
fn refused(answer: Answer, credentials: bool) -> ErrorKind {
    match answer.status {
        401 | 403 | 429 => answer.into_kind(credentials),
        400 if credentials && answer.errors.iter().any(|e| e.message == "invalid_grant") => {
            ErrorKind::Unauthorized { answer, credentials }
        }
        _ => ErrorKind::Status(answer),
    }
}

fn read(reply: Reply) -> Result<Token, ErrorKind> {
    #[derive(Deserialize)]
    struct Body {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<f64>,
    }
    let bytes = reply.bytes("the token server's answer", MAX_ANSWER)?;
    // The parser's own message could quote the token.
    let body: Body = serde_json::from_slice(&bytes)
        .map_err(|_| ErrorKind::Protocol("the token server's answer is not valid".to_owned()))?;
    let token = [body.token, body.access_token].into_iter().flatten().find(|t| !t.is_empty());
    let token =
        token.ok_or_else(|| ErrorKind::Protocol("the token server gave no token".to_owned()))?;
    let life = match body.expires_in {
        Some(seconds) if seconds >= 1.0 => Duration::try_from_secs_f64(seconds).unwrap_or(MAX_LIFE),
        _ => DEFAULT_LIFE,
    };
    Token::new(&token, life)
}
