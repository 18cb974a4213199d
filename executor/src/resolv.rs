//! The content of /etc/resolv.conf (resolv.conf(5)).
//!
//! In the host's network the host's file is right as it is. Elsewhere a name server on a loopback
//! address is out of reach: a host whose only server is systemd-resolved's stub (127.0.0.53) keeps
//! the real ones in another file; else a network of the step's own reaches such a server through an
//! address that is forwarded, and where there is no forwarding it goes. What the caller says
//! replaces what the host says, each part for itself (BuildKit: `executor/oci/resolvconf.go`).

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use crate::network::{DNS_IPV4, DNS_IPV6};
use crate::spec::{Dns, Network};

const HOST: &str = "/etc/resolv.conf";
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
const STUB: &str = "127.0.0.53";
/// Used when no name server is left, as Docker does.
const DEFAULT_SERVERS: [&str; 2] = ["8.8.8.8", "8.8.4.4"];
/// What means no search domains, given alone (podman-build(1)).
const NO_SEARCH: &str = ".";

/// What a process is told about names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolv {
    /// The file.
    pub(crate) text: String,
    /// Addresses in it that stand for the first name server of the host of the same family.
    pub(crate) forwarded: Vec<IpAddr>,
}

/// The file for a process with this network access.
pub(crate) fn content(network: Network, dns: &Dns) -> io::Result<Resolv> {
    let host = read(Path::new(HOST))?;
    let only_stub = network != Network::Host && servers(&host).eq([STUB]);
    let real = if only_stub { read(Path::new(RESOLVED))? } else { String::new() };
    Ok(of(network, dns, &host, &real))
}

/// The same from the host's file and the one of systemd-resolved, if that has the real servers.
fn of(network: Network, dns: &Dns, host: &str, real: &str) -> Resolv {
    let text = if real.is_empty() { host } else { real };
    let (mut text, mut forwarded) = (replaced(text, dns), Vec::new());
    if dns.servers.is_empty() {
        match network {
            Network::Host => {}
            Network::Isolated if real.is_empty() => (text, forwarded) = forwarding(&text),
            Network::Isolated | Network::None => text = without_loopback(&text),
        }
    }
    if servers(&text).next().is_none() {
        for server in DEFAULT_SERVERS {
            push(&mut text, "nameserver", server);
        }
    }
    Resolv { text, forwarded }
}

/// A host without the file has no name servers to offer. What is no text is no setting.
fn read(path: &Path) -> io::Result<String> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    }
}

/// With the parts that the caller gives instead of those that are there.
fn replaced(text: &str, dns: &Dns) -> String {
    let gone = |line: &str| match line.split_ascii_whitespace().next() {
        Some("nameserver") => !dns.servers.is_empty(),
        Some("search" | "domain") => !dns.search.is_empty(),
        Some("options") => !dns.options.is_empty(),
        _ => false,
    };
    let mut kept = lines(text.lines().filter(|line| !gone(line)));
    if !dns.search.is_empty() && dns.search != [NO_SEARCH] {
        push(&mut kept, "search", &dns.search.join(" "));
    }
    for server in &dns.servers {
        push(&mut kept, "nameserver", &server.to_string());
    }
    if !dns.options.is_empty() {
        push(&mut kept, "options", &dns.options.join(" "));
    }
    kept
}

/// Without name servers on loopback addresses.
fn without_loopback(text: &str) -> String {
    lines(text.lines().filter(|line| server(line).and_then(loopback).is_none()))
}

/// With name servers on loopback addresses replaced by an address that is forwarded to them. That
/// goes to the first server of a family (passt(1), `--dns-forward`): where it is none on a loopback
/// address, it is within reach itself. The one for IPv6 is only taken where nothing else is left,
/// since a host may have no IPv6 but on its loopback interface.
fn forwarding(text: &str) -> (String, Vec<IpAddr>) {
    let first = |ipv4: bool| {
        let mut family =
            servers(text).filter(|it| address(it).is_some_and(|it| it.is_ipv4() == ipv4));
        family.next().filter(|it| loopback(it).is_some())
    };
    let within_reach = servers(text).any(|it| loopback(it).is_none());
    let (stands_for, forward) = match (first(true), first(false)) {
        (Some(server), _) => (server, IpAddr::V4(DNS_IPV4)),
        (None, Some(server)) if !within_reach => (server, IpAddr::V6(DNS_IPV6)),
        (None, _) => return (without_loopback(text), Vec::new()),
    };
    let (mut kept, mut done) = (String::new(), false);
    for line in text.lines() {
        match server(line) {
            Some(it) if it == stands_for && !done => {
                push(&mut kept, "nameserver", &forward.to_string());
                done = true;
            }
            Some(it) if loopback(it).is_some() => {}
            _ => kept.extend([line, "\n"]),
        }
    }
    (kept, vec![forward])
}

fn push(text: &mut String, keyword: &str, value: &str) {
    text.extend([keyword, " ", value, "\n"]);
}

fn lines<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn server(line: &str) -> Option<&str> {
    let mut words = line.split_ascii_whitespace();
    (words.next() == Some("nameserver")).then(|| words.next()).flatten()
}

fn servers(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(server)
}

/// The address of a server, which may name its interface.
fn address(server: &str) -> Option<IpAddr> {
    server.split_once('%').map_or(server, |(bare, _)| bare).parse().ok()
}

fn loopback(server: &str) -> Option<IpAddr> {
    address(server).filter(IpAddr::is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(network: Network, host: &str) -> String {
        of(network, &Dns::default(), host, "").text
    }

    #[test]
    fn loopback_servers_go() {
        let host = "# c\nsearch lan\nnameserver 127.0.0.1\nnameserver ::1\nnameserver 10.0.0.1\n";
        assert_eq!(text(Network::None, host), "# c\nsearch lan\nnameserver 10.0.0.1\n");
        assert_eq!(text(Network::Host, host), host);
    }

    #[test]
    fn never_without_a_server() {
        let host = "options ndots:2\nnameserver 127.0.0.53\n";
        let defaults = "options ndots:2\nnameserver 8.8.8.8\nnameserver 8.8.4.4\n";
        assert_eq!(text(Network::None, host), defaults);
        for network in [Network::Host, Network::None, Network::Isolated] {
            assert_eq!(text(network, ""), "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
        }
        assert_eq!(text(Network::Host, host), host);
    }

    #[test]
    fn the_real_servers_of_a_stub() {
        let (host, real) = ("nameserver 127.0.0.53\n", "nameserver 10.0.0.1\n");
        for network in [Network::None, Network::Isolated] {
            let got = of(network, &Dns::default(), host, real);
            assert_eq!(got, Resolv { text: real.to_owned(), forwarded: vec![] });
        }
    }

    #[test]
    fn loopback_servers_are_forwarded() {
        let forwarded = |host: &str| {
            let got = of(Network::Isolated, &Dns::default(), host, "");
            let servers: Vec<String> = servers(&got.text).map(str::to_owned).collect();
            (servers.join(" "), got.forwarded.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let v4 = || vec![DNS_IPV4.to_string()];
        let v6 = || vec![DNS_IPV6.to_string()];
        assert_eq!(forwarded("nameserver 127.0.0.53\n"), (DNS_IPV4.to_string(), v4()));
        assert_eq!(forwarded("nameserver ::1\n"), (DNS_IPV6.to_string(), v6()));
        let several =
            "nameserver ::1\nnameserver 127.0.0.1\nnameserver 127.0.0.1\nnameserver 9.9.9.9\n";
        assert_eq!(forwarded(several), (format!("{DNS_IPV4} 9.9.9.9"), v4()));
        // The first one of a family is what is forwarded to.
        assert_eq!(
            forwarded("nameserver 9.9.9.9\nnameserver 127.0.0.1\n"),
            ("9.9.9.9".into(), vec![])
        );
        assert_eq!(forwarded("nameserver ::1\nnameserver 9.9.9.9\n"), ("9.9.9.9".into(), vec![]));
    }

    #[test]
    fn what_the_caller_says() {
        let host = "# c\ndomain old\nsearch lan\noptions ndots:2\nnameserver 127.0.0.1\n";
        let dns = |servers: &[&str], search: &[&str], options: &[&str]| Dns {
            servers: servers.iter().map(|it| it.parse().unwrap()).collect(),
            search: search.iter().map(|&it| it.to_owned()).collect(),
            options: options.iter().map(|&it| it.to_owned()).collect(),
        };
        let all = dns(&["10.0.0.9", "fd00::9"], &["a.example", "b"], &["ndots:1", "rotate"]);
        let want = "# c\nsearch a.example b\nnameserver 10.0.0.9\nnameserver fd00::9\n\
                    options ndots:1 rotate\n";
        for network in [Network::Host, Network::None, Network::Isolated] {
            let got = of(network, &all, host, "");
            assert_eq!(got, Resolv { text: want.to_owned(), forwarded: vec![] });
        }
        let no_search = of(Network::Host, &dns(&[], &["."], &[]), host, "").text;
        assert_eq!(no_search, "# c\noptions ndots:2\nnameserver 127.0.0.1\n");
        // Its own loopback interface: somebody may start a server there.
        let own = of(Network::None, &dns(&["127.0.0.1"], &[], &[]), "", "").text;
        assert_eq!(own, "nameserver 127.0.0.1\n");
    }
}
