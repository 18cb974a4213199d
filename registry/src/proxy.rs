//! Which proxy a request goes through.
//!
//! The rules of `NO_PROXY` are those of Go's `httpproxy`, which docker and BuildKit follow:
//! entries are separated by commas; `*` matches every host; `example.com` the host and all below
//! it; `.example.com` and `*.example.com` only those below; an address or a CIDR block by number;
//! each may have `:port`. Loopback is never proxied.

use std::fmt;
use std::net::IpAddr;

use ureq::http::Uri;

use crate::endpoint::is_loopback;
use crate::url::is_https;

/// Proxies by the scheme of the request, with the hosts that are reached without one. The values
/// are what the proxy variables hold; the client itself reads no environment.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProxyConfig {
    /// For `http://` URLs: `[scheme://][user:password@]host[:port]`.
    pub http: Option<String>,
    /// For `https://` URLs.
    pub https: Option<String>,
    /// Hosts that are reached directly.
    pub no_proxy: Option<String>,
}

impl ProxyConfig {
    /// The proxy for `url`, or none to go directly.
    pub(crate) fn select(&self, url: &Uri) -> Option<&str> {
        let https = is_https(url);
        let proxy = if https { &self.https } else { &self.http }.as_deref()?.trim();
        let host = url.host().unwrap_or_default();
        let port = url.port_u16().unwrap_or(if https { 443 } else { 80 });
        let direct =
            is_loopback(host) || self.no_proxy.as_deref().is_some_and(|n| exempts(n, host, port));
        (!proxy.is_empty() && !direct).then_some(proxy)
    }
}

/// A proxy's address may hold a password, so only its presence is shown.
impl fmt::Debug for ProxyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyConfig")
            .field("http", &self.http.is_some())
            .field("https", &self.https.is_some())
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

/// Whether the `NO_PROXY` list exempts `host` (IPv6 with or without brackets).
fn exempts(list: &str, host: &str, port: u16) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    let host = host.to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    list.split(',').map(str::trim).filter(|e| !e.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        if entry == "*" {
            return true;
        }
        if let Some((network, bits)) = entry.split_once('/') {
            return match (network.parse(), bits.parse(), address) {
                (Ok(network), Ok(bits), Some(address)) => in_block(address, network, bits),
                _ => false,
            };
        }
        let (name, wanted) = split_port(&entry);
        if wanted.is_some_and(|w| w != port) {
            return false;
        }
        if let Ok(exact) = name.parse::<IpAddr>() {
            return address == Some(exact);
        }
        let below = |suffix: &str| {
            host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
        };
        match name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
            Some(suffix) => below(suffix),
            None => !name.is_empty() && (host == name || below(name)),
        }
    })
}

fn split_port(entry: &str) -> (&str, Option<u16>) {
    if let Some(rest) = entry.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((address, port)) => (address, port.strip_prefix(':').and_then(|p| p.parse().ok())),
            None => (entry, None),
        };
    }
    match entry.rsplit_once(':') {
        // More than one colon is an IPv6 address without brackets.
        Some((name, port)) if !name.contains(':') => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    }
}

fn in_block(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let prefix = |value: u128, width: u32| {
        if bits == 0 { 0 } else { value >> (width - bits) }
    };
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) if bits <= 32 => {
            prefix(u32::from(a).into(), 32) == prefix(u32::from(n).into(), 32)
        }
        (IpAddr::V6(a), IpAddr::V6(n)) if bits <= 128 => {
            prefix(a.into(), 128) == prefix(n.into(), 128)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_proxy_table() {
        for (list, url, direct) in [
            ("", "https://a.com/", false),
            ("*", "https://a.com/", true),
            ("a.com", "https://a.com/", true),
            ("a.com", "https://x.y.a.com/", true),
            ("a.com", "https://xa.com/", false),
            ("A.COM", "https://x.a.com/", true),
            (".a.com", "https://a.com/", false),
            (".a.com", "https://x.a.com/", true),
            ("*.a.com", "https://x.a.com/", true),
            ("*.a.com", "https://a.com/", false),
            ("b.com, a.com ,", "https://a.com/", true),
            ("a.com:443", "https://a.com/", true),
            ("a.com:443", "https://a.com:444/", false),
            ("a.com:80", "http://a.com/", true),
            ("10.0.0.1", "https://10.0.0.1/", true),
            ("10.0.0.1:5000", "https://10.0.0.1:5000/", true),
            ("10.0.0.1:5000", "https://10.0.0.1/", false),
            ("10.0.0.0/8", "https://10.200.3.4:5000/", true),
            ("10.0.0.0/8", "https://11.0.0.1/", false),
            ("10.0.0.0/33", "https://10.0.0.1/", false),
            ("0.0.0.0/0", "https://8.8.8.8/", true),
            ("10.0.0.0/8", "https://10.example.com/", false),
            ("fd00::/8", "https://[fd12::1]:5000/", true),
            ("fd00::/8", "https://[fe80::1]/", false),
            ("::/0", "https://10.0.0.1/", false),
            ("[fd00::1]:5000", "https://[fd00::1]:5000/", true),
            ("[fd00::1]:5000", "https://[fd00::1]/", false),
            ("fd00::1", "https://[fd00::1]/", true),
            ("0.0.0.1", "https://10.0.0.1/", false),
        ] {
            let config = ProxyConfig {
                http: Some("http://p:1".into()),
                https: Some("http://p:2".into()),
                no_proxy: Some(list.into()),
            };
            let selected = config.select(&url.parse().unwrap());
            assert_eq!(selected.is_none(), direct, "{list} {url}");
        }
    }

    #[test]
    fn by_scheme_and_never_for_loopback() {
        let config = ProxyConfig {
            http: Some("http://u:secret@p:1".into()),
            https: Some("http://p:2".into()),
            no_proxy: None,
        };
        let select = |u: &str| config.select(&u.parse().unwrap()).map(str::to_owned);
        assert_eq!(select("http://a/").as_deref(), Some("http://u:secret@p:1"));
        assert_eq!(select("https://a/").as_deref(), Some("http://p:2"));
        for url in ["http://localhost:5000/", "https://127.3.2.1/", "http://[::1]:1/"] {
            assert_eq!(select(url), None, "{url}");
        }
        assert!(!format!("{config:?}").contains("secret"));
        assert_eq!(ProxyConfig::default().select(&"https://a/".parse().unwrap()), None);
        let empty = ProxyConfig { https: Some(" ".into()), ..Default::default() };
        assert_eq!(empty.select(&"https://a/".parse().unwrap()), None);
    }

    proptest! {
        #[test]
        fn never_panics(list in "[a-z0-9.:/,*\\[\\] é-]{0,60}", host in "[a-z0-9.:\\[\\]]{0,20}") {
            exempts(&list, &host, 443);
        }
    }
}
