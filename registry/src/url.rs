//! URLs: following a `Location`, adding to a query, and who may be told a secret.
//!
//! Source: RFC 3986 section 5 for relative references.

use ureq::http::Uri;

use crate::endpoint::is_loopback;
use crate::error::ErrorKind;

/// The longest URL that is followed, in bytes. Presigned links have a few thousand.
const MAX_URL: usize = 16 << 10;

/// Parses an absolute `http` or `https` URL without user information.
///
/// # Errors
/// [`ErrorKind::Protocol`]; the message has no query.
pub(crate) fn parse(text: &str) -> Result<Uri, ErrorKind> {
    if text.len() > MAX_URL {
        return Err(ErrorKind::Protocol(format!("a URL has more than {MAX_URL} bytes")));
    }
    let text = text.split('#').next().unwrap_or_default();
    let shown = text.split('?').next().unwrap_or_default();
    let bad = |why: &str| {
        // What stands before an "@" may be a password.
        let shown = if why.contains("user") { "the URL" } else { shown };
        ErrorKind::Protocol(format!("{}: {why}", crate::error::clean(shown)))
    };
    let uri: Uri = escape(text).parse().map_err(|_| bad("not a valid URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(bad("not an http or https URL"));
    }
    let authority = uri.authority().ok_or_else(|| bad("no host"))?;
    if authority.as_str().contains('@') {
        return Err(bad("user information is not allowed"));
    }
    if authority.host().is_empty() {
        return Err(bad("no host"));
    }
    Ok(uri)
}

/// The URL that `location` means when `base` answered with it; the query is kept.
///
/// # Errors
/// As [`parse`].
pub(crate) fn join(base: &Uri, location: &str) -> Result<Uri, ErrorKind> {
    let location = location.trim();
    let scheme = base.scheme_str().unwrap_or("https");
    let authority = base.authority().map_or("", |a| a.as_str());
    if has_scheme(location) {
        return parse(location);
    }
    if let Some(rest) = location.strip_prefix("//") {
        return parse(&format!("{scheme}://{rest}"));
    }
    let (path, query) = match location.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (location, None),
    };
    let path = if path.is_empty() {
        base.path().to_owned()
    } else if path.starts_with('/') {
        remove_dots(path)
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        remove_dots(&format!("{folder}/{path}"))
    };
    let query = query.map(|q| format!("?{q}")).unwrap_or_default();
    parse(&format!("{scheme}://{authority}{path}{query}"))
}

/// `url` with `name=value` pairs added to its query, escaped.
///
/// # Errors
/// As [`parse`].
pub(crate) fn with_query(url: &Uri, pairs: &[(&str, &str)]) -> Result<Uri, ErrorKind> {
    let mut text = url.to_string();
    for (name, value) in pairs {
        text.push(match (text.contains('?'), text.ends_with(['?', '&'])) {
            (false, _) => '?',
            (true, false) => '&',
            (true, true) => {
                text.push_str(&format!("{}={}", encode(name), encode(value)));
                continue;
            }
        });
        text.push_str(&format!("{}={}", encode(name), encode(value)));
    }
    parse(&text)
}

/// `pairs` as a form's body.
pub(crate) fn form(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        pairs.iter().map(|(n, v)| format!("{}={}", encode(n), encode(v))).collect();
    pairs.join("&")
}

/// Whether two URLs have the same scheme, host and port, so that what one may know the other may.
pub(crate) fn same_origin(a: &Uri, b: &Uri) -> bool {
    let port = |u: &Uri| u.port_u16().unwrap_or(if is_https(u) { 443 } else { 80 });
    let host = |u: &Uri| u.host().unwrap_or_default().to_ascii_lowercase();
    is_https(a) == is_https(b) && host(a) == host(b) && port(a) == port(b)
}

/// Whether the URL is `https`.
pub(crate) fn is_https(url: &Uri) -> bool {
    url.scheme_str() == Some("https")
}

/// Whether the URL's traffic can be read on the way: plain HTTP to another machine.
pub(crate) fn is_exposed(url: &Uri) -> bool {
    !is_https(url) && !is_loopback(url.host().unwrap_or_default())
}

/// Scheme, host and port, for messages.
pub(crate) fn origin(url: &Uri) -> String {
    url.authority().map_or_else(String::new, |a| a.as_str().to_owned())
}

fn has_scheme(text: &str) -> bool {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
    end.is_some_and(|end| end > 0 && text[end..].starts_with(':'))
}

/// RFC 3986 section 5.2.4.
fn remove_dots(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for (i, &segment) in segments.iter().enumerate() {
        let last = i + 1 == segments.len();
        match segment {
            "." => {}
            ".." => {
                out.pop();
            }
            other => {
                out.push(other);
                continue;
            }
        }
        if last {
            out.push("");
        }
    }
    format!("/{}", out.join("/"))
}

/// Escapes what a URL may not hold but servers send all the same.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!' | b'#'..=b';' | b'=' | b'?'..=b'[' | b']' | b'_' | b'a'..=b'z' | b'~' => {
                out.push(byte as char);
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Escapes one name or value of a query or a form.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte as char);
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn joins() {
        let base = parse("https://r.io:8443/v2/a/blobs/uploads/?x=1").unwrap();
        for (location, expected) in [
            ("https://o.io/p?q=1&r=a%2Fb", "https://o.io/p?q=1&r=a%2Fb"),
            ("//o.io/p", "https://o.io/p"),
            ("/v2/u?s=1", "https://r.io:8443/v2/u?s=1"),
            ("u?s=1", "https://r.io:8443/v2/a/blobs/uploads/u?s=1"),
            ("../u", "https://r.io:8443/v2/a/blobs/u"),
            ("/a/./b/../c/..", "https://r.io:8443/a/"),
            ("/../../a", "https://r.io:8443/a"),
            ("?y=2", "https://r.io:8443/v2/a/blobs/uploads/?y=2"),
            ("/a b|é#frag", "https://r.io:8443/a%20b%7C%C3%A9"),
        ] {
            assert_eq!(join(&base, location).unwrap().to_string(), expected, "{location}");
        }
        for bad in ["ftp://a/b", "https://u:secret@a/b", "https:///x", "file:/etc/passwd"] {
            let error = join(&base, bad).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(join(&base, &"/a".repeat(MAX_URL)).is_err());
    }

    #[test]
    fn queries() {
        let add = |u: &str| {
            with_query(&parse(u).unwrap(), &[("digest", "sha256:ab"), ("b", "c d")])
                .unwrap()
                .to_string()
        };
        assert_eq!(add("https://a/u"), "https://a/u?digest=sha256%3Aab&b=c%20d");
        assert_eq!(
            add("https://a/u?_state=x%3D"),
            "https://a/u?_state=x%3D&digest=sha256%3Aab&b=c%20d"
        );
        assert_eq!(add("https://a/u?"), "https://a/u?digest=sha256%3Aab&b=c%20d");
        assert_eq!(form(&[("a", "b&c"), ("d", "é")]), "a=b%26c&d=%C3%A9");
    }

    #[test]
    fn origins() {
        let same = |a: &str, b: &str| same_origin(&parse(a).unwrap(), &parse(b).unwrap());
        assert!(same("https://a/x", "https://A:443/y"));
        assert!(!same("https://a/", "http://a/"));
        assert!(!same("https://a/", "https://b.a/"));
        assert!(!same("http://a:1/", "http://a:2/"));
        let exposed = |a: &str| is_exposed(&parse(a).unwrap());
        assert!(exposed("http://a/") && !exposed("https://a/") && !exposed("http://[::1]:5/"));
    }

    proptest! {
        #[test]
        fn never_panics(location in ".{0,120}") {
            let base = parse("https://r.io/v2/a").unwrap();
            let _ = join(&base, &location);
        }
    }
}
