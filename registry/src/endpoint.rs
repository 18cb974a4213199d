//! Where a registry is: scheme, host, and the key its credentials stand under.

use std::net::{Ipv4Addr, Ipv6Addr};

use oci::Reference;
use oci::reference::DEFAULT_DOMAIN;

/// The host that serves Docker Hub's registry.
const HUB_HOST: &str = "registry-1.docker.io";
/// The key that Docker Hub's credentials stand under in `config.json`.
pub(crate) const HUB_KEY: &str = "https://index.docker.io/v1/";

/// A registry as it is reached over the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Host and port, as in a URL.
    pub(crate) host: String,
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
    /// The key of its credentials.
    pub(crate) key: String,
}

impl Endpoint {
    /// The registry of `reference`. Loopback addresses are plain HTTP, everything else is HTTPS.
    pub(crate) fn of(reference: &Reference) -> Self {
        let domain = reference.domain();
        if domain == DEFAULT_DOMAIN {
            return Self { host: HUB_HOST.into(), scheme: "https", key: HUB_KEY.into() };
        }
        let scheme = if is_loopback(host_of(domain)) { "http" } else { "https" };
        Self { host: domain.to_owned(), scheme, key: domain.to_owned() }
    }

    /// The URL of `rest` in `repository`. Both need no escaping: a reference's grammar allows only
    /// what a path allows.
    pub(crate) fn url(&self, repository: &str, rest: &str) -> String {
        format!("{}://{}/v2/{repository}/{rest}", self.scheme, self.host)
    }
}

/// The host of `host[:port]`, without the brackets of an IPv6 address.
pub(crate) fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

/// Whether `host` (without a port) is this machine: `localhost`, 127.0.0.0/8 or ::1.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<Ipv4Addr>().is_ok_and(|a| a.is_loopback())
        || host.parse::<Ipv6Addr>().is_ok_and(|a| a.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (name, host, scheme, key) in [
            ("busybox", "registry-1.docker.io", "https", HUB_KEY),
            ("docker.io/a/b", "registry-1.docker.io", "https", HUB_KEY),
            ("ghcr.io/a/b", "ghcr.io", "https", "ghcr.io"),
            ("example.com:5000/a", "example.com:5000", "https", "example.com:5000"),
            ("localhost:5000/a", "localhost:5000", "http", "localhost:5000"),
            ("localhost/a", "localhost", "http", "localhost"),
            ("127.8.9.1:80/a", "127.8.9.1:80", "http", "127.8.9.1:80"),
            ("[::1]:5000/a", "[::1]:5000", "http", "[::1]:5000"),
            ("[::2]:5000/a", "[::2]:5000", "https", "[::2]:5000"),
            ("10.0.0.1/a", "10.0.0.1", "https", "10.0.0.1"),
            ("127.0.0.1.evil.com/a", "127.0.0.1.evil.com", "https", "127.0.0.1.evil.com"),
            ("localhost.evil.com/a", "localhost.evil.com", "https", "localhost.evil.com"),
        ] {
            let endpoint = Endpoint::of(&name.parse().unwrap());
            assert_eq!((&*endpoint.host, endpoint.scheme, &*endpoint.key), (host, scheme, key));
        }
    }
}
