//! The content of /etc/resolv.conf.
//!
//! In the host's network the host's file is right as it is. Elsewhere a name server on a loopback
//! address is out of reach and goes; a host whose only server is systemd-resolved's stub
//! (127.0.0.53) keeps the real ones in another file.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use crate::spec::Network;

const HOST: &str = "/etc/resolv.conf";
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
const STUB: &str = "127.0.0.53";
/// Used when no name server is left, as Docker does.
const DEFAULT_SERVERS: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// The file for a process with this network access.
pub(crate) fn content(network: Network) -> io::Result<Vec<u8>> {
    let host = read(Path::new(HOST))?;
    match network {
        Network::Host => Ok(host),
        Network::None => {
            let host = String::from_utf8_lossy(&host).into_owned();
            let only_stub = servers(&host).eq([STUB]);
            let real = if only_stub { read(Path::new(RESOLVED))? } else { Vec::new() };
            let real = String::from_utf8_lossy(&real).into_owned();
            Ok(filtered(if real.is_empty() { &host } else { &real }).into_bytes())
        }
    }
}

/// A host without the file has no name servers to offer.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

fn server(line: &str) -> Option<&str> {
    let mut words = line.split_ascii_whitespace();
    (words.next() == Some("nameserver")).then(|| words.next()).flatten()
}

fn servers(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(server)
}

fn is_loopback(address: &str) -> bool {
    let bare = address.split_once('%').map_or(address, |(bare, _)| bare);
    bare.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

/// Without name servers on loopback addresses, and never without any.
fn filtered(text: &str) -> String {
    let mut kept: String = text
        .lines()
        .filter(|line| !server(line).is_some_and(is_loopback))
        .flat_map(|line| [line, "\n"])
        .collect();
    if servers(&kept).next().is_none() {
        for server in DEFAULT_SERVERS {
            kept.push_str(&format!("nameserver {server}\n"));
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_servers_go() {
        let text = "# c\nsearch lan\nnameserver 127.0.0.1\nnameserver ::1\nnameserver 10.0.0.1\n";
        assert_eq!(filtered(text), "# c\nsearch lan\nnameserver 10.0.0.1\n");
    }

    #[test]
    fn never_without_a_server() {
        let text = "options ndots:2\nnameserver 127.0.0.53\n";
        assert_eq!(filtered(text), "options ndots:2\nnameserver 8.8.8.8\nnameserver 8.8.4.4\n");
        assert!(filtered("").starts_with("nameserver 8.8.8.8"));
    }
}
