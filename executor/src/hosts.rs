//! The content of /etc/hosts.

use std::fmt::Write as _;
use std::net::IpAddr;

/// What stands for the address of this host, as the process reaches it (docker-build's word).
const HOST_GATEWAY: &str = "host-gateway";

/// The loopback names with the process's own host name, then what the caller adds. Where no way
/// leads to this host, names for it are left out.
pub(crate) fn content(
    hostname: &str,
    extra: &[(String, String)],
    gateway: impl Fn() -> Option<IpAddr>,
) -> String {
    let mut text = format!("127.0.0.1\tlocalhost {hostname}\n");
    text.push_str("::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, address) in extra {
        let address = match address.as_str() {
            HOST_GATEWAY => gateway().map(|it| it.to_string()),
            other => Some(other.to_owned()),
        };
        if let Some(address) = address {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{address}\t{name}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "127.0.0.1\tlocalhost box\n::1\tlocalhost ip6-localhost ip6-loopback\n";

    fn lines(extra: &[(&str, &str)], gateway: Option<&str>) -> String {
        let extra: Vec<_> = extra.iter().map(|&(n, a)| (n.to_owned(), a.to_owned())).collect();
        let text = content("box", &extra, || gateway.map(|it| it.parse().unwrap()));
        text.strip_prefix(HEAD).unwrap().to_owned()
    }

    #[test]
    fn order() {
        let extra = [("db", "10.0.0.2"), ("db", "fd00::2"), ("cache", "10.0.0.3")];
        assert_eq!(lines(&extra, None), "10.0.0.2\tdb\nfd00::2\tdb\n10.0.0.3\tcache\n");
    }

    #[test]
    fn this_host() {
        let extra = [("here", "host-gateway"), ("db", "10.0.0.2")];
        assert_eq!(lines(&extra, Some("192.0.2.7")), "192.0.2.7\there\n10.0.0.2\tdb\n");
        assert_eq!(lines(&extra, None), "10.0.0.2\tdb\n");
    }
}
