//! The content of /etc/hosts.

use std::fmt::Write as _;

/// The loopback names with the process's own host name, then what the caller adds.
pub(crate) fn content(hostname: &str, extra: &[(String, String)]) -> String {
    let mut text = format!("127.0.0.1\tlocalhost {hostname}\n");
    text.push_str("::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, address) in extra {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{address}\t{name}");
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn order() {
        let text = super::content("box", &[("db".into(), "10.0.0.2".into())]);
        assert_eq!(
            text,
            "127.0.0.1\tlocalhost box\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.2\tdb\n"
        );
    }
}
