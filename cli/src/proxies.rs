//! The proxy variables: for the registry client, and for RUN as predefined arguments.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Names as arguments and variables have them, in upper case; each has a lower-case twin.
const NAMES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Proxies by kind. The values may hold passwords: they are never shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Proxies {
    /// `HTTP_PROXY`: for `http://`.
    pub http_proxy: Option<String>,
    /// `HTTPS_PROXY`: for `https://`.
    pub https_proxy: Option<String>,
    /// `FTP_PROXY`.
    pub ftp_proxy: Option<String>,
    /// `NO_PROXY`: hosts that are reached directly.
    pub no_proxy: Option<String>,
    /// `ALL_PROXY`: for everything that has no other.
    pub all_proxy: Option<String>,
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let set: Vec<&str> = self.list().into_iter().map(|(name, _)| name).collect();
        f.debug_tuple("Proxies").field(&set).finish()
    }
}

impl Proxies {
    /// From variables; lower case comes first, as in curl and Go.
    pub fn from_variables(get: &dyn Fn(&str) -> Option<String>) -> Self {
        let either = |name: &str| get(&name.to_lowercase()).or_else(|| get(name));
        Self {
            http_proxy: either("HTTP_PROXY"),
            https_proxy: either("HTTPS_PROXY"),
            ftp_proxy: either("FTP_PROXY"),
            no_proxy: either("NO_PROXY"),
            all_proxy: either("ALL_PROXY"),
        }
    }

    fn list(&self) -> Vec<(&'static str, &str)> {
        let values =
            [&self.http_proxy, &self.https_proxy, &self.ftp_proxy, &self.no_proxy, &self.all_proxy];
        NAMES.into_iter().zip(values).filter_map(|(n, v)| Some((n, v.as_deref()?))).collect()
    }

    /// The proxy for `http://` URLs.
    pub fn http(&self) -> Option<&str> {
        self.http_proxy.as_deref().or(self.all_proxy.as_deref())
    }

    /// The proxy for `https://` URLs.
    pub fn https(&self) -> Option<&str> {
        self.https_proxy.as_deref().or(self.all_proxy.as_deref())
    }

    /// Variables for RUN, in both cases, without the kinds that `given` arguments name in
    /// either case: those say something else on purpose.
    pub fn variables(&self, given: &BTreeMap<String, String>) -> Vec<(String, String)> {
        let mut variables = Vec::new();
        for (name, value) in self.list() {
            let lower = name.to_lowercase();
            if !given.contains_key(name) && !given.contains_key(&lower) {
                variables.push((name.to_owned(), value.to_owned()));
                variables.push((lower, value.to_owned()));
            }
        }
        variables
    }

    /// These, and those of `others` for the kinds that these lack.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            http_proxy: self.http_proxy.or(others.http_proxy),
            https_proxy: self.https_proxy.or(others.https_proxy),
            ftp_proxy: self.ftp_proxy.or(others.ftp_proxy),
            no_proxy: self.no_proxy.or(others.no_proxy),
            all_proxy: self.all_proxy.or(others.all_proxy),
        }
    }
}

/// What Drydock itself reads of docker's `config.json`: the `proxies` section. Credentials are
/// the registry client's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DockerConfig {
    proxies: BTreeMap<String, Proxies>,
}

impl DockerConfig {
    /// Parses `config.json`.
    ///
    /// # Errors
    /// If it is not JSON, or `proxies` has another shape.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The proxies for containers: those of `default`, for there is no daemon whose address
    /// could have others.
    pub fn proxies(&self) -> Proxies {
        self.proxies.get("default").cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_case_comes_first() {
        let get = |n: &str| match n {
            "http_proxy" => Some("low".to_owned()),
            "HTTP_PROXY" | "ALL_PROXY" => Some("up".to_owned()),
            _ => None,
        };
        let proxies = Proxies::from_variables(&get);
        assert_eq!((proxies.http(), proxies.https()), (Some("low"), Some("up")));
        assert_eq!(format!("{proxies:?}"), r#"Proxies(["HTTP_PROXY", "ALL_PROXY"])"#);
    }

    #[test]
    fn arguments_of_the_command_line_win() {
        let text = r#"{"auths":{},"proxies":{"default":{"httpProxy":"http://p:1","noProxy":"a,b"},
            "tcp://x":{"ftpProxy":"f"}}}"#;
        let config = DockerConfig::parse(text).unwrap();
        let given = BTreeMap::from([("http_proxy".to_owned(), String::new())]);
        let others = Proxies { ftp_proxy: Some("f".to_owned()), ..Proxies::default() };
        let got = config.proxies().or(others).variables(&given);
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        let ftp = [pair("FTP_PROXY", "f"), pair("ftp_proxy", "f")];
        let no = [pair("NO_PROXY", "a,b"), pair("no_proxy", "a,b")];
        assert_eq!(got, [ftp, no].concat());
        assert!(DockerConfig::parse("{").is_err() && DockerConfig::parse("{}").is_ok());
    }
}
