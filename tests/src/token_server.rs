//! A token server for the fault proxy: bearer tokens with scopes, accounts, refresh and expiry.
//!
//! It behaves as distribution's docs/spec/auth/token.md and oauth.md describe.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::http::Message;

/// How the token server of a [`FaultProxy`](crate::proxy::FaultProxy) behaves.
#[derive(Clone, Debug)]
pub struct Bearer {
    /// User names and passwords that may pull and push everything.
    pub accounts: Vec<(String, String)>,
    /// Refresh tokens that are as good as an account.
    pub refresh_tokens: Vec<String>,
    /// Whether anyone may pull.
    pub anonymous_pull: bool,
    /// How long a token lives, and what `expires_in` says.
    pub life: Duration,
    /// Whether POST (oauth.md) is known; where not, it answers 404.
    pub oauth: bool,
    /// The field that holds the token: `token` or `access_token`.
    pub field: &'static str,
    /// What the challenge gives as realm in place of the proxy's own `/token`.
    pub realm: Option<String>,
}

impl Default for Bearer {
    /// Anyone may pull; `user` with `secret` may push.
    fn default() -> Self {
        Self {
            accounts: vec![("user".into(), "secret".into())],
            refresh_tokens: Vec::new(),
            anonymous_pull: true,
            life: Duration::from_secs(300),
            oauth: true,
            field: "token",
            realm: None,
        }
    }
}

/// Actions by repository.
type Grants = BTreeMap<String, BTreeSet<String>>;

/// The tokens that were given out.
pub(crate) struct TokenServer {
    rules: Bearer,
    issued: Mutex<Issued>,
}

#[derive(Default)]
struct Issued {
    count: u64,
    tokens: BTreeMap<String, (Grants, Instant)>,
}

impl TokenServer {
    pub(crate) fn new(rules: Bearer) -> Self {
        Self { rules, issued: Mutex::default() }
    }

    /// Forgets all tokens, as a server that was restarted.
    pub(crate) fn revoke(&self) {
        self.issued.lock().unwrap().tokens.clear();
    }

    /// The challenge for `needs` of a registry at `address`.
    pub(crate) fn challenge(&self, address: &str, needs: &[(String, &str)]) -> String {
        let realm = self.rules.realm.clone().unwrap_or_else(|| format!("http://{address}/token"));
        let scopes: Vec<String> = needs
            .iter()
            .map(|(name, action)| {
                let actions = if *action == "push" { "pull,push" } else { action };
                format!("repository:{name}:{actions}")
            })
            .collect();
        format!(
            "Bearer realm=\"{realm}\",service=\"test, registry\",scope=\"{}\"",
            scopes.join(" ")
        )
    }

    /// Whether the request's token allows one need.
    pub(crate) fn allows(&self, request: &Message, name: &str, action: &str) -> bool {
        let Some(token) = request.header("authorization").and_then(|a| a.strip_prefix("Bearer "))
        else {
            return false;
        };
        let issued = self.issued.lock().unwrap();
        issued.tokens.get(token).is_some_and(|(grants, end)| {
            Instant::now() < *end && grants.get(name).is_some_and(|a| a.contains(action))
        })
    }

    /// Answers a request for a token.
    pub(crate) fn answer(&self, request: &Message) -> Message {
        let refuse = |status, why: &str| Message::json(status, &json!({"details": why}));
        if self.rules.realm.is_some() {
            return refuse(404, "the token server is elsewhere");
        }
        let (_, query) = request.target().split_once('?').unwrap_or((request.target(), ""));
        let mut known = false;
        let form = if request.method() == "POST" {
            if !self.rules.oauth {
                return refuse(404, "no such page");
            }
            let form = pairs(&String::from_utf8_lossy(&request.body));
            let refresh = form.iter().find(|(n, _)| n == "refresh_token").map(|(_, v)| v);
            if !refresh.is_some_and(|t| self.rules.refresh_tokens.contains(t)) {
                return Message::json(400, &json!({"error": "invalid_grant"}));
            }
            known = true;
            form
        } else {
            if let Some(header) = request.header("authorization") {
                let matches = |(user, password): &(String, String)| header == basic(user, password);
                let refresh = |token: &String| header == basic("", token);
                known = self.rules.accounts.iter().any(matches)
                    || self.rules.refresh_tokens.iter().any(refresh);
                if !known {
                    return refuse(401, "incorrect username or password");
                }
            }
            pairs(query)
        };
        if !form.iter().any(|(n, v)| n == "service" && v == "test, registry") {
            return refuse(400, "wrong service");
        }
        let grants = self.grant(&form, known);
        self.issue(grants)
    }

    fn grant(&self, form: &[(String, String)], known: bool) -> Grants {
        let mut grants = Grants::new();
        let scopes = form.iter().filter(|(n, _)| n == "scope").flat_map(|(_, v)| v.split(' '));
        for scope in scopes {
            let parts: Vec<&str> = scope.rsplitn(2, ':').collect();
            let (Some(actions), Some(name)) =
                (parts.first(), parts.get(1).and_then(|r| r.strip_prefix("repository:")))
            else {
                continue;
            };
            let allowed = |a: &&str| known || (*a == "pull" && self.rules.anonymous_pull);
            let actions = actions.split(',').filter(allowed).map(str::to_owned);
            grants.entry(name.to_owned()).or_default().extend(actions);
        }
        grants
    }

    fn issue(&self, grants: Grants) -> Message {
        let mut issued = self.issued.lock().unwrap();
        issued.count += 1;
        let token = format!("opaque-token-{}", issued.count);
        issued.tokens.insert(token.clone(), (grants, Instant::now() + self.rules.life));
        Message::json(
            200,
            &json!({self.rules.field: token, "expires_in": self.rules.life.as_secs_f64()}),
        )
    }
}

/// The names and values of a query or form.
pub(crate) fn pairs(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let hex: Vec<u8> = bytes.by_ref().take(2).collect();
                let hex = std::str::from_utf8(&hex).unwrap_or("");
                out.extend(u8::from_str_radix(hex, 16));
            }
            byte => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The `Authorization` header of basic authentication.
pub fn basic(user: &str, password: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = "Basic ".to_owned();
    for chunk in format!("{user}:{password}").as_bytes().chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let value = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for i in 0..4 {
            if i <= chunk.len() {
                out.push(DIGITS[(value >> (18 - 6 * i)) as usize & 63] as char);
            } else {
                out.push('=');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings() {
        assert_eq!(basic("u", "p"), "Basic dTpw");
        assert_eq!(basic("u", "p:q"), "Basic dTpwOnE=");
        assert_eq!(basic("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(
            pairs("a=b%3Ac+d&e=%C3%A9"),
            [("a".to_owned(), "b:c d".to_owned()), ("e".to_owned(), "é".to_owned())]
        );
    }
}
