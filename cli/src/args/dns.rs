//! Name servers of RUN steps: `--dns` and its relatives (as in docker run and podman build).

use std::net::IpAddr;

use clap::Args;
use worker::Dns;

use super::build::STEPS;

/// Most bytes of a domain name (RFC 1035, 2.3.4), with a dot at its end.
const MAX_DOMAIN: usize = 254;
/// Most bytes of one part of it.
const MAX_LABEL: usize = 63;
/// What stands alone for no search domains.
const NO_SEARCH: &str = ".";

/// What /etc/resolv.conf of steps says instead of the host's.
#[derive(Args, Clone, Debug, Default)]
pub struct DnsArgs {
    /// A name server for RUN, instead of the host's; may be repeated
    #[arg(long = "dns", value_name = "ADDRESS", value_parser = server, help_heading = STEPS)]
    servers: Vec<IpAddr>,
    /// A domain in which RUN looks for short names, instead of the host's; . for none
    #[arg(long = "dns-search", value_name = "DOMAIN", value_parser = domain, help_heading = STEPS)]
    search: Vec<String>,
    /// An option of the resolver for RUN, such as ndots:1, instead of the host's
    #[arg(long = "dns-option", alias = "dns-opt", value_name = "OPTION", value_parser = option, help_heading = STEPS)]
    options: Vec<String>,
}

impl DnsArgs {
    /// All of it, each thing once. Domains beside `.` count.
    pub fn resolve(&self) -> Dns {
        let mut search = once(&self.search);
        if search.len() > 1 {
            search.retain(|it| it != NO_SEARCH);
        }
        Dns { servers: once(&self.servers), search, options: once(&self.options) }
    }
}

fn once<T: Clone + PartialEq>(all: &[T]) -> Vec<T> {
    let mut kept: Vec<T> = Vec::new();
    for one in all {
        if !kept.contains(one) {
            kept.push(one.clone());
        }
    }
    kept
}

fn server(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| "it is not an IP address".to_owned())?;
    if address.is_unspecified() || address.is_multicast() {
        return Err("no server can have this address".to_owned());
    }
    Ok(address)
}

/// A name of labels; what resolvers take beyond RFC 1035 (underscores) is taken.
fn domain(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let labels = text.strip_suffix('.').unwrap_or(text);
    let label = |it: &str| (1..=MAX_LABEL).contains(&it.len()) && it.chars().all(good);
    if text == NO_SEARCH || (text.len() <= MAX_DOMAIN && labels.split('.').all(label)) {
        Ok(text.to_owned())
    } else {
        Err("it is not a domain name".to_owned())
    }
}

/// A word, as resolv.conf(5) has them.
fn option(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_:.".contains(c);
    if !text.is_empty() && text.chars().all(good) {
        Ok(text.to_owned())
    } else {
        Err("it is not an option of the resolver (such as ndots:1, see resolv.conf(5))".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers() {
        assert!(server("10.0.0.1").is_ok() && server("fd00::1").is_ok() && server("::1").is_ok());
        for bad in
            ["", "host", "1.2.3", "1.2.3.4:53", "[::1]", "0.0.0.0", "::", "224.0.0.1", "none"]
        {
            assert!(server(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn domains_and_options() {
        let long = format!("{}.example", "a".repeat(63));
        for good in [".", "lan", "a.example", "a.example.", "_tcp.a-b.example", &long] {
            assert!(domain(good).is_ok(), "{good:?}");
        }
        let (part, all) = ("a".repeat(64), "a.".repeat(128));
        for bad in ["", "..", "a..b", ".a", "a b", "a\nnameserver", "a#", "ä.example", &part, &all]
        {
            assert!(domain(bad).is_err(), "{bad:?}");
        }
        assert!(option("ndots:1").is_ok() && option("rotate").is_ok());
        for bad in ["", "a b", "a\nnameserver 1.2.3.4", "#"] {
            assert!(option(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn together() {
        let text = |list: &[&str]| list.iter().map(|&it| it.to_owned()).collect::<Vec<_>>();
        let args = DnsArgs {
            servers: ["10.0.0.1", "10.0.0.2", "10.0.0.1"].map(|it| it.parse().unwrap()).into(),
            search: text(&[".", "b", "a", "b"]),
            options: text(&["rotate", "rotate"]),
        };
        let dns = args.resolve();
        assert_eq!(dns.servers.len(), 2);
        assert_eq!((dns.search, dns.options), (text(&["b", "a"]), text(&["rotate"])));
        let none = DnsArgs { search: text(&["."]), ..DnsArgs::default() };
        assert_eq!(none.resolve().search, ["."]);
    }
}
